// The C interface of the library that runs kernels on the CPU.
#pragma once

#include <cstdint>

extern "C" {

/// The value of a function constant.
struct MslConstant {
    uint32_t index;
    uint32_t bytes;
    uint64_t value;
};

/// One dispatch of whole threadgroups.
struct MslDispatch {
    /// The name in `[[host_name]]`, or of the kernel itself.
    const char *kernel;
    /// By the index of `[[buffer]]`; null where nothing is bound.
    void *const *buffers;
    const uint64_t *buffer_bytes;
    uint32_t buffer_count;
    uint32_t threadgroups[3];
    uint32_t threads[3];
    /// By the index of `[[threadgroup]]`.
    uint32_t threadgroup_bytes[8];
    const struct MslConstant *constants;
    uint32_t constant_count;
    /// In which order threads run: 0 forward, 1 backward, any other number is a seed.
    uint32_t order;
};

/// Runs a dispatch: 0, or 1 with a message in `msl_error`. Several threads may each run one.
int msl_dispatch(const struct MslDispatch *dispatch);

/// What the last failed dispatch of this thread did wrong.
const char *msl_error(void);

/// The number of kernels, and their names.
int msl_kernels(const char *const **names);
}
