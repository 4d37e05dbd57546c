/* Memory: every activation, gradient and saved value is a buffer with a first and a last time. Buffers whose times
 * overlap get different offsets, larger ones first, each at the lowest offset that is free. */
#include "engine/graph.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_MAX = 64 << 20, ALIGNMENT_FLOATS = 16 };

struct error graph_create(struct pool *pool, struct parameters *parameters, struct graph **out)
{
    struct graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        return error_make(ERR_INTERNAL, "out of memory");
    graph->pool = pool;
    graph->parameters = parameters;
    arena_init(&graph->arena, ARENA_MAX);
    *out = graph;
    return OK;
}

void graph_destroy(struct graph *graph)
{
    if (!graph)
        return;
    free(graph->memory);
    arena_finish(&graph->arena);
    free(graph);
}

size_t value_rows(const struct value *value)
{
    return value->batch * value->height * value->width;
}

size_t value_floats(const struct value *value)
{
    return value_rows(value) * value->channels;
}

struct value *graph_value(struct graph *graph, size_t batch, size_t height, size_t width, size_t channels)
{
    struct value *value = ARENA_NEW(&graph->arena, struct value);
    *value = (struct value){.batch = batch, .height = height, .width = width, .channels = channels};
    value->next = graph->values;
    graph->values = value;
    return value;
}

struct node *graph_node(struct graph *graph, const struct op *op, struct value *output, size_t input_count,
                        struct value *const *inputs)
{
    struct node *node = ARENA_NEW(&graph->arena, struct node);
    node->op = op;
    node->output = output;
    node->input_count = input_count;
    if (input_count)
        memcpy(node->inputs, inputs, input_count * sizeof *inputs);
    output->producer = node;
    node->time = graph->node_count++;
    node->previous = graph->last;
    if (graph->last)
        graph->last->next = node;
    else
        graph->first = node;
    graph->last = node;
    return node;
}

struct error graph_error(const struct graph *graph)
{
    return graph->error.code ? error_make(graph->error.code, "%s", graph->error.text) : OK;
}

/* ---- which gradients ---- */

/* A gradient is wanted where something trained comes before and the first output after. */
static void decide_gradients(struct graph *graph, struct value *output)
{
    for (struct node *node = graph->first; node; node = node->next) {
        bool wants = node->trains;
        for (size_t i = 0; i < node->input_count; i++)
            wants |= node->inputs[i]->wants_gradient;
        node->output->wants_gradient = wants;
    }
    bool *reaches = arena_array(&graph->arena, graph->node_count, sizeof *reaches);
    if (output->producer)
        reaches[output->producer->time] = true;
    for (struct node *node = graph->last; node; node = node->previous) {
        for (size_t i = 0; reaches[node->time] && i < node->input_count; i++) {
            if (node->inputs[i]->producer)
                reaches[node->inputs[i]->producer->time] = true;
        }
        node->output->wants_gradient &= reaches[node->time];
        node->runs_backward = node->output->wants_gradient;
    }
}

/* ---- when ---- */

static struct buffer *resolve(struct buffer *buffer)
{
    while (buffer->shared)
        buffer = buffer->shared;
    return buffer;
}

static void touch(struct buffer *buffer, size_t floats, size_t time)
{
    if (!buffer->floats) {
        buffer->floats = floats;
        buffer->first = buffer->last = time;
    }
    buffer->first = time < buffer->first ? time : buffer->first;
    buffer->last = time > buffer->last ? time : buffer->last;
}

static size_t backward_time(const struct graph *graph, const struct node *node)
{
    return 2 * graph->node_count - 1 - node->time;
}

static void time_forward(struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++)
        touch(&node->inputs[i]->data_buffer, value_floats(node->inputs[i]), node->time);
    touch(&node->output->data_buffer, value_floats(node->output), node->time);
    if (node->saved_floats)
        touch(&node->saved_buffer, node->saved_floats, node->time);
}

