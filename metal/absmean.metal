// Float weights to ternary ones by absmean (arXiv 2402.17764, section 2):
//
//     scale = max(mean|W|, 1e-5)        codes = clamp(round_half_even(W / scale), -1, 1)
//
// in two steps: sums of |W| for each row, which the host adds, and codes for a scale.

#include "ternary.h"

template <typename Weight>
kernel void abs_sums(
    device const Weight *weights [[buffer(0)]],
    device float *sums [[buffer(1)]],
    constant AbsSumsParams &params [[buffer(2)]],
    uint row [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup float parts[LANES];
    device const Weight *w = weights + ulong(row) * params.cols;
    float sum = 0.0f;
    for (uint col = thread_index; col < params.cols; col += threads) {
        sum += fabs(widen(w[col]));
    }
    sum = tree_sum(sum);
    if (lane == 0) {
        parts[simdgroup] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index == 0) {
        for (uint i = 1; i < threads / LANES; ++i) {
            sum += parts[i];
        }
        sums[row] = sum;
    }
}

/// Codes as ternary.h has them: a thread makes a block.
template <typename Weight>
kernel void ternarize(
    device const Weight *weights [[buffer(0)]],
    device uint4 *packed [[buffer(1)]],
    constant TernarizeParams &params [[buffer(2)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]])
{
    const uint block = place.x * size.x + thread_index;
    const uint blocks = divide_up(params.cols, BLOCK_COLS);
    if (block >= blocks) {
        return;
    }
    uint4 words = uint4(0);
    for (uint r = 0; r < PANEL_ROWS; ++r) {
        const uint row = place.y * PANEL_ROWS + r;
        for (uint j = 0; j < BLOCK_COLS; ++j) {
            const uint col = block * BLOCK_COLS + j;
            if (row < params.rows && col < params.cols) {
                const float w = widen(weights[ulong(row) * params.cols + col]) * params.inverse_scale;
                const uint code = uint(int(rint(fmin(fmax(w, -1.0f), 1.0f))) + 1);
                words[r / 2] |= code << (r % 2 * 16 + 2 * j);
            }
        }
    }
    packed[ulong(place.y) * blocks + block] = words;
}

INSTANTIATE("abs_sums_f32", abs_sums, float)
INSTANTIATE("abs_sums_f16", abs_sums, half)
INSTANTIATE("abs_sums_bf16", abs_sums, Bf16)
INSTANTIATE("ternarize_f32", ternarize, float)
INSTANTIATE("ternarize_f16", ternarize, half)
INSTANTIATE("ternarize_bf16", ternarize, Bf16)
