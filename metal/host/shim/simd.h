// Barriers, and what the lanes of a SIMD group do together.
#pragma once

/// Where a function was called, as its last parameter.
#define MSL_HERE msl::Place place = {__builtin_FILE(), __builtin_LINE(), __builtin_COLUMN()}

namespace msl {

/// Shows `value` to the other lanes; `read(of)` makes the result, where `of(i)` is the value of lane i.
template <typename T, typename Read>
auto exchange(T value, Place place, Read read) {
    static_assert(sizeof(T) <= SLOT_BYTES, "a slot is wide enough");
    auto &values = current->slots->values[current->turn++ % 2];
    std::memcpy(values[current->lane()], &value, sizeof(T));
    wait_for_simdgroup(place);
    return read([&values](uint lane) {
        T other;
        std::memcpy(&other, values[lane], sizeof(T));
        return other;
    });
}

template <typename T, typename Join>
T reduce(T value, Place place, Join join) {
    return exchange(value, place, [&](auto of) {
        T result = of(0);
        for (uint lane = 1; lane < LANES; ++lane) {
            result = join(result, of(lane));
        }
        return result;
    });
}

}  // namespace msl

namespace metal {

enum class mem_flags { mem_none, mem_device, mem_threadgroup };

inline void threadgroup_barrier(mem_flags, MSL_HERE) { msl::wait_for_threadgroup(place); }
inline void simdgroup_barrier(mem_flags, MSL_HERE) { msl::wait_for_simdgroup(place); }

template <typename T>
T simd_sum(T value, MSL_HERE) {
    static_assert(std::is_integral<T>::value, "in which order hardware adds is not known");
    return msl::reduce(value, place, [](T a, T b) { return T(a + b); });
}

template <typename T>
T simd_max(T value, MSL_HERE) {
    return msl::reduce(value, place, [](T a, T b) { return a < b ? b : a; });
}

template <typename T>
T simd_min(T value, MSL_HERE) {
    return msl::reduce(value, place, [](T a, T b) { return b < a ? b : a; });
}

template <typename T>
T simd_shuffle_xor(T value, ushort mask, MSL_HERE) {
    const uint lane = msl::current->lane();
    return msl::exchange(value, place, [&](auto of) { return of((lane ^ mask) % msl::LANES); });
}

template <typename T>
T simd_prefix_exclusive_sum(T value, MSL_HERE) {
    static_assert(std::is_integral<T>::value, "in which order hardware adds is not known");
    const uint own = msl::current->lane();
    return msl::exchange(value, place, [&](auto of) {
        T sum = 0;
        for (uint lane = 0; lane < own; ++lane) {
            sum += of(lane);
        }
        return sum;
    });
}

}  // namespace metal