static void time_backward(struct graph *graph, struct node *node)
{
    size_t time = backward_time(graph, node);
    for (size_t i = 0; i < node->input_count; i++) {
        struct value *input = node->inputs[i];
        if (node->keeps & 1u << i)
            touch(&input->data_buffer, value_floats(input), time);
        if (!input->wants_gradient)
            continue;
        node->accumulate[i] = input->gradient_buffer.floats != 0;
        touch(&input->gradient_buffer, value_floats(input), time);
    }
    if (node->keeps & NODE_OUTPUT)
        touch(&node->output->data_buffer, value_floats(node->output), time);
    if (node->saved_floats)
        touch(&node->saved_buffer, node->saved_floats, time);
    touch(&node->output->gradient_buffer, value_floats(node->output), time);
}

/* ---- sharing ---- */

static void share(struct buffer *buffer, struct buffer *with)
{
    touch(with, with->floats, buffer->first);
    touch(with, with->floats, buffer->last);
    buffer->shared = with;
}

/* The output takes the memory of an input that ends here. */
static void share_forward(struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++) {
        struct buffer *input = resolve(&node->inputs[i]->data_buffer);
        if (node->in_place & 1u << i && node->inputs[i]->producer && input->last == node->time &&
            input->floats == node->output->data_buffer.floats) {
            share(&node->output->data_buffer, input);
            return;
        }
    }
}

/* When a gradient is added to after the node that wrote it first, or SIZE_MAX. */
static size_t second_write(const struct graph *graph, const struct value *value, const struct node *after)
{
    for (const struct node *node = after->previous; node; node = node->previous) {
        for (size_t i = 0; i < node->input_count; i++) {
            if (node->inputs[i] == value && node->runs_backward)
                return backward_time(graph, node);
        }
    }
    return SIZE_MAX;
}

/* True when nobody reads value's gradient any more once other's is written again or handed on. */
static bool ends_first(const struct graph *graph, const struct value *value, const struct value *other,
                       const struct node *node)
{
    size_t last = value->gradient_buffer.last;
    return value->producer && !value->producer->passes && second_write(graph, value, node) == SIZE_MAX &&
           last < second_write(graph, other, node) && other->producer && last < backward_time(graph, other->producer);
}

/* An input's gradient that starts as the output's may take its memory; two inputs' only if one of them ends first. */
static bool may_share(const struct graph *graph, const struct node *node, size_t index)
{
    const struct value *value = node->inputs[index];
    if (!(node->passes & 1u << index) || !value->wants_gradient || node->accumulate[index])
        return false;
    for (size_t i = 0; i < index; i++) {
        const struct value *other = node->inputs[i];
        if (other->gradient_buffer.shared &&
            (other == value || !(ends_first(graph, value, other, node) || ends_first(graph, other, value, node))))
            return false;
    }
    return true;
}

static void share_backward(struct graph *graph, struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++) {
        if (may_share(graph, node, i)) {
            struct buffer *output = resolve(&node->output->gradient_buffer);
            share(&node->inputs[i]->gradient_buffer, output);
        }
    }
}

/* ---- where ---- */

