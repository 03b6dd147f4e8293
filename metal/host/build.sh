#!/usr/bin/env bash
# build.sh OUT.so [FLAG ...]: the kernels of this project as a library for the CPU; see runtime/abi.h for its
# interface. Needs Python and clang 15 or later (CLANG names it). Flags go to the compiler. SOURCES names other
# kernels; RUNTIME a folder that keeps what does not depend on kernels, for several builds with the same flags.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$1
shift

compiler=${CLANG:-clang++-22}
sources=("$here"/../*.metal)
if [ -n "${SOURCES:-}" ]; then
    read -r -a sources <<<"$SOURCES"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Products are not fused with sums, as in the kernels; `char` is signed in Metal, whose C++ is that of 2014.
flags=(-O2 -g1 -march=native -fPIC -ffp-contract=off -fsigned-char -Wall -Wextra -Werror)
python3 "$here/translate.py" "$work/kernels.cpp" "${sources[@]}"
"$compiler" -std=c++14 "${flags[@]}" -Wno-unknown-pragmas -Wno-unused-function -Wno-unused-const-variable \
    -isystem "$here/shim" -isystem "$here/runtime" "$@" -c "$work/kernels.cpp" -o "$work/kernels.o"
runtime=${RUNTIME:-$work/runtime}
if [ ! -d "$runtime" ]; then
    mkdir "$runtime"
    for source in "$here"/runtime/*.cpp; do
        "$compiler" -std=c++17 "${flags[@]}" "$@" -c "$source" -o "$runtime/$(basename "$source" .cpp).o"
    done
fi
"$compiler" -shared "$@" "$runtime"/*.o "$work/kernels.o" -o "$work/library.so"
mv "$work/library.so" "$out"
