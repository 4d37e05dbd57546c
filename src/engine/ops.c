/* Forward and, right under it, the backward pass that mirrors it: dx, with x's gradient written or added to. */
#include "engine/ops.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

const char *at(struct graph *graph, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *name = arena_vprintf(&graph->arena, format, args);
    va_end(args);
    return name;
}

/* Remembers the first error. True when building has failed. */
static bool failed(struct graph *graph, struct error error)
{
    if (error.code && !graph->error.code)
        graph->error = error_keep(&graph->arena, error);
    return graph->error.code != ERR_NONE;
}

static struct value *same_shape(struct graph *graph, const struct value *x, size_t channels)
{
    return graph_value(graph, x->batch, x->height, x->width, channels);
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t aligned(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* Where backward writes the gradient of an input, or NULL. */
static float *gradient_of(const struct node *node, size_t index)
{
    return node->inputs[index]->wants_gradient ? node->inputs[index]->gradient : NULL;
}

/* ---- convolution and linear: y = W x + bias + (alpha / rank) B A x ---- */

static float *values_of(const struct graph *graph, const struct parameter *parameter)
{
    return graph->parameters->values + parameter->offset;
}

static float *gradients_of(const struct graph *graph, const struct parameter *parameter)
{
    return graph->parameters->gradients + parameter->offset;
}

static float lora_scale(const struct graph *graph)
{
    return graph->parameters->alpha / (float)graph->parameters->rank;
}

/* saved = h[rows, rank] = A x; y[rows, out] += scale h B^T */
static void lora_forward(struct graph *g, struct node *n)
{
    const float *x = n->inputs[0]->data, *a = values_of(g, n->lora_a), *b = values_of(g, n->lora_b);
    size_t rows = value_rows(n->output), rank = n->lora_conv.out, in = n->conv.in, out = n->conv.out;
    if (n->lora_conv.kernel == 1) {
        gemm(g->pool, &(struct gemm){.m = rows,
                                     .n = rank,
                                     .k = in,
                                     .a = x,
                                     .lda = in,
                                     .b = a,
                                     .ldb = in,
                                     .transpose_b = true,
                                     .c = n->saved,
                                     .ldc = rank,
                                     .alpha = 1});
    } else {
        float *packed = g->workspace, *rest = packed + aligned(conv_packed_floats(&n->lora_conv));
        conv_pack(&n->lora_conv, a, packed);
        conv_forward(g->pool, &n->lora_conv, x, packed, NULL, false, n->saved, rest);
    }
    gemm(g->pool, &(struct gemm){.m = rows,
                                 .n = out,
                                 .k = rank,
                                 .a = n->saved,
                                 .lda = rank,
                                 .b = b,
                                 .ldb = rank,
                                 .transpose_b = true,
                                 .c = n->output->data,
                                 .ldc = out,
                                 .alpha = lora_scale(g),
                                 .beta = 1});
}

/* dB += scale dy^T h; dh = scale dy B; dA += dh x; dx += dh A */
static void lora_backward(struct graph *g, struct node *n)
{
    const float *x = n->inputs[0]->data, *dy = n->output->gradient;
    const float *a = values_of(g, n->lora_a), *b = values_of(g, n->lora_b);
    size_t rows = value_rows(n->output), rank = n->lora_conv.out, in = n->conv.in, out = n->conv.out;
    float *dh = g->workspace, *rest = dh + aligned(rows * rank), *dx = gradient_of(n, 0);
    gemm(g->pool, &(struct gemm){.m = out,
                                 .n = rank,
                                 .k = rows,
                                 .a = dy,
                                 .lda = out,
                                 .transpose_a = true,
                                 .b = n->saved,
                                 .ldb = rank,
                                 .c = gradients_of(g, n->lora_b),
                                 .ldc = rank,
                                 .alpha = lora_scale(g),
                                 .beta = 1});
    gemm(g->pool, &(struct gemm){.m = rows,
                                 .n = rank,
                                 .k = out,
                                 .a = dy,
                                 .lda = out,
                                 .b = b,
                                 .ldb = rank,
                                 .c = dh,
                                 .ldc = rank,
                                 .alpha = lora_scale(g)});
    conv_backward_weights(g->pool, &n->lora_conv, x, dh, true, gradients_of(g, n->lora_a), rest);
    if (dx && n->lora_conv.kernel == 1) {
        gemm(g->pool, &(struct gemm){.m = rows,
                                     .n = in,
                                     .k = rank,
                                     .a = dh,
                                     .lda = rank,
                                     .b = a,
                                     .ldb = in,
                                     .c = dx,
                                     .ldc = in,
                                     .alpha = 1,
                                     .beta = 1});
    } else if (dx) {
        float *packed = rest;
        rest += aligned(conv_packed_backward_floats(&n->lora_conv));
        conv_pack_backward(&n->lora_conv, a, packed);
        conv_backward_data(g->pool, &n->lora_conv, dh, packed, true, dx, rest);
    }
}

static void conv_op_forward(struct graph *g, struct node *n)
{
    const float *weights = layer_weights(g->pool, n->layer, g->workspace);
    conv_forward(g->pool, &n->conv, n->inputs[0]->data, weights, n->layer->bias, false, n->output->data,
                 g->workspace + aligned(layer_workspace(n->layer)));
    if (n->lora_a)
        lora_forward(g, n);
}

static void conv_op_backward(struct graph *g, struct node *n)
{
    const float *x = n->inputs[0]->data, *dy = n->output->gradient;
    float *dx = gradient_of(n, 0);
    if (n->weight)
        conv_backward_weights(g->pool, &n->conv, x, dy, true, gradients_of(g, n->weight), g->workspace);
    if (n->bias)
        bias_backward(g->pool, value_rows(n->output), n->conv.out, dy, true, gradients_of(g, n->bias), g->workspace);
    if (dx)
        conv_backward_data(g->pool, &n->conv, dy, layer_weights_backward(g->pool, n->layer, g->workspace),
                           n->accumulate[0], dx, g->workspace + aligned(layer_workspace(n->layer)));
    if (n->lora_a)
        lora_backward(g, n);
}

static const struct op conv_op = {"conv", conv_op_forward, conv_op_backward};

/* Looks the layer's trained tensors up; names are compared by address, since the table borrows the layers'. */
static void find_trained(struct graph *g, struct node *n)
{
    for (size_t i = 0; g->parameters && i < g->parameters->table_count; i++) {
        const struct parameter *parameter = &g->parameters->table[i];
        if (parameter->module != n->layer->name)
            continue;
        const struct parameter **slots[] = {[PARAMETER_LORA_A] = &n->lora_a,
                                            [PARAMETER_LORA_B] = &n->lora_b,
                                            [PARAMETER_WEIGHT] = &n->weight,
                                            [PARAMETER_BIAS] = &n->bias};
        *slots[parameter->role] = parameter;
        n->trains = true;
        n->keeps |= parameter->role == PARAMETER_BIAS ? 0 : 1;
    }
}

static void size_conv_workspace(struct graph *g, struct node *n)
{
    size_t rows = value_rows(n->output), before = 0;
    size_t convolution = aligned(layer_workspace(n->layer)) + conv_workspace(&n->conv);
    if (n->lora_a) {
        n->lora_conv = n->conv;
        n->lora_conv.winograd = false; /* few outputs, and weights that change */
        n->lora_conv.out = g->parameters->rank;
        n->saved_floats = rows * n->lora_conv.out;
        before = aligned(n->saved_floats) +
                 aligned(max_size(conv_packed_floats(&n->lora_conv), conv_packed_backward_floats(&n->lora_conv)));
        convolution = max_size(convolution, conv_workspace(&n->lora_conv));
    }
    n->workspace_floats = max_size(before + convolution, n->bias ? bias_backward_workspace(rows, n->conv.out) : 0);
}

static struct value *add_conv(struct graph *g, struct value *x, const struct conv *kind, bool needs_bias,
                              const char *name)
{
    struct layer *layer = NULL;
    bool bad = failed(g, OK) || failed(g, network_layer(g->network, name, kind, needs_bias, &layer));
    struct conv conv = *kind;
    conv.batch = conv.kernel == 1 ? value_rows(x) : x->batch;
    conv.height = conv.kernel == 1 ? 1 : x->height;
    conv.width = conv.kernel == 1 ? 1 : x->width;
    struct value *y = conv.kernel == 1
                          ? same_shape(g, x, conv.out)
                          : graph_value(g, x->batch, conv_out_height(&conv), conv_out_width(&conv), conv.out);
    if (bad)
        return y;
    struct node *n = graph_node(g, &conv_op, y, 1, &x);
    n->layer = layer;
    n->conv = conv;
    n->conv.winograd = layer->conv.winograd;
    find_trained(g, n);
    size_conv_workspace(g, n);
    return y;
}

struct value *op_conv3x3(struct graph *g, struct value *x, size_t out, const char *name)
{
    return add_conv(g, x, &(struct conv){.in = x->channels, .out = out, .kernel = 3, .stride = 1}, true, name);
}

struct value *op_downsample(struct graph *g, struct value *x, bool pad_after_only, const char *name)
{
    const struct conv conv = {
        .in = x->channels, .out = x->channels, .kernel = 3, .stride = 2, .pad_after_only = pad_after_only};
    return add_conv(g, x, &conv, true, name);
}

struct value *op_linear(struct graph *g, struct value *x, size_t out, const char *name)
{
    return add_conv(g, x, &(struct conv){.in = x->channels, .out = out, .kernel = 1, .stride = 1}, true, name);
}

struct value *op_projection(struct graph *g, struct value *x, size_t out, const char *name)
{
    return add_conv(g, x, &(struct conv){.in = x->channels, .out = out, .kernel = 1, .stride = 1}, false, name);
}

/* ---- norms ---- */

/* Full training has the norm's gamma as its weight and beta as its bias. */
static void find_trained_norm(struct graph *g, struct node *n)
{
    for (size_t i = 0; g->parameters && i < g->parameters->table_count; i++) {
        const struct parameter *parameter = &g->parameters->table[i];
        if (parameter->module != n->norm->name)
            continue;
        *(parameter->role == PARAMETER_WEIGHT ? &n->weight : &n->bias) = parameter;
        n->trains = true;
    }
}

static const struct parameter *find_trained_table(const struct graph *g, const struct table *table)
{
    for (size_t i = 0; g->parameters && i < g->parameters->table_count; i++) {
        if (g->parameters->table[i].module == table->name)
            return &g->parameters->table[i];
    }
    return NULL;
}

static float *trained_gradient(struct graph *g, const struct parameter *parameter)
{
    return parameter ? gradients_of(g, parameter) : NULL;
}

/* saved = [batch, groups, 2] */
static void group_norm_op_forward(struct graph *g, struct node *n)
{
    group_norm_forward(g->pool, &n->group_norm, n->inputs[0]->data, n->norm->gamma, n->norm->beta, n->output->data,
                       n->saved, g->workspace);
}

static void group_norm_op_backward(struct graph *g, struct node *n)
{
    group_norm_backward(g->pool, &n->group_norm, n->inputs[0]->data, n->norm->gamma, n->norm->beta, n->saved,
                        n->output->gradient, n->accumulate[0], gradient_of(n, 0), trained_gradient(g, n->weight),
                        trained_gradient(g, n->bias), g->workspace);
}

static const struct op group_norm_op = {"group_norm", group_norm_op_forward, group_norm_op_backward};

struct value *op_group_norm(struct graph *g, struct value *x, size_t groups, float epsilon, bool silu, const char *name)
{
    struct value *y = same_shape(g, x, x->channels);
    struct norm *norm = NULL;
    if (x->channels % groups)
        failed(g, error_make(ERR_INVALID, "%s: %zu channels do not divide into %zu groups", name, x->channels, groups));
    if (failed(g, OK) || failed(g, network_norm(g->network, name, x->channels, &norm)))
        return y;
    struct node *n = graph_node(g, &group_norm_op, y, 1, &x);
    n->norm = norm;
    n->group_norm = (struct group_norm){.batch = x->batch,
                                        .pixels = x->height * x->width,
                                        .channels = x->channels,
                                        .groups = groups,
                                        .epsilon = epsilon,
                                        .silu = silu};
    n->keeps = n->in_place = 1;
    n->saved_floats = x->batch * groups * 2;
    n->workspace_floats = group_norm_workspace(&n->group_norm);
    find_trained_norm(g, n);
    return y;
}

/* saved = [rows, 2] */
static void layer_norm_op_forward(struct graph *g, struct node *n)
{
    layer_norm_forward(g->pool, value_rows(n->output), n->output->channels, n->epsilon, n->inputs[0]->data,
                       n->norm->gamma, n->norm->beta, n->output->data, n->saved);
}

static void layer_norm_op_backward(struct graph *g, struct node *n)
{
    layer_norm_backward(g->pool, value_rows(n->output), n->output->channels, n->inputs[0]->data, n->norm->gamma,
                        n->saved, n->output->gradient, n->accumulate[0], gradient_of(n, 0),
                        trained_gradient(g, n->weight), trained_gradient(g, n->bias), g->workspace);
}

static const struct op layer_norm_op = {"layer_norm", layer_norm_op_forward, layer_norm_op_backward};

struct value *op_layer_norm(struct graph *g, struct value *x, float epsilon, const char *name)
{
    struct value *y = same_shape(g, x, x->channels);
    struct norm *norm = NULL;
    if (failed(g, OK) || failed(g, network_norm(g->network, name, x->channels, &norm)))
        return y;
    struct node *n = graph_node(g, &layer_norm_op, y, 1, &x);
    n->norm = norm;
    n->epsilon = epsilon;
    n->keeps = n->in_place = 1;
    n->saved_floats = value_rows(x) * 2;
    n->workspace_floats = layer_norm_workspace(value_rows(x), x->channels);
    find_trained_norm(g, n);
    return y;
}

/* ---- activations ---- */

static void activation_op_forward(struct graph *g, struct node *n)
{
    activation_forward(g->pool, n->activation, value_floats(n->output), n->inputs[0]->data, n->output->data);
}

static void activation_op_backward(struct graph *g, struct node *n)
{
    activation_backward(g->pool, n->activation, value_floats(n->output), n->inputs[0]->data, n->output->gradient,
                        n->accumulate[0], gradient_of(n, 0));
}

static const struct op activation_op = {"activation", activation_op_forward, activation_op_backward};

struct value *op_activation(struct graph *g, struct value *x, enum activation activation)
{
    struct value *y = same_shape(g, x, x->channels);
    struct node *n = graph_node(g, &activation_op, y, 1, &x);
    n->activation = activation;
    n->keeps = n->in_place = 1;
    return y;
}

static void geglu_op_forward(struct graph *g, struct node *n)
{
    geglu_forward(g->pool, value_rows(n->output), n->output->channels, n->inputs[0]->data, n->output->data);
}

/* x feeds nothing but its geglu, so that its gradient is never added to. */
static void geglu_op_backward(struct graph *g, struct node *n)
{
    geglu_backward(g->pool, value_rows(n->output), n->output->channels, n->inputs[0]->data, n->output->gradient,
                   gradient_of(n, 0));
}

static const struct op geglu_op = {"geglu", geglu_op_forward, geglu_op_backward};

struct value *op_geglu(struct graph *g, struct value *x)
{
    struct value *y = same_shape(g, x, x->channels / 2);
    struct node *n = graph_node(g, &geglu_op, y, 1, &x);
    n->keeps = 1;
    return y;
}

/* ---- attention ---- */

/* saved = [batch, heads, queries, 2] */
static void attention_op_forward(struct graph *g, struct node *n)
{
    attention_forward(g->pool, &n->attention, n->inputs[0]->data, n->inputs[1]->data, n->inputs[2]->data,
                      n->output->data, n->saved);
}

/* q, k and v feed nothing else: overwriting their gradients is right. */
static void attention_op_backward(struct graph *g, struct node *n)
{
    attention_backward(g->pool, &n->attention, n->inputs[0]->data, n->inputs[1]->data, n->inputs[2]->data,
                       n->output->data, n->saved, n->output->gradient, gradient_of(n, 0), gradient_of(n, 1),
                       gradient_of(n, 2), g->workspace);
}

static const struct op attention_op = {"attention", attention_op_forward, attention_op_backward};

struct value *op_attention(struct graph *g, struct value *q, struct value *k, struct value *v, size_t heads,
                           bool causal)
{
    struct value *y = same_shape(g, q, q->channels);
    if (!heads || q->channels % heads || q->channels / heads > ATTENTION_DEPTH_MAX)
        failed(g, error_make(ERR_INVALID, "%zu channels do not make %zu attention heads of at most %d", q->channels,
                             heads, ATTENTION_DEPTH_MAX));
    if (k->height * k->width > ATTENTION_KEYS_MAX)
        failed(g, error_make(ERR_TOO_LARGE, "attention over %zu pixels; at most %d are supported", k->height * k->width,
                             ATTENTION_KEYS_MAX));
    if (failed(g, OK))
        return y;
    assert(heads);
    struct node *n = graph_node(g, &attention_op, y, 3, (struct value *[]){q, k, v});
    n->attention = (struct attention){.batch = q->batch,
                                      .heads = heads,
                                      .queries = q->height * q->width,
                                      .keys = k->height * k->width,
                                      .depth = q->channels / heads,
                                      .causal = causal};
    n->keeps = 1 | 2 | 4 | NODE_OUTPUT;
    n->saved_floats = n->attention.batch * heads * n->attention.queries * 2;
    n->workspace_floats = attention_workspace(&n->attention);
    return y;
}

/* ---- moving and adding ---- */

/* dx (+)= dy, unless they are the same memory. */
static void pass_gradient(struct graph *g, struct node *n, size_t index)
{
    float *dx = gradient_of(n, index), *dy = n->output->gradient;
    if (!dx)
        return;
    if (n->accumulate[index])
        axpy(g->pool, value_floats(n->output), 1, dy, dx);
    else if (dx != dy)
        scale_by(g->pool, value_floats(n->output), 1, dy, dx);
}

static void add_forward(struct graph *g, struct node *n)
{
    add_scaled(g->pool, value_floats(n->output), 1, n->inputs[0]->data, 1, n->inputs[1]->data, n->output->data);
}

static void add_backward(struct graph *g, struct node *n)
{
    pass_gradient(g, n, 0);
    pass_gradient(g, n, 1);
}

static const struct op add_op = {"add", add_forward, add_backward};

struct value *op_add(struct graph *g, struct value *a, struct value *b)
{
    struct value *y = same_shape(g, a, a->channels);
    struct node *n = graph_node(g, &add_op, y, 2, (struct value *[]){a, b});
    n->in_place = n->passes = 1 | 2;
    return y;
}

static void add_vector_forward(struct graph *g, struct node *n)
{
    const struct value *y = n->output;
    sample_add_forward(g->pool, y->batch, y->height * y->width, y->channels, n->inputs[0]->data, n->inputs[1]->data,
                       y->data);
}

static void add_vector_backward(struct graph *g, struct node *n)
{
    const struct value *y = n->output;
    if (n->inputs[1]->wants_gradient)
        sample_add_backward(g->pool, y->batch, y->height * y->width, y->channels, y->gradient, n->accumulate[1],
                            n->inputs[1]->gradient);
    pass_gradient(g, n, 0);
}

static const struct op add_vector_op = {"add_vector", add_vector_forward, add_vector_backward};

struct value *op_add_vector(struct graph *g, struct value *x, struct value *vector)
{
    struct value *y = same_shape(g, x, x->channels);
    struct node *n = graph_node(g, &add_vector_op, y, 2, (struct value *[]){x, vector});
    n->in_place = n->passes = 1;
    return y;
}

static void concat_op_forward(struct graph *g, struct node *n)
{
    concat_forward(g->pool, value_rows(n->output), n->inputs[0]->channels, n->inputs[1]->channels, n->inputs[0]->data,
                   n->inputs[1]->data, n->output->data);
}

static void concat_op_backward(struct graph *g, struct node *n)
{
    size_t rows = value_rows(n->output), a = n->inputs[0]->channels, b = n->inputs[1]->channels;
    const float *dy = n->output->gradient;
    if (n->accumulate[0] == n->accumulate[1]) {
        concat_backward(g->pool, rows, a, b, dy, n->accumulate[0], gradient_of(n, 0), gradient_of(n, 1));
        return;
    }
    concat_backward(g->pool, rows, a, b, dy, n->accumulate[0], gradient_of(n, 0), NULL);
    concat_backward(g->pool, rows, a, b, dy, n->accumulate[1], NULL, gradient_of(n, 1));
}

static const struct op concat_op = {"concat", concat_op_forward, concat_op_backward};

struct value *op_concat(struct graph *g, struct value *a, struct value *b)
{
    struct value *y = same_shape(g, a, a->channels + b->channels);
    graph_node(g, &concat_op, y, 2, (struct value *[]){a, b});
    return y;
}

static void upsample_forward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0];
    upsample2_forward(g->pool, x->batch, x->height, x->width, x->channels, x->data, n->output->data);
}

