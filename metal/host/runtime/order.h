// In which order threads run.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace msl {

/// See `MslDispatch::order`.
class Order {
public:
    explicit Order(uint32_t order) : order_(order), random_(order) {}

    /// Puts items into this order, which are in their own; a random one is another each time.
    void arrange(std::vector<uint32_t> &items);

private:
    uint32_t order_;
    std::mt19937 random_;
};

}  // namespace msl
