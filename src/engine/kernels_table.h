/* One set of kernels for each kind of CPU. The files that hold kernels are compiled once a set: KERNEL(gemm) is
 * gemm_avx2 in one and gemm_portable in another; kernels.c forwards the public functions to the pool's set. */
#pragma once

#include "engine/kernels.h"

/* X(result, name, parameters, arguments) */
#define KERNEL_LIST(X)                                                                                                 \
    X(void, gemm, (struct pool * pool, const struct gemm *product), (pool, product))                                   \
    X(void, conv_forward,                                                                                              \
      (struct pool * pool, const struct conv *conv, const float *x, const float *packed, const float *bias,            \
       bool accumulate, float *y, float *workspace),                                                                   \
      (pool, conv, x, packed, bias, accumulate, y, workspace))                                                         \
    X(void, conv_backward_data,                                                                                        \
      (struct pool * pool, const struct conv *conv, const float *dy, const float *packed_backward, bool accumulate,    \
       float *dx, float *workspace),                                                                                   \
      (pool, conv, dy, packed_backward, accumulate, dx, workspace))                                                    \
    X(void, conv_backward_weights,                                                                                     \
      (struct pool * pool, const struct conv *conv, const float *x, const float *dy, bool accumulate, float *dweights, \
       float *workspace),                                                                                              \
      (pool, conv, x, dy, accumulate, dweights, workspace))                                                            \
    X(void, bias_backward,                                                                                             \
      (struct pool * pool, size_t rows, size_t channels, const float *dy, bool accumulate, float *dbias,               \
       float *workspace),                                                                                              \
      (pool, rows, channels, dy, accumulate, dbias, workspace))                                                        \
    X(void, group_norm_forward,                                                                                        \
      (struct pool * pool, const struct group_norm *norm, const float *x, const float *gamma, const float *beta,       \
       float *y, float *stats, float *workspace),                                                                      \
      (pool, norm, x, gamma, beta, y, stats, workspace))                                                               \
    X(void, group_norm_backward,                                                                                       \
      (struct pool * pool, const struct group_norm *norm, const float *x, const float *gamma, const float *beta,       \
       const float *stats, const float *dy, bool accumulate, float *dx, float *dgamma, float *dbeta,                   \
       float *workspace),                                                                                              \
      (pool, norm, x, gamma, beta, stats, dy, accumulate, dx, dgamma, dbeta, workspace))                               \
    X(void, layer_norm_forward,                                                                                        \
      (struct pool * pool, size_t rows, size_t channels, float epsilon, const float *x, const float *gamma,            \
       const float *beta, float *y, float *stats),                                                                     \
      (pool, rows, channels, epsilon, x, gamma, beta, y, stats))                                                       \
    X(void, layer_norm_backward,                                                                                       \
      (struct pool * pool, size_t rows, size_t channels, const float *x, const float *gamma, const float *stats,       \
       const float *dy, bool accumulate, float *dx, float *dgamma, float *dbeta, float *workspace),                    \
      (pool, rows, channels, x, gamma, stats, dy, accumulate, dx, dgamma, dbeta, workspace))                           \
    X(void, activation_forward,                                                                                        \
      (struct pool * pool, enum activation activation, size_t count, const float *x, float *y),                        \
      (pool, activation, count, x, y))                                                                                 \
    X(void, activation_backward,                                                                                       \
      (struct pool * pool, enum activation activation, size_t count, const float *x, const float *dy, bool accumulate, \
       float *dx),                                                                                                     \
      (pool, activation, count, x, dy, accumulate, dx))                                                                \
    X(void, geglu_forward, (struct pool * pool, size_t rows, size_t channels, const float *x, float *y),               \
      (pool, rows, channels, x, y))                                                                                    \
    X(void, geglu_backward,                                                                                            \
      (struct pool * pool, size_t rows, size_t channels, const float *x, const float *dy, float *dx),                  \
      (pool, rows, channels, x, dy, dx))                                                                               \
    X(void, softmax_forward,                                                                                           \
      (struct pool * pool, size_t rows, size_t columns, float scale, bool causal, const float *x, float *y),           \
      (pool, rows, columns, scale, causal, x, y))                                                                      \
    X(void, softmax_backward,                                                                                          \
      (struct pool * pool, size_t rows, size_t columns, float scale, const float *y, const float *dy, float *dx),      \
      (pool, rows, columns, scale, y, dy, dx))                                                                         \
    X(void, attention_forward,                                                                                         \
      (struct pool * pool, const struct attention *attention, const float *q, const float *k, const float *v,          \
       float *out, float *stats),                                                                                      \
      (pool, attention, q, k, v, out, stats))                                                                          \
    X(void, attention_backward,                                                                                        \
      (struct pool * pool, const struct attention *attention, const float *q, const float *k, const float *v,          \
       const float *out, const float *stats, const float *dout, float *dq, float *dk, float *dv, float *workspace),    \
      (pool, attention, q, k, v, out, stats, dout, dq, dk, dv, workspace))                                             \
    X(void, upsample2_forward,                                                                                         \
      (struct pool * pool, size_t batch, size_t height, size_t width, size_t channels, const float *x, float *y),      \
      (pool, batch, height, width, channels, x, y))                                                                    \
    X(void, upsample2_backward,                                                                                        \
      (struct pool * pool, size_t batch, size_t height, size_t width, size_t channels, const float *dy,                \
       bool accumulate, float *dx),                                                                                    \
      (pool, batch, height, width, channels, dy, accumulate, dx))                                                      \
    X(void, concat_forward,                                                                                            \
      (struct pool * pool, size_t rows, size_t channels_a, size_t channels_b, const float *a, const float *b,          \
       float *y),                                                                                                      \
      (pool, rows, channels_a, channels_b, a, b, y))                                                                   \
    X(void, concat_backward,                                                                                           \
      (struct pool * pool, size_t rows, size_t channels_a, size_t channels_b, const float *dy, bool accumulate,        \
       float *da, float *db),                                                                                          \
      (pool, rows, channels_a, channels_b, dy, accumulate, da, db))                                                    \
    X(void, add_scaled,                                                                                                \
      (struct pool * pool, size_t count, float alpha, const float *a, float beta, const float *b, float *y),           \
      (pool, count, alpha, a, beta, b, y))                                                                             \
    X(void, axpy, (struct pool * pool, size_t count, float alpha, const float *x, float *y),                           \
      (pool, count, alpha, x, y))                                                                                      \
    X(void, scale_by, (struct pool * pool, size_t count, float alpha, const float *x, float *y),                       \
      (pool, count, alpha, x, y))                                                                                      \
    X(void, unpack_bfloats, (struct pool * pool, size_t count, const uint16_t *x, float *y), (pool, count, x, y))      \
    X(void, bias_add, (struct pool * pool, size_t rows, size_t channels, const float *x, const float *bias, float *y), \
      (pool, rows, channels, x, bias, y))                                                                              \
    X(void, sample_add_forward,                                                                                        \
      (struct pool * pool, size_t batch, size_t pixels, size_t channels, const float *x, const float *add, float *y),  \
      (pool, batch, pixels, channels, x, add, y))                                                                      \
    X(void, sample_add_backward,                                                                                       \
      (struct pool * pool, size_t batch, size_t pixels, size_t channels, const float *dy, bool accumulate,             \
       float *dadd),                                                                                                   \
      (pool, batch, pixels, channels, dy, accumulate, dadd))                                                           \
    X(double, mse,                                                                                                     \
      (struct pool * pool, size_t batch, size_t count, const float *prediction, const float *target,                   \
       const float *weights, float *losses, float *gradient),                                                          \
      (pool, batch, count, prediction, target, weights, losses, gradient))                                             \
    X(double, sum_of_squares, (struct pool * pool, size_t count, const float *x), (pool, count, x))                    \
    X(void, adamw_update,                                                                                              \
      (struct pool * pool, const struct adamw *optimizer, size_t count, float *weights, const float *gradient,         \
       float *first_moment, float *second_moment),                                                                     \
      (pool, optimizer, count, weights, gradient, first_moment, second_moment))

#define KERNEL_MEMBER(result, name, parameters, arguments) result(*name) parameters;
struct kernel_table {
    KERNEL_LIST(KERNEL_MEMBER)
    const char *name;
};
#undef KERNEL_MEMBER

const struct kernel_table *kernels_best(void);

/* Inside a file that is compiled once a set, the compiler is given the set's name as KERNEL_SET. */
#ifdef KERNEL_SET
#define KERNEL_JOIN_(a, b) a##_##b
#define KERNEL_JOIN(a, b) KERNEL_JOIN_(a, b)
#define KERNEL(name) KERNEL_JOIN(name, KERNEL_SET)
#define KERNEL_DECLARE(result, name, parameters, arguments) result KERNEL(name) parameters;
KERNEL_LIST(KERNEL_DECLARE)
#endif