static int by_size(const void *left, const void *right)
{
    const struct buffer *a = *(struct buffer *const *)left, *b = *(struct buffer *const *)right;
    if (a->floats != b->floats)
        return a->floats > b->floats ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* placed is in the order of offsets. */
static void place(struct buffer *buffer, struct buffer **placed)
{
    size_t offset = 0;
    struct buffer **where = placed;
    for (struct buffer **item = placed; *item; item = &(*item)->next) {
        struct buffer *other = *item;
        if (other->last < buffer->first || other->first > buffer->last)
            continue;
        if (other->offset >= offset + buffer->floats)
            break;
        if (other->offset + other->floats > offset)
            offset = other->offset + other->floats;
    }
    while (*where && (*where)->offset < offset)
        where = &(*where)->next;
    buffer->offset = offset;
    buffer->next = *where;
    *where = buffer;
}

static void collect(struct buffer *buffer, struct buffer **list, size_t *count)
{
    if (!buffer->floats || buffer->shared)
        return;
    buffer->floats = (buffer->floats + ALIGNMENT_FLOATS - 1) / ALIGNMENT_FLOATS * ALIGNMENT_FLOATS;
    list[(*count)++] = buffer;
}

static struct error place_all(struct graph *graph)
{
    size_t value_count = 0, count = 0, top = 0, workspace = 0;
    for (struct value *value = graph->values; value; value = value->next)
        value_count++;
    struct buffer **list = arena_array(&graph->arena, 2 * value_count + graph->node_count, sizeof(struct buffer *));
    for (struct value *value = graph->values; value; value = value->next) {
        collect(&value->data_buffer, list, &count);
        collect(&value->gradient_buffer, list, &count);
    }
    for (struct node *node = graph->first; node; node = node->next) {
        collect(&node->saved_buffer, list, &count);
        workspace = node->workspace_floats > workspace ? node->workspace_floats : workspace;
    }
    qsort(list, count, sizeof *list, by_size);
    struct buffer *placed = NULL;
    for (size_t i = 0; i < count; i++) {
        place(list[i], &placed);
        top = list[i]->offset + list[i]->floats > top ? list[i]->offset + list[i]->floats : top;
    }
    if (top > GRAPH_FLOATS_MAX || workspace > GRAPH_FLOATS_MAX)
        return error_make(ERR_TOO_LARGE, "the picture or batch is too large for any memory");
    graph->floats = top + workspace;
    graph->memory = floats_create(graph->floats);
    if (!graph->memory)
        return error_make(ERR_INTERNAL, "out of memory: %zu MB are needed; use a smaller batch or resolution",
                          graph->floats >> 18);
    graph->workspace = graph->memory + top;
    return OK;
}

static float *address(const struct graph *graph, struct buffer *buffer)
{
    return buffer->floats ? graph->memory + resolve(buffer)->offset : NULL;
}

static void resolve_addresses(struct graph *graph)
{
    for (struct value *value = graph->values; value; value = value->next) {
        value->data = address(graph, &value->data_buffer);
        value->gradient = address(graph, &value->gradient_buffer);
    }
    for (struct node *node = graph->first; node; node = node->next)
        node->saved = address(graph, &node->saved_buffer);
}

static struct error pack_for_backward(struct graph *graph)
{
    for (struct node *node = graph->first; node; node = node->next) {
        if (node->layer && node->inputs[0]->wants_gradient && !node->layer->packed_backward)
            TRY(layer_pack_backward(node->layer));
    }
    return OK;
}

struct error graph_plan(struct graph *graph, struct value *const *outputs, size_t output_count)
{
    TRY(graph_error(graph));
    decide_gradients(graph, outputs[0]);
    size_t end = 2 * graph->node_count;
    for (struct value *value = graph->values; value; value = value->next) {
        if (!value->producer) { /* an input is set before the first node and stays for the next call */
            touch(&value->data_buffer, value_floats(value), 0);
            touch(&value->data_buffer, value_floats(value), end);
        }
    }
    for (struct node *node = graph->first; node; node = node->next)
        time_forward(node);
    for (size_t i = 0; i < output_count; i++)
        touch(&outputs[i]->data_buffer, value_floats(outputs[i]), end);
    if (outputs[0]->wants_gradient)
        touch(&outputs[0]->gradient_buffer, value_floats(outputs[0]), graph->node_count);
    for (struct node *node = graph->last; node; node = node->previous) {
        if (node->runs_backward)
            time_backward(graph, node);
    }
    for (struct node *node = graph->first; node; node = node->next)
        share_forward(node);
    for (struct node *node = graph->last; node; node = node->previous) {
        if (node->runs_backward)
            share_backward(graph, node);
    }
    TRY(pack_for_backward(graph));
    TRY(place_all(graph));
    resolve_addresses(graph);
    return OK;
}

void graph_forward(struct graph *graph)
{
    for (struct node *node = graph->first; node; node = node->next)
        node->op->forward(graph, node);
}

void graph_backward(struct graph *graph)
{
    for (struct node *node = graph->last; node; node = node->previous) {
        if (node->runs_backward)
            node->op->backward(graph, node);
    }
}
