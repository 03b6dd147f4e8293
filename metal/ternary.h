// Ternary weights on the GPU, and the end of their products.
//
// A panel is 8 rows; a block of it is 8 columns, 16 bytes, one load. Word k of a block holds rows 2k (low
// half) and 2k + 1 (high half) of the panel, bits 2j and 2j + 1 of a half the code w + 1 of column j. So
// `word >> 2j & 0x00030003` is two codes, 16 bits apart, and one multiplication by an activation adds to two
// rows.
#pragma once

#include "common.h"

constexpr constant uint PANEL_ROWS = 8;
constexpr constant uint BLOCK_COLS = 8;
constexpr constant uint PAIR_OF_CODES = 0x00030003;

/// What a product of ternary weights and int8 activations is made of, beside both.
struct TernaryOutput {
    device const float *weight_scales;
    device const float *act_scales;
    device const float *bias;
    device float *out;
    uint out_stride;

    /// `y = dot * (weight_scale / activation_scale) (+ bias)`, rounded where the CPU rounds.
    void write(int dot, uint token, uint row, bool has_bias, bool accumulate) const {
        float y = float(dot) * (weight_scales[row] / act_scales[token]);
        if (has_bias) {
            y += bias[row];
        }
        device float &place = out[ulong(token) * out_stride + row];
        place = accumulate ? place + y : y;
    }
};
