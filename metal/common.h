// What all kernels share: variants, reductions, elements.
//
// The host compiles without fast math, and products are not fused with sums: what is not attention, exp or
// tanh then has the bits of the CPU backend. SIMD groups have 32 lanes, threadgroups are one-dimensional and
// whole.
#pragma once

#include <metal_stdlib>

#include "params.h"

using namespace metal;

#pragma METAL fp contract(off)

// Variants of a kernel, chosen when its pipeline is made.
constant bool HAS_BIAS [[function_constant(0)]];
/// `out += y` in place of `out = y`.
constant bool ACCUMULATE [[function_constant(1)]];
constant bool HAS_NORM [[function_constant(2)]];
/// One of the gates below.
constant uint GATE [[function_constant(3)]];
constant bool HAS_ROW_SCALES [[function_constant(4)]];

constexpr constant uint GATE_NONE = 0;
constexpr constant uint GATE_RELU2 = 1;
constexpr constant uint GATE_SILU = 2;
constexpr constant uint GATE_GELU_TANH = 3;

constexpr constant uint LANES = 32;
/// Positions of a page of keys and values.
constexpr constant uint PAGE = 64;

/// Gives an instance of a kernel template its name.
#define INSTANTIATE(name, function, ...) \
    template [[host_name(name)]] [[kernel]] decltype(function<__VA_ARGS__>) function<__VA_ARGS__>;

/// Integer division, rounded up.
inline uint divide_up(uint a, uint b) {
    return (a + b - 1) / b;
}

/// Sum over a SIMD group, in the order of a tree: hardware does not say in which order `simd_sum` adds.
template <typename T>
inline T tree_sum(T x) {
    for (ushort apart = 16; apart > 0; apart /= 2) {
        x += simd_shuffle_xor(x, apart);
    }
    return x;
}

/// bfloat16, as its bits: the type itself needs macOS 14.
struct Bf16 {
    ushort bits;
};

inline float widen(float x) {
    return x;
}

inline float widen(half x) {
    return float(x);
}

inline float widen(Bf16 x) {
    return as_type<float>(uint(x.bits) << 16);
}

inline float widen(char x) {
    return float(x);
}

/// The activation of the gate of a feed-forward network.
inline float activate(float x) {
    if (GATE == GATE_RELU2) {
        const float positive = fmax(x, 0.0f);
        return positive * positive;
    }
    if (GATE == GATE_SILU) {
        return x / (1.0f + precise::exp(-x));
    }
    const float inner = 0.79788456f * (x + 0.044715f * (x * x * x));
    return x * 0.5f * (1.0f + precise::tanh(inner));
}
