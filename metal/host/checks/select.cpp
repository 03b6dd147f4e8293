// The most probable tokens.

#include <limits>
#include <numeric>

#include "definitions.h"
#include "params.h"

namespace {

/// Logits of many equals, with both zeros and both infinities.
std::vector<float> logits(Random &random, size_t count, size_t cols) {
    std::vector<float> values = random.floats(count, -8.0f, 8.0f);
    for (float &value : values) {
        value = std::nearbyint(value * 4.0f) / 4.0f;
    }
    if (cols > 3) {
        values[0] = -std::numeric_limits<float>::infinity();
        values[1] = 0.0f;
        values[cols - 1] = -0.0f;
    }
    return values;
}

/// Ids from the largest logit to the smallest, of equals the lowest first.
std::vector<uint32_t> ranked(const float *row, uint32_t cols) {
    std::vector<uint32_t> ids(cols);
    std::iota(ids.begin(), ids.end(), 0);
    std::sort(ids.begin(), ids.end(),
              [row](uint32_t a, uint32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
    return ids;
}

}  // namespace

CHECK(argmax) {
    Random random(14);
    const uint32_t tokens = 3;
    for (uint32_t cols : {1, 31, 513, 5000}) {
        const uint32_t stride = cols + 2;
        std::vector<float> all = logits(random, tokens * stride, cols);
        if (cols == 31) {
            std::fill(all.begin(), all.begin() + stride, -0.0f);
            all[20] = 0.0f;
        }
        std::vector<uint32_t> ids;
        std::vector<float> values;
        for (uint32_t token = 0; token < tokens; ++token) {
            ids.push_back(ranked(&all[token * stride], cols)[0]);
            values.push_back(all[token * stride + ids.back()]);
        }
        Call call("argmax");
        call.bind(0, all).bind(1, ids).bind(2, values).bind_params(3, ArgmaxParams{cols, stride});
        const Results results = device.run(call.grid(tokens).threads_per_threadgroup(512));
        expect_equal("ids", results.get<uint32_t>(1), ids);
        expect_equal("values", results.get<float>(2), values);
    }
}

CHECK(argmax_shows_nan) {
    std::vector<float> all(700, 1.0f);
    all[600] = -std::numeric_limits<float>::quiet_NaN();
    all[3] = std::numeric_limits<float>::infinity();
    Call call("argmax");
    call.bind(0, all).bind(1, std::vector<uint32_t>(1)).bind(2, std::vector<float>(1));
    call.bind_params(3, ArgmaxParams{700, 700});
    const Results results = device.run(call.threads_per_threadgroup(512));
    expect_equal<uint32_t>("ids", results.get<uint32_t>(1), {600});
    if (!std::isnan(results.get<float>(2)[0])) {
        throw std::runtime_error("the value is a number");
    }
}

CHECK(top_k) {
    Random random(15);
    const uint32_t tokens = 2;
    for (uint32_t cols : {1, 31, 513, 3000}) {
        for (uint32_t k : {1u, std::min(cols, 40u), cols}) {
            const uint32_t stride = cols;
            const std::vector<float> all = logits(random, tokens * stride, cols);
            std::vector<uint32_t> ids;
            std::vector<float> values;
            for (uint32_t token = 0; token < tokens; ++token) {
                std::vector<uint32_t> best = ranked(&all[token * stride], cols);
                best.resize(k);
                std::sort(best.begin(), best.end());
                for (uint32_t id : best) {
                    ids.push_back(id);
                    values.push_back(all[token * stride + id]);
                }
            }
            Call call("top_k");
            call.bind(0, all).bind(1, std::vector<uint32_t>(tokens * k));
            call.bind(2, std::vector<float>(tokens * k));
            call.bind_params(3, TopKParams{cols, stride, k});
            const Results results = device.run(call.grid(tokens).threads_per_threadgroup(512));
            expect_equal(text("ids of ", k, " of ", cols), results.get<uint32_t>(1), ids);
            expect_equal(text("values of ", k, " of ", cols), results.get<float>(2), values);
        }
    }
}
