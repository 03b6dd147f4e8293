// ternary_gemv on the CPU against a product from unpacked codes, bit for bit.

#include <cstdio>
#include <cstdlib>
#include <random>

#include "simdgroup.h"

// After the standard headers: it makes `kernel`, `device` and `constant` disappear.
#include "metal_stdlib"

int metal::simd_sum(int value)
{
    return host::Simdgroup::present->sum(value);
}

#include "../ternary_gemv.metal"

namespace {

struct Case {
    unsigned rows, cols, lanes;
};

bool check(const Case &test)
{
    std::mt19937 random(test.rows * 7919 + test.cols);
    const unsigned quarter = (test.rows + 3) / 4;
    std::vector<int> codes(test.rows * test.cols);
    // Exactly as large as the matrix: reads beyond it are for the address sanitizer to see.
    std::vector<metal::uchar> packed(quarter * test.cols);
    std::vector<char> x(test.cols);
    for (unsigned row = 0; row < test.rows; ++row) {
        for (unsigned col = 0; col < test.cols; ++col) {
            const unsigned code = random() % 3;
            codes[row * test.cols + col] = int(code) - 1;
            packed[row % quarter * test.cols + col] |= metal::uchar(code << (2 * (row / quarter)));
        }
    }
    for (char &value : x) {
        value = char(int(random() % 256) - 128);
    }
    const Shape shape{test.rows, test.cols};
    const int untouched = 0x7fffffff;
    std::vector<int> sums(test.rows, untouched);
    for (unsigned packed_row = 0; packed_row < quarter; ++packed_row) {
        host::Simdgroup group(test.lanes);
        group.run([&](unsigned lane) {
            ternary_gemv(packed.data(), x.data(), shape, sums.data(), packed_row, lane, test.lanes);
        });
    }
    for (unsigned row = 0; row < test.rows; ++row) {
        int expected = 0;
        for (unsigned col = 0; col < test.cols; ++col) {
            expected += codes[row * test.cols + col] * int(static_cast<signed char>(x[col]));
        }
        if (sums[row] != expected) {
            std::printf("%u x %u, row %u: %d is not %d\n", test.rows, test.cols, row, sums[row], expected);
            return false;
        }
    }
    return true;
}

} // namespace

int main()
{
    unsigned checked = 0;
    for (unsigned rows : {1u, 3u, 4u, 5u, 7u, 64u}) {
        for (unsigned cols : {1u, 31u, 32u, 33u, 100u, 2560u}) {
            for (unsigned lanes : {1u, 32u}) {
                if (!check({rows, cols, lanes})) {
                    return EXIT_FAILURE;
                }
                ++checked;
            }
        }
    }
    std::printf("ternary_gemv: %u shapes equal the definition\n", checked);
    return EXIT_SUCCESS;
}
