/* Sums in a fixed order: element i goes to partial sum i mod 16, and the partial sums are added in a fixed tree.
 * Compilers make vectors of any width of these loops without changing a bit. */
#pragma once

#include <stddef.h>

#define SUM_LANES 16

static inline float lanes_total(float *lanes)
{
    for (size_t half = SUM_LANES / 2; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    }
    return lanes[0];
}

static inline float lanes_sum(size_t count, const float *x)
{
    float lanes[SUM_LANES] = {0};
    size_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_LANES; j++)
            lanes[j] += x[i + j];
    }
    for (size_t j = 0; i + j < count; j++)
        lanes[j] += x[i + j];
    return lanes_total(lanes);
}

static inline float lanes_dot(size_t count, const float *x, const float *y)
{
    float lanes[SUM_LANES] = {0};
    size_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_LANES; j++)
            lanes[j] = __builtin_fmaf(x[i + j], y[i + j], lanes[j]);
    }
    for (size_t j = 0; i + j < count; j++)
        lanes[j] = __builtin_fmaf(x[i + j], y[i + j], lanes[j]);
    return lanes_total(lanes);
}

/* Sum of (x - shift)^2 */
static inline float lanes_spread(size_t count, const float *x, float shift)
{
    float lanes[SUM_LANES] = {0};
    size_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_LANES; j++)
            lanes[j] = __builtin_fmaf(x[i + j] - shift, x[i + j] - shift, lanes[j]);
    }
    for (size_t j = 0; i + j < count; j++)
        lanes[j] = __builtin_fmaf(x[i + j] - shift, x[i + j] - shift, lanes[j]);
    return lanes_total(lanes);
}

/* Before a loop whose rounds touch different places: arrays are distinct, or the very same in place. Without it a
 * compiler must expect them to overlap and gives up on vectors. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
