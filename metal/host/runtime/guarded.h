// Copies of buffers that are as long as was said, so that the address sanitizer sees what goes beyond them.
#pragma once

#include <memory>
#include <vector>

#include "abi.h"

namespace msl {

class GuardedBuffers {
public:
    /// Copies what is bound; buffers that overlap stay one memory.
    explicit GuardedBuffers(const MslDispatch &dispatch);

    void *const *buffers() const { return buffers_.data(); }

    /// Writes what has changed to where it came from.
    void write_back() const;

private:
    struct Region {
        char *begin;
        char *end;
        std::unique_ptr<char, void (*)(void *)> memory;

        /// A buffer may begin anywhere within 16 bytes, and so does its copy.
        char *copy() const { return memory.get() + reinterpret_cast<uintptr_t>(begin) % 16; }
        size_t bytes() const { return size_t(end - begin); }
    };

    std::vector<Region> regions_;
    std::vector<void *> buffers_;
};

}  // namespace msl
