/* The operations of a graph that have no weights: what backward says of each input must be the slope of the loss along
 * it, by central differences, whether activations are kept or recomputed and whether a value is used once or twice. */
#include "kernel_world.h"

#include "engine/ops.h"

enum { batch = 2, height = 5, width = 4, channels = 8, inputs_max = 3 };

/* ---- inputs that want a gradient ---- */

struct input {
    float *values, *gradient;
    size_t count;
};

static struct input inputs[inputs_max];
static size_t input_count;

static void input_forward(struct graph *g, struct node *n)
{
    (void)g;
    memcpy(n->output->data, inputs[(size_t)n->epsilon].values, value_floats(n->output) * sizeof(float));
}

static void input_backward(struct graph *g, struct node *n)
{
    (void)g;
    memcpy(inputs[(size_t)n->epsilon].gradient, n->output->gradient, value_floats(n->output) * sizeof(float));
}

static const struct op input_op = {"input", input_forward, input_backward};

static struct value *input(struct graph *g, size_t rows, size_t columns, size_t depth)
{
    struct value *value = graph_value(g, batch, rows, columns, depth);
    struct node *n = graph_node(g, &input_op, value, 0, NULL);
    size_t count = value_floats(value);
    n->trains = true;
    n->epsilon = (float)input_count;
    inputs[input_count] = (struct input){noise(count, 10 + (unsigned)input_count), floats(count), count};
    input_count++;
    return value;
}

/* ---- the check ---- */

static struct pool *pool;

static double loss_of(struct graph *g, const struct value *output, const float *weights)
{
    graph_forward(g);
    return dot(value_floats(output), output->data, weights);
}

static void check_slope(struct graph *g, const struct value *output, const float *weights, struct input *at)
{
    const float step = 0.01f;
    float *direction = noise(at->count, 77), *kept = floats(at->count);
    double losses[2], expected = dot(at->count, at->gradient, direction);
    double scale = sqrt(dot(at->count, at->gradient, at->gradient)) + 1e-3;
    memcpy(kept, at->values, at->count * sizeof *kept);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < at->count; i++)
            at->values[i] = kept[i] + (side ? -step : step) * direction[i];
        losses[side] = loss_of(g, output, weights);
    }
    memcpy(at->values, kept, at->count * sizeof *kept);
    double slope = (losses[0] - losses[1]) / (2 * (double)step);
    if (!(fabs(slope - expected) < 0.005 * scale))
        fail_msg("input %zu: the slope is %.6g, the gradient says %.6g", (size_t)(at - inputs), slope, expected);
    free(direction);
    free(kept);
}

static void check_as(struct value *(*build)(struct graph *g), bool recompute)
{
    struct graph *g;
    input_count = 0;
    assert_ok(graph_create(pool, NULL, &g));
    struct value *output = build(g);
    g->recompute = recompute;
    assert_ok(graph_plan(g, &output, 1));
    float *weights = noise(value_floats(output), 5);
    for (int again = 0; again < 2; again++) { /* the second run must not lean on what the first left */
        loss_of(g, output, weights);
        memcpy(output->gradient, weights, value_floats(output) * sizeof *weights);
        graph_backward(g);
    }
    for (size_t i = 0; i < input_count; i++)
        check_slope(g, output, weights, &inputs[i]);
    for (size_t i = 0; i < input_count; i++) {
        free(inputs[i].values);
        free(inputs[i].gradient);
    }
    free(weights);
    graph_destroy(g);
}

static void check(struct value *(*build)(struct graph *g))
{
    check_as(build, false);
    check_as(build, true);
}

/* ---- the operations; graph_segment makes what comes before it recomputable ---- */

static struct value *build_add(struct graph *g)
{
    struct value *a = input(g, height, width, channels), *b = input(g, height, width, channels);
    graph_segment(g);
    return op_add(g, op_add(g, a, b), op_activation(g, a, ACTIVATION_SILU));
}

