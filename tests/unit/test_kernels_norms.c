#include "kernel_world.h"

/* Softmax, attention, norms, activations, sums: nonlinear ones against references in double, gradients against central
 * differences of those references. */

typedef double function(const void *context, const double *x);

/* Compares gradient[i] with (f(x + h) - f(x - h)) / 2h at up to 60 places. */
static void check_gradient(function *f, const void *context, size_t count, const float *x, const float *gradient,
                           double tolerance, const char *what)
{
    const double h = 1e-5;
    double *moved = calloc(count, sizeof *moved);
    for (size_t i = 0; i < count; i++)
        moved[i] = (double)x[i];
    for (size_t i = 0; i < count; i += 1 + count / 60) {
        double kept = moved[i];
        moved[i] = kept + h;
        double up = f(context, moved);
        moved[i] = kept - h;
        double down = f(context, moved);
        moved[i] = kept;
        assert_close((double)gradient[i], (up - down) / (2 * h), tolerance, what);
    }
    free(moved);
}

static double *doubles(size_t count, const float *x)
{
    double *y = calloc(count + 1, sizeof *y);
    for (size_t i = 0; i < count; i++)
        y[i] = (double)x[i];
    return y;
}

static double silu(double z)
{
    return z / (1 + exp(-z));
}

struct norm_case {
    struct group_norm norm;
    const float *x, *gamma, *beta, *dy, *stats;
};

/* <dy, y(x, gamma, beta)>: the scalar whose gradients backward must give. */
static double group_norm_value(const struct norm_case *c, const double *x, const double *gamma, const double *beta,
                               double *y)
{
    const struct group_norm *n = &c->norm;
    size_t width = n->channels / n->groups;
    double sum = 0;
    for (size_t s = 0; s < n->batch * n->groups; s++) {
        size_t sample = s / n->groups, group = s % n->groups;
        double mean = 0, variance = 0, count = (double)(n->pixels * width);
        for (int round = 0; round < 3; round++) {
            for (size_t i = 0; i < n->pixels * width; i++) {
                size_t channel = group * width + i % width;
                size_t at = (sample * n->pixels + i / width) * n->channels + channel;
                if (round == 0)
                    mean += x[at] / count;
                else if (round == 1)
                    variance += (x[at] - mean) * (x[at] - mean) / count;
                else {
                    double z = gamma[channel] * (x[at] - mean) / sqrt(variance + (double)n->epsilon) + beta[channel];
                    z = n->silu ? silu(z) : z;
                    sum += z * (double)c->dy[at];
                    if (y)
                        y[at] = z;
                }
            }
        }
    }
    return sum;
}

static double by_x(const void *context, const double *x)
{
    const struct norm_case *c = context;
    double *gamma = doubles(c->norm.channels, c->gamma), *beta = doubles(c->norm.channels, c->beta);
    double sum = group_norm_value(c, x, gamma, beta, NULL);
    free(gamma);
    free(beta);
    return sum;
}

static double by_gamma(const void *context, const double *gamma)
{
    const struct norm_case *c = context;
    double *x = doubles(c->norm.batch * c->norm.pixels * c->norm.channels, c->x);
    double *beta = doubles(c->norm.channels, c->beta);
    double sum = group_norm_value(c, x, gamma, beta, NULL);
    free(x);
    free(beta);
    return sum;
}

static double by_beta(const void *context, const double *beta)
{
    const struct norm_case *c = context;
    double *x = doubles(c->norm.batch * c->norm.pixels * c->norm.channels, c->x);
    double *gamma = doubles(c->norm.channels, c->gamma);
    double sum = group_norm_value(c, x, gamma, beta, NULL);
    free(x);
    free(gamma);
    return sum;
}

/* out = y, stats, dx, dgamma, dbeta */
static void run_group_norm(struct pool *pool, void *context, float *out)
{
    struct norm_case *c = context;
    const struct group_norm *n = &c->norm;
    size_t count = n->batch * n->pixels * n->channels;
    float *stats = out + count, *dx = stats + n->batch * n->groups * 2, *dgamma = dx + count;
    float *workspace = floats(group_norm_workspace(n));
    group_norm_forward(pool, n, c->x, c->gamma, c->beta, out, stats, workspace);
    group_norm_backward(pool, n, c->x, c->gamma, c->beta, stats, c->dy, false, dx, dgamma, dgamma + n->channels,
                        workspace);
    float *again = floats(count);
    memcpy(again, c->dy, count * sizeof(float));
    group_norm_backward(pool, n, c->x, c->gamma, c->beta, stats, again, false, again, NULL, NULL, workspace);
    assert_memory_equal(again, dx, count * sizeof(float));
    free(again);
    free(workspace);
}

