// RMSNorm of tokens, or of each head of them: see rms.h.

#include "rms.h"

[[max_total_threads_per_threadgroup(512)]]
kernel void rms_norm(
    device const float *x [[buffer(0)]],
    device const float *weight [[buffer(1)]],
    device float *out [[buffer(2)]],
    constant NormParams &params [[buffer(3)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]])
{
    threadgroup float staged[STAGED];
    const uint cols = params.cols;
    const PlainRow row = {x + ulong(place.y) * params.x_stride + place.x * cols};
    device float *out_row = out + ulong(place.y) * params.out_stride + place.x * cols;
    const float factor = rms_factor(row, cols, params.eps, staged, thread_index, size.x);
    for (uint i = thread_index; i < cols; i += size.x) {
        const float y = weight[i] * (row.at(i) * factor);
        out_row[i] = ACCUMULATE ? out_row[i] + y : y;
    }
}