static void upsample_backward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0];
    upsample2_backward(g->pool, x->batch, x->height, x->width, x->channels, n->output->gradient, n->accumulate[0],
                       x->gradient);
}

static const struct op upsample_op = {"upsample", upsample_forward, upsample_backward};

/* Moves the rows of y [batch, height, width, channels] between it and the top left of x; one task a row. */
struct window {
    const struct value *outer, *inner;
    float *outer_data, *inner_data;
    bool inward, accumulate;
};

static void move_row(void *context, size_t row, float *scratch)
{
    (void)scratch;
    const struct window *window = context;
    size_t sample = row / window->inner->height, line = row % window->inner->height;
    size_t wide = window->outer->width * window->outer->channels;
    size_t inner_wide = window->inner->width * window->inner->channels;
    float *outer = window->outer_data + (sample * window->outer->height + line) * wide;
    float *inner = window->inner_data + row * inner_wide;
    if (window->inward)
        memcpy(inner, outer, inner_wide * sizeof *inner);
    for (size_t i = 0; !window->inward && i < inner_wide; i++)
        outer[i] = window->accumulate ? outer[i] + inner[i] : inner[i];
}

static void crop_forward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0], *y = n->output;
    struct window window = {x, y, x->data, y->data, .inward = true};
    pool_run(g->pool, y->batch * y->height, move_row, &window);
}

