#include "kernel_world.h"

#include "engine/mathf.h"

static void assert_relative(float got, double expected, double relative, double absolute, double at)
{
    if (!(fabs((double)got - expected) <= relative * fabs(expected) + absolute))
        fail_msg("at %.9g: %.9g, expected %.9g", at, (double)got, expected);
}

static void functions_keep_their_error_bounds(void **state)
{
    (void)state;
    const double ulp = 1.2e-7;
    for (double x = -87.3; x < 88.7; x += 0.00137)
        assert_relative(math_exp((float)x), exp((double)(float)x), 2 * ulp, 0, x);
    for (double x = 1e-37; x < 1e38; x *= 1.00037)
        assert_relative(math_log((float)x), log((double)(float)x), 2 * ulp, 0, x);
    for (double x = 0.7; x < 1.5; x += 1e-5)
        assert_relative(math_log((float)x), log((double)(float)x), 2 * ulp, 0, x);
    for (double x = -6; x < 6; x += 0.00011) {
        assert_relative(math_erf((float)x), erf((double)(float)x), 3 * ulp, 0, x);
        assert_relative(math_tanh((float)x), tanh((double)(float)x), 3 * ulp, 0, x);
    }
    for (double x = -(double)MATH_ANGLE_MAX; x < (double)MATH_ANGLE_MAX; x += 0.0931) {
        assert_relative(math_sin((float)x), sin((double)(float)x), 0, 3e-7, x);
        assert_relative(math_cos((float)x), cos((double)(float)x), 0, 3e-7, x);
    }
}

static void functions_handle_the_ends(void **state)
{
    (void)state;
    float infinite = math_float(0x7f800000u), nan = math_float(0x7fc00000u);
    assert_true(math_exp(-infinite) == 0.0f);
    assert_true(math_exp(-1000.0f) == 0.0f);
    assert_true(math_exp(0.0f) == 1.0f);
    assert_true(isinf(math_exp(89.0f)));
    assert_true(isinf(math_exp(infinite)));
    assert_true(isnan(math_exp(nan)));
    assert_true(math_log(1.0f) == 0.0f);
    assert_true(isinf(math_log(0.0f)) && math_log(0.0f) < 0);
    assert_true(isnan(math_log(-1.0f)));
    assert_true(isnan(math_log(nan)));
    assert_true(isinf(math_log(infinite)));
    assert_true(math_erf(10.0f) == 1.0f);
    assert_true(math_erf(-infinite) == -1.0f);
    assert_true(math_tanh(-50.0f) == -1.0f);
    assert_true(math_sigmoid(-200.0f) == 0.0f);
}

struct activation_case {
    enum activation activation;
    size_t count;
    const float *x, *dy;
};

static double activate(enum activation activation, double x)
{
    switch (activation) {
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_GELU:
        return x * 0.5 * (1 + erf(x / sqrt(2)));
    case ACTIVATION_QUICK_GELU:
        break;
    }
    return x / (1 + exp(-1.702 * x));
}

static void run_activation(struct pool *pool, void *context, float *out)
{
    struct activation_case *c = context;
    activation_forward(pool, c->activation, c->count, c->x, out);
    activation_backward(pool, c->activation, c->count, c->x, c->dy, false, out + c->count);
    activation_backward(pool, c->activation, c->count, c->x, c->dy, true, out + c->count);
}

static void activations_agree_with_double_and_central_differences(void **state)
{
    (void)state;
    const size_t count = 20011;
    float *x = noise(count, 1), *dy = noise(count, 2), *out = floats(2 * count);
    double *y = calloc(count, sizeof *y), *dx = calloc(count, sizeof *dx);
    for (size_t i = 0; i < count; i++)
        x[i] *= 9;
    for (enum activation a = ACTIVATION_SILU; a <= ACTIVATION_QUICK_GELU; a++) {
        struct activation_case c = {.activation = a, .count = count, .x = x, .dy = dy};
        for (size_t i = 0; i < count; i++) {
            double at = (double)x[i];
            y[i] = activate(a, at);
            dx[i] = 2 * (double)dy[i] * (activate(a, at + 1e-5) - activate(a, at - 1e-5)) / 2e-5;
        }
        run_everywhere(run_activation, &c, 2 * count, NULL, out);
        assert_near(count, out, y, 1e-6, "activation_forward");
        assert_near(count, out + count, dx, 3e-6, "activation_backward");
    }
    free(x);
    free(dy);
    free(out);
    free(y);
    free(dx);
}

