// RMSNorm, out = weight * x / sqrt(mean(x^2) + eps) (arXiv 1910.07467), in the order of the CPU backend:
// squares are added in 64 lanes, element i to lane i mod 64, and lanes as a tree. Only 64 additions can go
// side by side, so one SIMD group adds (two lanes to a thread) what all threads have loaded.
#pragma once

#include "common.h"

/// Floats that are staged in threadgroup memory at once.
constexpr constant uint STAGED = 4096;

/// A row of numbers.
struct PlainRow {
    device const float *x;

    float at(uint i) const {
        return x[i];
    }
};

/// `act(gate) * up` of a row with the gates in front, or the row itself.
struct GatedRow {
    device const float *x;
    uint cols;

    float at(uint i) const {
        return GATE == GATE_NONE ? x[i] : activate(x[i]) * x[cols + i];
    }
};

/// `1 / sqrt(mean(x^2) + eps)`, to all threads. `staged` has room for `STAGED` floats.
template <typename Row>
inline float rms_factor(
    Row row,
    uint cols,
    float eps,
    threadgroup float *staged,
    uint thread_index,
    uint threads)
{
    float2 sum = float2(0.0f);
    for (uint start = 0; start < cols; start += STAGED) {
        const uint count = min(STAGED, cols - start);
        for (uint i = thread_index; i < divide_up(count, 64) * 64; i += threads) {
            staged[i] = i < count ? row.at(start + i) : 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < LANES) {
            for (uint i = 2 * thread_index; i < count; i += 64) {
                const float2 x = float2(staged[i], staged[i + 1]);
                sum += x * x;
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (thread_index < LANES) {
        sum = tree_sum(sum);
        if (thread_index == 0) {
            staged[0] = 1.0f / precise::sqrt((sum.x + sum.y) / float(cols) + eps);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return staged[0];
}
