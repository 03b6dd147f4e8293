#!/usr/bin/env bash
# Checks that no kernel takes memory of one address space for that of another. SOURCES and CLANG as for
# build.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

sources=("$here"/../*.metal)
if [ -n "${SOURCES:-}" ]; then
    read -r -a sources <<<"$SOURCES"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$here/translate.py" --address-spaces "$work/kernels.clcpp" "${sources[@]}"
"${CLANG:-clang++-22}" -x clcpp -cl-std=clc++2021 -cl-no-stdinc -fsyntax-only -Wall -Werror \
    -Wno-unknown-pragmas -Wno-unused-function -Wno-unused-const-variable \
    -isystem "$here/address_spaces" "$work/kernels.clcpp"
