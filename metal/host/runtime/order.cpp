#include "order.h"

#include <algorithm>
#include <functional>

namespace msl {

void Order::arrange(std::vector<uint32_t> &items) {
    if (order_ == 1) {
        std::sort(items.begin(), items.end(), std::greater<uint32_t>());
    } else if (order_ > 1) {
        std::shuffle(items.begin(), items.end(), random_);
    }
}

}  // namespace msl
