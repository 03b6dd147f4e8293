#!/usr/bin/env bash
# Runs the kernels of this folder on the CPU and compares them with their definitions. Needs a C++17 compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

compiler=${CXX:-c++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # NAME SOURCE [FLAG ...]
    local name=$1 source=$2
    shift 2
    # Unknown pragmas and attributes are Metal's; `char` is signed there.
    "$compiler" -std=c++17 -O1 -g -Wall -Wextra -Werror -Wno-attributes -fsigned-char -pthread -I. \
        -fsanitize=address,undefined -fno-sanitize-recover=all "$@" -o "$work/$name" "$source"
}

build gemv check_ternary_gemv.cpp
"$work/gemv"

# The check must be able to fail: with the sign of a subtraction turned it has to.
mkdir -p "$work/wrong/host"
sed 's/simd_sum(dot\[i\]) - x_sum/simd_sum(dot[i]) + x_sum/' ../ternary_gemv.metal >"$work/wrong/ternary_gemv.metal"
cp ./* "$work/wrong/host/"
(cd "$work/wrong/host" && build planted check_ternary_gemv.cpp)
if "$work/planted" >/dev/null; then
    echo "a planted mistake was not found" >&2
    exit 1
fi
echo "a planted mistake was found"
