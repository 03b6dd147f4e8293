// A threadgroup at work: its threads run one after another, each until it waits for others.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "kernel.h"
#include "order.h"
#include "threadgroup_memory.h"

namespace msl {

class Threadgroup {
public:
    Threadgroup(const Kernel &kernel, const MslDispatch &dispatch);

    /// Runs all threads to their end. Returns what went wrong, or nothing.
    std::string run(Vector3 position, Order &order);

    // What threads call.
    void wait_for_threadgroup(Place place);
    void wait_for_simdgroup(Place place);
    [[noreturn]] void fail(std::string message);
    void *variable(uint32_t id, size_t bytes);
    const MslDispatch &dispatch() const { return dispatch_; }

private:
    enum class Status { Ready, WaitsForSimdgroup, WaitsForThreadgroup, Done };

    struct Thread {
        Lane lane;
        Fiber fiber;
        Status status;
        Place place;
    };

    static void entry();
    void begin(Vector3 position);
    void resume(Thread &thread);
    void wait(Status status, Place place);
    bool is_done() const;
    void release();
    bool release_simdgroup(size_t first);
    void release_if_together(size_t first, size_t count, Status status, const char *what);

    const Kernel &kernel_;
    const MslDispatch &dispatch_;
    std::vector<std::unique_ptr<Thread>> threads_;
    std::vector<Slots> slots_;
    std::unique_ptr<ThreadgroupMemory> memory_;
    std::vector<void *> arguments_;
    Fiber scheduler_;
    Thread *running_ = nullptr;
    std::string error_;
};

}  // namespace msl
