// Runs the threads of one simdgroup on the CPU: real threads that meet in every reduction.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace host {

class Simdgroup {
public:
    explicit Simdgroup(unsigned lanes) : lanes_(lanes) {}

    // Calls `body(lane)` on one thread per lane, all at once, and waits for them.
    void run(const std::function<void(unsigned)> &body)
    {
        std::vector<std::thread> threads;
        for (unsigned lane = 0; lane < lanes_; ++lane) {
            threads.emplace_back([this, lane, &body] {
                present = this;
                body(lane);
            });
        }
        for (auto &thread : threads) {
            thread.join();
        }
    }

    // The sum over all lanes; each lane must call it the same number of times.
    int sum(int value)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        const unsigned round = round_;
        pending_ += value;
        if (++arrived_ == lanes_) {
            total_ = pending_;
            pending_ = 0;
            arrived_ = 0;
            ++round_;
            all_here_.notify_all();
        } else {
            all_here_.wait(lock, [&] { return round_ != round; });
        }
        return total_;
    }

    static thread_local Simdgroup *present;

private:
    unsigned lanes_;
    unsigned arrived_ = 0;
    unsigned round_ = 0;
    int pending_ = 0;
    int total_ = 0;
    std::mutex mutex_;
    std::condition_variable all_here_;
};

thread_local Simdgroup *Simdgroup::present = nullptr;

} // namespace host
