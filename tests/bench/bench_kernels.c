/* GFLOP/s of the products and convolutions, ours beside oneDNN's: bench_kernels [threads [set]]. Each figure is the
 * best of several runs of at least 10 ms, ours and theirs in turn, because a shared machine is noisy. Both columns
 * count the operations of the direct way. */
#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../unit/onednn.h"

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *values(size_t count)
{
    float *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(i * 2654435761u % 1000) / 1000.0f - 0.5f;
    return x;
}

struct work {
    struct pool *pool;
    struct conv conv;
    struct gemm gemm;
    enum onednn_pass pass;
    struct onednn_conv *oracle;
    float *x, *w, *bias, *dy, *y, *dx, *dw, *packed, *backward, *workspace;
};

static double seconds(void (*run)(struct work *work), struct work *work)
{
    run(work);
    clockid_t clock = pool_threads(work->pool) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    double start = now(clock), spent;
    size_t runs = 0;
    do {
        run(work);
        runs++;
        spent = now(clock) - start;
    } while (spent < 0.01);
    return spent / (double)runs;
}

static void compare(const char *label, void (*ours)(struct work *), void (*theirs)(struct work *), struct work *work,
                    double flops)
{
    double our_best = 1e9, their_best = 1e9;
    for (int round = 0; round < 7; round++) {
        double a = seconds(ours, work), b = seconds(theirs, work);
        our_best = a < our_best ? a : our_best;
        their_best = b < their_best ? b : their_best;
    }
    printf("%-44s %7.1f %7.1f %6.0f %%\n", label, flops / our_best / 1e9, flops / their_best / 1e9,
           100 * their_best / our_best);
}

static void our_conv(struct work *w)
{
    if (w->pass == ONEDNN_FORWARD)
        conv_forward(w->pool, &w->conv, w->x, w->packed, w->bias, false, w->y, w->workspace);
    else if (w->pass == ONEDNN_BACKWARD_DATA)
        conv_backward_data(w->pool, &w->conv, w->dy, w->backward, false, w->dx, w->workspace);
    else
        conv_backward_weights(w->pool, &w->conv, w->x, w->dy, false, w->dw, w->workspace);
}

static void their_conv(struct work *w)
{
    onednn_conv_run(w->oracle, w->pass);
}

