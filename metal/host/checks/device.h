// A library of kernels, and dispatches of them on copies of buffers.
#pragma once

#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../runtime/abi.h"

using Bytes = std::vector<unsigned char>;

template <typename T>
Bytes bytes_of(const T *values, size_t count) {
    Bytes bytes(count * sizeof(T));
    if (count > 0) {
        std::memcpy(bytes.data(), values, bytes.size());
    }
    return bytes;
}

/// A dispatch, and what its buffers hold before it.
class Call {
public:
    explicit Call(std::string kernel) : kernel(std::move(kernel)) {}

    template <typename T>
    Call &bind(uint32_t index, const std::vector<T> &values) {
        return bind_bytes(index, bytes_of(values.data(), values.size()));
    }

    /// The parameters of the kernel.
    template <typename T>
    Call &bind_params(uint32_t index, const T &params) {
        return bind_bytes(index, bytes_of(&params, 1));
    }

    /// Binds the memory of buffer `other`.
    Call &bind_same(uint32_t index, uint32_t other) {
        bind_bytes(index, {});
        buffers[index].same_as = int(other);
        return *this;
    }

    template <typename T>
    Call &constant(uint32_t index, T value) {
        MslConstant constant = {index, sizeof(T), 0};
        std::memcpy(&constant.value, &value, sizeof(T));
        constants.push_back(constant);
        return *this;
    }

    Call &grid(uint32_t x, uint32_t y = 1, uint32_t z = 1) {
        threadgroups[0] = x;
        threadgroups[1] = y;
        threadgroups[2] = z;
        return *this;
    }

    Call &threads_per_threadgroup(uint32_t count) {
        threads = count;
        return *this;
    }

    Call &threadgroup_memory(uint32_t bytes) {
        threadgroup_bytes = bytes;
        return *this;
    }

    struct Buffer {
        Bytes bytes;
        bool is_bound = false;
        int same_as = -1;
    };

    std::string kernel;
    std::vector<Buffer> buffers;
    std::vector<MslConstant> constants;
    uint32_t threadgroups[3] = {1, 1, 1};
    uint32_t threads = 32;
    uint32_t threadgroup_bytes = 0;

private:
    Call &bind_bytes(uint32_t index, Bytes bytes) {
        if (buffers.size() <= index) {
            buffers.resize(index + 1);
        }
        buffers[index] = {std::move(bytes), true, -1};
        return *this;
    }
};

/// What the buffers of a call hold after it.
class Results {
public:
    explicit Results(std::vector<Bytes> buffers) : buffers_(std::move(buffers)) {}

    template <typename T>
    std::vector<T> get(uint32_t index) const {
        std::vector<T> values(buffers_[index].size() / sizeof(T));
        std::memcpy(values.data(), buffers_[index].data(), buffers_[index].size());
        return values;
    }

    bool operator==(const Results &other) const { return buffers_ == other.buffers_; }

private:
    std::vector<Bytes> buffers_;
};

class Device {
public:
    explicit Device(const char *path);

    /// Runs a call forward, backward and in two random orders, whose results must have the same bits.
    Results run(const Call &call) const;

    /// The message with which a call is refused.
    std::string refusal(const Call &call) const;

    /// Kernels that have not been run.
    std::vector<std::string> untouched() const;

private:
    Results run_once(const Call &call, uint32_t order) const;

    mutable std::set<std::string> run_;
    int (*dispatch_)(const MslDispatch *);
    const char *(*error_)();
    int (*kernels_)(const char *const **);
};
