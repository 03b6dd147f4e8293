// The product of a float (or int8) matrix and float activations: the head, and linears that are not ternary.
//
//     out[t, r] = sum over columns of w[r] * x[t] (* row_scale[r]) (+ bias[r])
//
// The sum is the CPU's: column i goes to lane i mod 64, lanes are added as a tree. Eight threads have eight
// of these lanes each, so that they load 8 neighbours (16 bytes of float16), and a SIMD group has four rows
// at once. For the head of BitNet b1.58 2B-4T these are 657 MB of bfloat16 a token.

#include "common.h"

constexpr constant uint ROWS_PER_SIMDGROUP = 4;
constexpr constant uint THREADS_PER_ROW = LANES / ROWS_PER_SIMDGROUP;
/// Elements that a thread takes of each 64.
constexpr constant uint STRIP = 8;

inline void load_strip(device const float *w, thread float (&strip)[STRIP]) {
    const float4 low = *(device const float4 *)w;
    const float4 high = *(device const float4 *)(w + 4);
    for (uint i = 0; i < 4; ++i) {
        strip[i] = low[i];
        strip[i + 4] = high[i];
    }
}

inline void load_strip(device const half *w, thread float (&strip)[STRIP]) {
    const uint4 words = *(device const uint4 *)w;
    for (uint i = 0; i < 4; ++i) {
        const float2 two = float2(as_type<half2>(words[i]));
        strip[2 * i] = two.x;
        strip[2 * i + 1] = two.y;
    }
}

inline void load_strip(device const Bf16 *w, thread float (&strip)[STRIP]) {
    const uint4 words = *(device const uint4 *)w;
    for (uint i = 0; i < 4; ++i) {
        strip[2 * i] = as_type<float>(words[i] << 16);
        strip[2 * i + 1] = as_type<float>(words[i] & 0xffff0000);
    }
}

inline void load_strip(device const char *w, thread float (&strip)[STRIP]) {
    const uint2 words = *(device const uint2 *)w;
    for (uint i = 0; i < STRIP; ++i) {
        strip[i] = float(as_type<char4>(i < 4 ? words.x : words.y)[i % 4]);
    }
}

/// A strip that ends with the row, or lies where wide loads cannot: zeros behind the end add nothing.
template <typename Element>
inline void load_short_strip(device const Element *w, uint count, thread float (&strip)[STRIP]) {
    for (uint i = 0; i < STRIP; ++i) {
        strip[i] = i < count ? widen(w[i]) : 0.0f;
    }
}

template <typename Weight, uint TOKENS>
[[max_total_threads_per_threadgroup(128)]]
kernel void float_gemv(
    device const Weight *weights [[buffer(0)]],
    device const float *x [[buffer(1)]],
    device float *out [[buffer(2)]],
    device const float *bias [[buffer(3), function_constant(HAS_BIAS)]],
    device const float *row_scales [[buffer(4), function_constant(HAS_ROW_SCALES)]],
    constant FloatGemvParams &params [[buffer(5)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]])
{
    const uint cols = params.cols;
    const uint row = (place.x * simdgroups + simdgroup) * ROWS_PER_SIMDGROUP + lane / THREADS_PER_ROW;
    const uint first_token = place.y * TOKENS;
    // Beyond the last row or token the last one is computed again, and not written.
    device const Weight *w = weights + ulong(min(row, params.rows - 1)) * cols;
    const bool is_wide = cols % STRIP == 0 && params.x_stride % 4 == 0;

    float sums[TOKENS][STRIP] = {};
    for (uint col = lane % THREADS_PER_ROW * STRIP; col < cols; col += THREADS_PER_ROW * STRIP) {
        float w_strip[STRIP];
        float x_strip[STRIP];
        if (is_wide) {
            load_strip(w + col, w_strip);
        } else {
            load_short_strip(w + col, cols - col, w_strip);
        }
        for (uint t = 0; t < TOKENS; ++t) {
            device const float *token = x + ulong(min(first_token + t, params.tokens - 1)) * params.x_stride;
            if (is_wide) {
                load_strip(token + col, x_strip);
            } else {
                load_short_strip(token + col, cols - col, x_strip);
            }
            for (uint i = 0; i < STRIP; ++i) {
                sums[t][i] += w_strip[i] * x_strip[i];
            }
        }
    }

    for (uint t = 0; t < TOKENS; ++t) {
        for (uint i = 0; i < STRIP; ++i) {
            for (ushort apart = THREADS_PER_ROW / 2; apart > 0; apart /= 2) {
                sums[t][i] += simd_shuffle_xor(sums[t][i], apart);
            }
        }
        for (uint apart = STRIP / 2; apart > 0; apart /= 2) {
            for (uint i = 0; i < apart; ++i) {
                sums[t][i] += sums[t][i + apart];
            }
        }
        if (lane % THREADS_PER_ROW == 0 && row < params.rows && first_token + t < params.tokens) {
            float y = sums[t][0];
            if (HAS_ROW_SCALES) {
                y *= row_scales[row];
            }
            if (HAS_BIAS) {
                y += bias[row];
            }
            out[ulong(first_token + t) * params.out_stride + row] = y;
        }
    }
}

INSTANTIATE("float_gemv_f32_t1", float_gemv, float, 1)
INSTANTIATE("float_gemv_f32_t4", float_gemv, float, 4)
INSTANTIATE("float_gemv_f16_t1", float_gemv, half, 1)
INSTANTIATE("float_gemv_f16_t4", float_gemv, half, 4)
INSTANTIATE("float_gemv_bf16_t1", float_gemv, Bf16, 1)
INSTANTIATE("float_gemv_bf16_t4", float_gemv, Bf16, 4)
INSTANTIATE("float_gemv_i8_t1", float_gemv, char, 1)
INSTANTIATE("float_gemv_i8_t4", float_gemv, char, 4)