enum { ROWS = 211, CHANNELS = 23 };

struct geglu_case {
    const float *x, *dy;
};

static void run_geglu(struct pool *pool, void *context, float *out)
{
    struct geglu_case *c = context;
    geglu_forward(pool, ROWS, CHANNELS, c->x, out);
    geglu_backward(pool, ROWS, CHANNELS, c->x, c->dy, out + ROWS * CHANNELS);
}

static void geglu_agrees_with_double_and_central_differences(void **state)
{
    (void)state;
    const size_t count = ROWS * CHANNELS;
    float *x = noise(2 * count, 1), *dy = noise(count, 2), *out = floats(3 * count);
    double *expected = calloc(3 * count, sizeof *expected);
    for (size_t i = 0; i < count; i++) {
        size_t row = i / CHANNELS, c = i % CHANNELS;
        size_t value_at = row * 2 * CHANNELS + c, gate_at = value_at + CHANNELS;
        x[gate_at] *= 4;
        double value = (double)x[value_at], gate = (double)x[gate_at], gradient = (double)dy[i];
        double slope = (activate(ACTIVATION_GELU, gate + 1e-5) - activate(ACTIVATION_GELU, gate - 1e-5)) / 2e-5;
        expected[i] = value * activate(ACTIVATION_GELU, gate);
        expected[count + value_at] = gradient * activate(ACTIVATION_GELU, gate);
        expected[count + gate_at] = gradient * value * slope;
    }
    struct geglu_case c = {.x = x, .dy = dy};
    run_everywhere(run_geglu, &c, 3 * count, NULL, out);
    assert_near(3 * count, out, expected, 3e-6, "geglu");
    free(x);
    free(dy);
    free(out);
    free(expected);
}

/* Linear moves: each forward A and backward A' must satisfy <dy, A x> = <A' dy, x>. */
enum { BATCH = 2, HEIGHT = 5, WIDTH = 3, DEPTH = 19, SMALL = BATCH * HEIGHT * WIDTH * DEPTH };

static void run_moves(struct pool *pool, void *context, float *out)
{
    const float *x = context;
    float *large = floats(4 * SMALL);
    upsample2_forward(pool, BATCH, HEIGHT, WIDTH, DEPTH, x, large);
    upsample2_backward(pool, BATCH, HEIGHT, WIDTH, DEPTH, large, false, out);
    for (size_t i = 0; i < SMALL; i++)
        assert_true(out[i] == 4 * x[i]);
    upsample2_backward(pool, BATCH, HEIGHT, WIDTH, DEPTH, large, true, out);
    assert_true(out[SMALL - 1] == 8 * x[SMALL - 1]);
    const size_t pixel = (2 * WIDTH * 3 + 5) * DEPTH + 7; /* line 3, column 5, channel 7 */
    assert_true(large[pixel] == x[(WIDTH * 1 + 2) * DEPTH + 7]);
    free(large);

    float *joined = floats(SMALL * 2), *a = floats(SMALL), *b = floats(SMALL);
    const size_t rows = BATCH * HEIGHT * WIDTH;
    concat_forward(pool, rows, DEPTH, 4, x, x + 1, joined);
    assert_true(joined[DEPTH + 4 + DEPTH + 2] == x[1 + 4 + 2]);
    concat_backward(pool, rows, DEPTH, 4, joined, false, a, b);
    assert_memory_equal(a, x, SMALL * sizeof(float));
    assert_memory_equal(b, x + 1, rows * 4 * sizeof(float));
    concat_backward(pool, rows, DEPTH, 4, joined, true, NULL, b);
    assert_true(b[3] == 2 * x[4]);
    free(joined);
    free(a);
    free(b);
}

