// A thread of the GPU as kernels see it, and how it waits for others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "abi.h"

namespace msl {

constexpr uint32_t LANES = 32;
constexpr size_t SLOT_BYTES = 16;

/// Where in the sources a thread waits.
struct Place {
    const char *file;
    int line;
    int column;

    bool operator==(const Place &other) const {
        return line == other.line && column == other.column && std::strcmp(file, other.file) == 0;
    }
};

/// What the lanes of a SIMD group show each other: two sets in turn, so that no lane overwrites what another
/// still reads.
struct Slots {
    alignas(SLOT_BYTES) unsigned char values[2][LANES][SLOT_BYTES];
};

struct Vector3 {
    uint32_t x, y, z;
};

struct Lane {
    Vector3 threadgroup;
    Vector3 threads;
    uint32_t thread_index;
    uint32_t turn;
    Slots *slots;
    const MslDispatch *dispatch;
    void *const *threadgroup_arguments;

    uint32_t lane() const { return thread_index % LANES; }
};

/// The thread that runs.
extern __thread Lane *current;

void wait_for_threadgroup(Place place);
void wait_for_simdgroup(Place place);
/// Ends the dispatch, which returns the message as its error.
[[noreturn]] void fail(std::string message);
/// The memory of variable `id` of the threadgroup, the same for all of its threads.
void *threadgroup_memory(uint32_t id, size_t bytes);

template <typename T>
T &threadgroup_variable(uint32_t id) {
    return *static_cast<T *>(threadgroup_memory(id, sizeof(T)));
}

/// A constant that the dispatch gives, or null.
const MslConstant *find_constant(uint32_t index);

template <typename T, uint32_t INDEX>
struct FunctionConstant {
    operator T() const {
        const MslConstant *constant = find_constant(INDEX);
        if (constant == nullptr) {
            fail("function constant " + std::to_string(INDEX) + " is used and not set");
        }
        if (constant->bytes != sizeof(T)) {
            fail("function constant " + std::to_string(INDEX) + " has another size");
        }
        T value;
        std::memcpy(&value, &constant->value, sizeof(T));
        return value;
    }
};

}  // namespace msl
