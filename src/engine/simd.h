/* The vectors of a kernel set: LANES floats, loaded and stored without alignment, a fused multiply-add, and
 * a > b ? a : b. */
#pragma once

#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
typedef __m512 vec;
#define VEC_BROADCAST(x) _mm512_set1_ps(x)
#define VEC_LOAD(p) _mm512_loadu_ps(p)
#define VEC_STORE(p, v) _mm512_storeu_ps(p, v)
#define VEC_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define VEC_MAX(a, b) _mm512_max_ps(a, b)
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LANES 8
typedef __m256 vec;
#define VEC_BROADCAST(x) _mm256_set1_ps(x)
#define VEC_LOAD(p) _mm256_loadu_ps(p)
#define VEC_STORE(p, v) _mm256_storeu_ps(p, v)
#define VEC_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define VEC_MAX(a, b) _mm256_max_ps(a, b)
#else
/* Any CPU: four lanes, and fmaf from the C library where the CPU has no such instruction. */
#define LANES 4
typedef float vec __attribute__((vector_size(16)));
#define VEC_BROADCAST(x) ((vec){(x), (x), (x), (x)})
static inline vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}
static inline vec vec_fma(vec a, vec b, vec c)
{
    for (int i = 0; i < LANES; i++)
        c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
}
#define VEC_LOAD(p) vec_load(p)
#define VEC_STORE(p, v) vec_store(p, v)
static inline vec vec_max(vec a, vec b)
{
    for (int i = 0; i < LANES; i++)
        b[i] = a[i] > b[i] ? a[i] : b[i];
    return b;
}
#define VEC_FMA(a, b, c) vec_fma(a, b, c)
#define VEC_MAX(a, b) vec_max(a, b)
#endif