static void check_group_norm(struct group_norm norm)
{
    size_t count = norm.batch * norm.pixels * norm.channels;
    size_t all = 2 * count + norm.batch * norm.groups * 2 + 2 * norm.channels;
    float *x = noise(count, 1), *gamma = noise(norm.channels, 2), *beta = noise(norm.channels, 3);
    float *dy = noise(count, 4), *out = floats(all);
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] * 2 + 1.5f;
    struct norm_case c = {.norm = norm, .x = x, .gamma = gamma, .beta = beta, .dy = dy};
    double *xd = doubles(count, x), *gd = doubles(norm.channels, gamma), *bd = doubles(norm.channels, beta);
    double *expected = calloc(count, sizeof *expected);
    group_norm_value(&c, xd, gd, bd, expected);
    run_everywhere(run_group_norm, &c, all, NULL, out);
    assert_near(count, out, expected, 3e-6, "group_norm_forward");
    float *dx = out + count + norm.batch * norm.groups * 2, *dgamma = dx + count;
    check_gradient(by_x, &c, count, x, dx, 2e-5, "group norm dx");
    check_gradient(by_gamma, &c, norm.channels, gamma, dgamma, 2e-5, "group norm dgamma");
    check_gradient(by_beta, &c, norm.channels, beta, dgamma + norm.channels, 2e-5, "group norm dbeta");
    void *blocks[] = {x, gamma, beta, dy, out, xd, gd, bd, expected};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

static void group_norm_agrees_with_double_and_central_differences(void **state)
{
    (void)state;
    check_group_norm((struct group_norm){.batch = 2, .pixels = 16, .channels = 24, .groups = 8, .epsilon = 1e-5f});
    check_group_norm(
        (struct group_norm){.batch = 2, .pixels = 150, .channels = 15, .groups = 5, .epsilon = 1e-6f, .silu = true});
    check_group_norm(
        (struct group_norm){.batch = 1, .pixels = 64, .channels = 64, .groups = 1, .epsilon = 1e-6f, .silu = true});
}

struct layer_case {
    size_t rows, channels;
    const float *x, *gamma, *beta, *dy;
};

/* out = y, stats, dx, dgamma, dbeta */
static void run_layer_norm(struct pool *pool, void *context, float *out)
{
    struct layer_case *c = context;
    size_t count = c->rows * c->channels;
    float *stats = out + count, *dx = stats + 2 * c->rows, *dgamma = dx + count;
    float *workspace = floats(layer_norm_workspace(c->rows, c->channels));
    layer_norm_forward(pool, c->rows, c->channels, 1e-5f, c->x, c->gamma, c->beta, out, stats);
    layer_norm_backward(pool, c->rows, c->channels, c->x, c->gamma, stats, c->dy, true, dx, dgamma,
                        dgamma + c->channels, workspace);
    free(workspace);
}