static struct value *build_add_vector(struct graph *g)
{
    struct value *x = input(g, height, width, channels), *vector = input(g, 1, 1, channels);
    graph_segment(g);
    struct value *y = op_activation(g, op_add_vector(g, x, vector), ACTIVATION_GELU);
    graph_segment(g);
    return op_add_vector(g, y, vector);
}

static struct value *build_concat(struct graph *g)
{
    struct value *a = input(g, height, width, 3), *b = input(g, height, width, channels);
    graph_segment(g);
    struct value *joined = op_concat(g, op_activation(g, a, ACTIVATION_SILU), b);
    graph_segment(g);
    return op_concat(g, op_activation(g, joined, ACTIVATION_QUICK_GELU), b);
}

static struct value *build_upsample(struct graph *g)
{
    struct value *x = input(g, height, width, channels);
    graph_segment(g);
    return op_activation(g, op_upsample(g, x, 2 * height, 2 * width), ACTIVATION_SILU);
}

static struct value *build_upsample_to_odd(struct graph *g)
{
    struct value *x = input(g, height, width, channels);
    struct value *y = op_upsample(g, x, 2 * height - 1, 2 * width - 1);
    graph_segment(g);
    return op_activation(g, y, ACTIVATION_SILU);
}

static struct value *build_take_channels(struct graph *g)
{
    struct value *x = input(g, height, width, 2 * channels);
    graph_segment(g);
    return op_take_channels(g, op_activation(g, x, ACTIVATION_SILU), channels);
}

static struct value *build_gather(struct graph *g)
{
    static const int32_t rows[batch] = {3, 0};
    struct value *x = input(g, height, 1, channels);
    graph_segment(g);
    struct value *y = op_activation(g, x, ACTIVATION_GELU);
    struct value *row = op_gather(g, y, rows);
    graph_segment(g);
    return op_add_vector(g, y, row);
}

static struct value *build_geglu(struct graph *g)
{
    struct value *x = input(g, height, width, 2 * channels);
    graph_segment(g);
    return op_geglu(g, op_activation(g, x, ACTIVATION_SILU));
}

static struct value *build_attention(struct graph *g)
{
    struct value *q = input(g, height, width, channels), *k = input(g, 7, 1, channels), *v = input(g, 7, 1, channels);
    graph_segment(g);
    return op_activation(g, op_attention(g, q, k, v, 2, false), ACTIVATION_SILU);
}

static struct value *build_causal_attention(struct graph *g)
{
    struct value *q = input(g, 6, 1, channels), *k = input(g, 6, 1, channels), *v = input(g, 6, 1, channels);
    graph_segment(g);
    return op_activation(g, op_attention(g, q, k, v, 4, true), ACTIVATION_SILU);
}

#define OP_TEST(name)                                                                                                  \
    static void name##_has_the_slope_of_the_loss(void **state)                                                         \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        check(build_##name);                                                                                           \
    }
OP_TEST(add)
OP_TEST(add_vector)
OP_TEST(concat)
OP_TEST(upsample)
OP_TEST(upsample_to_odd)
OP_TEST(take_channels)
OP_TEST(gather)
OP_TEST(geglu)
OP_TEST(attention)
OP_TEST(causal_attention)

static int setup(void **state)
{
    (void)state;
    assert_ok(pool_create(2, &pool));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pool_destroy(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_has_the_slope_of_the_loss),
        cmocka_unit_test(add_vector_has_the_slope_of_the_loss),
        cmocka_unit_test(concat_has_the_slope_of_the_loss),
        cmocka_unit_test(upsample_has_the_slope_of_the_loss),
        cmocka_unit_test(upsample_to_odd_has_the_slope_of_the_loss),
        cmocka_unit_test(take_channels_has_the_slope_of_the_loss),
        cmocka_unit_test(gather_has_the_slope_of_the_loss),
        cmocka_unit_test(geglu_has_the_slope_of_the_loss),
        cmocka_unit_test(attention_has_the_slope_of_the_loss),
        cmocka_unit_test(causal_attention_has_the_slope_of_the_loss),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
