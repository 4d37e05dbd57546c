/* Sums in a fixed order: element i goes to partial sum i mod 16, and the partial sums are added in a fixed tree.
 * Vectors of 4, 8 or 16 lanes give the same bits. */
#pragma once

#include <stddef.h>

#include "engine/simd.h"

#define SUM_LANES 16
#define SUM_VECS (SUM_LANES / LANES)

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
    vec sums[SUM_VECS] = {{0}};
    float lanes[SUM_LANES];
    size_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_VECS; j++)
            sums[j] += VEC_LOAD(x + i + j * LANES);
    }
    memcpy(lanes, sums, sizeof lanes);
    for (size_t j = 0; i + j < count; j++)
        lanes[j] += x[i + j];
    return lanes_total(lanes);
}

static inline float lanes_dot(size_t count, const float *x, const float *y)
{
    vec sums[SUM_VECS] = {{0}};
    float lanes[SUM_LANES];
    size_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_VECS; j++)
            sums[j] = VEC_FMA(VEC_LOAD(x + i + j * LANES), VEC_LOAD(y + i + j * LANES), sums[j]);
    }
    memcpy(lanes, sums, sizeof lanes);
    for (size_t j = 0; i + j < count; j++)
        lanes[j] = __builtin_fmaf(x[i + j], y[i + j], lanes[j]);
    return lanes_total(lanes);
}

/* Sum of (x - shift)^2 */
static inline float lanes_spread(size_t count, const float *x, float shift)
{
    vec sums[SUM_VECS] = {{0}};
    float lanes[SUM_LANES];
    size_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_VECS; j++) {
            vec d = VEC_LOAD(x + i + j * LANES) - VEC_BROADCAST(shift);
            sums[j] = VEC_FMA(d, d, sums[j]);
        }
    }
    memcpy(lanes, sums, sizeof lanes);
    for (size_t j = 0; i + j < count; j++)
        lanes[j] = __builtin_fmaf(x[i + j] - shift, x[i + j] - shift, lanes[j]);
    return lanes_total(lanes);
}

/* The largest of at least one value. */
static inline float lanes_max(size_t count, const float *x)
{
    float lanes[SUM_LANES];
    vec largest[SUM_VECS];
    size_t i = 0;
    for (size_t j = 0; j < SUM_VECS; j++)
        largest[j] = VEC_BROADCAST(x[0]);
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_VECS; j++)
            largest[j] = VEC_MAX(VEC_LOAD(x + i + j * LANES), largest[j]);
    }
    memcpy(lanes, largest, sizeof lanes);
    for (; i < count; i++)
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (size_t j = 1; j < SUM_LANES; j++)
        lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
    return lanes[0];
}

/* Before a loop whose rounds touch different places: arrays are distinct, or the very same in place. Without it a
 * compiler must expect them to overlap and gives up on vectors. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
