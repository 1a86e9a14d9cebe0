#!/bin/sh
# Compile the kernels for 64-bit ARM and hold NEON, with and without dot products, to the scalar
# build under emulation. Needs g++-aarch64-linux-gnu and qemu-user (names of Debian).
set -eu

cd "$(dirname "$0")/../kernels"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
compile="aarch64-linux-gnu-g++ -std=c++17 -O2 -Wall -Wextra -Werror -ffp-contract=off"

for source in blocks lattice cells maxsim topk aggregate nearest dispatch isa_scalar isa_neon core_test; do
    $compile -c "$source.cpp" -o "$build/$source.o"
done
$compile -march=armv8.2-a+dotprod -c isa_neondot.cpp -o "$build/isa_neondot.o"
$compile -static -pthread "$build"/*.o -o "$build/core_test"

qemu-aarch64 -cpu cortex-a57 "$build/core_test" neon
if qemu-aarch64 -cpu cortex-a57 "$build/core_test" neondot; then
    echo "A machine without dot products must not be offered them." >&2
    exit 1
fi
qemu-aarch64 -cpu cortex-a76 "$build/core_test" neon neondot
