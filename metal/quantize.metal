// Int8 activations by absmax, one scale for each token, with what comes in front in the same pass: the gate
// of a feed-forward network, then RMSNorm.
//
//     scale = 127 / max(max|x|, 1e-5)        codes = clamp(round_half_even(x * scale), -128, 127)
//
// (arXiv 2402.17764, section 2). A threadgroup takes a token: it reads it two or three times, from the cache
// after the first. The products of ReLU^2 gates pass 65504 and stay float32. The sum of the codes is what
// products of `w + 1` have too much.

#include "rms.h"

[[max_total_threads_per_threadgroup(512)]]
kernel void quantize(
    device const float *x [[buffer(0)]],
    device const float *norm [[buffer(1), function_constant(HAS_NORM)]],
    device char *codes [[buffer(2)]],
    device float *scales [[buffer(3)]],
    device int *sums [[buffer(4)]],
    constant QuantizeParams &params [[buffer(5)]],
    uint token [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup float staged[STAGED];
    threadgroup float widest_of[LANES];
    threadgroup int sum_of[LANES];
    const uint cols = params.cols;
    const GatedRow row = {x + ulong(token) * params.x_stride, cols};
    float factor = 1.0f;
    if (HAS_NORM) {
        factor = rms_factor(row, cols, params.eps, staged, thread_index, threads);
    }

    float widest = 0.0f;
    for (uint i = thread_index; i < cols; i += threads) {
        const float value = HAS_NORM ? norm[i] * (row.at(i) * factor) : row.at(i);
        widest = fmax(widest, fabs(value));
    }
    widest = simd_max(widest);
    if (lane == 0) {
        widest_of[simdgroup] = widest;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < threads / LANES; ++i) {
        widest = fmax(widest, widest_of[i]);
    }

    const float scale = 127.0f / fmax(widest, 1e-5f);
    int sum = 0;
    for (uint i = thread_index; i < params.code_stride; i += threads) {
        int code = 0;
        if (i < cols) {
            const float value = HAS_NORM ? norm[i] * (row.at(i) * factor) : row.at(i);
            code = int(rint(fmin(fmax(value * scale, -128.0f), 127.0f)));
        }
        codes[ulong(token) * params.code_stride + i] = char(code);
        sum += code;
    }
    sum = simd_sum(sum);
    if (lane == 0) {
        sum_of[simdgroup] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index == 0) {
        for (uint i = 1; i < threads / LANES; ++i) {
            sum += sum_of[i];
        }
        scales[token] = scale;
        sums[token] = sum;
    }
}
