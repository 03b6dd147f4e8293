// Products of ternary weights and int8 activations, and how the weights are made.

#include "definitions.h"
#include "params.h"

namespace {

/// Codes -1, 0, 1 as panels: see ternary.h.
std::vector<uint32_t> panels(const std::vector<int8_t> &weights, uint32_t rows, uint32_t cols) {
    const uint32_t blocks = divide_up(cols, 8);
    std::vector<uint32_t> words(size_t(divide_up(rows, 8)) * blocks * 4, 0);
    for (uint32_t row = 0; row < rows; ++row) {
        for (uint32_t col = 0; col < cols; ++col) {
            const uint32_t code = uint32_t(weights[row * cols + col] + 1);
            const size_t word = (size_t(row / 8) * blocks + col / 8) * 4 + row % 8 / 2;
            words[word] |= code << (row % 2 * 16 + col % 8 * 2);
        }
    }
    return words;
}

struct Product {
    uint32_t rows, cols, tokens;
    std::vector<int8_t> weights, codes;
    std::vector<float> weight_scales, act_scales, bias, before;

    Product(uint32_t rows, uint32_t cols, uint32_t tokens, Random &random)
        : rows(rows), cols(cols), tokens(tokens) {
        weights = random.integers<int8_t>(rows * cols, -1, 1);
        codes = random.integers<int8_t>(tokens * cols, -128, 127);
        weight_scales = random.floats(rows, 0.5f, 2.0f);
        act_scales = random.floats(tokens, 10.0f, 20.0f);
        bias = random.floats(rows, -1.0f, 1.0f);
        before = random.floats(tokens * out_stride(), -1.0f, 1.0f);
    }

    uint32_t out_stride() const { return rows + 5; }

    std::vector<float> expected(bool has_bias, bool accumulate) const {
        std::vector<float> out = before;
        for (uint32_t token = 0; token < tokens; ++token) {
            for (uint32_t row = 0; row < rows; ++row) {
                int32_t dot = 0;
                for (uint32_t col = 0; col < cols; ++col) {
                    dot += weights[row * cols + col] * codes[token * cols + col];
                }
                float y = float(dot) * (weight_scales[row] / act_scales[token]);
                y = has_bias ? y + bias[row] : y;
                float &place = out[token * out_stride() + row];
                place = accumulate ? place + y : y;
            }
        }
        return out;
    }

    Call call(const std::string &kernel, bool has_bias, bool accumulate) const {
        const uint32_t stride = divide_up(cols, 32) * 32;
        std::vector<int8_t> padded(tokens * stride, 0);
        std::vector<int32_t> sums(tokens, 0);
        for (uint32_t token = 0; token < tokens; ++token) {
            for (uint32_t col = 0; col < cols; ++col) {
                padded[token * stride + col] = codes[token * cols + col];
                sums[token] += codes[token * cols + col];
            }
        }
        Call call(kernel);
        call.bind(0, panels(weights, rows, cols)).bind(1, weight_scales).bind(2, padded).bind(3, act_scales);
        call.bind(4, sums).bind(5, before);
        call.bind_params(7, TernaryParams{rows, cols, tokens, stride, out_stride()});
        if (has_bias) {
            call.bind(6, bias);
        }
        call.constant(HAS_BIAS, has_bias).constant(ACCUMULATE, accumulate).threads_per_threadgroup(128);
        return call;
    }

    void check_gemv(const Device &device, bool has_bias, bool accumulate) const {
        const uint32_t count = divide_up(rows, 8);
        for (uint32_t per_group : {1, 4}) {
            for (uint32_t split : {1, 4}) {
                Call gemv = call(text("ternary_gemv_t", per_group, "_k", split), has_bias, accumulate);
                gemv.grid(split == 1 ? divide_up(count, 4) : count, divide_up(tokens, per_group));
                compare(device, gemv, has_bias, accumulate);
            }
        }
    }

    void check_gemm(const Device &device, bool has_bias, bool accumulate) const {
        Call gemm = call("ternary_gemm", has_bias, accumulate);
        compare(device, gemm.grid(divide_up(rows, 64), divide_up(tokens, 32)), has_bias, accumulate);
    }

    void compare(const Device &device, const Call &call, bool has_bias, bool accumulate) const {
        const std::string what = text(call.kernel, " of ", rows, " x ", cols, ", ", tokens, " tokens");
        expect_equal(what, device.run(call).get<float>(5), expected(has_bias, accumulate));
    }
};

}  // namespace