/* Group norm of one pixel and one group a sample is layer norm. */
static void layer_norm_agrees_with_group_norm_of_one_pixel(void **state)
{
    (void)state;
    struct layer_case c = {.rows = 70, .channels = 37};
    size_t count = c.rows * c.channels, all = 2 * count + 2 * c.rows + 2 * c.channels;
    float *x = noise(count, 1), *gamma = noise(c.channels, 2), *beta = noise(c.channels, 3), *dy = noise(count, 4);
    float *layer = floats(all), *group = floats(all);
    c.x = x;
    c.gamma = gamma;
    c.beta = beta;
    c.dy = dy;
    struct norm_case g = {.norm = {.batch = c.rows, .pixels = 1, .channels = c.channels, .groups = 1, .epsilon = 1e-5f},
                          .x = x,
                          .gamma = gamma,
                          .beta = beta,
                          .dy = dy};
    run_everywhere(run_layer_norm, &c, all, NULL, layer);
    run_everywhere(run_group_norm, &g, all, NULL, group);
    double *expected = doubles(all, group);
    assert_near(all, layer, expected, 5e-6, "layer norm");
    void *blocks[] = {x, gamma, beta, dy, layer, group, expected};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

struct attention_case {
    struct attention shape;
    size_t q_count, k_count;
    const float *q, *k, *v, *dout;
};

/* <dout, attention(q, k, v)>, and the output itself */
static double attention_value(const struct attention_case *c, const double *q, const double *k, const double *v,
                              double *out)
{
    const struct attention *s = &c->shape;
    size_t stride = s->heads * s->depth;
    double total = 0, *p = calloc(s->keys, sizeof *p);
    for (size_t row = 0; row < s->batch * s->heads * s->queries; row++) {
        size_t i = row % s->queries, head = row / s->queries % s->heads, sample = row / s->queries / s->heads;
        size_t visible = s->causal && i + 1 < s->keys ? i + 1 : s->keys;
        size_t at = (sample * s->queries + i) * stride + head * s->depth,
               sum_at = sample * s->keys * stride + head * s->depth;
        double sum = 0;
        for (size_t j = 0; j < visible; j++) {
            double score = 0;
            for (size_t d = 0; d < s->depth; d++)
                score += q[at + d] * k[sum_at + j * stride + d];
            p[j] = exp(score / sqrt((double)s->depth));
            sum += p[j];
        }
        for (size_t d = 0; d < s->depth; d++) {
            double y = 0;
            for (size_t j = 0; j < visible; j++)
                y += p[j] / sum * v[sum_at + j * stride + d];
            total += y * (double)c->dout[at + d];
            if (out)
                out[at + d] = y;
        }
    }
    free(p);
    return total;
}

static double attention_by(const struct attention_case *c, const double *q, const double *k, const double *v)
{
    double *mine[3] = {doubles(c->q_count, c->q), doubles(c->k_count, c->k), doubles(c->k_count, c->v)};
    double sum = attention_value(c, q ? q : mine[0], k ? k : mine[1], v ? v : mine[2], NULL);
    for (int i = 0; i < 3; i++)
        free(mine[i]);
    return sum;
}

static double by_q(const void *context, const double *q)
{
    return attention_by(context, q, NULL, NULL);
}

static double by_k(const void *context, const double *k)
{
    return attention_by(context, NULL, k, NULL);
}

static double by_v(const void *context, const double *v)
{
    return attention_by(context, NULL, NULL, v);
}

/* out = y, dq, dk, dv */
static void run_attention(struct pool *pool, void *context, float *out)
{
    struct attention_case *c = context;
    const struct attention *s = &c->shape;
    float *stats = floats(s->batch * s->heads * s->queries * 2), *workspace = floats(attention_workspace(s));
    float *dq = out + c->q_count, *dk = dq + c->q_count, *dv = dk + c->k_count;
    attention_forward(pool, s, c->q, c->k, c->v, out, stats);
    attention_backward(pool, s, c->q, c->k, c->v, out, stats, c->dout, dq, dk, dv, workspace);
    float *only = floats(c->q_count);
    attention_backward(pool, s, c->q, c->k, c->v, out, stats, c->dout, only, NULL, NULL, workspace);
    assert_memory_equal(only, dq, c->q_count * sizeof(float));
    free(only);
    free(stats);
    free(workspace);
}

static void check_attention(struct attention shape)
{
    struct attention_case c = {.shape = shape};
    c.q_count = shape.batch * shape.queries * shape.heads * shape.depth;
    c.k_count = shape.batch * shape.keys * shape.heads * shape.depth;
    size_t all = 2 * c.q_count + 2 * c.k_count;
    float *q = noise(c.q_count, 1), *k = noise(c.k_count, 2), *v = noise(c.k_count, 3), *dout = noise(c.q_count, 4);
    for (size_t i = 0; i < c.q_count; i++)
        q[i] *= 3;
    c.q = q;
    c.k = k;
    c.v = v;
    c.dout = dout;
    float *out = floats(all);
    double *expected = calloc(c.q_count, sizeof *expected), *qd = doubles(c.q_count, q), *kd = doubles(c.k_count, k);
    double *vd = doubles(c.k_count, v);
    attention_value(&c, qd, kd, vd, expected);
    run_everywhere(run_attention, &c, all, NULL, out);
    assert_near(c.q_count, out, expected, 3e-6, "attention_forward");
    check_gradient(by_q, &c, c.q_count, q, out + c.q_count, 1e-5, "attention dq");
    check_gradient(by_k, &c, c.k_count, k, out + 2 * c.q_count, 1e-5, "attention dk");
    check_gradient(by_v, &c, c.k_count, v, out + 2 * c.q_count + c.k_count, 1e-5, "attention dv");
    void *blocks[] = {q, k, v, dout, out, expected, qd, kd, vd};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

static void attention_agrees_with_double_and_central_differences(void **state)
{
    (void)state;
    check_attention((struct attention){.batch = 2, .heads = 3, .queries = 13, .keys = 9, .depth = 5});
    check_attention((struct attention){.batch = 1, .heads = 2, .queries = 110, .keys = 110, .depth = 8});
    check_attention((struct attention){.batch = 2, .heads = 2, .queries = 12, .keys = 12, .depth = 16, .causal = true});
}

static void many_keys_still_fit_the_scratch(void **state)
{
    (void)state;
    struct attention shape = {.batch = 1, .heads = 1, .queries = 30, .keys = ATTENTION_KEYS_MAX, .depth = 4};
    struct attention_case c = {.shape = shape, .q_count = 30 * 4, .k_count = ATTENTION_KEYS_MAX * 4};
    float *q = noise(c.q_count, 1), *k = noise(c.k_count, 2), *v = noise(c.k_count, 3), *dout = noise(c.q_count, 4);
    float *out = floats(2 * c.q_count + 2 * c.k_count);
    double *expected = calloc(c.q_count, sizeof *expected), *qd = doubles(c.q_count, q), *kd = doubles(c.k_count, k);
    double *vd = doubles(c.k_count, v);
    c.q = q;
    c.k = k;
    c.v = v;
    c.dout = dout;
    attention_value(&c, qd, kd, vd, expected);
    struct pool *pool = NULL;
    assert_ok(pool_create(2, &pool));
    run_attention(pool, &c, out);
    pool_destroy(pool);
    assert_near(c.q_count, out, expected, 3e-6, "attention_forward");
    void *blocks[] = {q, k, v, dout, out, expected, qd, kd, vd};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

struct softmax_case {
    size_t rows, columns;
    bool causal;
    const float *x, *dy;
};

static double softmax_value(const void *context, const double *x)
{
    const struct softmax_case *c = context;
    double total = 0;
    for (size_t row = 0; row < c->rows; row++) {
        size_t visible = c->causal ? row % c->columns + 1 : c->columns;
        double sum = 0;
        for (size_t j = 0; j < visible; j++)
            sum += exp(0.7 * x[row * c->columns + j]);
        for (size_t j = 0; j < visible; j++)
            total += exp(0.7 * x[row * c->columns + j]) / sum * (double)c->dy[row * c->columns + j];
    }
    return total;
}

static void run_softmax(struct pool *pool, void *context, float *out)
{
    struct softmax_case *c = context;
    softmax_forward(pool, c->rows, c->columns, 0.7f, c->causal, c->x, out);
    softmax_backward(pool, c->rows, c->columns, 0.7f, out, c->dy, out + c->rows * c->columns);
}

static void softmax_sums_to_one_and_matches_central_differences(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        struct softmax_case c = {.rows = 66, .columns = 33, .causal = causal};
        size_t count = c.rows * c.columns;
        float *x = noise(count, 5), *dy = noise(count, 6), *out = floats(2 * count);
        c.x = x;
        c.dy = dy;
        run_everywhere(run_softmax, &c, 2 * count, NULL, out);
        double sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += (double)out[i];
        assert_close(sum, (double)c.rows, 1e-6, "sum of probabilities");
        double *xd = doubles(count, x);
        assert_close(dot(count, out, dy), softmax_value(&c, xd), 1e-5, "softmax");
        check_gradient(softmax_value, &c, count, x, out + count, 1e-5, "softmax dx");
        free(x);
        free(dy);
        free(out);
        free(xd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_norm_agrees_with_double_and_central_differences),
        cmocka_unit_test(layer_norm_agrees_with_group_norm_of_one_pixel),
        cmocka_unit_test(attention_agrees_with_double_and_central_differences),
        cmocka_unit_test(many_keys_still_fit_the_scratch),
        cmocka_unit_test(softmax_sums_to_one_and_matches_central_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
