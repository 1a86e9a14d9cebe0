#!/bin/sh
# Compile the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, and hold every
# instruction set of this machine to the scalar build; bytes that no encoder wrote among them.
set -eu

cd "$(dirname "$0")/../kernels"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
compile="${CXX:-g++} -std=c++17 -O1 -g -Wall -Wextra -Werror -Wno-maybe-uninitialized -ffp-contract=off
    -fsanitize=address,undefined -fno-sanitize-recover=all"

sources="blocks lattice cells maxsim topk aggregate nearest dispatch isa_scalar core_test"
case $(uname -m) in
    x86_64) sources="$sources isa_avx2 isa_avx512 isa_avx512vnni lanes_avx512vbmi" ;;
    aarch64) sources="$sources isa_neon isa_neondot" ;;
esac
avx2="-mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt"
avx512="$avx2 -mavx512f -mavx512bw -mavx512dq -mavx512vl"
for source in $sources; do
    case $source in
        isa_avx2) flags=$avx2 ;;
        isa_avx512) flags=$avx512 ;;
        isa_avx512vnni) flags="$avx512 -mavx512vnni" ;;
        lanes_avx512vbmi) flags="$avx512 -mavx512vbmi -mavx512vbmi2" ;;
        isa_neondot) flags="-march=armv8.2-a+dotprod" ;;
        *) flags= ;;
    esac
    $compile $flags -c "$source.cpp" -o "$build/$source.o"
done
$compile -pthread "$build"/*.o -o "$build/core_test"
"$build/core_test" $("$build/core_test" --sets)
