// Functions of numbers. Where Metal says how exact they are, these are no less.
#pragma once

namespace metal {

inline float fabs(float x) { return __builtin_fabsf(x); }
inline float fmax(float a, float b) { return __builtin_fmaxf(a, b); }
inline float fmin(float a, float b) { return __builtin_fminf(a, b); }
inline float rint(float x) { return __builtin_rintf(x); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline uint min(uint a, uint b) { return a < b ? a : b; }
inline uint max(uint a, uint b) { return a < b ? b : a; }

inline float4 fma(float4 a, float4 b, float4 c) {
    float4 result;
    for (int i = 0; i < 4; ++i) {
        result[i] = fma(a[i], b[i], c[i]);
    }
    return result;
}

namespace precise {
inline float exp(float x) { return __builtin_expf(x); }
inline float tanh(float x) { return __builtin_tanhf(x); }
inline float sqrt(float x) { return __builtin_sqrtf(x); }
}  // namespace precise

}  // namespace metal
