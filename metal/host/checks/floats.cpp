// Float matrices: embeddings, the head.

#include "definitions.h"
#include "params.h"

namespace {

/// A matrix in one of the types, and the numbers it stands for.
template <typename Element>
struct Matrix {
    std::string type;
    std::vector<Element> stored;
    std::vector<float> values;
};

/// Calls `check` with a matrix of each type.
template <typename Check>
void in_every_type(Random &random, size_t count, Check check) {
    Matrix<float> f32 = {"f32", random.floats(count, -2.0f, 2.0f), {}};
    Matrix<Half> f16 = {"f16", {}, {}};
    Matrix<uint16_t> bf16 = {"bf16", {}, {}};
    Matrix<int8_t> i8 = {"i8", random.integers<int8_t>(count, -128, 127), {}};
    f32.values = f32.stored;
    for (float value : f32.stored) {
        f16.stored.push_back(Half(value));
        f16.values.push_back(float(f16.stored.back()));
        bf16.stored.push_back(bf16_bits(value));
        bf16.values.push_back(bf16_value(bf16.stored.back()));
    }
    for (int8_t value : i8.stored) {
        i8.values.push_back(float(value));
    }
    check(f32);
    check(f16);
    check(bf16);
    check(i8);
}

}  // namespace

CHECK(float_gemv) {
    Random random(9);
    struct Case {
        uint32_t rows, cols, tokens;
        bool has_bias;
    };
    for (const Case &c : {Case{1, 1, 1, false}, Case{15, 64, 1, true}, Case{33, 100, 5, false},
                          Case{16, 257, 2, true}, Case{17, 2560, 4, false}, Case{5, 6912, 1, false}}) {
        const uint32_t x_stride = c.cols, out_stride = c.rows + 2;
        const std::vector<float> x = random.floats(c.tokens * x_stride, -3.0f, 3.0f);
        const std::vector<float> before(c.tokens * out_stride, 7.0f);
        const std::vector<float> bias = random.floats(c.rows, -1.0f, 1.0f);
        const std::vector<float> scales = random.floats(c.rows, 0.01f, 0.02f);
        in_every_type(random, c.rows * c.cols, [&](const auto &matrix) {
            const bool has_scales = matrix.type == "i8";
            std::vector<float> expected = before;
            for (uint32_t token = 0; token < c.tokens; ++token) {
                for (uint32_t row = 0; row < c.rows; ++row) {
                    float y = dot_in_lanes(&matrix.values[row * c.cols], &x[token * x_stride], c.cols);
                    y = has_scales ? y * scales[row] : y;
                    expected[token * out_stride + row] = c.has_bias ? y + bias[row] : y;
                }
            }
            for (uint32_t per_group : {1, 4}) {
                Call call(text("float_gemv_", matrix.type, "_t", per_group));
                call.bind(0, matrix.stored).bind(1, x).bind(2, before);
                if (c.has_bias) {
                    call.bind(3, bias);
                }
                if (has_scales) {
                    call.bind(4, scales);
                }
                call.bind_params(5, FloatGemvParams{c.rows, c.cols, c.tokens, x_stride, out_stride});
                call.constant(HAS_BIAS, c.has_bias).constant(HAS_ROW_SCALES, has_scales);
                call.grid(divide_up(c.rows, 16), divide_up(c.tokens, per_group)).threads_per_threadgroup(128);
                const std::string what = text(call.kernel, " of ", c.rows, " x ", c.cols);
                expect_equal(what, device.run(call).get<float>(2), expected);
            }
        });
    }
}

CHECK(embedding) {
    Random random(10);
    const uint32_t rows = 9;
    const std::vector<uint32_t> ids = {8, 0, 3, 3};
    for (uint32_t cols : {1, 300}) {
        for (float scale : {1.0f, 50.6f}) {
            in_every_type(random, rows * cols, [&](const auto &matrix) {
                if (matrix.type == "i8") {
                    return;
                }
                std::vector<float> expected;
                for (uint32_t id : ids) {
                    for (uint32_t col = 0; col < cols; ++col) {
                        expected.push_back(matrix.values[id * cols + col] * scale);
                    }
                }
                Call call("embedding_" + matrix.type);
                call.bind(0, matrix.stored).bind(1, ids).bind(2, std::vector<float>(expected.size()));
                call.bind_params(3, EmbeddingParams{cols, scale});
                call.grid(divide_up(cols, 256), uint32_t(ids.size())).threads_per_threadgroup(256);
                expect_equal(call.kernel, device.run(call).template get<float>(2), expected);
            });
        }
    }
}