static void upsampling_and_joining_move_every_value(void **state)
{
    (void)state;
    float *x = noise(SMALL + 1, 3), *out = floats(SMALL);
    run_everywhere(run_moves, x, SMALL, NULL, out);
    free(x);
    free(out);
}

/* out = x + bias, x + sample add, 2x - y, x + 3y, sums over pixels, sums over rows */
static void run_additions(struct pool *pool, void *context, float *out)
{
    const float *x = context, *y = x + SMALL;
    const size_t pixels = HEIGHT * WIDTH, rows = BATCH * pixels;
    bias_add(pool, rows, DEPTH, x, y, out);
    sample_add_forward(pool, BATCH, pixels, DEPTH, x, y, out + SMALL);
    add_scaled(pool, SMALL, 2, x, -1, y, out + 2 * SMALL);
    scale_by(pool, SMALL, 1, x, out + 3 * SMALL);
    axpy(pool, SMALL, 3, y, out + 3 * SMALL);
    float *sums = out + 4 * SMALL, *workspace = floats(bias_backward_workspace(rows, DEPTH));
    sample_add_backward(pool, BATCH, pixels, DEPTH, x, false, sums);
    sample_add_backward(pool, BATCH, pixels, DEPTH, x, true, sums);
    bias_backward(pool, rows, DEPTH, x, false, sums + BATCH * DEPTH, workspace);
    bias_backward(pool, rows, DEPTH, x, true, sums + BATCH * DEPTH, workspace);
    free(workspace);
}

static void additions_and_their_sums_agree_with_double(void **state)
{
    (void)state;
    const size_t pixels = HEIGHT * WIDTH, all = 4 * SMALL + (BATCH + 1) * DEPTH;
    float *x = noise(2 * SMALL, 3), *y = x + SMALL, *out = floats(all);
    double *expected = calloc(all, sizeof *expected), *sums = expected + 4 * SMALL;
    for (size_t i = 0; i < SMALL; i++) {
        size_t channel = i % DEPTH, sample = i / DEPTH / pixels;
        expected[i] = (double)x[i] + (double)y[channel];
        expected[SMALL + i] = (double)x[i] + (double)y[sample * DEPTH + channel];
        expected[2 * SMALL + i] = 2 * (double)x[i] - (double)y[i];
        expected[3 * SMALL + i] = (double)x[i] + 3 * (double)y[i];
        sums[sample * DEPTH + channel] += 2 * (double)x[i];
        sums[BATCH * DEPTH + channel] += 2 * (double)x[i];
    }
    run_everywhere(run_additions, x, all, NULL, out);
    assert_near(all, out, expected, 1e-6, "additions");
    free(x);
    free(out);
    free(expected);
}

enum { SAMPLES = 3, VALUES = 20003 };

/* out = gradient, losses, loss, sum of squares */
static void run_loss(struct pool *pool, void *context, float *out)
{
    const float *x = context, weights[SAMPLES] = {1, 0.5f, 2};
    float *losses = out + SAMPLES * VALUES;
    losses[SAMPLES] = (float)mse(pool, SAMPLES, VALUES, x, x + SAMPLES * VALUES, weights, losses, out);
    losses[SAMPLES + 1] = (float)sum_of_squares(pool, SAMPLES * VALUES, x);
}

