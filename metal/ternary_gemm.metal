// The product of ternary weights and many tokens of int8 activations, for prompts.
//
//     out[t, r] = (sum over columns of w[r] * x[t]) * weight_scale[r] / act_scale[t]
//
// A threadgroup takes 64 rows and 32 tokens, and 32 columns at a time: weights are unpacked once for all of
// these tokens. SIMD group matrices have no integers. Here they need none: codes and activations are exact in
// float16, their products in float32, and so is every sum of up to 2^24 / 128 = 131072 of them, in whatever
// order it is added; the host gives no more columns than 65536. So the sums are those of ternary_gemv, bit
// for bit. Padding activations are 0. Sums of activations (buffer 4) are not needed.

#include "ternary.h"

constexpr constant uint TILE_ROWS = 64;
constexpr constant uint TILE_TOKENS = 32;
constexpr constant uint TILE_COLS = 32;
/// From one staged column of weights, or token, to the next: 8 more than there are, so that they lie in
/// different banks.
constexpr constant uint WEIGHTS_STRIDE = TILE_ROWS + 8;
constexpr constant uint CODES_STRIDE = TILE_COLS + 8;

/// Unpacks two rows of a block to `staged`, `[TILE_COLS, WEIGHTS_STRIDE]`.
inline void stage_weights(uint word, uint block, uint pair, threadgroup half *staged) {
    for (uint j = 0; j < BLOCK_COLS; ++j) {
        const uint codes = word >> (2 * j) & PAIR_OF_CODES;
        threadgroup half *place = staged + (block * BLOCK_COLS + j) * WEIGHTS_STRIDE + 2 * pair;
        *(threadgroup half2 *)place = half2(half(int(codes & 3) - 1), half(int(codes >> 16) - 1));
    }
}

/// Widens 8 activations to `staged`.
inline void stage_codes(uint2 codes, threadgroup half *staged) {
    *(threadgroup half4 *)staged = half4(as_type<char4>(codes.x));
    *(threadgroup half4 *)(staged + 4) = half4(as_type<char4>(codes.y));
}

[[max_total_threads_per_threadgroup(128)]]
kernel void ternary_gemm(
    device const uint4 *weights [[buffer(0)]],
    device const float *weight_scales [[buffer(1)]],
    device const char *codes [[buffer(2)]],
    device const float *act_scales [[buffer(3)]],
    device float *out [[buffer(5)]],
    device const float *bias [[buffer(6), function_constant(HAS_BIAS)]],
    constant TernaryParams &params [[buffer(7)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    // Staged weights and activations, and in the end the sums.
    threadgroup float tile[TILE_TOKENS * TILE_ROWS];
    threadgroup half *staged_weights = (threadgroup half *)tile;
    threadgroup half *staged_codes = staged_weights + TILE_COLS * WEIGHTS_STRIDE;
    const uint first_row = place.x * TILE_ROWS;
    const uint first_token = place.y * TILE_TOKENS;
    const uint blocks = divide_up(params.cols, BLOCK_COLS);

    // Each thread unpacks one word: a lane two rows, a SIMD group a block.
    const uint panel = (first_row + 2 * lane) / PANEL_ROWS;
    const bool has_panel = panel * PANEL_ROWS < params.rows;
    device const uint *words = (device const uint *)(weights + ulong(panel) * blocks) + lane % 4;
    const uint staged_token = thread_index / 4;
    const bool has_token = first_token + staged_token < params.tokens;
    device const uint2 *token_codes =
        (device const uint2 *)(codes + ulong(first_token + staged_token) * params.code_stride);

    // Each SIMD group has 16 tokens and 32 rows of the tile.
    const uint tile_token = simdgroup / 2 * 16;
    const uint tile_row = simdgroup % 2 * 32;
    simdgroup_float8x8 sums[2][4];
    for (uint i = 0; i < 2; ++i) {
        for (uint j = 0; j < 4; ++j) {
            sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
    }
    for (uint block = 0; block < blocks; block += TILE_COLS / BLOCK_COLS) {
        const uint own_block = block + simdgroup;
        const uint word = has_panel && own_block < blocks ? words[ulong(own_block) * 4] : 0;
        const uint2 own_codes = has_token ? token_codes[block + thread_index % 4] : uint2(0);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage_weights(word, simdgroup, lane, staged_weights);
        stage_codes(own_codes, staged_codes + staged_token * CODES_STRIDE + thread_index % 4 * 8);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = 0; k < TILE_COLS; k += 8) {
            simdgroup_half8x8 x[2];
            simdgroup_half8x8 w[4];
            for (uint i = 0; i < 2; ++i) {
                simdgroup_load(x[i], staged_codes + (tile_token + 8 * i) * CODES_STRIDE + k, CODES_STRIDE);
            }
            for (uint j = 0; j < 4; ++j) {
                simdgroup_load(w[j], staged_weights + k * WEIGHTS_STRIDE + tile_row + 8 * j, WEIGHTS_STRIDE);
            }
            for (uint i = 0; i < 2; ++i) {
                for (uint j = 0; j < 4; ++j) {
                    simdgroup_multiply_accumulate(sums[i][j], x[i], w[j], sums[i][j]);
                }
            }
        }
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < 2; ++i) {
        for (uint j = 0; j < 4; ++j) {
            threadgroup float *corner = tile + (tile_token + 8 * i) * TILE_ROWS + tile_row + 8 * j;
            simdgroup_store(sums[i][j], corner, TILE_ROWS);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    // A buffer that is not bound must not be named.
    device const float *any_bias = HAS_BIAS ? bias : weight_scales;
    const TernaryOutput output = {weight_scales, act_scales, any_bias, out, params.out_stride};
    for (uint i = thread_index; i < TILE_TOKENS * TILE_ROWS; i += size.x) {
        const uint token = first_token + i / TILE_ROWS;
        const uint row = first_row + i % TILE_ROWS;
        if (token < params.tokens && row < params.rows) {
            output.write(int(tile[i]), token, row, HAS_BIAS, ACCUMULATE);
        }
    }
}
