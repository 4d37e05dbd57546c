/* Elementary functions in single precision, the same bits everywhere: nothing but IEEE +, -, *, /, fused multiply-add
 * and bit patterns, so neither the C library's version nor the CPU matters. Branch-free, so loops over them vectorize.
 * Errors are stated against the exact value, in units of the last place (ulp) of the result, and are tested.
 * Polynomials are weighted least-squares fits driven to near-minimax. */
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint32_t math_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float math_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float math_abs(float x)
{
    return math_float(math_bits(x) & 0x7fffffffu);
}

/* |magnitude| with the sign of sign */
static inline float math_copysign(float magnitude, float sign)
{
    return math_float((math_bits(magnitude) & 0x7fffffffu) | (math_bits(sign) & 0x80000000u));
}

/* e^x within 2 ulp; results under the smallest normal number are 0, over the largest are infinite. NaN stays NaN. */
static inline float math_exp(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    float y = x < -88.0f ? -88.0f : x;
    y = y > 89.0f ? 89.0f : y;
    float shifted = __builtin_fmaf(y, 1.44269504f, round);
    float n = shifted - round;
    float r = __builtin_fmaf(n, -0.693145752f, y); /* ln 2 in two parts */
    r = __builtin_fmaf(n, -1.42860677e-6f, r);
    float p = 1.381314237e-03f;
    p = __builtin_fmaf(p, r, 8.369419044e-03f);
    p = __builtin_fmaf(p, r, 4.166845683e-02f);
    p = __builtin_fmaf(p, r, 1.666651479e-01f);
    p = __builtin_fmaf(p, r, 4.999999305e-01f);
    p = __builtin_fmaf(p, r * r, r) + 1.0f;
    int32_t whole = (int32_t)(math_bits(shifted) - math_bits(round));
    int32_t half = whole >> 1; /* 2^n in two factors: n = 128 has no exponent of its own */
    float low = math_float((uint32_t)(half + 127) << 23);
    float high = math_float((uint32_t)(whole - half + 127) << 23);
    float value = p * low * high;
    value = x < -87.3365402f ? 0.0f : value;
    return x > 88.7228394f ? math_float(0x7f800000u) : value;
}

/* ln x within 2 ulp for normal x > 0; -inf for 0 and subnormals, NaN below 0. */
static inline float math_log(float x)
{
    uint32_t bits = math_bits(x) - 0x3f3504f3u; /* mantissa into [sqrt 1/2, sqrt 2) */
    float e = (float)((int32_t)bits >> 23);
    float f = math_float((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    float p = -7.824659924e-02f;
    p = __builtin_fmaf(p, f, 1.300843947e-01f);
    p = __builtin_fmaf(p, f, -1.320986588e-01f);
    p = __builtin_fmaf(p, f, 1.416301335e-01f);
    p = __builtin_fmaf(p, f, -1.661100981e-01f);
    p = __builtin_fmaf(p, f, 2.000303308e-01f);
    p = __builtin_fmaf(p, f, -2.500152592e-01f);
    p = __builtin_fmaf(p, f, 3.333330808e-01f);
    p = __builtin_fmaf(p, f, -4.999998916e-01f);
    p = __builtin_fmaf(p, f * f, e * 1.42860677e-6f);
    float value = __builtin_fmaf(e, 0.693145752f, p + f);
    value = x < 1.17549435e-38f ? -math_float(0x7f800000u) : value;
    value = x < 0.0f || x != x ? math_float(0x7fc00000u) : value;
    return x == math_float(0x7f800000u) ? x : value;
}

static inline float math_sigmoid(float x)
{
    return 1.0f / (1.0f + math_exp(-x));
}

/* Within 3 ulp. */
static inline float math_tanh(float x)
{
    float z = x * x;
    float p = -5.717036547e-03f;
    p = __builtin_fmaf(p, z, 2.065057899e-02f);
    p = __builtin_fmaf(p, z, -5.374349526e-02f);
    p = __builtin_fmaf(p, z, 1.333149125e-01f);
    p = __builtin_fmaf(p, z, -3.333328392e-01f);
    float small = __builtin_fmaf(p * z, x, x);
    float large = 1.0f - 2.0f / (math_exp(2.0f * math_abs(x)) + 1.0f);
    return math_abs(x) < 0.625f ? small : math_copysign(large, x);
}

/* Within 3 ulp: a polynomial up to 1, beyond it 1 - e^-p(|x|), p = -ln erfc. */
static inline float math_erf(float x)
{
    float z = x * x;
    z = z > 1.0f ? 1.0f : z;
    float p = 7.889119544e-05f;
    p = __builtin_fmaf(p, z, -8.020841284e-04f);
    p = __builtin_fmaf(p, z, 5.189535340e-03f);
    p = __builtin_fmaf(p, z, -2.685444459e-02f);
    p = __builtin_fmaf(p, z, 1.128360018e-01f);
    p = __builtin_fmaf(p, z, -3.761262714e-01f);
    p = __builtin_fmaf(p, z, 1.283791659e-01f);
    float small = __builtin_fmaf(p, x, x);
    float t = math_abs(x);
    t = t > 4.0f ? 4.0f : t; /* erf is 1 in float from 3.92 on */
    float q = 2.241727528e-07f;
    q = __builtin_fmaf(q, t, 1.850260879e-05f);
    q = __builtin_fmaf(q, t, -4.219649364e-04f);
    q = __builtin_fmaf(q, t, 4.138621348e-03f);
    q = __builtin_fmaf(q, t, -2.507083623e-02f);
    q = __builtin_fmaf(q, t, 1.082389582e-01f);
    q = __builtin_fmaf(q, t, 6.333637676e-01f);
    q = __builtin_fmaf(q, t, 1.129513816e+00f);
    q = __builtin_fmaf(q, t, -1.755790481e-04f);
    float large = math_copysign(1.0f - math_exp(-q), x);
    return math_abs(x) > 1.0f ? large : small;
}

/* Sine of x + quadrants * pi/2 within 3e-7 absolute for |x| up to MATH_ANGLE_MAX. */
#define MATH_ANGLE_MAX 30000.0f
static inline float math_sin_quadrant(float x, uint32_t quadrants)
{
    const float round = 12582912.0f;
    float shifted = __builtin_fmaf(x, 0.636619772f, round);
    float n = shifted - round;
    float r = __builtin_fmaf(n, -1.57079601f, x); /* pi/2 in three parts */
    r = __builtin_fmaf(n, -3.13916473e-7f, r);
    r = __builtin_fmaf(n, -5.39030253e-15f, r);
    uint32_t quadrant = math_bits(shifted) + quadrants;
    float z = r * r;
    float s = 2.717564411e-06f;
    s = __builtin_fmaf(s, z, -1.983925663e-04f);
    s = __builtin_fmaf(s, z, 8.333329144e-03f);
    s = __builtin_fmaf(s, z, -1.666666664e-01f);
    s = __builtin_fmaf(s * z, r, r);
    float c = -2.720330325e-07f;
    c = __builtin_fmaf(c, z, 2.479943640e-05f);
    c = __builtin_fmaf(c, z, -1.388888344e-03f);
    c = __builtin_fmaf(c, z, 4.166666662e-02f);
    c = __builtin_fmaf(c, z * z, __builtin_fmaf(z, -0.5f, 1.0f));
    float value = (quadrant & 1u) ? c : s;
    return math_float(math_bits(value) ^ ((quadrant & 2u) << 30));
}

static inline float math_sin(float x)
{
    return math_sin_quadrant(x, 0);
}

static inline float math_cos(float x)
{
    return math_sin_quadrant(x, 1);
}