static void bench_conv(struct pool *pool, const struct conv *c)
{
    size_t pixels = c->batch * conv_out_height(c) * conv_out_width(c);
    size_t x_count = c->batch * c->height * c->width * c->in, weights = c->in * c->out * c->kernel * c->kernel;
    struct work w = {.pool = pool,
                     .conv = *c,
                     .x = values(x_count),
                     .w = values(weights),
                     .bias = values(c->out),
                     .dy = values(pixels * c->out),
                     .y = values(pixels * c->out),
                     .dx = values(x_count),
                     .dw = values(weights),
                     .packed = values(conv_packed_floats(c)),
                     .backward = values(conv_packed_backward_floats(c)),
                     .workspace = values(conv_workspace(c))};
    conv_pack(c, w.w, w.packed);
    conv_pack_backward(c, w.w, w.backward);
    w.oracle = onednn_conv_create(c, w.x, w.w, w.bias, w.dy);
    static const char *const names[] = {"forward", "backward data", "backward weights"};
    enum onednn_pass last = c->winograd ? ONEDNN_BACKWARD_DATA : ONEDNN_BACKWARD_WEIGHTS;
    for (w.pass = ONEDNN_FORWARD; w.oracle && w.pass <= last; w.pass++) {
        char label[96];
        snprintf(label, sizeof label, "%s%u B%zu %zux%zu %zu->%zu /%u %s", c->winograd ? "winograd" : "conv", c->kernel,
                 c->batch, c->height, c->width, c->in, c->out, c->stride, names[w.pass]);
        compare(label, our_conv, their_conv, &w, 2.0 * (double)pixels * (double)weights);
    }
    onednn_conv_destroy(w.oracle);
    float *all[] = {w.x, w.w, w.bias, w.dy, w.y, w.dx, w.dw, w.packed, w.backward, w.workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void our_gemm(struct work *w)
{
    gemm(w->pool, &w->gemm);
}

static void their_gemm(struct work *w)
{
    const struct gemm *g = &w->gemm;
    dnnl_sgemm(g->transpose_a ? 'T' : 'N', g->transpose_b ? 'T' : 'N', (dnnl_dim_t)g->m, (dnnl_dim_t)g->n,
               (dnnl_dim_t)g->k, 1.0f, g->a, (dnnl_dim_t)g->lda, g->b, (dnnl_dim_t)g->ldb, 0.0f, g->c,
               (dnnl_dim_t)g->ldc);
}

static void bench_gemm(struct pool *pool, size_t m, size_t n, size_t k, char a, char b)
{
    float *left = values(m * k), *right = values(n * k), *out = values(m * n);
    struct work w = {.pool = pool,
                     .gemm = {.m = m,
                              .n = n,
                              .k = k,
                              .a = left,
                              .b = right,
                              .c = out,
                              .lda = a == 'T' ? m : k,
                              .ldb = b == 'T' ? k : n,
                              .ldc = n,
                              .transpose_a = a == 'T',
                              .transpose_b = b == 'T',
                              .alpha = 1.0f}};
    char label[96];
    snprintf(label, sizeof label, "gemm %c%c %zu x %zu x %zu", a, b, m, n, k);
    compare(label, our_gemm, their_gemm, &w, 2.0 * (double)m * (double)n * (double)k);
    free(left);
    free(right);
    free(out);
}

#if defined(__x86_64__)
/* What one core can do: chains of fused multiply-adds that stay in registers, as many as hide their latency. */
__attribute__((target("avx2,fma"))) static void bench_peak(void)
{
    typedef float eight __attribute__((vector_size(32)));
    enum { CHAINS = 12, ROUNDS = 2000000 };
    double best = 1e9;
    for (int run = 0; run < 7; run++) {
        eight sums[CHAINS] = {{0}}, x = {1.0f}, y = {0.5f};
        double start = now(CLOCK_THREAD_CPUTIME_ID);
        for (int i = 0; i < ROUNDS; i++) {
#pragma GCC unroll 12
            for (int j = 0; j < CHAINS; j++)
                __asm__ volatile("vfmadd231ps %1, %2, %0" : "+x"(sums[j]) : "x"(x), "x"(y));
        }
        double spent = now(CLOCK_THREAD_CPUTIME_ID) - start;
        best = spent < best ? spent : best;
    }
    printf("%-44s %7.1f\n", "peak of one core", 16.0 * CHAINS * ROUNDS / best / 1e9);
}
#else
static void bench_peak(void)
{
}
#endif

int main(int argc, char **argv)
{
    unsigned threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    struct pool *pool = NULL;
    if (pool_create(threads, &pool).code || (argc > 2 && !kernels_choose(pool, argv[2])))
        return 1;
    omp_set_num_threads((int)pool_threads(pool));
    printf("%u threads, %s\n%-44s %7s %7s %8s\n", pool_threads(pool), kernels_name(pool), "GFLOP/s", "ours", "oneDNN",
           "ratio");
    bench_peak();
    static const struct conv convs[] = {
        {.batch = 8, .height = 64, .width = 64, .in = 64, .out = 64, .kernel = 3, .stride = 1},
        {.batch = 8, .height = 16, .width = 16, .in = 64, .out = 64, .kernel = 3, .stride = 1},
        {.batch = 8, .height = 8, .width = 8, .in = 96, .out = 96, .kernel = 3, .stride = 1},
        {.batch = 8, .height = 4, .width = 4, .in = 128, .out = 128, .kernel = 3, .stride = 1},
        {.batch = 8, .height = 8, .width = 8, .in = 128, .out = 128, .kernel = 3, .stride = 1},
        {.batch = 8, .height = 16, .width = 16, .in = 128, .out = 128, .kernel = 3, .stride = 1},
        {.batch = 8, .height = 16, .width = 16, .in = 64, .out = 96, .kernel = 3, .stride = 2},
        {.batch = 8, .height = 16, .width = 16, .in = 64, .out = 8, .kernel = 3, .stride = 1},
        {.batch = 1, .height = 64, .width = 64, .in = 320, .out = 320, .kernel = 3, .stride = 1},
        {.batch = 2048, .height = 1, .width = 1, .in = 64, .out = 64, .kernel = 1, .stride = 1},
        {.batch = 512, .height = 1, .width = 1, .in = 128, .out = 1024, .kernel = 1, .stride = 1},
    };
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        struct conv conv = convs[i];
        bench_conv(pool, &conv);
        conv.winograd = conv_suits_winograd(&conv);
        if (conv.winograd)
            bench_conv(pool, &conv);
    }
    bench_gemm(pool, 2048, 64, 64, 'N', 'T');
    bench_gemm(pool, 512, 128, 128, 'N', 'T');
    bench_gemm(pool, 4096, 320, 2560, 'N', 'N');
    bench_gemm(pool, 2048, 8, 320, 'N', 'T');
    bench_gemm(pool, 2048, 320, 8, 'N', 'T');
    bench_gemm(pool, 8, 320, 2048, 'T', 'N');
    bench_gemm(pool, 320, 8, 2048, 'T', 'N');
    bench_gemm(pool, 256, 256, 32, 'N', 'T');
    pool_destroy(pool);
    return 0;
}
