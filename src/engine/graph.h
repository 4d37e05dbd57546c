/* A network as a static graph for one shape. Builders (engine/ops.h) append nodes in the order of execution;
 * graph_plan decides which gradients are needed, when each buffer lives, and where in one block of memory it lies.
 * After that graph_forward and graph_backward allocate nothing.
 *
 * With recompute set (gradient checkpointing, Chen et al., arXiv 1604.06174), what is used in one segment only does not
 * live until the backward pass: there, each segment first runs forward again. The same numbers come out. */
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

/* A stretch of the planned block. Times count the nodes that run: forward, and then on through the backward pass. */
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
    bool transient;             /* all its users are in its producer's segment, which is recomputed */
    bool needed_again;          /* transient, and the backward pass of the segment needs it */
    struct buffer again_buffer; /* where it is recomputed; data points there from then on */
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
    struct buffer saved_buffer, saved_again_buffer;
    size_t segment;
    bool runs_again; /* recomputed before the segment's backward pass */
    size_t time, again_time, backward_time;

    /* what the op was built with */
    struct network *network; /* of the layer */
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

/* Memory that several graphs use in turn: what they hold lasts until another one runs. */
struct memory_block {
    float *floats;
    size_t count;
};

struct graph {
    struct pool *pool;
    struct parameters *parameters; /* what is trained in this graph, or NULL for inference */
    struct network *network;       /* whose layers are being added; set by the builder */
    struct arena arena;
    struct error error; /* the first one of building; see graph_error */
    struct value *values;
    struct node *first, *last;
    size_t node_count, segment;
    bool recompute;             /* set before graph_plan */
    struct memory_block *block; /* own_block unless set before graph_plan */
    struct memory_block own_block;
    float *memory, *workspace;       /* as of the last graph_enter */
    size_t workspace_offset, floats; /* floats: of memory, workspace included */
};

struct error graph_create(struct pool *pool, struct parameters *parameters, struct graph **out)
    __attribute__((warn_unused_result));
void graph_destroy(struct graph *graph);

struct value *graph_value(struct graph *graph, size_t batch, size_t height, size_t width, size_t channels);
struct node *graph_node(struct graph *graph, const struct op *op, struct value *output, size_t input_count,
                        struct value *const *inputs);

/* The first error of building, in the ring of recent errors: it outlives the graph. */
struct error graph_error(const struct graph *graph) __attribute__((warn_unused_result));
/* Nodes from here on belong to the next segment: a block of the network that is small against the whole. */
void graph_segment(struct graph *graph);
/* outputs stay valid after graph_forward; the gradient of outputs[0] is what graph_backward starts from. graph_plan is
 * graph_place, which sets graph->floats, and graph_allocate. */
struct error graph_plan(struct graph *graph, struct value *const *outputs, size_t output_count)
    __attribute__((warn_unused_result));
struct error graph_place(struct graph *graph, struct value *const *outputs, size_t output_count)
    __attribute__((warn_unused_result));
struct error graph_allocate(struct graph *graph) __attribute__((warn_unused_result));
size_t graph_bytes(const struct graph *graph); /* placed: of its block, and of weights yet to be packed for backward */
/* Before inputs are filled, when the block is shared: it may have moved. */
void graph_enter(struct graph *graph);
void graph_forward(struct graph *graph);
void graph_backward(struct graph *graph);

size_t value_floats(const struct value *value);
size_t value_rows(const struct value *value); /* batch * height * width */
