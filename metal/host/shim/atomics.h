// Atomics: threads take turns, so that plain numbers are.
#pragma once

namespace metal {

enum memory_order { memory_order_relaxed };

struct atomic_uint {
    uint value;
};

inline uint atomic_load_explicit(const atomic_uint *atomic, memory_order) { return atomic->value; }

inline void atomic_store_explicit(atomic_uint *atomic, uint value, memory_order) { atomic->value = value; }

inline uint atomic_fetch_add_explicit(atomic_uint *atomic, uint value, memory_order) {
    const uint before = atomic->value;
    atomic->value += value;
    return before;
}

}  // namespace metal
