/* oneDNN as oracle: an independent implementation of convolutions and products. Built where libdnnl is found. */
#include "kernel_world.h"

#include <dnnl.h>

#include "onednn.h"

enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS };

static void compare(size_t count, const float *got, const float *expected, const char *what)
{
    double *wide = calloc(count, sizeof *wide), largest = 1;
    for (size_t i = 0; i < count; i++) {
        wide[i] = (double)expected[i];
        largest = fmax(largest, fabs(wide[i]));
    }
    for (size_t i = 0; i < count; i++) {
        if (!(fabs((double)got[i] - wide[i]) <= 2e-6 * largest))
            fail_msg("%s: value %zu is %.9g, oneDNN has %.9g", what, i, (double)got[i], wide[i]);
    }
    free(wide);
}

static void check_conv(struct pool *pool, const struct conv *conv)
{
    size_t x_count = conv->batch * conv->height * conv->width * conv->in;
    size_t y_count = conv->batch * conv_out_height(conv) * conv_out_width(conv) * conv->out;
    size_t w_count = conv->in * conv->out * conv->kernel * conv->kernel;
    float *x = noise(x_count, 1), *w = noise(w_count, 2), *dy = noise(y_count, 3), *bias = noise(conv->out, 4);
    float *y = floats(y_count), *dx = floats(x_count), *dw = floats(w_count);
    float *packed = floats(conv_packed_floats(conv)), *backward = floats(conv_packed_backward_floats(conv));
    float *workspace = floats(conv_workspace(conv));
    conv_pack(conv, w, packed);
    conv_pack_backward(conv, w, backward);
    conv_forward(pool, conv, x, packed, bias, false, y, workspace);
    conv_backward_data(pool, conv, dy, backward, false, dx, workspace);
    conv_backward_weights(pool, conv, x, dy, false, dw, workspace);

    struct onednn_conv *oracle = onednn_conv_create(conv, x, w, bias, dy);
    assert_non_null(oracle);
    compare(y_count, y, onednn_conv_forward(oracle), "forward");
    compare(x_count, dx, onednn_conv_backward_data(oracle), "backward data");
    compare(w_count, dw, onednn_conv_backward_weights(oracle), "backward weights");
    onednn_conv_destroy(oracle);
    float *all[] = {x, w, dy, bias, y, dx, dw, packed, backward, workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void convolutions_agree_with_onednn(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_ok(pool_create(2, &pool));
    static const struct conv cases[] = {
        {.batch = 8, .height = 16, .width = 16, .in = 64, .out = 64, .kernel = 3, .stride = 1},
        {.batch = 2, .height = 8, .width = 8, .in = 96, .out = 128, .kernel = 3, .stride = 1},
        {.batch = 2, .height = 16, .width = 16, .in = 64, .out = 96, .kernel = 3, .stride = 2},
        {.batch = 2, .height = 16, .width = 16, .in = 32, .out = 64, .kernel = 3, .stride = 2, .pad_after_only = true},
        {.batch = 2, .height = 7, .width = 5, .in = 48, .out = 8, .kernel = 3, .stride = 1},
        {.batch = 2, .height = 8, .width = 8, .in = 192, .out = 96, .kernel = 1, .stride = 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_conv(pool, &cases[i]);
    pool_destroy(pool);
}

static void products_agree_with_onednn(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_ok(pool_create(2, &pool));
    enum { M = 200, N = 72, K = 300 };
    float *a = noise(M * K, 1), *b = noise(K * N, 2), *c = floats(M * N), *expected = floats(M * N);
    for (int mode = 0; mode < 3; mode++) {
        bool ta = mode == 2, tb = mode == 1;
        struct gemm g = {.m = M, .n = N, .k = K, .a = a, .b = b, .c = c, .ldc = N, .alpha = 0.5f};
        g.transpose_a = ta;
        g.transpose_b = tb;
        g.lda = ta ? M : K;
        g.ldb = tb ? K : N;
        gemm(pool, &g);
        assert_int_equal(dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', M, N, K, 0.5f, a, (dnnl_dim_t)g.lda, b,
                                    (dnnl_dim_t)g.ldb, 0.0f, expected, N),
                         dnnl_success);
        compare(M * N, c, expected, "gemm");
    }
    free(a);
    free(b);
    free(c);
    free(expected);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_agree_with_onednn),
        cmocka_unit_test(products_agree_with_onednn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
