#include "kernel_world.h"

static void reference_gemm(const struct gemm *g, double *c)
{
    for (size_t b = 0; b < (g->batch ? g->batch : 1); b++) {
        for (size_t i = 0; i < g->m; i++) {
            for (size_t j = 0; j < g->n; j++) {
                size_t at = b * g->stride_c + i * g->ldc + j;
                double sum = g->bias ? (double)g->bias[j] : 0;
                if (g->beta != 0.0f)
                    sum += (double)g->beta * (double)g->c[at];
                for (size_t k = 0; k < g->k; k++) {
                    float a = g->a[b * g->stride_a + (g->transpose_a ? k * g->lda + i : i * g->lda + k)];
                    float x = g->b[b * g->stride_b + (g->transpose_b ? j * g->ldb + k : k * g->ldb + j)];
                    sum += (double)g->alpha * (double)a * (double)x;
                }
                c[at] = sum;
            }
        }
    }
}

static void run_gemm(struct pool *pool, void *context, float *out)
{
    struct gemm g = *(struct gemm *)context;
    g.c = out;
    gemm(pool, &g);
}

static void check_gemm(struct gemm g, bool with_bias)
{
    size_t batch = g.batch ? g.batch : 1;
    g.lda = (g.transpose_a ? g.m : g.k) + 3;
    g.ldb = (g.transpose_b ? g.k : g.n) + 1;
    g.ldc = g.n + 2;
    g.stride_a = g.lda * (g.transpose_a ? g.k : g.m) + 5;
    g.stride_b = g.ldb * (g.transpose_b ? g.n : g.k) + 7;
    g.stride_c = g.ldc * g.m + 1;
    float *a = noise(batch * g.stride_a, 1), *b = noise(batch * g.stride_b, 2), *bias = noise(g.n, 3);
    size_t count = batch * g.stride_c;
    float *start = noise(count, 4), *out = floats(count);
    double *expected = calloc(count, sizeof *expected);
    for (size_t i = 0; i < count; i++)
        expected[i] = (double)start[i];
    g.a = a;
    g.b = b;
    g.c = start;
    g.bias = with_bias ? bias : NULL;
    reference_gemm(&g, expected);
    run_everywhere(run_gemm, &g, count, start, out);
    assert_near(count, out, expected, 1e-6 * sqrt((double)g.k + 10), "gemm");
    free(a);
    free(b);
    free(bias);
    free(start);
    free(out);
    free(expected);
}

static void gemm_agrees_with_double_on_odd_sizes(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 1},    {5, 3, 7},     {6, 16, 256}, {7, 17, 257}, {13, 40, 300},
                                      {50, 8, 600}, {100, 33, 4},  {12, 31, 64}, {3, 100, 1},  {400, 20, 9},
                                      {4, 4, 700},  {37, 130, 65}, {8, 320, 100}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int mode = 0; mode < 4; mode++) {
            struct gemm g = {.m = sizes[i][0], .n = sizes[i][1], .k = sizes[i][2], .alpha = 1.0f};
            g.transpose_a = mode & 1;
            g.transpose_b = mode & 2;
            check_gemm(g, false);
        }
    }
}

static void gemm_scales_adds_and_batches(void **state)
{
    (void)state;
    check_gemm((struct gemm){.m = 9, .n = 21, .k = 33, .alpha = 0.5f, .beta = 1.0f}, true);
    check_gemm((struct gemm){.m = 9, .n = 21, .k = 530, .alpha = -2.0f, .beta = 0.25f, .transpose_b = true}, true);
    check_gemm((struct gemm){.m = 20, .n = 9, .k = 33, .alpha = 1.0f, .beta = 1.0f, .batch = 5}, false);
    check_gemm((struct gemm){.m = 64, .n = 48, .k = 70, .alpha = 1.0f, .batch = 3, .transpose_a = true}, true);
    check_gemm((struct gemm){.m = 4, .n = 5, .k = 0, .alpha = 1.0f, .beta = 0.5f}, true);
}

struct conv_case {
    struct conv conv;
    float *x, *weights, *bias, *dy, *packed, *packed_backward;
    size_t x_count, y_count, weight_count;
};

static struct conv_case open_conv(struct conv conv)
{
    struct conv_case c = {.conv = conv};
    c.x_count = conv.batch * conv.height * conv.width * conv.in;
    c.y_count = conv.batch * conv_out_height(&conv) * conv_out_width(&conv) * conv.out;
    c.weight_count = conv.out * conv.in * conv.kernel * conv.kernel;
    c.x = noise(c.x_count, 11);
    c.weights = noise(c.weight_count, 12);
    c.bias = noise(conv.out, 13);
    c.dy = noise(c.y_count, 14);
    c.packed = floats(conv_packed_floats(&conv));
    c.packed_backward = floats(conv_packed_backward_floats(&conv));
    conv_pack(&conv, c.weights, c.packed);
    conv_pack_backward(&conv, c.weights, c.packed_backward);
    return c;
}

