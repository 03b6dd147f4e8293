// What a device would not run is refused, with the reason.

#include "check.h"
#include "params.h"

namespace {

Call valid() {
    Call call("add");
    call.bind(0, std::vector<float>(4)).bind(1, std::vector<float>(4)).bind_params(2, AddParams{4});
    return call;
}

void expect(const Device &device, const Call &call, const std::string &expected) {
    const std::string got = device.refusal(call);
    if (got != expected) {
        throw std::runtime_error("refused with \"" + got + "\", not \"" + expected + "\"");
    }
}

}  // namespace

CHECK(refusals) {
    device.run(valid());
    expect(device, Call("nothing"), "nothing: there is no such kernel");
    expect(device, valid().threads_per_threadgroup(1056), "add: 1056 threads are more than 1024");
    expect(device, valid().threads_per_threadgroup(33), "add: 33 threads are no whole SIMD groups");
    expect(device, valid().grid(0), "add: there are no threadgroups");
    expect(device, valid().threadgroup_memory(32784),
           "add: 32784 bytes of threadgroup memory are more than 32768");
    Call unbound = valid();
    unbound.buffers[1].is_bound = false;
    expect(device, unbound, "add: buffer 1 is missing");
    expect(device, valid().bind_params(2, uint16_t(4)), "add: buffer 2 is shorter than one element");

    Call narrow("argmax");
    narrow.bind(0, std::vector<float>(1)).bind(1, std::vector<uint32_t>(1)).bind(2, std::vector<float>(1));
    narrow.bind_params(3, ArgmaxParams{1, 1}).threads_per_threadgroup(544);
    expect(device, narrow, "argmax: 544 threads are more than 512");

    Call unset("gate");
    unset.bind(0, std::vector<float>(2)).bind(1, std::vector<float>(1)).bind_params(2, GateParams{1, 2, 1});
    expect(device, unset, "gate: function constant 3 is used and not set");
    expect(device, unset.constant(GATE, true), "gate: function constant 3 has another size");

    Call large("quantize");
    large.bind(0, std::vector<float>(1)).bind(2, std::vector<int8_t>(32)).bind(3, std::vector<float>(1));
    large.bind(4, std::vector<int32_t>(1)).bind_params(5, QuantizeParams{1, 1, 32, 0.0f});
    large.constant(HAS_NORM, false).constant(GATE, uint32_t(0)).threadgroup_memory(32752);
    expect(device, large, "quantize: 49136 bytes of threadgroup memory are more than 32768");
}
