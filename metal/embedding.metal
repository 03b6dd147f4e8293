// Rows of a table by their numbers: embeddings of tokens, or some rows of the residual stream.

#include "common.h"

template <typename Element>
kernel void embedding(
    device const Element *table [[buffer(0)]],
    device const uint *ids [[buffer(1)]],
    device float *out [[buffer(2)]],
    constant EmbeddingParams &params [[buffer(3)]],
    uint2 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint2 size [[threads_per_threadgroup]])
{
    const uint col = place.x * size.x + thread_index;
    if (col < params.cols) {
        const float value = widen(table[ulong(ids[place.y]) * params.cols + col]);
        out[ulong(place.y) * params.cols + col] = value * params.scale;
    }
}

INSTANTIATE("embedding_f32", embedding, float)
INSTANTIATE("embedding_f16", embedding, half)
INSTANTIATE("embedding_bf16", embedding, Bf16)
