#!/usr/bin/env bash
# check.sh [--sanitize]: builds the kernels for the CPU and runs every check on them, then shows for planted
# mistakes that the checks see them. With --sanitize all of it under the address and undefined-behaviour
# sanitizers, which takes minutes. Needs clang 22 (CLANG names another), its runtime library for sanitizers,
# and Python 3.10.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export CLANG=${CLANG:-clang++-22}
sanitizers=()
if [ "${1:-}" = --sanitize ]; then
    # Stacks that outlive their functions would cost every thread a mapping of its own.
    sanitizers=(-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all
        -fsanitize-address-use-after-return=never)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/address_spaces.sh"
"$CLANG" -std=c++17 -O1 -ffp-contract=off -Wall -Wextra -Werror "${sanitizers[@]}" \
    "$here"/checks/*.cpp -ldl -o "$work/checks"
export RUNTIME=$work/runtime
"$here/build.sh" "$work/library.so" "${sanitizers[@]}"
"$work/checks" "$work/library.so"

# mistake EXPECTED CHECK FILE FROM TO: with TO in place of FROM, the check must fail and say EXPECTED.
mistake() {
    local expected=$1 check=$2 file=$3 from=$4 to=$5 said
    plant "$file" "$from" "$to"
    SOURCES=$work/planted/$file "$here/build.sh" "$work/planted.so" "${sanitizers[@]}" -O1
    if said=$("$work/checks" "$work/planted.so" "$check" 2>&1) || ! grep -q "$expected" <<<"$said"; then
        echo "a planted mistake was not seen: $to in $file" >&2
        echo "$said" >&2
        exit 1
    fi
    echo "seen    $(grep -m 1 "$expected" <<<"$said")"
}

# plant FILE FROM TO: makes $work/planted, a copy of the kernels with a mistake.
plant() {
    rm -rf "$work/planted"
    mkdir "$work/planted"
    cp "$here"/../*.h "$here"/../*.metal "$work/planted"
    python3 - "$work/planted/$1" "$2" "$3" <<'PYTHON'
import pathlib
import sys

path, old, new = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
text = path.read_text()
if text.count(old) != 1:
    sys.exit(f"{path.name} has {text.count(old)} of: {old}")
path.write_text(text.replace(old, new))
PYTHON
}

barrier='threadgroup_barrier(mem_flags::mem_threadgroup);'
mistake 'depend on the order' quantize_every_variant quantize.metal \
    "    $barrier
    for (uint i = 0;" '    for (uint i = 0;'
mistake 'divergent SIMD group' float_gemv float_gemv.metal \
    'first_token + t < params.tokens) {' 'first_token + t < params.tokens && tree_sum(row) > 0) {'
mistake 'divergent barrier' ternary_gemm ternary_gemm.metal \
    "const uint2 own_codes = has_token ?" "if (!has_token) { continue; } const uint2 own_codes = has_token ?"
mistake 'ternary_gemv_t1_k1 of 1 x 1' ternary_gemv ternary_gemv.metal \
    'totals[t] - act_sums' 'totals[t] + act_sums'
mistake 'element' ternary_gemv_extremes ternary_gemv.metal 'BLOCKS_PER_FLUSH = 16' 'BLOCKS_PER_FLUSH = 17'
mistake 'bytes of threadgroup memory' rms_norm_of_tokens_and_heads norm.metal \
    'float staged[STAGED]' 'float staged[2 * STAGED + 4]'
if [ ${#sanitizers[@]} -gt 0 ]; then
    mistake 'heap-buffer-overflow' ternary_gemv ternary_gemv.metal '? blocks : 0' '? blocks + 1 : 0'
    mistake 'heap-buffer-overflow' rms_norm_of_tokens_and_heads norm.metal \
        'float staged[STAGED]' 'float staged[STAGED - 1]'
fi
plant attention.metal 'threadgroup const float *queries,
    threadgroup float *scores,
    uint lane' 'device const float *queries,
    threadgroup float *scores,
    uint lane'
if SOURCES=$work/planted/attention.metal "$here/address_spaces.sh" 2>"$work/said"; then
    echo "a planted mistake was not seen: device memory for threadgroup memory" >&2
    exit 1
fi
echo "seen    $(grep -m 1 'address space\|no matching function' "$work/said")"
