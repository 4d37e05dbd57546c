/* The operations of a graph. Each function appends one node and returns its output; a mistake (a missing tensor, a
 * shape that does not divide) is remembered in graph->error, and building goes on with a value of the right shape.
 * Layers are named by their path in graph->network. */
#pragma once

#include "engine/graph.h"

/* A name in the graph's arena: at(g, "%s.conv1", path). */
const char *at(struct graph *graph, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct value *op_conv3x3(struct graph *graph, struct value *x, size_t out, const char *name);
struct value *op_downsample(struct graph *graph, struct value *x, bool pad_after_only, const char *name); /* stride 2 */
/* Linear layer or 1x1 convolution: y[.., out] = W x + bias. op_projection takes a bias if the file has one. */
struct value *op_linear(struct graph *graph, struct value *x, size_t out, const char *name);
struct value *op_projection(struct graph *graph, struct value *x, size_t out, const char *name);
struct value *op_group_norm(struct graph *graph, struct value *x, size_t groups, float epsilon, bool silu,
                            const char *name);
struct value *op_layer_norm(struct graph *graph, struct value *x, float epsilon, const char *name);
struct value *op_activation(struct graph *graph, struct value *x, enum activation activation);
struct value *op_geglu(struct graph *graph, struct value *x); /* halves the channels */
/* q[b, .., c] attends to k and v [b, .., c] with heads of c / heads channels. */
struct value *op_attention(struct graph *graph, struct value *q, struct value *k, struct value *v, size_t heads,
                           bool causal);
struct value *op_add(struct graph *graph, struct value *a, struct value *b);
struct value *op_add_vector(struct graph *graph, struct value *x,
                            struct value *vector);                              /* [b, 1, 1, c] to each pixel */
struct value *op_concat(struct graph *graph, struct value *a, struct value *b); /* channels */
/* Nearest, twice the size, then cut to height x width, each 2n or 2n - 1. */
struct value *op_upsample(struct graph *graph, struct value *x, size_t height, size_t width);
struct value *op_take_channels(struct graph *graph, struct value *x, size_t channels); /* the first ones */
/* y[b, t, 1, c] = words[ids[b, t]] + places[t]; ids is read at each run. */
struct value *op_embed(struct graph *graph, const struct table *words, const struct table *places, size_t batch,
                       size_t tokens, const int32_t *ids);
/* y[b, 1, 1, c] = x[b, rows[b]]; rows is read at each run. */
struct value *op_gather(struct graph *graph, struct value *x, const int32_t *rows);
