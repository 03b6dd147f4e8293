#include "threadgroup_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace msl {

void ThreadgroupMemory::Free::operator()(void *memory) const { std::free(memory); }

void *ThreadgroupMemory::allocate(size_t bytes) {
    void *memory = nullptr;
    if (posix_memalign(&memory, 16, bytes) != 0) {
        throw std::bad_alloc();
    }
    blocks_.emplace_back(memory);
    std::memset(memory, 0xff, bytes);
    bytes_ += (bytes + 15) / 16 * 16;
    return memory;
}

void *ThreadgroupMemory::variable(uint32_t id, size_t bytes) {
    void *&memory = variables_[id];
    if (memory == nullptr) {
        memory = allocate(bytes);
    }
    return memory;
}

}  // namespace msl
