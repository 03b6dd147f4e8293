// The table of kernels, and calls of them with the arguments of a thread.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "lane.h"

namespace msl {

enum class Source {
    Buffer,
    /// Threadgroup memory.
    Shared,
    // By their names in Metal.
    thread_position_in_grid,
    threadgroup_position_in_grid,
    threads_per_threadgroup,
    thread_index_in_threadgroup,
    thread_index_in_simdgroup,
    simdgroup_index_in_threadgroup,
    simdgroups_per_threadgroup,
};

/// Where an argument comes from.
struct Argument {
    Source source;
    uint32_t index;
    /// The function constant without which it is not there, or -1.
    int32_t condition;
};

/// What a parameter asks of a buffer.
struct Demand {
    size_t bytes;
    size_t alignment;
};

struct Kernel {
    const char *name;
    uint32_t max_threads;
    std::vector<Argument> arguments;
    std::vector<Demand> demands;
    void (*run)(const Kernel &kernel, const Lane &lane);
};

std::vector<Kernel> &kernels();

template <typename Parameter>
Demand demand() {
    using Target = std::remove_pointer_t<std::remove_reference_t<Parameter>>;
    return {sizeof(Target), alignof(Target)};
}

Vector3 builtin(Source source, const Lane &lane);
void *memory(const Argument &argument, const Lane &lane);

/// The argument for a parameter of this type.
template <typename Parameter>
struct Given {
    static Parameter get(const Argument &argument, const Lane &lane) {
        return convert(builtin(argument.source, lane), std::is_integral<Parameter>());
    }

    static Parameter convert(Vector3 value, std::true_type) { return Parameter(value.x); }

    static Parameter convert(Vector3 value, std::false_type) {
        const uint32_t elements[3] = {value.x, value.y, value.z};
        Parameter vector{};
        for (size_t i = 0; i < sizeof(Parameter) / sizeof(vector[0]) && i < 3; ++i) {
            vector[i] = elements[i];
        }
        return vector;
    }
};

template <typename Target>
struct Given<Target &> {
    static Target &get(const Argument &argument, const Lane &lane) {
        return *static_cast<Target *>(memory(argument, lane));
    }
};

template <typename Target>
struct Given<Target *> {
    static Target *get(const Argument &argument, const Lane &lane) {
        return static_cast<Target *>(memory(argument, lane));
    }
};

template <typename... Parameters, size_t... INDEX>
void call(void (*function)(Parameters...), const Kernel &kernel, const Lane &lane,
          std::index_sequence<INDEX...>) {
    function(Given<Parameters>::get(kernel.arguments[INDEX], lane)...);
}

template <typename... Parameters>
void call(void (*function)(Parameters...), const Kernel &kernel, const Lane &lane) {
    call(function, kernel, lane, std::index_sequence_for<Parameters...>());
}

template <typename... Parameters>
std::vector<Demand> demands(void (*)(Parameters...)) {
    return {demand<Parameters>()...};
}

struct Registration {
    explicit Registration(Kernel kernel) { kernels().push_back(std::move(kernel)); }
};

}  // namespace msl

#define MSL_JOIN_NOW(a, b) a##b
#define MSL_JOIN(a, b) MSL_JOIN_NOW(a, b)
#define MSL_BARE(...) __VA_ARGS__
/// Enters a kernel into the table; its arguments follow. The function stands in parentheses, for the commas
/// in it.
#define MSL_KERNEL(name, function, max_threads, ...)                          \
    static const msl::Registration MSL_JOIN(registration_, __COUNTER__)({     \
        name, max_threads, {__VA_ARGS__}, msl::demands(&MSL_BARE function),   \
        [](const msl::Kernel &self, const msl::Lane &lane) {                  \
            msl::call(&MSL_BARE function, self, lane);                        \
        }});
