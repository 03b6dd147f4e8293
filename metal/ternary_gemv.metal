// The product of ternary weights and a few tokens of int8 activations, exact in integers.
//
//     out[t, r] = (sum over columns of (w[r] + 1) * x[t] - sum of x[t]) * weight_scale[r] / act_scale[t]
//
// A lane takes every 32nd block of a panel: 16 bytes of weights and 8 of each token's activations give 64
// products in 32 multiplications (see ternary.h), since integer multiplication is what a GPU has least of.
// Two rows share a 32-bit sum; the upper takes the borrow of the lower, and both fit 16 bits for 128 columns
// of a lane, |(w + 1) x| <= 256. Then they go to sums of their own. Integers add to the same in any order, so
// the columns of a panel may be shared out to SIMD groups.
//
// Decoding reads 2 bits a weight and 4 bytes a row once: for BitNet b1.58 2B-4T 2.085e9 weights, 521 MB a
// token.

#include "ternary.h"

constexpr constant uint GEMV_SIMDGROUPS = 4;
/// Blocks of a lane until its sums of 16 bits could overflow.
constexpr constant uint BLOCKS_PER_FLUSH = 16;

/// Moves sums of two rows each to sums of one.
inline void flush(thread uint (&pairs)[4], thread int (&dots)[8]) {
    for (uint k = 0; k < 4; ++k) {
        const int low = int(short(pairs[k] & 0xffff));
        dots[2 * k] += low;
        dots[2 * k + 1] += int(pairs[k] - uint(low)) >> 16;
        pairs[k] = 0;
    }
}

template <uint TOKENS, uint SPLIT>
[[max_total_threads_per_threadgroup(128)]]
kernel void ternary_gemv(
    device const uint4 *weights [[buffer(0)]],
    device const float *weight_scales [[buffer(1)]],
    device const char *codes [[buffer(2)]],
    device const float *act_scales [[buffer(3)]],
    device const int *act_sums [[buffer(4)]],
    device float *out [[buffer(5)]],
    device const float *bias [[buffer(6), function_constant(HAS_BIAS)]],
    constant TernaryParams &params [[buffer(7)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup int parts[GEMV_SIMDGROUPS * TOKENS * PANEL_ROWS];
    const uint panel = place.x * (GEMV_SIMDGROUPS / SPLIT) + simdgroup / SPLIT;
    const uint blocks = divide_up(params.cols, BLOCK_COLS);
    const uint first_token = place.y * TOKENS;
    // A panel behind the last one has no blocks; its SIMD group still comes to the barrier.
    const uint end = panel * PANEL_ROWS < params.rows ? blocks : 0;
    device const uint4 *panel_weights = weights + ulong(panel) * blocks;

    uint pairs[TOKENS][4] = {};
    int dots[TOKENS][8] = {};
    uint until_flush = BLOCKS_PER_FLUSH;
    for (uint block = (simdgroup % SPLIT) * LANES + lane; block < end; block += SPLIT * LANES) {
        const uint4 words = panel_weights[block];
        for (uint t = 0; t < TOKENS; ++t) {
            // Beyond the last token the last one is computed again, and not written.
            const uint token = min(first_token + t, params.tokens - 1);
            device const uint2 *x = (device const uint2 *)(codes + ulong(token) * params.code_stride);
            const char4 x_low = as_type<char4>(x[block].x);
            const char4 x_high = as_type<char4>(x[block].y);
            for (uint j = 0; j < BLOCK_COLS; ++j) {
                const uint x_j = uint(int(j < 4 ? x_low[j] : x_high[j - 4]));
                for (uint k = 0; k < 4; ++k) {
                    pairs[t][k] += (words[k] >> (2 * j) & PAIR_OF_CODES) * x_j;
                }
            }
        }
        if (--until_flush == 0) {
            for (uint t = 0; t < TOKENS; ++t) {
                flush(pairs[t], dots[t]);
            }
            until_flush = BLOCKS_PER_FLUSH;
        }
    }

    // Lane r of a SIMD group gets row r of its panel.
    int totals[TOKENS];
    for (uint t = 0; t < TOKENS; ++t) {
        flush(pairs[t], dots[t]);
        totals[t] = 0;
        for (uint r = 0; r < PANEL_ROWS; ++r) {
            const int total = simd_sum(dots[t][r]);
            totals[t] = lane == r ? total : totals[t];
        }
    }
    if (SPLIT > 1) {
        for (uint t = 0; t < TOKENS; ++t) {
            if (lane < PANEL_ROWS) {
                parts[(simdgroup * TOKENS + t) * PANEL_ROWS + lane] = totals[t];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint other = 1; simdgroup % SPLIT == 0 && other < SPLIT; ++other) {
            for (uint t = 0; t < TOKENS; ++t) {
                const uint part = ((simdgroup + other) * TOKENS + t) * PANEL_ROWS;
                totals[t] += lane < PANEL_ROWS ? parts[part + lane] : 0;
            }
        }
    }
    // A buffer that is not bound must not be named.
    device const float *any_bias = HAS_BIAS ? bias : weight_scales;
    const TernaryOutput output = {weight_scales, act_scales, any_bias, out, params.out_stride};
    const uint row = panel * PANEL_ROWS + lane;
    if (simdgroup % SPLIT == 0 && lane < PANEL_ROWS && row < params.rows) {
        for (uint t = 0; t < TOKENS && first_token + t < params.tokens; ++t) {
            const uint token = first_token + t;
            output.write(totals[t] - act_sums[token], token, row, HAS_BIAS, ACCUMULATE);
        }
    }
}

INSTANTIATE("ternary_gemv_t1_k1", ternary_gemv, 1, 1)
INSTANTIATE("ternary_gemv_t1_k4", ternary_gemv, 1, 4)
INSTANTIATE("ternary_gemv_t4_k1", ternary_gemv, 4, 1)
INSTANTIATE("ternary_gemv_t4_k4", ternary_gemv, 4, 4)