static void crop_backward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0], *y = n->output;
    struct window window = {x, y, x->gradient, y->gradient, .accumulate = n->accumulate[0]};
    if (!n->accumulate[0])
        memset(x->gradient, 0, value_floats(x) * sizeof(float));
    pool_run(g->pool, y->batch * y->height, move_row, &window);
}

static const struct op crop_op = {"crop", crop_forward, crop_backward};

struct value *op_upsample(struct graph *g, struct value *x, size_t height, size_t width)
{
    struct value *y = graph_value(g, x->batch, 2 * x->height, 2 * x->width, x->channels);
    graph_node(g, &upsample_op, y, 1, &x);
    if (height == y->height && width == y->width)
        return y;
    struct value *cut = graph_value(g, x->batch, height, width, x->channels);
    graph_node(g, &crop_op, cut, 1, &y);
    return cut;
}

static void take_forward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0], *y = n->output;
    concat_backward(g->pool, value_rows(y), y->channels, x->channels - y->channels, x->data, false, y->data, NULL);
}

static void take_backward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0], *y = n->output;
    memset(g->workspace, 0, n->workspace_floats * sizeof(float));
    concat_forward(g->pool, value_rows(y), y->channels, x->channels - y->channels, y->gradient, g->workspace,
                   x->gradient);
}