CHECK(ternary_gemv) {
    Random random(5);
    for (uint32_t rows : {1, 7, 8, 45}) {
        for (uint32_t cols : {1, 13, 256, 257, 2560}) {
            for (uint32_t tokens : {1, 6}) {
                Product(rows, cols, tokens, random).check_gemv(device, rows % 2 == 0, cols % 2 == 0);
            }
        }
    }
    Product(19, 6912, 1, random).check_gemv(device, false, false);
}

CHECK(ternary_gemm) {
    Random random(6);
    for (uint32_t rows : {1, 64, 77}) {
        for (uint32_t cols : {1, 13, 32, 257}) {
            for (uint32_t tokens : {1, 33}) {
                Product(rows, cols, tokens, random).check_gemm(device, rows % 2 == 0, cols % 2 == 0);
            }
        }
    }
    Product(67, 2560, 32, random).check_gemm(device, true, true);
    Product(8, 6912, 3, random).check_gemm(device, false, true);
}

namespace {

/// Calls `check` with products of the largest sums there are.
template <typename Check>
void at_the_extremes(Check check) {
    Random random(7);
    const auto check_one = [&](uint32_t rows, uint32_t cols, int weight, int code) {
        Product product(rows, cols, 1, random);
        std::fill(product.weights.begin(), product.weights.end(), int8_t(weight));
        std::fill(product.codes.begin(), product.codes.end(), int8_t(code));
        check(product);
    };
    for (int weight : {-1, 1}) {
        for (int code : {-128, 127}) {
            check_one(10, 6912, weight, code);
        }
    }
    check_one(2, 65536, 1, -128);
}

}  // namespace

// Two sums share 32 bits.
CHECK(ternary_gemv_extremes) {
    at_the_extremes([&](const Product &product) { product.check_gemv(device, false, false); });
}

// Sums are float32.
CHECK(ternary_gemm_extremes) {
    at_the_extremes([&](const Product &product) { product.check_gemm(device, false, false); });
}

namespace {

template <typename Element>
void check_absmean(const Device &device, const std::string &type, uint32_t rows, uint32_t cols,
                   const std::vector<float> &weights, const std::vector<Element> &stored) {
    std::vector<double> sums(rows, 0.0);
    std::vector<int8_t> codes(rows * cols);
    const float inverse = 3.0f;
    for (uint32_t i = 0; i < rows * cols; ++i) {
        sums[i / cols] += std::fabs(double(weights[i]));
        codes[i] = int8_t(std::nearbyint(std::min(std::max(weights[i] * inverse, -1.0f), 1.0f)));
    }
    Call abs_sums("abs_sums_" + type);
    abs_sums.bind(0, stored).bind(1, std::vector<float>(rows)).bind_params(2, AbsSumsParams{rows, cols});
    const Results found = device.run(abs_sums.grid(rows).threads_per_threadgroup(256));
    expect_close(text("sums of ", type), found.get<float>(1), sums, 1e-6 * cols);

    const uint32_t blocks = divide_up(cols, 8);
    Call ternarize("ternarize_" + type);
    ternarize.bind(0, stored).bind(1, std::vector<uint32_t>(divide_up(rows, 8) * blocks * 4, 7));
    ternarize.bind_params(2, TernarizeParams{rows, cols, inverse});
    ternarize.grid(divide_up(blocks, 128), divide_up(rows, 8)).threads_per_threadgroup(128);
    expect_equal(text("codes of ", type), device.run(ternarize).get<uint32_t>(1), panels(codes, rows, cols));
}

}  // namespace

CHECK(absmean) {
    Random random(8);
    for (uint32_t rows : {1, 21}) {
        for (uint32_t cols : {1, 77, 1100}) {
            // Multiples of 1/64 are the same numbers in all three types; at half of a scale they are rounded
            // to even.
            std::vector<float> weights = random.floats(rows * cols, -96.0f, 96.0f);
            std::vector<Half> halves;
            std::vector<uint16_t> bf16;
            for (float &weight : weights) {
                weight = std::nearbyint(weight) / 64.0f;
                halves.push_back(Half(weight));
                bf16.push_back(bf16_bits(weight));
            }
            check_absmean(device, "f32", rows, cols, weights, weights);
            check_absmean(device, "f16", rows, cols, weights, halves);
            check_absmean(device, "bf16", rows, cols, weights, bf16);
        }
    }
}
