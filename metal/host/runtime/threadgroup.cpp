#include "threadgroup.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace msl {

__thread Lane *current = nullptr;

namespace {

__thread Threadgroup *running_threadgroup = nullptr;

/// Stacks are used again by every dispatch of a thread.
const Stack &stack(size_t index) {
    thread_local std::vector<std::unique_ptr<Stack>> stacks;
    while (stacks.size() <= index) {
        stacks.emplace_back(new Stack);
    }
    return *stacks[index];
}

}  // namespace

Threadgroup::Threadgroup(const Kernel &kernel, const MslDispatch &dispatch)
    : kernel_(kernel), dispatch_(dispatch), slots_(dispatch.threads[0] / LANES), arguments_(8, nullptr) {
    for (uint32_t i = 0; i < dispatch.threads[0]; ++i) {
        threads_.emplace_back(new Thread);
    }
}

std::string Threadgroup::run(Vector3 position, Order &order) {
    begin(position);
    std::vector<uint32_t> turns(threads_.size());
    std::iota(turns.begin(), turns.end(), 0);
    while (error_.empty() && !is_done()) {
        order.arrange(turns);
        for (uint32_t turn : turns) {
            if (error_.empty() && threads_[turn]->status == Status::Ready) {
                resume(*threads_[turn]);
            }
        }
        if (error_.empty() && !is_done()) {
            release();
        }
    }
    return error_;
}

void Threadgroup::begin(Vector3 position) {
    running_threadgroup = this;
    memory_.reset(new ThreadgroupMemory);
    for (size_t i = 0; i < arguments_.size(); ++i) {
        const uint32_t bytes = dispatch_.threadgroup_bytes[i];
        arguments_[i] = bytes > 0 ? memory_->allocate(bytes) : nullptr;
    }
    const Vector3 size = {dispatch_.threads[0], dispatch_.threads[1], dispatch_.threads[2]};
    for (uint32_t i = 0; i < threads_.size(); ++i) {
        Thread &thread = *threads_[i];
        thread.lane = {position, size, i, 0, &slots_[i / LANES], &dispatch_, arguments_.data()};
        thread.status = Status::Ready;
        thread.fiber.begin(stack(i), entry);
    }
}

void Threadgroup::resume(Thread &thread) {
    running_ = &thread;
    current = &thread.lane;
    Fiber::switch_to(scheduler_, thread.fiber, false);
}

void Threadgroup::entry() {
    Threadgroup &self = *running_threadgroup;
    Thread &thread = *self.running_;
    Fiber::arrived(thread.fiber);
    self.kernel_.run(self.kernel_, thread.lane);
    thread.status = Status::Done;
    Fiber::switch_to(thread.fiber, self.scheduler_, true);
    std::abort();
}

void Threadgroup::wait_for_threadgroup(Place place) { wait(Status::WaitsForThreadgroup, place); }

void Threadgroup::wait_for_simdgroup(Place place) { wait(Status::WaitsForSimdgroup, place); }

void Threadgroup::wait(Status status, Place place) {
    Thread &thread = *running_;
    thread.status = status;
    thread.place = place;
    Fiber::switch_to(thread.fiber, scheduler_, false);
}

// Nothing that the fiber owns is ever freed, so the message is moved out of it.
void Threadgroup::fail(std::string message) {
    error_ = std::move(message);
    Fiber::switch_to(running_->fiber, scheduler_, true);
    std::abort();
}

void *Threadgroup::variable(uint32_t id, size_t bytes) {
    void *memory = memory_->variable(id, bytes);
    if (memory_->bytes() > MAX_THREADGROUP_BYTES) {
        fail(std::to_string(memory_->bytes()) + " bytes of threadgroup memory are more than 32768");
    }
    return memory;
}

bool Threadgroup::is_done() const {
    return std::all_of(threads_.begin(), threads_.end(),
                       [](const std::unique_ptr<Thread> &thread) { return thread->status == Status::Done; });
}

/// Lets go on who has waited for what has happened: SIMD groups first, and the threadgroup where none could.
void Threadgroup::release() {
    bool is_released = false;
    for (size_t first = 0; first < threads_.size(); first += LANES) {
        is_released |= release_simdgroup(first);
    }
    if (!is_released && error_.empty()) {
        release_if_together(0, threads_.size(), Status::WaitsForThreadgroup, "barrier");
    }
}

bool Threadgroup::release_simdgroup(size_t first) {
    const auto begin = threads_.begin() + ptrdiff_t(first);
    const bool waits = std::any_of(begin, begin + LANES, [](const std::unique_ptr<Thread> &thread) {
        return thread->status == Status::WaitsForSimdgroup;
    });
    if (waits) {
        release_if_together(first, LANES, Status::WaitsForSimdgroup, "SIMD group");
    }
    return waits;
}

/// Lets `count` threads go on. Of them at least one has this status; all must have it, and at one place.
void Threadgroup::release_if_together(size_t first, size_t count, Status status, const char *what) {
    const auto describe = [](const Thread &thread) {
        const std::string name = "thread " + std::to_string(thread.lane.thread_index);
        const std::string place = thread.place.file + (":" + std::to_string(thread.place.line));
        return name + (thread.status == Status::Done ? " has ended" : " is at " + place);
    };
    const auto begin = threads_.begin() + ptrdiff_t(first);
    const auto has_status = [status](const std::unique_ptr<Thread> &thread) {
        return thread->status == status;
    };
    const Thread &one = **std::find_if(begin, begin + ptrdiff_t(count), has_status);
    for (size_t i = first; i < first + count; ++i) {
        const Thread &other = *threads_[i];
        if (other.status != status || !(other.place == one.place)) {
            error_ = std::string("divergent ") + what + ": " + describe(one) + ", " + describe(other);
            return;
        }
    }
    for (size_t i = first; i < first + count; ++i) {
        threads_[i]->status = Status::Ready;
    }
}

void wait_for_threadgroup(Place place) { running_threadgroup->wait_for_threadgroup(place); }

void wait_for_simdgroup(Place place) { running_threadgroup->wait_for_simdgroup(place); }

void fail(std::string message) { running_threadgroup->fail(std::move(message)); }

void *threadgroup_memory(uint32_t id, size_t bytes) { return running_threadgroup->variable(id, bytes); }

const MslConstant *find_constant(uint32_t index) {
    const MslDispatch &dispatch = running_threadgroup->dispatch();
    const MslConstant *end = dispatch.constants + dispatch.constant_count;
    const MslConstant *found = std::find_if(
        dispatch.constants, end, [index](const MslConstant &constant) { return constant.index == index; });
    return found == end ? nullptr : found;
}

}  // namespace msl