static const struct op take_op = {"take_channels", take_forward, take_backward};

/* Used once, on the last layer's output. */
struct value *op_take_channels(struct graph *g, struct value *x, size_t channels)
{
    struct value *y = same_shape(g, x, channels);
    struct node *n = graph_node(g, &take_op, y, 1, &x);
    n->workspace_floats = value_rows(x) * (x->channels - channels);
    return y;
}

static const float *row_of(const struct table *table, size_t row)
{
    return table->values + row * table->channels;
}

static void embed_forward(struct graph *g, struct node *n)
{
    const struct value *y = n->output;
    for (size_t row = 0; row < y->batch * y->height; row++)
        add_scaled(g->pool, y->channels, 1, row_of(n->words, (size_t)n->rows[row]), 1,
                   row_of(n->places, row % y->height), y->data + row * y->channels);
}

/* Rows in their order: a word that comes twice gets its sum the same way every time. */
static void embed_backward(struct graph *g, struct node *n)
{
    const struct value *y = n->output;
    float *words = trained_gradient(g, n->word_table), *places = trained_gradient(g, n->place_table);
    for (size_t row = 0; row < y->batch * y->height; row++) {
        const float *dy = y->gradient + row * y->channels;
        axpy(g->pool, y->channels, 1, dy, words + (size_t)n->rows[row] * y->channels);
        axpy(g->pool, y->channels, 1, dy, places + row % y->height * y->channels);
    }
}

