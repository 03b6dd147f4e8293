// Causal attention with grouped queries over a paged cache.
//
//     out[t, h] = softmax(q[t, h] . K * scale) V
//
// over the positions up to that of token t, or the last `window` of them.
//
// A query and a page of 64 positions give a partial result: the largest score m, the sum l of exp(score - m)
// and the sum o of exp(score - m) V. Partial results are joined page after page, in the order of the
// positions (online softmax, arXiv 1805.02867):
//
//     M' = max(M, m)   O' = O exp(M - M') + o exp(m - M')   L' = L exp(M - M') + l exp(m - M')   out = O / L
//
// Decoding has a threadgroup for each page, which leaves its results in memory, and joins them in a second
// kernel: a long context fills the GPU even for one token. A prompt has a threadgroup for each tile of
// queries, which goes through the pages and joins as it goes. Both call the same functions, and add in the
// same order: a token has the same bits either way.
//
// Up to R queries share what is loaded of keys and values: the heads of a KV head, and neighbouring tokens of
// a sequence. Scores: a SIMD group takes 16 positions, 4 at once, 8 threads each. Softmax and values: a SIMD
// group takes every fourth query, a thread 4 elements of a head, and of those behind 128 another 4.

#include "kv_cache.h"

constexpr constant uint ATTENTION_SIMDGROUPS = 4;
constexpr constant uint THREADS_PER_KEY = 8;
constexpr constant uint KEYS_AT_ONCE = LANES / THREADS_PER_KEY;
/// Elements of a head that a SIMD group has at once, and how often it does: heads have up to 256.
constexpr constant uint CHUNK = LANES * 4;
constexpr constant uint CHUNKS = 2;

/// Queries of a threadgroup: some heads of some tokens.
struct Tile {
    uint kv_head;
    uint first_head;
    uint heads;
    uint first_token;
    uint tokens;

    uint token(uint query) const {
        return first_token + query / heads;
    }

    uint head(uint query) const {
        return first_head + query % heads;
    }

    uint queries() const {
        return heads * tokens;
    }
};

inline Tile make_tile(constant AttentionParams &params, uint group, uint first_token, uint tokens) {
    const uint group_heads = params.heads / params.kv_heads;
    const uint head_tiles = divide_up(group_heads, params.tile_heads);
    const uint kv_head = group / head_tiles;
    const uint first = group % head_tiles * params.tile_heads;
    const uint heads = min(params.tile_heads, group_heads - first);
    return {kv_head, kv_head * group_heads + first, heads, first_token, tokens};
}

/// Positions of a page, counted from its first.
struct Span {
    uint begin;
    uint end;
};

/// What a token at `position` sees of a page.
inline Span visible(uint position, uint window, uint page) {
    const uint end = position + 1;
    const uint begin = window > 0 && end > window ? end - window : 0;
    const uint start = page * PAGE;
    return {min(max(begin, start) - start, PAGE), min(max(end, start) - start, PAGE)};
}

/// The page of the first position that a token sees.
inline uint first_page(uint position, uint window) {
    return window > 0 && position + 1 > window ? (position + 1 - window) / PAGE : 0;
}

/// The largest score, the sum of weights, and the weighted sum of values, of which a thread has a part.
struct Result {
    float highest;
    float total;
    float4 sum[CHUNKS];
};

/// Joins what is known of a query with what the next page gives.
inline void join(thread Result &all, thread const Result &page, bool is_first) {
    if (is_first) {
        all = page;
        return;
    }
    const float highest = fmax(all.highest, page.highest);
    const float shrink = precise::exp(all.highest - highest);
    const float page_shrink = precise::exp(page.highest - highest);
    all.highest = highest;
    all.total = all.total * shrink + page.total * page_shrink;
    for (uint c = 0; c < CHUNKS; ++c) {
        all.sum[c] = all.sum[c] * shrink + page.sum[c] * page_shrink;
    }
}

