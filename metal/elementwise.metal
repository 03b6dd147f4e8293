// The gate of a feed-forward network where it stands alone, and the residual sum.

#include "rms.h"

kernel void gate(
    device const float *x [[buffer(0)]],
    device float *out [[buffer(1)]],
    constant GateParams &params [[buffer(2)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]])
{
    const uint col = place.x * size.x + thread_index;
    if (col < params.cols) {
        const GatedRow row = {x + ulong(place.y) * params.x_stride, params.cols};
        out[ulong(place.y) * params.out_stride + col] = row.at(col);
    }
}

kernel void add(
    device float *x [[buffer(0)]],
    device const float *y [[buffer(1)]],
    constant AddParams &params [[buffer(2)]],
    uint place [[thread_position_in_grid]])
{
    if (place < params.count) {
        x[place] += y[place];
    }
}
