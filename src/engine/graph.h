/* A network as a static graph for one shape. Builders (engine/ops.h) append nodes in the order of execution;
 * graph_plan decides which gradients are needed, when each buffer lives, and where in one block of memory it lies.
 * After that graph_forward and graph_backward allocate nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "engine/network.h"
#include "engine/kernels.h"
#include "engine/model.h"

enum {
    NODE_INPUTS_MAX = 3,
    NODE_OUTPUT = 1 << NODE_INPUTS_MAX, /* bit of node.keeps beside those of the inputs */
};
#define GRAPH_FLOATS_MAX ((size_t)1 << 38) /* 1 TiB: more is a mistake in a shape */

struct graph;
struct node;

/* A stretch of the planned block. Times count nodes forward and then on, in reverse, for the backward pass. */
struct buffer {
    size_t floats;
    size_t first, last; /* times of the first write and the last use */
    size_t offset;
    struct buffer *shared; /* lies where another one lies, or NULL */
    struct buffer *next;
};

/* An activation [batch, height, width, channels]. Tokens are [batch, tokens, 1, channels], vectors [batch, 1, 1, n]. */
struct value {
    size_t batch, height, width, channels;
    float *data;
    float *gradient;       /* NULL unless wanted */
    bool wants_gradient;   /* something trained lies before it, and the output after it */
    struct node *producer; /* NULL for inputs */
    struct buffer data_buffer, gradient_buffer;
    struct value *next;
};

struct op {
    const char *name;
    void (*forward)(struct graph *graph, struct node *node);
    void (*backward)(struct graph *graph,
                     struct node *node); /* for each input that wants one: accumulate[i] ? += : = */
};

struct node {
    const struct op *op;
    size_t input_count;
    struct value *inputs[NODE_INPUTS_MAX];
    struct value *output;
    unsigned keeps;    /* bits of what backward reads: 1 << input, NODE_OUTPUT */
    unsigned in_place; /* bits of inputs whose memory the output may take when nobody needs them later */
    unsigned passes;   /* bits of inputs whose gradient is the output's, unchanged */
    bool trains;       /* has trained parameters of its own */
    bool runs_backward;
    bool accumulate[NODE_INPUTS_MAX];
    size_t saved_floats;     /* kept from forward to backward: statistics, a LoRA's inner activation */
    size_t workspace_floats; /* needed while it runs, the same for forward and backward */
    float *saved;
    struct buffer saved_buffer;
    size_t time;

    /* what the op was built with */
    struct layer *layer;
    struct norm *norm;
    const struct parameter *lora_a, *lora_b;
    const struct parameter *weight, *bias; /* full training */
    struct conv conv;                      /* with the sizes of this node */
    struct conv lora_conv;
    struct group_norm group_norm;
    struct attention attention;
    enum activation activation;
    float epsilon;
    const int32_t *rows; /* gather: one row of each sample; embed: one of words for each token */
    const struct table *words, *places;
    const struct parameter *word_table, *place_table; /* full training */
    struct node *next, *previous;
};

struct graph {
    struct pool *pool;
    struct parameters *parameters; /* what is trained in this graph, or NULL for inference */
    struct network *network;       /* whose layers are being added; set by the builder */
    struct arena arena;
    struct error error; /* the first one of building; see graph_error */
    struct value *values;
    struct node *first, *last;
    size_t node_count;
    float *memory, *workspace;
    size_t floats; /* of memory, workspace included */
};

struct error graph_create(struct pool *pool, struct parameters *parameters, struct graph **out)
    __attribute__((warn_unused_result));
void graph_destroy(struct graph *graph);

struct value *graph_value(struct graph *graph, size_t batch, size_t height, size_t width, size_t channels);
struct node *graph_node(struct graph *graph, const struct op *op, struct value *output, size_t input_count,
                        struct value *const *inputs);

/* The first error of building, in the ring of recent errors: it outlives the graph. */
struct error graph_error(const struct graph *graph) __attribute__((warn_unused_result));
/* outputs stay valid after graph_forward; the gradient of outputs[0] is what graph_backward starts from. */
struct error graph_plan(struct graph *graph, struct value *const *outputs, size_t output_count)
    __attribute__((warn_unused_result));
void graph_forward(struct graph *graph);
void graph_backward(struct graph *graph);

size_t value_floats(const struct value *value);
size_t value_rows(const struct value *value); /* batch * height * width */
