/* The arithmetic of the engine: deterministic fp32 kernels.
 *
 * The same input gives the same bytes for any number of threads and on any CPU: every output of a product is one chain
 * of fused multiply-adds in the order of k, every reduction runs over a number of chunks that depends on the shape
 * alone, and transcendental functions are our own (engine/mathf.h).
 *
 * Layout: activations are NHWC, that is rows x channels, contiguous unless a leading dimension is asked for. Weights
 * have the layout of the files: linear [out, in], convolution [out, in, k, k]; conv_pack makes the copy that kernels
 * read. Nothing is allocated here: where a workspace is asked for, its size comes from the *_workspace function, in
 * floats. Pointers are to distinct memory unless "in place" is said. Gradients of inputs overwrite (accumulate = false)
 * or add (true). NULL for an optional output skips its work. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/pool.h"

/* ---- choice of the CPU's instructions: "avx512", "avx2", "portable". False when this CPU or build has it not. ---- */
bool kernels_choose(struct pool *pool, const char *name);
const char *kernels_name(const struct pool *pool);
/* pool_create with kernels of that name, or with the fastest ones (NULL). ERR_INVALID when they cannot be had. */
struct error kernels_pool_create(unsigned threads, const char *name, struct pool **out)
    __attribute__((warn_unused_result));

/* ---- products ---- */

/* C[m,n] = beta C + bias + op(A)[m,k] op(B)[k,n] alpha; op(X) is X or its transpose, leading dimensions are in floats.
 * op(A): a[m][lda] or, transposed, a[k][lda]. op(B): b[k][ldb] or, transposed, b[n][ldb]: a linear layer
 * y = x W^T + bias is {.b = W, .transpose_b = true, .ldb = in}. beta is 0 (C is not read), 1, or any number. */
struct gemm {
    size_t m, n, k;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
    bool transpose_a, transpose_b;
    float alpha; /* 1 for the plain product; 0 is not replaced by 1 */
    float beta;
    const float *bias;                   /* [n] or NULL */
    size_t batch;                        /* number of products; 0 counts as 1 */
    size_t stride_a, stride_b, stride_c; /* between products, in floats */
};
void gemm(struct pool *pool, const struct gemm *product);

/* Convolution, and the linear layer as kernel = 1 (batch = rows, height = width = 1). kernel 3 pads with zeros: pad 1
 * on all sides or, with pad_after_only, 0 on top and left and 1 at bottom and right (the VAE encoder's downsampling).
 * kernel 1 has stride 1 and no padding. */
struct conv {
    size_t batch, height, width; /* of the input */
    size_t in, out;              /* channels */
    unsigned kernel;             /* 1 or 3 */
    unsigned stride;             /* 1 or 2 */
    bool pad_after_only;
    bool winograd; /* by transforms (engine/winograd.h): other roundings. Only where conv_suits_winograd */
};
/* 3x3, stride 1, channels that fill vectors, and not so many that packed weights become large. */
bool conv_suits_winograd(const struct conv *conv);
size_t conv_out_height(const struct conv *conv);
size_t conv_out_width(const struct conv *conv);
/* Packed weights depend on kernel, in, out, winograd and, for backward data, on stride and padding; not on batch or
 * size. Pack frozen weights once, trained ones each time they change. */
size_t conv_packed_floats(const struct conv *conv);
size_t conv_packed_backward_floats(const struct conv *conv);
void conv_pack(const struct conv *conv, const float *weights, float *packed);
void conv_pack_backward(const struct conv *conv, const float *weights, float *packed);
size_t conv_workspace(const struct conv *conv); /* enough for each of the three below */
/* y[batch, h', w', out] (+)= conv(x) + bias; bias [out] may be NULL. */
void conv_forward(struct pool *pool, const struct conv *conv, const float *x, const float *packed, const float *bias,
                  bool accumulate, float *y, float *workspace);
/* dx[batch, h, w, in] (+)= the adjoint of conv_forward in x. */
void conv_backward_data(struct pool *pool, const struct conv *conv, const float *dy, const float *packed_backward,
                        bool accumulate, float *dx, float *workspace);
