// Rotary positions, the cache of keys and values, attention.

#include <limits>
#include <numeric>

#include "definitions.h"
#include "params.h"

namespace {

constexpr uint32_t PAGE = 64;

/// Tokens of several sequences: of each the last ones.
struct Batch {
    std::vector<uint32_t> positions, sequences, page_table;
    /// Tokens of each sequence in all.
    std::vector<uint32_t> lengths;
    uint32_t table_stride = 0;
    uint32_t pages = 0;

    Batch(const std::vector<uint32_t> &lengths, uint32_t newest, Random &random) : lengths(lengths) {
        for (uint32_t length : lengths) {
            table_stride = std::max(table_stride, divide_up(length, PAGE));
        }
        pages = table_stride * uint32_t(lengths.size());
        page_table.resize(pages);
        std::iota(page_table.begin(), page_table.end(), 0);
        for (uint32_t i = pages - 1; i > 0; --i) {
            std::swap(page_table[i], page_table[random.below(i + 1)]);
        }
        for (uint32_t sequence = 0; sequence < lengths.size(); ++sequence) {
            const uint32_t length = lengths[sequence];
            for (uint32_t position = length - std::min(length, newest); position < length; ++position) {
                positions.push_back(position);
                sequences.push_back(sequence);
            }
        }
    }

    uint32_t tokens() const { return uint32_t(positions.size()); }

    /// The first element of a position of a head in a cache.
    size_t slot(uint32_t sequence, uint32_t position, uint32_t kv_heads, uint32_t kv_head,
                uint32_t head_dim) const {
        const size_t page = page_table[sequence * table_stride + position / PAGE];
        return ((page * kv_heads + kv_head) * PAGE + position % PAGE) * head_dim;
    }
};

struct Shape {
    uint32_t heads, kv_heads, head_dim, window;
};

/// Queries, and a cache that is NaN where no token has written.
template <typename Element>
struct Attention {
    Shape shape;
    Batch batch;
    std::vector<float> q;
    std::vector<Element> keys, values;
    float scale;

    Attention(Shape shape, const std::vector<uint32_t> &lengths, uint32_t newest, Random &random)
        : shape(shape), batch(lengths, newest, random), scale(1.0f / std::sqrt(float(shape.head_dim))) {
        q = random.floats(batch.tokens() * q_stride(), -4.0f, 4.0f);
        const size_t elements = size_t(batch.pages) * shape.kv_heads * PAGE * shape.head_dim;
        keys.assign(elements, Element(std::numeric_limits<float>::quiet_NaN()));
        values = keys;
        for (uint32_t sequence = 0; sequence < lengths.size(); ++sequence) {
            for (uint32_t position = 0; position < lengths[sequence]; ++position) {
                for (uint32_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
                    const size_t at = batch.slot(sequence, position, shape.kv_heads, kv_head, shape.head_dim);
                    for (uint32_t d = 0; d < shape.head_dim; ++d) {
                        keys[at + d] = Element(random.between(-2.0f, 2.0f));
                        values[at + d] = Element(random.between(-1.0f, 1.0f));
                    }
                }
            }
        }
    }

    /// Keys and values lie behind the queries of a token.
    uint32_t q_stride() const { return (shape.heads + 2 * shape.kv_heads) * shape.head_dim; }
    uint32_t out_stride() const { return shape.heads * shape.head_dim; }

    std::vector<double> expected() const {
        std::vector<double> out(batch.tokens() * out_stride());
        for (uint32_t token = 0; token < batch.tokens(); ++token) {
            for (uint32_t head = 0; head < shape.heads; ++head) {
                attend(token, head, &out[token * out_stride() + head * shape.head_dim]);
            }
        }
        return out;
    }

    void attend(uint32_t token, uint32_t head, double *out) const {
        const uint32_t end = batch.positions[token] + 1;
        const uint32_t begin = shape.window > 0 && end > shape.window ? end - shape.window : 0;
        const uint32_t kv_head = head / (shape.heads / shape.kv_heads);
        const auto slot = [&](uint32_t position) {
            return batch.slot(batch.sequences[token], position, shape.kv_heads, kv_head, shape.head_dim);
        };
        std::vector<double> weights;
        for (uint32_t position = begin; position < end; ++position) {
            double score = 0;
            for (uint32_t d = 0; d < shape.head_dim; ++d) {
                const size_t at = token * q_stride() + head * shape.head_dim + d;
                score += double(q[at]) * double(keys[slot(position) + d]);
            }
            weights.push_back(score * scale);
        }
        const double highest = *std::max_element(weights.begin(), weights.end());
        double total = 0;
        for (double &weight : weights) {
            weight = std::exp(weight - highest);
            total += weight;
        }
        for (uint32_t position = begin; position < end; ++position) {
            for (uint32_t d = 0; d < shape.head_dim; ++d) {
                out[d] += weights[position - begin] / total * double(values[slot(position) + d]);
            }
        }
    }

