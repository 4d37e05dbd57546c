/* Memory: every activation, gradient and saved value is a buffer with a first and a last time. Buffers whose times
 * overlap get different offsets, larger ones first, each at the lowest offset that is free. What is recomputed has two
 * buffers, one for each of its lives. */
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
    graph->block = &graph->own_block;
    arena_init(&graph->arena, ARENA_MAX);
    *out = graph;
    return OK;
}

void graph_destroy(struct graph *graph)
{
    if (!graph)
        return;
    free(graph->own_block.floats);
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
    node->segment = graph->segment;
    node->network = graph->network;
    node->previous = graph->last;
    if (graph->last)
        graph->last->next = node;
    else
        graph->first = node;
    graph->last = node;
    return node;
}

void graph_segment(struct graph *graph)
{
    graph->segment++;
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

/* ---- what is recomputed ---- */

static void mark_transient(struct graph *graph, struct value *const *outputs, size_t output_count)
{
    bool *backward = arena_array(&graph->arena, graph->segment + 1, sizeof *backward);
    for (struct node *node = graph->first; node; node = node->next)
        backward[node->segment] |= node->runs_backward;
    for (struct node *node = graph->first; node; node = node->next)
        node->output->transient = graph->recompute && backward[node->segment];
    for (size_t i = 0; i < output_count; i++)
        outputs[i]->transient = false;
    for (struct node *node = graph->first; node; node = node->next) {
        for (size_t i = 0; i < node->input_count; i++) {
            struct value *input = node->inputs[i];
            input->transient &= input->producer && input->producer->segment == node->segment;
        }
    }
}

static void need_again(struct value *value)
{
    value->needed_again |= value->transient;
}

/* From the end: a node runs again when its output is needed, or what it saves for its backward pass. */
static void decide_recomputation(struct graph *graph, struct value *const *outputs, size_t output_count)
{
    mark_transient(graph, outputs, output_count);
    for (struct node *node = graph->last; graph->recompute && node; node = node->previous) {
        if (node->runs_backward && node->keeps & NODE_OUTPUT)
            need_again(node->output);
        node->runs_again = node->output->needed_again || (node->runs_backward && node->saved_floats);
        for (size_t i = 0; i < node->input_count; i++) {
            if (node->runs_again || (node->runs_backward && node->keeps & 1u << i))
                need_again(node->inputs[i]);
        }
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

/* Segments from the last to the first: what runs again, then the backward pass. Returns the time after all. */
static size_t set_times(struct graph *graph)
{
    size_t time = graph->node_count;
    for (struct node *last = graph->last; last;) {
        struct node *first = last, *end = last->next;
        while (first->previous && first->previous->segment == last->segment)
            first = first->previous;
        for (struct node *node = first; node != end; node = node->next)
            node->again_time = node->runs_again ? time++ : 0;
        for (struct node *node = last; node != first->previous; node = node->previous)
            node->backward_time = time++;
        last = first->previous;
    }
    return time;
}

/* Where backward passes find the value. */
static struct buffer *late_buffer(struct value *value)
{
    return value->needed_again ? &value->again_buffer : &value->data_buffer;
}

static void time_forward(struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++)
        touch(&node->inputs[i]->data_buffer, value_floats(node->inputs[i]), node->time);
    touch(&node->output->data_buffer, value_floats(node->output), node->time);
    if (node->saved_floats)
        touch(&node->saved_buffer, node->saved_floats, node->time);
}

static void time_again(struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++)
        touch(late_buffer(node->inputs[i]), value_floats(node->inputs[i]), node->again_time);
    touch(late_buffer(node->output), value_floats(node->output), node->again_time);
    if (node->saved_floats)
        touch(&node->saved_again_buffer, node->saved_floats, node->again_time);
}

static void time_backward(struct node *node)
{
    size_t time = node->backward_time;
    for (size_t i = 0; i < node->input_count; i++) {
        struct value *input = node->inputs[i];
        if (node->keeps & 1u << i)
            touch(late_buffer(input), value_floats(input), time);
        if (!input->wants_gradient)
            continue;
        node->accumulate[i] = input->gradient_buffer.floats != 0;
        touch(&input->gradient_buffer, value_floats(input), time);
    }
    if (node->keeps & NODE_OUTPUT)
        touch(late_buffer(node->output), value_floats(node->output), time);
    if (node->saved_floats)
        touch(node->runs_again ? &node->saved_again_buffer : &node->saved_buffer, node->saved_floats, time);
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
static void share_in_place(struct node *node, size_t time, struct buffer *(*buffer_of)(struct value *value))
{
    struct buffer *output = buffer_of(node->output);
    for (size_t i = 0; i < node->input_count; i++) {
        struct buffer *input = resolve(buffer_of(node->inputs[i]));
        if (node->in_place & 1u << i && node->inputs[i]->producer && input != output && input->last == time &&
            input->floats == output->floats) {
            share(output, input);
            return;
        }
    }
}

static struct buffer *early_buffer(struct value *value)
{
    return &value->data_buffer;
}

static void share_forward(struct node *node)
{
    share_in_place(node, node->time, early_buffer);
    if (node->runs_again && node->output->needed_again)
        share_in_place(node, node->again_time, late_buffer);
}

/* When a gradient is added to after the node that wrote it first, or SIZE_MAX. */
static size_t second_write(const struct value *value, const struct node *after)
{
    for (const struct node *node = after->previous; node; node = node->previous) {
        for (size_t i = 0; i < node->input_count; i++) {
            if (node->inputs[i] == value && node->runs_backward)
                return node->backward_time;
        }
    }
    return SIZE_MAX;
}

/* True when nobody reads value's gradient any more once other's is written again or handed on. */
static bool ends_first(const struct value *value, const struct value *other, const struct node *node)
{
    size_t last = value->gradient_buffer.last;
    return value->producer && !value->producer->passes && second_write(value, node) == SIZE_MAX &&
           last < second_write(other, node) && other->producer && last < other->producer->backward_time;
}

/* An input's gradient that starts as the output's may take its memory; two inputs' only if one of them ends first. */
static bool may_share(const struct node *node, size_t index)
{
    const struct value *value = node->inputs[index];
    if (!(node->passes & 1u << index) || !value->wants_gradient || node->accumulate[index])
        return false;
    for (size_t i = 0; i < index; i++) {
        const struct value *other = node->inputs[i];
        if (other->gradient_buffer.shared &&
            (other == value || !(ends_first(value, other, node) || ends_first(other, value, node))))
            return false;
    }
    return true;
}

static void share_backward(struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++) {
        if (may_share(node, i)) {
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
    struct buffer **list = arena_array(&graph->arena, 3 * value_count + 2 * graph->node_count, sizeof(struct buffer *));
    for (struct value *value = graph->values; value; value = value->next) {
        collect(&value->data_buffer, list, &count);
        collect(&value->again_buffer, list, &count);
        collect(&value->gradient_buffer, list, &count);
    }
    for (struct node *node = graph->first; node; node = node->next) {
        collect(&node->saved_buffer, list, &count);
        collect(&node->saved_again_buffer, list, &count);
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
    graph->workspace_offset = top;
    return OK;
}

struct error graph_place(struct graph *graph, struct value *const *outputs, size_t output_count)
{
    TRY(graph_error(graph));
    decide_gradients(graph, outputs[0]);
    decide_recomputation(graph, outputs, output_count);
    size_t end = set_times(graph);
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
        if (node->runs_again)
            time_again(node);
        if (node->runs_backward)
            time_backward(node);
    }
    for (struct node *node = graph->first; node; node = node->next)
        share_forward(node);
    for (struct node *node = graph->last; node; node = node->previous) {
        if (node->runs_backward)
            share_backward(node);
    }
    return place_all(graph);
}

/* ---- memory ---- */

static bool packs(const struct node *node)
{
    return node->layer && node->inputs[0]->wants_gradient;
}

size_t graph_bytes(const struct graph *graph)
{
    size_t bytes = graph->floats * sizeof(float);
    for (const struct node *node = graph->first; node; node = node->next)
        bytes += packs(node) ? layer_bytes_to_pack_backward(node->layer) : 0;
    return bytes;
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

void graph_enter(struct graph *graph)
{
    if (graph->memory == graph->block->floats)
        return;
    graph->memory = graph->block->floats;
    graph->workspace = graph->memory + graph->workspace_offset;
    resolve_addresses(graph);
}

/* A larger block loses what the smaller one held. */
static struct error grow(struct memory_block *block, size_t floats)
{
    if (floats <= block->count)
        return OK;
    free(block->floats);
    block->count = 0;
    block->floats = floats_create(floats);
    if (!block->floats)
        return error_make(ERR_INTERNAL, "out of memory: %zu MB are needed; use a smaller batch or resolution",
                          floats >> 18);
    block->count = floats;
    return OK;
}

struct error graph_allocate(struct graph *graph)
{
    for (struct node *node = graph->first; node; node = node->next) {
        if (packs(node))
            TRY(layer_pack_backward(node->network, node->layer));
    }
    TRY(grow(graph->block, graph->floats));
    graph_enter(graph);
    return OK;
}

struct error graph_plan(struct graph *graph, struct value *const *outputs, size_t output_count)
{
    TRY(graph_place(graph, outputs, output_count));
    return graph_allocate(graph);
}

/* ---- running ---- */

/* In their first life again. */
static void begin_forward(struct graph *graph)
{
    for (struct node *node = graph->first; node; node = node->next) {
        node->output->data = address(graph, &node->output->data_buffer);
        node->saved = address(graph, &node->saved_buffer);
    }
}

void graph_forward(struct graph *graph)
{
    if (graph->recompute)
        begin_forward(graph);
    for (struct node *node = graph->first; node; node = node->next)
        node->op->forward(graph, node);
}

static void run_again(struct graph *graph, struct node *node)
{
    node->output->data = address(graph, late_buffer(node->output));
    node->saved = address(graph, &node->saved_again_buffer);
    node->op->forward(graph, node);
}

void graph_backward(struct graph *graph)
{
    for (struct node *last = graph->last; last;) {
        struct node *first = last, *end = last->next;
        while (first->previous && first->previous->segment == last->segment)
            first = first->previous;
        for (struct node *node = first; node != end; node = node->next) {
            if (node->runs_again)
                run_again(graph, node);
        }
        for (struct node *node = last; node != first->previous; node = node->previous) {
            if (node->runs_backward)
                node->op->backward(graph, node);
        }
        last = first->previous;
    }
}