/* dweights[out, in, k, k] (+)= the adjoint in the weights. Fast for few outputs (a LoRA's down factor) too. */
void conv_backward_weights(struct pool *pool, const struct conv *conv, const float *x, const float *dy, bool accumulate,
                           float *dweights, float *workspace);
/* dbias[channels] (+)= sum of dy[rows, channels] over rows. */
size_t bias_backward_workspace(size_t rows, size_t channels);
void bias_backward(struct pool *pool, size_t rows, size_t channels, const float *dy, bool accumulate, float *dbias,
                   float *workspace);

/* ---- normalization ---- */

/* y = act(gamma xhat + beta), xhat = (x - mean) / sqrt(variance + eps) over the pixels and channels of a group. */
struct group_norm {
    size_t batch, pixels, channels, groups;
    float epsilon;
    bool silu; /* fused y = z sigmoid(z) */
};
size_t group_norm_workspace(const struct group_norm *norm);
/* stats[batch, groups, 2] = mean and 1/sqrt(variance + eps), kept for backward. y may be x. */
void group_norm_forward(struct pool *pool, const struct group_norm *norm, const float *x, const float *gamma,
                        const float *beta, float *y, float *stats, float *workspace);
/* dgamma and dbeta [channels] may be NULL, and add to what is there; dx may be dy (when not accumulating) or NULL. */
void group_norm_backward(struct pool *pool, const struct group_norm *norm, const float *x, const float *gamma,
                         const float *beta, const float *stats, const float *dy, bool accumulate, float *dx,
                         float *dgamma, float *dbeta, float *workspace);

/* Layer norm over the channels of a row; stats[rows, 2]. y may be x. */
size_t layer_norm_workspace(size_t rows, size_t channels); /* for backward */
void layer_norm_forward(struct pool *pool, size_t rows, size_t channels, float epsilon, const float *x,
                        const float *gamma, const float *beta, float *y, float *stats);
/* dgamma and dbeta may be NULL, and add; dx may be dy (when not accumulating) or NULL. */
void layer_norm_backward(struct pool *pool, size_t rows, size_t channels, const float *x, const float *gamma,
                         const float *stats, const float *dy, bool accumulate, float *dx, float *dgamma, float *dbeta,
                         float *workspace);

/* ---- activations: y = f(x), dx (+)= f'(x) dy; y may be x, dx may be dy ---- */
enum activation {
    ACTIVATION_SILU,       /* x sigmoid(x) */
    ACTIVATION_GELU,       /* x Phi(x), exact by erf */
    ACTIVATION_QUICK_GELU, /* x sigmoid(1.702 x) */
};
void activation_forward(struct pool *pool, enum activation activation, size_t count, const float *x, float *y);
void activation_backward(struct pool *pool, enum activation activation, size_t count, const float *x, const float *dy,
                         bool accumulate, float *dx);
/* x[rows, 2 channels] = (value, gate) -> y[rows, channels] = value gelu(gate), diffusers' GEGLU. */
void geglu_forward(struct pool *pool, size_t rows, size_t channels, const float *x, float *y);
void geglu_backward(struct pool *pool, size_t rows, size_t channels, const float *x, const float *dy, float *dx);

/* ---- attention ---- */

/* Rows of softmax(scale x), scale > 0; causal: row r sees columns 0..r mod columns. In place is fine. */
void softmax_forward(struct pool *pool, size_t rows, size_t columns, float scale, bool causal, const float *x,
                     float *y);
/* dx = scale y (dy - <dy, y>); dx may be dy. */
void softmax_backward(struct pool *pool, size_t rows, size_t columns, float scale, const float *y, const float *dy,
                      float *dx);

/* out = softmax(scale q k^T) v for each head. q, out [batch, queries, heads*depth], k, v [batch, keys, heads*depth];
 * scale is 1/sqrt(depth). causal: query i sees keys 0..i. Nothing quadratic is stored: backward recomputes the
 * probabilities from stats [batch, heads, queries, 2] = (row maximum, 1/row sum). keys <= ATTENTION_KEYS_MAX. */