/// Copies the queries of a tile to threadgroup memory, `[R, head_dim]`, zeros where there are fewer.
template <uint R>
inline void stage_queries(
    device const float *q,
    thread const Tile &tile,
    constant AttentionParams &params,
    threadgroup float *queries,
    uint thread_index)
{
    for (uint i = thread_index; i < R * params.head_dim; i += ATTENTION_SIMDGROUPS * LANES) {
        const uint query = i / params.head_dim;
        const ulong row = ulong(tile.token(query)) * params.q_stride + tile.head(query) * params.head_dim;
        queries[i] = query < tile.queries() ? q[row + i % params.head_dim] : 0.0f;
    }
}

/// `scores[query, position] = q . k * scale` for the positions `seen` of a page, `[R, PAGE]`.
template <typename Element, uint R>
inline void score_page(
    device const Element *keys,
    Span seen,
    constant AttentionParams &params,
    threadgroup const float *queries,
    threadgroup float *scores,
    uint lane,
    uint simdgroup)
{
    const uint head_dim = params.head_dim;
    const uint part = lane % THREADS_PER_KEY;
    const uint first = simdgroup * (PAGE / ATTENTION_SIMDGROUPS);
    for (uint i = 0; i < PAGE / ATTENTION_SIMDGROUPS; i += KEYS_AT_ONCE) {
        const uint position = first + i + lane / THREADS_PER_KEY;
        const bool is_seen = position >= seen.begin && position < seen.end;
        float sums[R] = {};
        for (uint d = 4 * part; is_seen && d < head_dim; d += 4 * THREADS_PER_KEY) {
            const float4 k = float4(*(device const vec<Element, 4> *)(keys + position * head_dim + d));
            for (uint r = 0; r < R; ++r) {
                const float4 x = *(threadgroup const float4 *)(queries + r * head_dim + d);
                sums[r] = fma(k.w, x.w, fma(k.z, x.z, fma(k.y, x.y, fma(k.x, x.x, sums[r]))));
            }
        }
        for (uint r = 0; r < R; ++r) {
            for (ushort apart = THREADS_PER_KEY / 2; apart > 0; apart /= 2) {
                sums[r] += simd_shuffle_xor(sums[r], apart);
            }
            if (part == r) {
                scores[r * PAGE + position] = sums[r] * params.scale;
            }
        }
    }
}

/// Turns the scores of one query into weights, and gives the largest score and the sum of weights, to all
/// lanes.
inline void weigh(threadgroup float *scores, Span own, thread Result &result, uint lane) {
    const uint other = lane + LANES;
    const bool has_one = lane >= own.begin && lane < own.end;
    const bool has_other = other >= own.begin && other < own.end;
    const float one_score = has_one ? scores[lane] : -INFINITY;
    const float other_score = has_other ? scores[other] : -INFINITY;
    result.highest = simd_max(fmax(one_score, other_score));
    const float one_weight = has_one ? precise::exp(one_score - result.highest) : 0.0f;
    const float other_weight = has_other ? precise::exp(other_score - result.highest) : 0.0f;
    result.total = tree_sum(one_weight + other_weight);
    scores[lane] = one_weight;
    scores[other] = other_weight;
}

