// Activations: norms, gates, int8.

#include "definitions.h"
#include "params.h"

namespace {

struct Quantized {
    std::vector<int8_t> codes;
    std::vector<float> scales;
    std::vector<int32_t> sums;
};

void quantize(const std::vector<float> &x, uint32_t stride, Quantized &out) {
    float widest = 1e-5f;
    for (float value : x) {
        widest = std::max(widest, std::fabs(value));
    }
    const float scale = 127.0f / widest;
    int32_t sum = 0;
    for (uint32_t i = 0; i < stride; ++i) {
        const float value = i < x.size() ? x[i] * scale : 0.0f;
        const auto code = int8_t(std::nearbyint(std::min(std::max(value, -128.0f), 127.0f)));
        out.codes.push_back(code);
        sum += code;
    }
    out.scales.push_back(scale);
    out.sums.push_back(sum);
}

}  // namespace

CHECK(quantize_every_variant) {
    Random random(1);
    const uint32_t tokens = 3;
    const float eps = 1e-5f;
    for (uint32_t cols : {1, 31, 64, 100, 2560, 4096, 4097, 6912}) {
        for (bool has_norm : {false, true}) {
            // exp and tanh may differ in their last bit, and codes with them: see gate_alone.
            for (Gate gate : {Gate::None, Gate::Relu2}) {
                const uint32_t stride = (gate == Gate::None ? cols : 2 * cols) + 3;
                std::vector<float> x = random.floats(tokens * stride, -9.0f, 9.0f);
                // ReLU^2 leaves the range of float16; a token of zeros has the smallest scale.
                std::fill(x.begin(), x.begin() + stride, 500.0f);
                std::fill(x.begin() + stride, x.begin() + 2 * stride, 0.0f);
                const std::vector<float> norm = random.floats(cols, 0.5f, 2.0f);
                const uint32_t code_stride = divide_up(cols, 32) * 32;
                Quantized expected;
                for (uint32_t token = 0; token < tokens; ++token) {
                    const float *row = &x[token * stride];
                    std::vector<float> values(row, row + cols);
                    for (uint32_t i = 0; gate != Gate::None && i < cols; ++i) {
                        values[i] = activation(gate, values[i]) * row[cols + i];
                    }
                    quantize(has_norm ? rms_norm(values.data(), norm, eps) : values, code_stride, expected);
                }
                Call call("quantize");
                call.bind(0, x).bind(2, std::vector<int8_t>(tokens * code_stride, 99));
                call.bind(3, std::vector<float>(tokens)).bind(4, std::vector<int32_t>(tokens));
                call.bind_params(5, QuantizeParams{cols, stride, code_stride, eps});
                call.constant(HAS_NORM, has_norm).constant(GATE, uint32_t(gate));
                if (has_norm) {
                    call.bind(1, norm);
                }
                const Results results = device.run(call.grid(tokens).threads_per_threadgroup(512));
                const std::string what = text(cols, " columns, norm ", has_norm, ", gate ", uint32_t(gate));
                expect_equal("codes of " + what, results.get<int8_t>(2), expected.codes);
                expect_equal("scales of " + what, results.get<float>(3), expected.scales);
                expect_equal("sums of " + what, results.get<int32_t>(4), expected.sums);
            }
        }
    }
}

CHECK(rms_norm_of_tokens_and_heads) {
    Random random(2);
    struct Case {
        uint32_t cols, groups, stride;
        bool accumulate, in_place;
    };
    for (const Case &c :
         {Case{1, 1, 1, false, false}, Case{67, 1, 70, true, false}, Case{128, 5, 700, false, true},
          Case{2560, 1, 2560, false, false}, Case{6912, 1, 6912, true, false}}) {
        const uint32_t tokens = 2;
        const std::vector<float> x = random.floats(tokens * c.stride, -3.0f, 3.0f);
        const std::vector<float> before = random.floats(tokens * c.stride, -3.0f, 3.0f);
        const std::vector<float> weight = random.floats(c.cols, 0.5f, 2.0f);
        std::vector<float> expected = c.in_place ? x : before;
        for (uint32_t token = 0; token < tokens; ++token) {
            for (uint32_t group = 0; group < c.groups; ++group) {
                const size_t at = token * c.stride + group * c.cols;
                const std::vector<float> y = rms_norm(&x[at], weight, 1e-6f);
                for (uint32_t i = 0; i < c.cols; ++i) {
                    expected[at + i] = c.accumulate ? expected[at + i] + y[i] : y[i];
                }
            }
        }
        Call call("rms_norm");
        call.bind(0, x).bind(1, weight).bind(2, before);
        if (c.in_place) {
            call.bind_same(2, 0);
        }
        call.bind_params(3, NormParams{c.cols, c.stride, c.stride, 1e-6f}).constant(ACCUMULATE, c.accumulate);
        const uint32_t threads = std::min(512u, divide_up(c.cols, 32) * 32);
        const Results results = device.run(call.grid(c.groups, tokens).threads_per_threadgroup(threads));
        expect_equal(text(c.cols, " columns"), results.get<float>(c.in_place ? 0 : 2), expected);
    }
}

CHECK(gate_alone) {
    Random random(3);
    for (Gate gate : {Gate::Relu2, Gate::Silu, Gate::GeluTanh}) {
        const uint32_t tokens = 2;
        for (uint32_t cols : {1, 255, 700}) {
            const std::vector<float> x = random.floats(tokens * 2 * cols, -20.0f, 400.0f);
            std::vector<double> expected(tokens * cols);
            std::vector<float> exact(tokens * cols);
            double widest = 0;
            for (uint32_t i = 0; i < tokens * cols; ++i) {
                const float *row = &x[i / cols * 2 * cols];
                exact[i] = activation(gate, row[i % cols]) * row[cols + i % cols];
                expected[i] = exact[i];
                widest = std::max(widest, std::fabs(expected[i]));
            }
            Call call("gate");
            call.bind(0, x).bind(1, exact).bind_params(2, GateParams{cols, 2 * cols, cols});
            call.constant(GATE, uint32_t(gate));
            call.grid(divide_up(cols, 256), tokens).threads_per_threadgroup(256);
            const Results results = device.run(call);
            const std::string what = text("gate ", uint32_t(gate), " of ", cols);
            if (gate == Gate::Relu2) {
                expect_equal(what, results.get<float>(1), exact);
            } else {
                expect_close(what, results.get<float>(1), expected, 1e-6 * widest);
            }
        }
    }
}

CHECK(residual_sum) {
    Random random(4);
    for (uint32_t count : {1, 257, 5000}) {
        const std::vector<float> x = random.floats(count, -1.0f, 1.0f);
        const std::vector<float> y = random.floats(count, -1.0f, 1.0f);
        std::vector<float> expected(count);
        std::transform(x.begin(), x.end(), y.begin(), expected.begin(), std::plus<float>());
        Call call("add");
        call.bind(0, x).bind(1, y).bind_params(2, AddParams{count});
        const Results results = device.run(call.grid(divide_up(count, 256)).threads_per_threadgroup(256));
        expect_equal(text(count, " elements"), results.get<float>(0), expected);
    }
}
