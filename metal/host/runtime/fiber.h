// Threads that take turns on one thread of the CPU.
#pragma once

#include <cstddef>
#include <memory>

namespace msl {

/// A stack, with a page at its end that nothing may touch.
class Stack {
public:
    /// Sanitizers make frames several times as large as they are.
    static constexpr size_t BYTES = size_t(256) << 10;

    Stack();
    ~Stack();
    Stack(const Stack &) = delete;
    Stack &operator=(const Stack &) = delete;

    char *bottom() const;

private:
    char *mapping_;
};

/// A point to go on from.
class Fiber {
public:
    Fiber();
    ~Fiber();
    Fiber(const Fiber &) = delete;
    Fiber &operator=(const Fiber &) = delete;

    /// Next time it runs, it begins `entry`, which never returns.
    void begin(const Stack &stack, void (*entry)());
    /// Goes on at `to`; returns when something switches back to `from`. `ends`: nothing ever will.
    static void switch_to(Fiber &from, Fiber &to, bool ends);
    /// To be called first in `entry`: tells sanitizers where we are.
    static void arrived(Fiber &self);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace msl
