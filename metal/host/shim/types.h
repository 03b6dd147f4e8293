// Scalars and vectors.
#pragma once

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using half = _Float16;

#define MSL_VECTORS(type)                                     \
    typedef type type##2 __attribute__((ext_vector_type(2))); \
    typedef type type##3 __attribute__((ext_vector_type(3))); \
    typedef type type##4 __attribute__((ext_vector_type(4)));
MSL_VECTORS(char)
MSL_VECTORS(uchar)
MSL_VECTORS(short)
MSL_VECTORS(ushort)
MSL_VECTORS(int)
MSL_VECTORS(uint)
MSL_VECTORS(half)
MSL_VECTORS(float)
#undef MSL_VECTORS

#define INFINITY __builtin_inff()

namespace metal {
template <typename T, int N>
using vec = T __attribute__((ext_vector_type(N)));
}

namespace msl {

template <typename Vector>
struct Parts;

template <typename T, int N>
struct Parts<metal::vec<T, N>> {
    using Element = T;
    static constexpr int SIZE = N;
};

template <typename Vector, typename T, int N>
Vector convert(metal::vec<T, N> from) {
    static_assert(Parts<Vector>::SIZE == N, "as many elements");
    Vector vector{};
    for (int i = 0; i < N; ++i) {
        vector[i] = typename Parts<Vector>::Element(from[i]);
    }
    return vector;
}

/// `float4(x)`: the same in every element, or another vector converted.
template <typename Vector, typename From>
Vector make(From from) {
    if constexpr (std::is_arithmetic<From>::value || std::is_same<From, half>::value) {
        return Vector(typename Parts<Vector>::Element(from));
    } else {
        return convert<Vector>(from);
    }
}

/// `float2(x, y)`: element by element.
template <typename Vector, typename First, typename... Others>
Vector make(First first, Others... others) {
    using Element = typename Parts<Vector>::Element;
    static_assert(Parts<Vector>::SIZE == 1 + sizeof...(Others), "as many elements");
    return Vector{Element(first), Element(others)...};
}

}  // namespace msl

template <typename To, typename From>
To as_type(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bytes");
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}