static void close_conv(struct conv_case *c)
{
    float *all[] = {c->x, c->weights, c->bias, c->dy, c->packed, c->packed_backward};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static double at(const struct conv *conv, const float *x, size_t sample, long y, long px, size_t channel)
{
    if (y < 0 || px < 0 || y >= (long)conv->height || px >= (long)conv->width)
        return 0;
    return (double)x[((sample * conv->height + (size_t)y) * conv->width + (size_t)px) * conv->in + channel];
}

static void reference_conv(const struct conv_case *c, double *y)
{
    const struct conv *conv = &c->conv;
    size_t height = conv_out_height(conv), width = conv_out_width(conv), kernel = conv->kernel;
    long pad = kernel == 3 && !conv->pad_after_only;
    for (size_t i = 0; i < c->y_count; i++) {
        size_t out = i % conv->out, x = i / conv->out % width, row = i / conv->out / width;
        double sum = (double)c->bias[out];
        for (size_t t = 0; t < kernel * kernel; t++) {
            long sy = (long)(row % height * conv->stride + t / kernel) - pad;
            long sx = (long)(x * conv->stride + t % kernel) - pad;
            for (size_t in = 0; in < conv->in; in++)
                sum += (double)c->weights[(out * conv->in + in) * kernel * kernel + t] *
                       at(conv, c->x, row / height, sy, sx, in);
        }
        y[i] = sum;
    }
}

static void run_forward(struct pool *pool, void *context, float *out)
{
    struct conv_case *c = context;
    float *workspace = floats(conv_workspace(&c->conv));
    conv_forward(pool, &c->conv, c->x, c->packed, c->bias, false, out, workspace);
    free(workspace);
}

static void run_backward_data(struct pool *pool, void *context, float *out)
{
    struct conv_case *c = context;
    float *workspace = floats(conv_workspace(&c->conv));
    conv_backward_data(pool, &c->conv, c->dy, c->packed_backward, false, out, workspace);
    conv_backward_data(pool, &c->conv, c->dy, c->packed_backward, true, out, workspace);
    free(workspace);
}

static void run_backward_weights(struct pool *pool, void *context, float *out)
{
    struct conv_case *c = context;
    float *workspace = floats(conv_workspace(&c->conv));
    conv_backward_weights(pool, &c->conv, c->x, c->dy, false, out, workspace);
    conv_backward_weights(pool, &c->conv, c->x, c->dy, true, out, workspace);
    free(workspace);
}

/* Forward against double; backward through <dy, A x> = <A' dy, x>, for x and for the weights. */
static void check_conv(struct conv conv)
{
    struct conv_case c = open_conv(conv);
    float *y = floats(c.y_count), *dx = floats(c.x_count), *dw = floats(c.weight_count);
    double *expected = calloc(c.y_count, sizeof *expected);
    reference_conv(&c, expected);
    run_everywhere(run_forward, &c, c.y_count, NULL, y);
    assert_near(c.y_count, y, expected, 3e-5, "conv_forward");
    run_everywhere(run_backward_data, &c, c.x_count, NULL, dx);
    run_everywhere(run_backward_weights, &c, c.weight_count, NULL, dw);
    double product = 0;
    for (size_t i = 0; i < c.y_count; i++)
        product += (double)c.dy[i] * (expected[i] - (double)c.bias[i % conv.out]);
    double size = sqrt(dot(c.y_count, c.dy, c.dy) * dot(c.y_count, y, y));
    assert_close(dot(c.x_count, dx, c.x) / 2 / size, product / size, 3e-7, "<A' dy, x>");
    assert_close(dot(c.weight_count, dw, c.weights) / 2 / size, product / size, 3e-7, "<dy, A w>");
    free(y);
    free(dx);
    free(dw);
    free(expected);
    close_conv(&c);
}

static void convolutions_agree_with_double_and_their_adjoints(void **state)
{
    (void)state;
    static const struct conv cases[] = {
        {.batch = 2, .height = 5, .width = 7, .in = 3, .out = 20, .kernel = 3, .stride = 1},
        {.batch = 1, .height = 16, .width = 16, .in = 64, .out = 64, .kernel = 3, .stride = 1},
        {.batch = 3, .height = 4, .width = 4, .in = 130, .out = 33, .kernel = 3, .stride = 1},
        {.batch = 2, .height = 8, .width = 6, .in = 17, .out = 4, .kernel = 3, .stride = 2},
        {.batch = 2, .height = 7, .width = 9, .in = 13, .out = 24, .kernel = 3, .stride = 2},
        {.batch = 2, .height = 8, .width = 6, .in = 20, .out = 19, .kernel = 3, .stride = 2, .pad_after_only = true},
        {.batch = 1, .height = 9, .width = 7, .in = 5, .out = 9, .kernel = 3, .stride = 2, .pad_after_only = true},
        {.batch = 1, .height = 1, .width = 1, .in = 4, .out = 8, .kernel = 3, .stride = 1},
        {.batch = 2, .height = 6, .width = 5, .in = 300, .out = 12, .kernel = 1, .stride = 1},
        {.batch = 128, .height = 1, .width = 1, .in = 31, .out = 70, .kernel = 1, .stride = 1},
        {.batch = 1, .height = 3, .width = 300, .in = 4, .out = 4, .kernel = 3, .stride = 1},
        {.batch = 2, .height = 16, .width = 16, .in = 64, .out = 32, .kernel = 3, .stride = 1, .winograd = true},
        {.batch = 3, .height = 4, .width = 4, .in = 32, .out = 144, .kernel = 3, .stride = 1, .winograd = true},
        {.batch = 2, .height = 7, .width = 5, .in = 16, .out = 48, .kernel = 3, .stride = 1, .winograd = true},
        {.batch = 1, .height = 1, .width = 1, .in = 16, .out = 16, .kernel = 3, .stride = 1, .winograd = true},
        {.batch = 1, .height = 3, .width = 9, .in = 528, .out = 16, .kernel = 3, .stride = 1, .winograd = true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_conv(cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_agrees_with_double_on_odd_sizes),
        cmocka_unit_test(gemm_scales_adds_and_batches),
        cmocka_unit_test(convolutions_agree_with_double_and_their_adjoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
