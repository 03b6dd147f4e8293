// What several kernels have to be equal to, in plain loops.
#pragma once

#include <algorithm>

#include "check.h"

/// The sum of products in 64 lanes, element i in lane i mod 64, which are added as a tree.
inline float dot_in_lanes(const float *a, const float *b, size_t count) {
    float lanes[64] = {};
    for (size_t i = 0; i < count; ++i) {
        lanes[i % 64] += a[i] * b[i];
    }
    for (size_t width = 32; width > 0; width /= 2) {
        for (size_t i = 0; i < width; ++i) {
            lanes[i] += lanes[i + width];
        }
    }
    return lanes[0];
}

inline std::vector<float> rms_norm(const float *x, const std::vector<float> &weight, float eps) {
    const size_t count = weight.size();
    const float factor = 1.0f / std::sqrt(dot_in_lanes(x, x, count) / float(count) + eps);
    std::vector<float> out(count);
    for (size_t i = 0; i < count; ++i) {
        out[i] = weight[i] * (x[i] * factor);
    }
    return out;
}

/// Gates of a feed-forward network, as in common.h.
enum class Gate : uint32_t { None, Relu2, Silu, GeluTanh };

inline float activation(Gate gate, float x) {
    switch (gate) {
        case Gate::Relu2: return std::max(x, 0.0f) * std::max(x, 0.0f);
        case Gate::Silu: return x / (1.0f + std::exp(-x));
        case Gate::GeluTanh: {
            const float inner = std::sqrt(2.0f / 3.14159265f) * (x + 0.044715f * (x * x * x));
            return x * 0.5f * (1.0f + std::tanh(inner));
        }
        case Gate::None: break;
    }
    return x;
}
