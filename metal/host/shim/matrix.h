// 8x8 matrices of a SIMD group. A lane has two neighbours of a row: our arrangement, kernels do not know it.
#pragma once

namespace metal {

template <typename T, int ROWS, int COLS>
struct simdgroup_matrix {
    static_assert(ROWS == 8 && COLS == 8, "the only size there is");
    T elements[2];
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;

template <typename T, int ROWS, int COLS>
simdgroup_matrix<T, ROWS, COLS> make_filled_simdgroup_matrix(T value) {
    return {{value, value}};
}

template <typename T>
void simdgroup_load(simdgroup_matrix<T, 8, 8> &matrix, const T *source, ulong stride) {
    const uint lane = msl::current->lane();
    for (uint i = 0; i < 2; ++i) {
        matrix.elements[i] = source[lane / 4 * stride + lane % 4 * 2 + i];
    }
}

template <typename T>
void simdgroup_store(const simdgroup_matrix<T, 8, 8> &matrix, T *destination, ulong stride) {
    const uint lane = msl::current->lane();
    for (uint i = 0; i < 2; ++i) {
        destination[lane / 4 * stride + lane % 4 * 2 + i] = matrix.elements[i];
    }
}

/// `d = a b + c`.
template <typename D, typename A, typename B, typename C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8> &d, const simdgroup_matrix<A, 8, 8> &a,
                                   const simdgroup_matrix<B, 8, 8> &b, const simdgroup_matrix<C, 8, 8> &c,
                                   MSL_HERE) {
    struct Both {
        A a[2];
        B b[2];
    };
    const uint lane = msl::current->lane();
    D sums[2] = {D(c.elements[0]), D(c.elements[1])};
    msl::exchange(Both{{a.elements[0], a.elements[1]}, {b.elements[0], b.elements[1]}}, place, [&](auto of) {
        for (uint k = 0; k < 8; ++k) {
            const A left = of(lane / 4 * 4 + k / 2).a[k % 2];
            const Both right = of(k * 4 + lane % 4);
            sums[0] += D(left) * D(right.b[0]);
            sums[1] += D(left) * D(right.b[1]);
        }
        return 0;
    });
    d.elements[0] = sums[0];
    d.elements[1] = sums[1];
}

}  // namespace metal
