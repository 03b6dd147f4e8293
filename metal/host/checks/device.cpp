#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <iterator>

namespace {

void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == nullptr) {
        throw std::runtime_error(std::string("no function ") + name);
    }
    return found;
}

}  // namespace

Device::Device(const char *path) {
    void *library = dlopen(path, RTLD_NOW);
    if (library == nullptr) {
        throw std::runtime_error(dlerror());
    }
    dispatch_ = reinterpret_cast<decltype(dispatch_)>(symbol(library, "msl_dispatch"));
    error_ = reinterpret_cast<decltype(error_)>(symbol(library, "msl_error"));
    kernels_ = reinterpret_cast<decltype(kernels_)>(symbol(library, "msl_kernels"));
}

Results Device::run(const Call &call) const {
    const Results forward = run_once(call, 0);
    for (uint32_t order : {1, 7, 8}) {
        if (!(run_once(call, order) == forward)) {
            throw std::runtime_error(call.kernel + ": results depend on the order of threads");
        }
    }
    return forward;
}

std::string Device::refusal(const Call &call) const {
    try {
        run_once(call, 0);
    } catch (const std::runtime_error &error) {
        return error.what();
    }
    throw std::runtime_error(call.kernel + ": was not refused");
}

std::vector<std::string> Device::untouched() const {
    const char *const *names = nullptr;
    const int count = kernels_(&names);
    std::vector<std::string> untouched;
    std::copy_if(names, names + count, std::back_inserter(untouched),
                 [this](const std::string &name) { return run_.count(name) == 0; });
    return untouched;
}

Results Device::run_once(const Call &call, uint32_t order) const {
    std::vector<Bytes> copies;
    for (const Call::Buffer &buffer : call.buffers) {
        copies.push_back(buffer.bytes);
    }
    std::vector<void *> pointers;
    std::vector<uint64_t> sizes;
    for (size_t i = 0; i < call.buffers.size(); ++i) {
        const Call::Buffer &buffer = call.buffers[i];
        Bytes &copy = copies[buffer.same_as < 0 ? i : size_t(buffer.same_as)];
        pointers.push_back(buffer.is_bound ? copy.data() : nullptr);
        sizes.push_back(copy.size());
    }
    MslDispatch dispatch = {};
    dispatch.kernel = call.kernel.c_str();
    dispatch.buffers = pointers.data();
    dispatch.buffer_bytes = sizes.data();
    dispatch.buffer_count = uint32_t(pointers.size());
    std::copy(call.threadgroups, call.threadgroups + 3, dispatch.threadgroups);
    dispatch.threads[0] = call.threads;
    dispatch.threads[1] = dispatch.threads[2] = 1;
    dispatch.threadgroup_bytes[0] = call.threadgroup_bytes;
    dispatch.constants = call.constants.data();
    dispatch.constant_count = uint32_t(call.constants.size());
    dispatch.order = order;
    if (dispatch_(&dispatch) != 0) {
        throw std::runtime_error(error_());
    }
    run_.insert(call.kernel);
    return Results(std::move(copies));
}
