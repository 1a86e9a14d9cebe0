#!/bin/sh
# Compile the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, and hold every
# instruction set of this machine to the scalar build; bytes that no encoder wrote among them.
# Then call the compiled module's functions from Python with arguments that nobody checked:
#     PYTHON=python SECONDS_EACH=600 scripts/test_sanitized.sh    tries each for 10 minutes
# PYTHON must have nanobind, hypothesis and what tokret needs.
set -eu

cd "$(dirname "$0")/../kernels"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
compiler="${CXX:-g++}"
compile="$compiler -std=c++17 -O1 -g -fPIC -Wall -Wextra -Werror -Wno-maybe-uninitialized
    -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all"

sources="blocks lattice cells maxsim topk aggregate nearest dispatch isa_scalar"
case $(uname -m) in
    x86_64) sources="$sources isa_avx2 isa_avx512 isa_avx512vnni lanes_avx512vbmi" ;;
    aarch64) sources="$sources isa_neon isa_neondot" ;;
esac
avx2="-mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt"
avx512="$avx2 -mavx512f -mavx512bw -mavx512dq -mavx512vl"
objects=
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
    objects="$objects $build/$source.o"
done
$compile -pthread core_test.cpp $objects -o "$build/core_test"
"$build/core_test" $("$build/core_test" --sets)

python=${PYTHON:-$PWD/../.venv/bin/python}
nanobind=$("$python" -c 'import nanobind, os; print(os.path.dirname(nanobind.__file__))')
python_headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
bind="-std=c++17 -fPIC -fvisibility=hidden -DNDEBUG -DNB_COMPACT_ASSERTIONS -I$python_headers
    -I$nanobind/include -I$nanobind/ext/robin_map/include"
$compiler $bind -O1 -w -fno-strict-aliasing -c "$nanobind/src/nb_combined.cpp" -o "$build/nanobind.o"
$compile $bind -c binding.cpp -o "$build/binding.o"
mkdir "$build/scripts"
cp -r ../tokret "$build/tokret"
cp -r ../scripts/fuzz.py ../scripts/fuzzing "$build/scripts"
$compile -shared -pthread "$build/binding.o" "$build/nanobind.o" $objects \
    -o "$build/tokret/kernels/_native$suffix"

# Python was not built with them, so the sanitizers' library, and the one whose exceptions it
# watches, come first; what Python itself never frees is not looked for. Without -S an editable
# install would put its own compiled module in the place of this one.
cd "$build/scripts"
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
watched() {
    LD_PRELOAD="$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libstdc++.so.6)" \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc \
        PYTHONPATH="$build:$packages" TOKRET_REQUIRE_NATIVE=1 "$python" -S "$@"
}
watched -c "from tokret.kernels import _native; assert _native.__file__.startswith('$build')"
watched fuzz.py --native --no-limit --seconds "${SECONDS_EACH:-0.5}" ${FUZZ_OPTIONS:-}
