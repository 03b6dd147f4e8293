// Rotary positions (arXiv 2104.09864, pairs are element i and i + head_dim / 2) for queries in place, and for
// keys on their way to the cache, where values go in the same pass. Cosines and sines are a table of the
// host, as on the CPU.

#include "kv_cache.h"

template <typename Element>
kernel void rope_store(
    device float *qkv [[buffer(0)]],
    device const float *table [[buffer(1)]],
    device const uint *positions [[buffer(2)]],
    device const uint *sequences [[buffer(3)]],
    device const uint *page_table [[buffer(4)]],
    device Element *keys [[buffer(5)]],
    device Element *values [[buffer(6)]],
    constant RopeParams &params [[buffer(7)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]])
{
    const uint head = place.x;
    const uint token = place.y;
    const uint head_dim = params.head_dim;
    const uint pairs = head_dim / 2;
    const uint position = positions[token];
    const uint page = page_table[ulong(sequences[token]) * params.table_stride + position / PAGE];
    device float *x = qkv + ulong(token) * params.qkv_stride + head * head_dim;
    device const float *cosines = table + ulong(position) * head_dim;

    const bool is_query = head < params.heads;
    const bool is_value = head >= params.heads + params.kv_heads;
    const uint kv_head = is_query ? 0 : (head - params.heads) % params.kv_heads;
    const ulong slot = page_start(page, params.kv_heads, kv_head, head_dim) + position % PAGE * head_dim;
    for (uint i = thread_index; i < pairs; i += size.x) {
        const float a = x[i];
        const float b = x[i + pairs];
        if (is_value) {
            values[slot + i] = Element(a);
            values[slot + i + pairs] = Element(b);
            continue;
        }
        const float cosine = cosines[i];
        const float sine = cosines[i + pairs];
        const float first = a * cosine - b * sine;
        const float second = b * cosine + a * sine;
        if (is_query) {
            x[i] = first;
            x[i + pairs] = second;
        } else {
            keys[slot + i] = Element(first);
            keys[slot + i + pairs] = Element(second);
        }
    }
}

INSTANTIATE("rope_store_f16", rope_store, half)
INSTANTIATE("rope_store_f32", rope_store, float)

/// Copies a page in all layers; the cache is counted in units of 16 bytes.
kernel void copy_page(
    device uint4 *cache [[buffer(0)]],
    constant CopyPageParams &params [[buffer(1)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]])
{
    const uint unit = place.x * size.x + thread_index;
    if (unit < params.page_units) {
        device uint4 *layer = cache + ulong(place.y) * params.layer_units;
        const ulong from = ulong(params.from) * params.page_units;
        const ulong to = ulong(params.to) * params.page_units;
        layer[to + unit] = layer[from + unit];
    }
}