    AttentionParams params(uint32_t queries) const {
        const uint32_t tile_heads = std::min(shape.heads / shape.kv_heads, queries);
        return {shape.heads, shape.kv_heads, shape.head_dim, q_stride(), out_stride(),
                batch.table_stride, batch.table_stride, shape.window, tile_heads, scale};
    }

    Call call(const std::string &kernel, uint32_t queries) const {
        Call call(kernel);
        call.bind(0, q).bind(1, keys).bind(2, values).bind(3, batch.positions).bind(4, batch.sequences);
        call.bind(5, batch.page_table).bind_params(8, params(queries)).threads_per_threadgroup(128);
        call.threadgroup_memory(queries * (shape.head_dim + PAGE) * 4);
        return call;
    }

    uint32_t head_tiles(uint32_t queries) const {
        return shape.kv_heads * divide_up(shape.heads / shape.kv_heads, params(queries).tile_heads);
    }

    std::vector<float> decode(const Device &device, const std::string &type, uint32_t queries) const {
        const size_t parts = size_t(batch.tokens()) * shape.heads * batch.table_stride;
        Call decode = call(text("attention_decode_", type, "_q", queries), queries);
        decode.bind(6, std::vector<float>(parts * shape.head_dim)).bind(7, std::vector<float>(parts * 2));
        decode.grid(batch.table_stride, head_tiles(queries), batch.tokens());
        const Results partial = device.run(decode);
        Call merge("attention_merge");
        merge.bind(0, partial.get<float>(6)).bind(1, partial.get<float>(7)).bind(2, batch.positions);
        merge.bind(3, std::vector<float>(batch.tokens() * out_stride())).bind_params(4, params(queries));
        merge.grid(divide_up(shape.heads, 4), batch.tokens()).threads_per_threadgroup(128);
        return device.run(merge).get<float>(3);
    }

    /// In tiles of up to `most` tokens, or as many as go together.
    std::vector<float> prefill(const Device &device, const std::string &type, uint32_t queries,
                               uint32_t most) const {
        const uint32_t size = std::min(most, queries / params(queries).tile_heads);
        std::vector<uint32_t> tiles;
        for (uint32_t token = 0; token < batch.tokens();) {
            uint32_t count = 1;
            while (count < size && token + count < batch.tokens() &&
                   batch.sequences[token + count] == batch.sequences[token]) {
                ++count;
            }
            tiles.insert(tiles.end(), {token, count});
            token += count;
        }
        Call prefill = call(text("attention_prefill_", type, "_q", queries), queries);
        prefill.bind(6, tiles).bind(7, std::vector<float>(batch.tokens() * out_stride()));
        prefill.grid(uint32_t(tiles.size() / 2), head_tiles(queries));
        return device.run(prefill).get<float>(7);
    }

    /// All ways must agree bit for bit, and with the definition to a few parts in a million of the largest
    /// value.
    void check(const Device &device, const std::string &type) const {
        const std::string what = text(type, ", ", shape.heads, " heads of ", shape.head_dim);
        const std::vector<float> out = decode(device, type, 4);
        expect_close(what, out, expected(), 4e-6);
        expect_equal(what + ", decode by 8", decode(device, type, 8), out);
        expect_equal(what + ", prefill by 4", prefill(device, type, 4, 4), out);
        expect_equal(what + ", prefill by 8", prefill(device, type, 8, 8), out);
        expect_equal(what + ", prefill in other tiles", prefill(device, type, 8, 3), out);
    }
};

}  // namespace

