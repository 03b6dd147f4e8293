#include "guarded.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace msl {

GuardedBuffers::GuardedBuffers(const MslDispatch &dispatch) : buffers_(dispatch.buffer_count, nullptr) {
    std::vector<std::pair<char *, char *>> spans;
    for (uint32_t i = 0; i < dispatch.buffer_count; ++i) {
        if (dispatch.buffers[i] != nullptr) {
            char *begin = static_cast<char *>(dispatch.buffers[i]);
            spans.emplace_back(begin, begin + dispatch.buffer_bytes[i]);
        }
    }
    std::sort(spans.begin(), spans.end());
    for (const auto &span : spans) {
        if (!regions_.empty() && span.first < regions_.back().end) {
            regions_.back().end = std::max(regions_.back().end, span.second);
        } else {
            regions_.push_back({span.first, span.second, {nullptr, std::free}});
        }
    }
    for (Region &region : regions_) {
        const size_t offset = reinterpret_cast<uintptr_t>(region.begin) % 16;
        void *memory = nullptr;
        if (posix_memalign(&memory, 16, offset + region.bytes()) != 0) {
            throw std::bad_alloc();
        }
        region.memory.reset(static_cast<char *>(memory));
        std::memcpy(region.copy(), region.begin, region.bytes());
        for (uint32_t i = 0; i < dispatch.buffer_count; ++i) {
            char *begin = static_cast<char *>(dispatch.buffers[i]);
            if (begin >= region.begin && begin < region.end) {
                buffers_[i] = region.copy() + (begin - region.begin);
            }
        }
    }
}

void GuardedBuffers::write_back() const {
    for (const Region &region : regions_) {
        // What was only read may lie in memory that cannot be written.
        if (std::memcmp(region.begin, region.copy(), region.bytes()) != 0) {
            std::memcpy(region.begin, region.copy(), region.bytes());
        }
    }
}

}  // namespace msl
