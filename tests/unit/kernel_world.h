/* What tests of kernels share: values by counter, naive references in double, and pools to compare. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "engine/kernels.h"

/* Every combination must give the same bytes. */
struct setting {
    const char *set;
    unsigned threads;
};
static const struct setting settings[] = {{"avx2", 1},     {"avx2", 2},   {"avx2", 3},  {"portable", 1},
                                          {"portable", 3}, {"avx512", 1}, {"avx512", 2}};
#define SETTINGS (sizeof settings / sizeof *settings)

/* NULL when this CPU lacks the set. */
static inline struct pool *open_pool(const struct setting *setting)
{
    struct pool *pool = NULL;
    assert_ok(pool_create(setting->threads, &pool));
    if (!kernels_choose(pool, setting->set)) {
        pool_destroy(pool);
        pool = NULL;
    }
    return pool;
}

static inline float *floats(size_t count)
{
    float *x = calloc(count + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

/* Values in [-1, 1) that depend on seed and place. */
static inline float *noise(size_t count, unsigned seed)
{
    float *x = floats(count);
    for (size_t i = 0; i < count; i++) {
        uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u + seed * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        x[i] = (float)((double)((z ^ (z >> 31)) >> 40) / (double)(1 << 23) - 1.0);
    }
    return x;
}

static inline double dot(size_t count, const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static inline void assert_near(size_t count, const float *got, const double *expected, double tolerance,
                               const char *what)
{
    for (size_t i = 0; i < count; i++) {
        if (!(fabs((double)got[i] - expected[i]) <= tolerance * (1 + fabs(expected[i]))))
            fail_msg("%s: value %zu is %.9g, expected %.9g", what, i, (double)got[i], expected[i]);
    }
}

static inline void assert_close(double got, double expected, double tolerance, const char *what)
{
    if (!(fabs(got - expected) <= tolerance * (1 + fabs(expected))))
        fail_msg("%s is %.12g, expected %.12g", what, got, expected);
}

/* Runs op under every setting; the first result is left in out, all others must be the same bytes. */
static inline void run_everywhere(void (*op)(struct pool *pool, void *context, float *out), void *context, size_t count,
                                  const float *start, float *out)
{
    bool first = true;
    for (size_t i = 0; i < SETTINGS; i++) {
        struct pool *pool = open_pool(&settings[i]);
        if (!pool)
            continue;
        float *again = floats(count), *to = first ? out : again;
        if (start)
            memcpy(to, start, count * sizeof(float));
        op(pool, context, to);
        if (!first && memcmp(again, out, count * sizeof(float)) != 0)
            fail_msg("%s with %u threads gives other bytes", settings[i].set, settings[i].threads);
        first = false;
        free(again);
        pool_destroy(pool);
    }
    assert_false(first);
}