CHECK(attention) {
    Random random(11);
    const std::vector<uint32_t> lengths = {1, 65, 133};
    for (const Shape &shape :
         {Shape{4, 2, 64, 0}, Shape{6, 2, 128, 0}, Shape{3, 3, 100, 0}, Shape{10, 1, 16, 0},
          Shape{5, 1, 256, 0}, Shape{4, 1, 4, 70}, Shape{2, 2, 32, 3}}) {
        Attention<Half>(shape, lengths, 6, random).check(device, "f16");
        Attention<float>(shape, lengths, 6, random).check(device, "f32");
    }
}

namespace {

template <typename Element>
void check_rope(const Device &device, const std::string &type, Shape shape, Random &random) {
    const Batch batch({3, 70}, 5, random);
    const uint32_t positions = 80, half = shape.head_dim / 2;
    const uint32_t all_heads = shape.heads + 2 * shape.kv_heads, stride = all_heads * shape.head_dim;
    const std::vector<float> qkv = random.floats(batch.tokens() * stride, -2.0f, 2.0f);
    const std::vector<float> table = random.floats(positions * shape.head_dim, -1.0f, 1.0f);
    const size_t elements = size_t(batch.pages) * shape.kv_heads * PAGE * shape.head_dim;
    const std::vector<Element> before(elements, Element(9.0f));
    std::vector<float> rotated = qkv;
    std::vector<Element> keys = before, values = before;
    for (uint32_t token = 0; token < batch.tokens(); ++token) {
        const uint32_t position = batch.positions[token];
        for (uint32_t head = 0; head < all_heads; ++head) {
            const size_t at = token * stride + head * shape.head_dim;
            const bool is_query = head < shape.heads, is_value = head >= shape.heads + shape.kv_heads;
            const uint32_t kv_head = is_query ? 0 : (head - shape.heads) % shape.kv_heads;
            const uint32_t sequence = batch.sequences[token];
            const size_t slot = batch.slot(sequence, position, shape.kv_heads, kv_head, shape.head_dim);
            for (uint32_t d = 0; d < shape.head_dim; ++d) {
                const uint32_t i = d % half;
                const float a = qkv[at + i], b = qkv[at + half + i];
                const float cosine = table[position * shape.head_dim + i];
                const float sine = table[position * shape.head_dim + half + i];
                const float turned = d < half ? a * cosine - b * sine : b * cosine + a * sine;
                if (is_query) {
                    rotated[at + d] = turned;
                } else if (is_value) {
                    values[slot + d] = Element(qkv[at + d]);
                } else {
                    keys[slot + d] = Element(turned);
                }
            }
        }
    }
    Call call("rope_store_" + type);
    call.bind(0, qkv).bind(1, table).bind(2, batch.positions).bind(3, batch.sequences);
    call.bind(4, batch.page_table).bind(5, before).bind(6, before);
    call.bind_params(7, RopeParams{shape.heads, shape.kv_heads, shape.head_dim, stride, batch.table_stride});
    const Results results = device.run(call.grid(all_heads, batch.tokens()).threads_per_threadgroup(64));
    expect_equal("queries", results.get<float>(0), rotated);
    // As bytes, since a half cannot be printed.
    expect_equal("keys", results.get<unsigned char>(5), bytes_of(keys.data(), elements));
    expect_equal("values", results.get<unsigned char>(6), bytes_of(values.data(), elements));
}

}  // namespace

CHECK(rope_and_store) {
    Random random(12);
    for (const Shape &shape :
         {Shape{4, 2, 64, 0}, Shape{1, 1, 2, 0}, Shape{3, 3, 100, 0}, Shape{2, 1, 256, 0}}) {
        check_rope<Half>(device, "f16", shape, random);
        check_rope<float>(device, "f32", shape, random);
    }
}

CHECK(copy_page) {
    Random random(13);
    const uint32_t layers = 3, pages = 4, units = 300;
    std::vector<uint32_t> cache = random.integers<uint32_t>(layers * pages * units * 4, 0, 1000);
    Call call("copy_page");
    call.bind(0, cache).bind_params(1, CopyPageParams{1, 3, units, pages * units});
    for (uint32_t layer = 0; layer < layers; ++layer) {
        const auto page = [&](uint32_t index) { return cache.begin() + (layer * pages + index) * units * 4; };
        std::copy(page(1), page(2), page(3));
    }
    const Results results = device.run(call.grid(divide_up(units, 256), layers).threads_per_threadgroup(256));
    expect_equal("cache", results.get<uint32_t>(0), cache);
}