static const struct op embed_op = {"embed", embed_forward, embed_backward};

struct value *op_embed(struct graph *g, const struct table *words, const struct table *places, size_t batch,
                       size_t tokens, const int32_t *ids)
{
    struct value *y = graph_value(g, batch, tokens, 1, words->channels);
    struct node *n = graph_node(g, &embed_op, y, 0, NULL);
    n->words = words;
    n->places = places;
    n->rows = ids;
    n->word_table = find_trained_table(g, words);
    n->place_table = find_trained_table(g, places);
    n->trains = n->word_table && n->place_table;
    return y;
}

static void gather_forward(struct graph *g, struct node *n)
{
    (void)g;
    const struct value *x = n->inputs[0], *y = n->output;
    for (size_t b = 0; b < x->batch; b++)
        memcpy(y->data + b * y->channels, x->data + (b * x->height + (size_t)n->rows[b]) * x->channels,
               y->channels * sizeof(float));
}

static void gather_backward(struct graph *g, struct node *n)
{
    const struct value *x = n->inputs[0], *y = n->output;
    if (!n->accumulate[0])
        memset(x->gradient, 0, value_floats(x) * sizeof(float));
    for (size_t b = 0; b < x->batch; b++)
        axpy(g->pool, y->channels, 1, y->gradient + b * y->channels,
             x->gradient + (b * x->height + (size_t)n->rows[b]) * x->channels);
}

static const struct op gather_op = {"gather", gather_forward, gather_backward};

struct value *op_gather(struct graph *g, struct value *x, const int32_t *rows)
{
    struct value *y = graph_value(g, x->batch, 1, 1, x->channels);
    struct node *n = graph_node(g, &gather_op, y, 1, &x);
    n->rows = rows;
    return y;
}