/// The partial results of a page for the queries `simdgroup`, `simdgroup + 4`, ... of a tile; all threads
/// come here.
template <typename Element, uint R>
inline void attend_page(
    device const Element *keys,
    device const Element *values,
    uint page,
    device const uint *positions,
    thread const Tile &tile,
    constant AttentionParams &params,
    threadgroup const float *queries,
    threadgroup float *scores,
    thread Result (&results)[R / ATTENTION_SIMDGROUPS],
    uint lane,
    uint simdgroup)
{
    const Span of_first = visible(positions[tile.first_token], params.window, page);
    const Span of_last = visible(positions[tile.first_token + tile.tokens - 1], params.window, page);
    const Span seen = {of_first.begin, of_last.end};
    score_page<Element, R>(keys, seen, params, queries, scores, lane, simdgroup);
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (uint i = 0; i < R / ATTENTION_SIMDGROUPS; ++i) {
        const uint query = simdgroup + i * ATTENTION_SIMDGROUPS;
        Span own = {0, 0};
        if (query < tile.queries()) {
            own = visible(positions[tile.token(query)], params.window, page);
        }
        weigh(scores + query * PAGE, own, results[i], lane);
        for (uint c = 0; c < CHUNKS; ++c) {
            results[i].sum[c] = float4(0.0f);
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);

    // What a query does not see has weight 0 and is finite: other queries of the tile see it.
    for (uint position = seen.begin; position < seen.end; ++position) {
        for (uint c = 0; c < CHUNKS; ++c) {
            const uint d = 4 * lane + c * CHUNK;
            if (d < params.head_dim) {
                device const Element *place = values + position * params.head_dim + d;
                const float4 v = float4(*(device const vec<Element, 4> *)place);
                for (uint i = 0; i < R / ATTENTION_SIMDGROUPS; ++i) {
                    const float weight = scores[(simdgroup + i * ATTENTION_SIMDGROUPS) * PAGE + position];
                    results[i].sum[c] = fma(float4(weight), v, results[i].sum[c]);
                }
            }
        }
    }
}

template <typename Element, uint R>
[[max_total_threads_per_threadgroup(128)]]
kernel void attention_decode(
    device const float *q [[buffer(0)]],
    device const Element *keys [[buffer(1)]],
    device const Element *values [[buffer(2)]],
    device const uint *positions [[buffer(3)]],
    device const uint *sequences [[buffer(4)]],
    device const uint *page_table [[buffer(5)]],
    device float *partial_out [[buffer(6)]],
    device float *partial_stats [[buffer(7)]],
    constant AttentionParams &params [[buffer(8)]],
    threadgroup float *shared [[threadgroup(0)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    const uint page = place.x;
    const uint token = place.z;
    const uint position = positions[token];
    if (page < first_page(position, params.window) || page > position / PAGE) {
        return;
    }
    const Tile tile = make_tile(params, place.y, token, 1);
    threadgroup float *scores = shared + R * params.head_dim;
    stage_queries<R>(q, tile, params, shared, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);

    const uint stored_page = page_table[ulong(sequences[token]) * params.table_stride + page];
    const ulong start = page_start(stored_page, params.kv_heads, tile.kv_head, params.head_dim);
    Result results[R / ATTENTION_SIMDGROUPS];
    attend_page<Element, R>(
        keys + start,
        values + start,
        page,
        positions,
        tile,
        params,
        shared,
        scores,
        results,
        lane,
        simdgroup);
    for (uint i = 0; i < R / ATTENTION_SIMDGROUPS; ++i) {
        const uint query = simdgroup + i * ATTENTION_SIMDGROUPS;
        if (query < tile.queries()) {
            const ulong part = (ulong(token) * params.heads + tile.head(query)) * params.pages + page;
            for (uint c = 0; c < CHUNKS; ++c) {
                const uint d = 4 * lane + c * CHUNK;
                if (d < params.head_dim) {
                    *(device float4 *)(partial_out + part * params.head_dim + d) = results[i].sum[c];
                }
            }
            if (lane == 0) {
                partial_stats[2 * part] = results[i].highest;
                partial_stats[2 * part + 1] = results[i].total;
            }
        }
    }
}

/// Joins the partial results of `attention_decode`: a SIMD group has a head.
kernel void attention_merge(
    device const float *partial_out [[buffer(0)]],
    device const float *partial_stats [[buffer(1)]],
    device const uint *positions [[buffer(2)]],
    device float *out [[buffer(3)]],
    constant AttentionParams &params [[buffer(4)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]])
{
    const uint head = place.x * simdgroups + simdgroup;
    const uint token = place.y;
    if (head >= params.heads) {
        return;
    }
    const uint position = positions[token];
    const uint begin = first_page(position, params.window);
    Result all;
    for (uint page = begin; page <= position / PAGE; ++page) {
        const ulong part = (ulong(token) * params.heads + head) * params.pages + page;
        Result next;
        next.highest = partial_stats[2 * part];
        next.total = partial_stats[2 * part + 1];
        for (uint c = 0; c < CHUNKS; ++c) {
            const uint d = 4 * lane + c * CHUNK;
            next.sum[c] = float4(0.0f);
            if (d < params.head_dim) {
                next.sum[c] = *(device const float4 *)(partial_out + part * params.head_dim + d);
            }
        }
        join(all, next, page == begin);
    }
    for (uint c = 0; c < CHUNKS; ++c) {
        const uint d = 4 * lane + c * CHUNK;
        if (d < params.head_dim) {
            *(device float4 *)(out + ulong(token) * params.out_stride + head * params.head_dim + d) =
                all.sum[c] / all.total;
        }
    }
}

template <typename Element, uint R>
[[max_total_threads_per_threadgroup(128)]]
kernel void attention_prefill(
    device const float *q [[buffer(0)]],
    device const Element *keys [[buffer(1)]],
    device const Element *values [[buffer(2)]],
    device const uint *positions [[buffer(3)]],
    device const uint *sequences [[buffer(4)]],
    device const uint *page_table [[buffer(5)]],
    device const uint2 *tiles [[buffer(6)]],
    device float *out [[buffer(7)]],
    constant AttentionParams &params [[buffer(8)]],
    threadgroup float *shared [[threadgroup(0)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    const uint2 rows = tiles[place.x];
    const Tile tile = make_tile(params, place.y, rows.x, rows.y);
    threadgroup float *scores = shared + R * params.head_dim;
    stage_queries<R>(q, tile, params, shared, thread_index);

    device const uint *table = page_table + ulong(sequences[tile.first_token]) * params.table_stride;
    const uint last_page = positions[tile.first_token + tile.tokens - 1] / PAGE;
    Result all[R / ATTENTION_SIMDGROUPS];
    for (uint page = first_page(positions[tile.first_token], params.window); page <= last_page; ++page) {
        // The weights of the page before have been used, and at first the queries are there.
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const ulong start = page_start(table[page], params.kv_heads, tile.kv_head, params.head_dim);
        Result results[R / ATTENTION_SIMDGROUPS];
        attend_page<Element, R>(
            keys + start,
            values + start,
            page,
            positions,
            tile,
            params,
            shared,
            scores,
            results,
            lane,
            simdgroup);
        for (uint i = 0; i < R / ATTENTION_SIMDGROUPS; ++i) {
            const uint query = simdgroup + i * ATTENTION_SIMDGROUPS;
            if (query < tile.queries()) {
                const uint position = positions[tile.token(query)];
                const uint begin = first_page(position, params.window);
                if (page >= begin && page <= position / PAGE) {
                    join(all[i], results[i], page == begin);
                }
            }
        }
    }
    for (uint i = 0; i < R / ATTENTION_SIMDGROUPS; ++i) {
        const uint query = simdgroup + i * ATTENTION_SIMDGROUPS;
        if (query < tile.queries()) {
            device float *row = out + ulong(tile.token(query)) * params.out_stride;
            row += tile.head(query) * params.head_dim;
            for (uint c = 0; c < CHUNKS; ++c) {
                const uint d = 4 * lane + c * CHUNK;
                if (d < params.head_dim) {
                    *(device float4 *)(row + d) = all[i].sum[c] / all[i].total;
                }
            }
        }
    }
}

INSTANTIATE("attention_decode_f16_q4", attention_decode, half, 4)
INSTANTIATE("attention_decode_f16_q8", attention_decode, half, 8)
INSTANTIATE("attention_decode_f32_q4", attention_decode, float, 4)
INSTANTIATE("attention_decode_f32_q8", attention_decode, float, 8)
INSTANTIATE("attention_prefill_f16_q4", attention_prefill, half, 4)
INSTANTIATE("attention_prefill_f16_q8", attention_prefill, half, 8)
INSTANTIATE("attention_prefill_f32_q4", attention_prefill, float, 4)
INSTANTIATE("attention_prefill_f32_q8", attention_prefill, float, 8)