static void losses_and_sums_of_squares_agree_with_double(void **state)
{
    (void)state;
    const size_t count = SAMPLES * VALUES;
    const double weights[SAMPLES] = {1, 0.5, 2};
    float *x = noise(2 * count, 3), *out = floats(count + SAMPLES + 2);
    double *expected = calloc(count + SAMPLES + 2, sizeof *expected), *losses = expected + count;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)x[i] - (double)x[count + i], weight = weights[i / VALUES];
        expected[i] = 1000 * 2 * weight * difference / VALUES / SAMPLES;
        losses[i / VALUES] += difference * difference / VALUES;
        losses[SAMPLES] += weight * difference * difference / VALUES / SAMPLES;
    }
    losses[SAMPLES + 1] = dot(count, x, x);
    run_everywhere(run_loss, x, count + SAMPLES + 2, NULL, out);
    for (size_t i = 0; i < count; i++)
        out[i] *= 1000;
    assert_near(count + SAMPLES + 2, out, expected, 1e-6, "mse");
    free(x);
    free(out);
    free(expected);
}

/* out = weights, first moments, second moments after five steps */
static void run_adamw(struct pool *pool, void *context, float *out)
{
    struct adamw o = {
        .rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .decay = 0.1f, .gradient_scale = 0.5f};
    for (o.step = 1; o.step <= 5; o.step++)
        adamw_update(pool, &o, VALUES, out, context, out + VALUES, out + 2 * VALUES);
}

static void adamw_follows_the_paper(void **state)
{
    (void)state;
    float *gradient = noise(VALUES, 1), *start = floats(3 * VALUES), *out = floats(3 * VALUES);
    double *expected = calloc(3 * VALUES, sizeof *expected);
    for (size_t i = 0; i < VALUES; i++) {
        start[i] = gradient[(i * 7) % VALUES];
        double w = (double)start[i], m = 0, v = 0, g = 0.5 * (double)gradient[i];
        for (int step = 1; step <= 5; step++) {
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            w -= 0.01 * 0.1 * w;
            w -= 0.01 * (m / (1 - pow(0.9, step))) / (sqrt(v / (1 - pow(0.999, step))) + 1e-8);
        }
        expected[i] = w;
        expected[VALUES + i] = m;
        expected[2 * VALUES + i] = v;
    }
    run_everywhere(run_adamw, gradient, 3 * VALUES, start, out);
    assert_near(3 * VALUES, out, expected, 2e-6, "adamw");
    free(gradient);
    free(start);
    free(out);
    free(expected);
}

struct tally {
    unsigned char seen[1000];
};

static void mark(void *context, size_t chunk, float *scratch)
{
    struct tally *tally = context;
    scratch[POOL_SCRATCH_FLOATS - 1] = 1;
    tally->seen[chunk]++;
}

static void the_pool_runs_each_chunk_once(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads < 6; threads++) {
        struct pool *pool = NULL;
        assert_ok(pool_create(threads, &pool));
        assert_int_equal(pool_threads(pool), threads);
        for (size_t chunks = 0; chunks < 1000; chunks += 37) {
            struct tally tally = {{0}};
            pool_run(pool, chunks, mark, &tally);
            for (size_t i = 0; i < 1000; i++)
                assert_int_equal(tally.seen[i], i < chunks);
        }
        pool_destroy(pool);
    }
    pool_destroy(NULL);
}

static void unknown_sets_are_refused(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    assert_ok(pool_create(1, &pool));
    assert_false(kernels_choose(pool, "avx9000"));
    assert_true(kernels_choose(pool, "portable"));
    assert_string_equal(kernels_name(pool), "portable");
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_keep_their_error_bounds),
        cmocka_unit_test(functions_handle_the_ends),
        cmocka_unit_test(activations_agree_with_double_and_central_differences),
        cmocka_unit_test(geglu_agrees_with_double_and_central_differences),
        cmocka_unit_test(upsampling_and_joining_move_every_value),
        cmocka_unit_test(additions_and_their_sums_agree_with_double),
        cmocka_unit_test(losses_and_sums_of_squares_agree_with_double),
        cmocka_unit_test(adamw_follows_the_paper),
        cmocka_unit_test(the_pool_runs_each_chunk_once),
        cmocka_unit_test(unknown_sets_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
