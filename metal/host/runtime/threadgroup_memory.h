// The memory that the threads of a threadgroup share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace msl {

constexpr size_t MAX_THREADGROUP_BYTES = 32768;

/// Blocks of their own, so that a sanitizer sees their ends, of bytes that are NaN at first.
class ThreadgroupMemory {
public:
    void *allocate(size_t bytes);
    /// The memory of variable `id`, which is made when it is first asked for.
    void *variable(uint32_t id, size_t bytes);
    /// How much there is.
    size_t bytes() const { return bytes_; }

private:
    struct Free {
        void operator()(void *memory) const;
    };

    std::vector<std::unique_ptr<void, Free>> blocks_;
    std::map<uint32_t, void *> variables_;
    size_t bytes_ = 0;
};

}  // namespace msl
