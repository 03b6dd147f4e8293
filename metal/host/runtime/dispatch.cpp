// Checks a dispatch as a device does when its validation is on, and runs it.

#include <algorithm>
#include <numeric>

#include "guarded.h"
#include "threadgroup.h"

namespace msl {

std::vector<Kernel> &kernels() {
    static std::vector<Kernel> all;
    return all;
}

Vector3 builtin(Source source, const Lane &lane) {
    switch (source) {
        case Source::threadgroup_position_in_grid: return lane.threadgroup;
        case Source::threads_per_threadgroup: return lane.threads;
        case Source::thread_index_in_threadgroup: return {lane.thread_index, 0, 0};
        case Source::thread_index_in_simdgroup: return {lane.lane(), 0, 0};
        case Source::simdgroup_index_in_threadgroup: return {lane.thread_index / LANES, 0, 0};
        case Source::simdgroups_per_threadgroup: return {lane.threads.x / LANES, 0, 0};
        case Source::thread_position_in_grid: break;
        case Source::Buffer:
        case Source::Shared: break;
    }
    return {lane.threadgroup.x * lane.threads.x + lane.thread_index, lane.threadgroup.y, lane.threadgroup.z};
}

void *memory(const Argument &argument, const Lane &lane) {
    if (argument.source == Source::Shared) {
        return lane.threadgroup_arguments[argument.index];
    }
    return argument.index < lane.dispatch->buffer_count ? lane.dispatch->buffers[argument.index] : nullptr;
}

namespace {

std::string check_buffer(const MslDispatch &dispatch, uint32_t index, const Demand &demand) {
    const std::string name = "buffer " + std::to_string(index);
    if (index >= dispatch.buffer_count || dispatch.buffers[index] == nullptr) {
        return name + " is missing";
    }
    if (dispatch.buffer_bytes[index] < demand.bytes) {
        return name + " is shorter than one element";
    }
    if (reinterpret_cast<uintptr_t>(dispatch.buffers[index]) % demand.alignment != 0) {
        return name + " is not aligned to its elements";
    }
    return "";
}

std::string check_arguments(const Kernel &kernel, const MslDispatch &dispatch) {
    const auto is_on = [&](int32_t index) {
        return std::any_of(dispatch.constants, dispatch.constants + dispatch.constant_count,
                           [&](const MslConstant &c) { return c.index == uint32_t(index) && c.value != 0; });
    };
    for (size_t i = 0; i < kernel.arguments.size(); ++i) {
        const Argument &argument = kernel.arguments[i];
        if (argument.source == Source::Buffer && (argument.condition < 0 || is_on(argument.condition))) {
            const std::string error = check_buffer(dispatch, argument.index, kernel.demands[i]);
            if (!error.empty()) {
                return error;
            }
        }
        if (argument.source == Source::Shared && dispatch.threadgroup_bytes[argument.index] == 0) {
            return "threadgroup memory " + std::to_string(argument.index) + " is missing";
        }
    }
    return "";
}

std::string check_sizes(const Kernel &kernel, const MslDispatch &dispatch) {
    const uint32_t *threads = dispatch.threads;
    const uint32_t *grid = dispatch.threadgroups;
    if (threads[1] != 1 || threads[2] != 1) {
        return "threadgroups are one-dimensional";
    }
    if (threads[0] == 0 || threads[0] % LANES != 0) {
        return std::to_string(threads[0]) + " threads are no whole SIMD groups";
    }
    if (threads[0] > kernel.max_threads) {
        return std::to_string(threads[0]) + " threads are more than " + std::to_string(kernel.max_threads);
    }
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) {
        return "there are no threadgroups";
    }
    const uint32_t *memory = dispatch.threadgroup_bytes;
    const uint64_t bytes = std::accumulate(memory, memory + 8, uint64_t(0));
    if (bytes > MAX_THREADGROUP_BYTES) {
        return std::to_string(bytes) + " bytes of threadgroup memory are more than 32768";
    }
    return "";
}

std::string run(const Kernel &kernel, const MslDispatch &dispatch) {
    const uint32_t *grid = dispatch.threadgroups;
    std::vector<uint32_t> groups(size_t(grid[0]) * grid[1] * grid[2]);
    std::iota(groups.begin(), groups.end(), 0);
    Order order(dispatch.order);
    order.arrange(groups);
    Threadgroup threadgroup(kernel, dispatch);
    for (uint32_t group : groups) {
        const Vector3 position = {group % grid[0], group / grid[0] % grid[1], group / (grid[0] * grid[1])};
        const std::string error = threadgroup.run(position, order);
        if (!error.empty()) {
            return error;
        }
    }
    return "";
}

std::string run_guarded(const Kernel &kernel, const MslDispatch &dispatch) {
#if __has_feature(address_sanitizer)
    const GuardedBuffers guarded(dispatch);
    MslDispatch copy = dispatch;
    copy.buffers = guarded.buffers();
    const std::string error = run(kernel, copy);
    guarded.write_back();
    return error;
#else
    return run(kernel, dispatch);
#endif
}

std::string check_and_run(const MslDispatch &dispatch) {
    const auto kernel = std::find_if(kernels().begin(), kernels().end(), [&](const Kernel &kernel) {
        return std::strcmp(kernel.name, dispatch.kernel) == 0;
    });
    if (kernel == kernels().end()) {
        return "there is no such kernel";
    }
    std::string error = check_sizes(*kernel, dispatch);
    if (error.empty()) {
        error = check_arguments(*kernel, dispatch);
    }
    return error.empty() ? run_guarded(*kernel, dispatch) : error;
}

thread_local std::string last_error;

}  // namespace

}  // namespace msl

extern "C" {

int msl_dispatch(const MslDispatch *dispatch) {
    const std::string error = msl::check_and_run(*dispatch);
    if (error.empty()) {
        return 0;
    }
    msl::last_error = std::string(dispatch->kernel) + ": " + error;
    return 1;
}

const char *msl_error(void) { return msl::last_error.c_str(); }

int msl_kernels(const char *const **names) {
    static const std::vector<const char *> all = [] {
        std::vector<const char *> all;
        for (const msl::Kernel &kernel : msl::kernels()) {
            all.push_back(kernel.name);
        }
        return all;
    }();
    *names = all.data();
    return int(all.size());
}
}
