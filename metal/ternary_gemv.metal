// The ternary matrix-vector product, exact in 32-bit integers.
//
// Weights are packed as in crates/bitnet-quant/src/ternary.rs: with R = ceil(rows / 4), byte (r, c) holds column c of
// rows r, r + R, r + 2R and r + 3R, two bits each, lowest first, code = w + 1. For activations x and lane i
//
//     dot[i] = sum over columns of (byte >> 2i & 3) * x          sums[r + i R] = dot[i] - sum(x)
//
// One simdgroup takes one packed row: its threads read neighbouring bytes, four rows share each activation, and one
// reduction per lane ends it. Padding rows, which exist in the packing only, are not written.

#include <metal_stdlib>

using namespace metal;

struct Shape {
    uint rows;
    uint cols;
};

kernel void ternary_gemv(
    device const uchar *packed [[buffer(0)]],
    device const char *x [[buffer(1)]],
    constant Shape &shape [[buffer(2)]],
    device int *sums [[buffer(3)]],
    uint packed_row [[threadgroup_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint lanes [[threads_per_simdgroup]])
{
    const uint quarter = (shape.rows + 3) / 4;
    device const uchar *bytes = packed + ulong(packed_row) * shape.cols;
    int dot[4] = {0, 0, 0, 0};
    int x_sum = 0;
    for (uint col = lane; col < shape.cols; col += lanes) {
        const int activation = int(x[col]);
        const uint codes = uint(bytes[col]);
        x_sum += activation;
        for (uint i = 0; i < 4; ++i) {
            dot[i] += int(codes >> (2 * i) & 3) * activation;
        }
    }
    x_sum = simd_sum(x_sum);
    for (uint i = 0; i < 4; ++i) {
        const int total = simd_sum(dot[i]) - x_sum;
        const uint row = packed_row + i * quarter;
        if (lane == 0 && row < shape.rows) {
            sums[row] = total;
        }
    }
}
