// The most probable tokens.
//
// Logits are compared as integers in the same order. A NaN is above everything, so that whoever chose it sees
// that the model gave no number. Of equal logits the lowest id comes first.

#include "common.h"

constexpr constant uint DIGIT_BITS = 8;
constexpr constant uint DIGITS = 1 << DIGIT_BITS;

/// An integer that is larger where the logit is. Adding 0 makes +0 of -0.
inline uint sort_key(float logit) {
    const uint bits = as_type<uint>(logit + 0.0f);
    if (isnan(logit)) {
        return 0xffffffff;
    }
    return (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
}

[[max_total_threads_per_threadgroup(512)]]
kernel void argmax(
    device const float *logits [[buffer(0)]],
    device uint *ids [[buffer(1)]],
    device float *values [[buffer(2)]],
    constant ArgmaxParams &params [[buffer(3)]],
    uint token [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup uint best_keys[LANES];
    threadgroup uint best_ids[LANES];
    device const float *row = logits + ulong(token) * params.stride;
    uint best_key = 0;
    uint best_id = 0xffffffff;
    for (uint id = thread_index; id < params.cols; id += threads) {
        const uint key = sort_key(row[id]);
        if (key > best_key) {
            best_key = key;
            best_id = id;
        }
    }
    const uint highest = simd_max(best_key);
    const uint lowest_id = simd_min(best_key == highest ? best_id : 0xffffffff);
    if (lane == 0) {
        best_keys[simdgroup] = highest;
        best_ids[simdgroup] = lowest_id;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index == 0) {
        best_key = highest;
        best_id = lowest_id;
        for (uint i = 1; i < threads / LANES; ++i) {
            if (best_keys[i] > best_key || (best_keys[i] == best_key && best_ids[i] < best_id)) {
                best_key = best_keys[i];
                best_id = best_ids[i];
            }
        }
        ids[token] = best_id;
        values[token] = row[best_id];
    }
}

/// The k largest logits of a token in the order of their ids. The k-th largest key is found digit by digit
/// from the counts of the keys that share the digits found before (radix selection); then what is above it is
/// written, and as many of its equals as there is room for, each at its rank.
[[max_total_threads_per_threadgroup(512)]]
kernel void top_k(
    device const float *logits [[buffer(0)]],
    device uint *ids [[buffer(1)]],
    device float *values [[buffer(2)]],
    constant TopKParams &params [[buffer(3)]],
    uint token [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup atomic_uint counts[DIGITS];
    threadgroup uint found[2];
    threadgroup uint taken[LANES];
    device const float *row = logits + ulong(token) * params.stride;

    uint limit = 0;
    uint mask = 0;
    // How many are wanted of the keys that share the digits found.
    uint wanted = params.k;
    for (uint shift = 32; shift > 0;) {
        shift -= DIGIT_BITS;
        for (uint digit = thread_index; digit < DIGITS; digit += threads) {
            atomic_store_explicit(&counts[digit], 0, memory_order_relaxed);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint id = thread_index; id < params.cols; id += threads) {
            const uint key = sort_key(row[id]);
            if ((key & mask) == limit) {
                atomic_fetch_add_explicit(&counts[key >> shift & (DIGITS - 1)], 1, memory_order_relaxed);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index == 0) {
            uint digit = DIGITS - 1;
            uint left = wanted;
            while (digit > 0 && atomic_load_explicit(&counts[digit], memory_order_relaxed) < left) {
                left -= atomic_load_explicit(&counts[digit], memory_order_relaxed);
                --digit;
            }
            found[0] = digit;
            found[1] = left;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        limit |= found[0] << shift;
        mask |= (DIGITS - 1) << shift;
        wanted = found[1];
    }

    // Two counts in one: those above the limit in the low half, those equal to it in the high one.
    uint above = 0;
    uint equal = 0;
    for (uint start = 0; start < params.cols; start += threads) {
        const uint id = start + thread_index;
        const uint key = id < params.cols ? sort_key(row[id]) : 0;
        const bool is_above = id < params.cols && key > limit;
        const bool is_equal = id < params.cols && key == limit;
        const uint own = uint(is_above) | uint(is_equal) << 16;
        uint before = simd_prefix_exclusive_sum(own);
        if (lane == LANES - 1) {
            taken[simdgroup] = before + own;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint all = 0;
        for (uint i = 0; i < threads / LANES; ++i) {
            before += i < simdgroup ? taken[i] : 0;
            all += taken[i];
        }
        const uint equal_before = equal + (before >> 16);
        if (is_above || (is_equal && equal_before < wanted)) {
            const uint rank = above + (before & 0xffff) + min(equal_before, wanted);
            const ulong place = ulong(token) * params.k + rank;
            ids[place] = id;
            values[place] = row[id];
        }
        above += all & 0xffff;
        equal += all >> 16;
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
