// The table of checks, and what they have in common.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "device.h"

using Half = _Float16;

/// As in common.h.
constexpr uint32_t HAS_BIAS = 0;
constexpr uint32_t ACCUMULATE = 1;
constexpr uint32_t HAS_NORM = 2;
constexpr uint32_t GATE = 3;
constexpr uint32_t HAS_ROW_SCALES = 4;

struct Check {
    const char *name;
    void (*run)(const Device &device);
};

std::vector<Check> &checks();

struct CheckEntry {
    CheckEntry(const char *name, void (*run)(const Device &)) { checks().push_back({name, run}); }
};

/// Defines a check.
#define CHECK(name)                                        \
    static void name(const Device &device);                \
    static const CheckEntry entry_of_##name(#name, &name); \
    static void name(const Device &device)

template <typename... Parts>
std::string text(const Parts &...parts) {
    std::ostringstream stream;
    (stream << ... << parts);
    return stream.str();
}

/// Fails unless all elements have the same bits.
template <typename T>
void expect_equal(const std::string &what, const std::vector<T> &got, const std::vector<T> &expected) {
    if (got.size() != expected.size()) {
        throw std::runtime_error(text(what, ": ", got.size(), " elements, not ", expected.size()));
    }
    for (size_t i = 0; i < got.size(); ++i) {
        if (std::memcmp(&got[i], &expected[i], sizeof(T)) != 0) {
            throw std::runtime_error(text(what, ": element ", i, " is ", +got[i], ", not ", +expected[i]));
        }
    }
}

/// Fails unless all elements are within `tolerance` of what they should be.
inline void expect_close(const std::string &what, const std::vector<float> &got,
                         const std::vector<double> &expected, double tolerance) {
    for (size_t i = 0; i < expected.size(); ++i) {
        if (!(std::fabs(got[i] - expected[i]) <= tolerance)) {
            throw std::runtime_error(text(what, ": element ", i, " is ", got[i], ", not ", expected[i]));
        }
    }
}

inline uint32_t divide_up(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

/// Numbers that are the same in every run.
class Random {
public:
    explicit Random(uint32_t seed) : generator_(seed) {}

    uint32_t below(uint32_t limit) { return uint32_t(generator_() % limit); }

    float between(float low, float high) {
        return low + (high - low) * float(below(1 << 24)) / float(1 << 24);
    }

    std::vector<float> floats(size_t count, float low, float high) {
        std::vector<float> values(count);
        for (float &value : values) {
            value = between(low, high);
        }
        return values;
    }

    template <typename T>
    std::vector<T> integers(size_t count, int low, int high) {
        std::vector<T> values(count);
        for (T &value : values) {
            value = T(low + int(below(uint32_t(high - low + 1))));
        }
        return values;
    }

private:
    std::mt19937 generator_;
};

/// The upper half of a float32: bfloat16, cut off.
inline uint16_t bf16_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return uint16_t(bits >> 16);
}

inline float bf16_value(uint16_t upper) {
    const uint32_t bits = uint32_t(upper) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