#define ATTENTION_KEYS_MAX 16384 /* 1024 x 1024 px of SD: 16,384 latent pixels; a row block must fit in scratch */
#define ATTENTION_DEPTH_MAX 512  /* the VAE's single head */
struct attention {
    size_t batch, heads, queries, keys, depth;
    bool causal;
};
void attention_forward(struct pool *pool, const struct attention *attention, const float *q, const float *k,
                       const float *v, float *out, float *stats);
/* dq, dk, dv are overwritten; any may be NULL (k and v of frozen cross-attention). */
size_t attention_workspace(const struct attention *attention);
void attention_backward(struct pool *pool, const struct attention *attention, const float *q, const float *k,
                        const float *v, const float *out, const float *stats, const float *dout, float *dq, float *dk,
                        float *dv, float *workspace);

/* ---- moving and adding ---- */
/* x[batch, h, w, c] -> y[batch, 2h, 2w, c], nearest. Backward sums the four. */
void upsample2_forward(struct pool *pool, size_t batch, size_t height, size_t width, size_t channels, const float *x,
                       float *y);
void upsample2_backward(struct pool *pool, size_t batch, size_t height, size_t width, size_t channels, const float *dy,
                        bool accumulate, float *dx);
/* y[rows, ca + cb] = (a, b); split is the inverse and the adjoint: a, b (+)= parts, either may be NULL. */
void concat_forward(struct pool *pool, size_t rows, size_t channels_a, size_t channels_b, const float *a,
                    const float *b, float *y);
void concat_backward(struct pool *pool, size_t rows, size_t channels_a, size_t channels_b, const float *dy,
                     bool accumulate, float *da, float *db);
/* y = alpha a + beta b; y may be a or b. */
void add_scaled(struct pool *pool, size_t count, float alpha, const float *a, float beta, const float *b, float *y);
/* y[i] = fma(alpha, x[i], y[i]) */
void axpy(struct pool *pool, size_t count, float alpha, const float *x, float *y);
void scale_by(struct pool *pool, size_t count, float alpha, const float *x, float *y); /* y = alpha x; y may be x */
void unpack_bfloats(struct pool *pool, size_t count, const uint16_t *x, float *y);     /* the upper halves of floats */
/* y[rows, channels] = x + bias[channels]; y may be x. */
void bias_add(struct pool *pool, size_t rows, size_t channels, const float *x, const float *bias, float *y);
/* y[batch, pixels, channels] = x + add[batch, channels] (time embedding); y may be x. */
void sample_add_forward(struct pool *pool, size_t batch, size_t pixels, size_t channels, const float *x,
                        const float *add, float *y);
/* dadd[batch, channels] (+)= sum of dy over pixels. */
void sample_add_backward(struct pool *pool, size_t batch, size_t pixels, size_t channels, const float *dy,
                         bool accumulate, float *dadd);

/* ---- training ---- */

#define REDUCE_CHUNKS_MAX 64 /* sums run over at most this many chunks, added in order */
/* Weighted mean squared error: losses[b] = mean over i of (prediction - target)^2 (unweighted), the result is
 * mean over b of weights[b] losses[b], gradient (may be NULL) that of the result. weights NULL: all 1. */
double mse(struct pool *pool, size_t batch, size_t count, const float *prediction, const float *target,
           const float *weights, float *losses, float *gradient);
double sum_of_squares(struct pool *pool, size_t count, const float *x);

/* AdamW as in Loshchilov & Hutter: w -= rate decay w, then w -= rate mhat / (sqrt(vhat) + epsilon). */
struct adamw {
    float rate, beta1, beta2, epsilon, decay;
    float gradient_scale; /* multiplies the gradient first: clipping, averaging; 1 for none */
    uint64_t step;        /* 1 for the first update: bias correction */
};
void adamw_update(struct pool *pool, const struct adamw *optimizer, size_t count, float *weights, const float *gradient,
                  float *first_moment, float *second_moment);
