/* Implicit GEMM: rows are output pixels, k runs over taps and channels. Taps outside the picture read a row of zeros.
 */
#include "engine/conv_plan.h"
#include "engine/tile.h"

#include <assert.h>

#define BLOCK_ROWS 96 /* pixels of a chunk at most: their pointers for 9 taps stay in the first-level cache */

struct gather_task {
    const struct conv_gather *gather;
    size_t grid; /* pixels of the grid over the batch */
    size_t rows, panels_each, panel_blocks;
    const float *source, *packed, *bias;
    float *target;
    bool accumulate;
};

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Pointers for grid pixels [row, row + rows): a[taps][BLOCK_ROWS] into the source, c[rows] into the target. */
static void find_pixels(const struct gather_task *task, size_t row, size_t rows, const float *zeros, const float **a,
                        float **c)
{
    const struct conv_gather *g = task->gather;
    for (size_t i = 0; i < rows; i++) {
        size_t pixel = row + i, x = pixel % g->grid_width, line = pixel / g->grid_width;
        size_t y = line % g->grid_height, sample = line / g->grid_height;
        size_t target = (sample * g->target_height + y * g->target_step + g->target_y) * g->target_width +
                        x * g->target_step + g->target_x;
        c[i] = task->target + target * g->target_channels;
        const float *source = task->source + sample * g->source_height * g->source_width * g->source_channels;
        for (size_t t = 0; t < g->taps; t++) {
            ptrdiff_t sy = (ptrdiff_t)(y * g->source_step) + g->dy[t], sx = (ptrdiff_t)(x * g->source_step) + g->dx[t];
            bool inside = sy >= 0 && sx >= 0 && sy < (ptrdiff_t)g->source_height && sx < (ptrdiff_t)g->source_width;
            a[t * BLOCK_ROWS + i] =
                inside ? source + ((size_t)sy * g->source_width + (size_t)sx) * g->source_channels : zeros;
        }
    }
}

static void run_gather(void *context, size_t chunk, float *scratch)
{
    const struct gather_task *task = context;
    const struct conv_gather *g = task->gather;
    const float *a[9 * BLOCK_ROWS];
    float *c[BLOCK_ROWS];
    size_t row = chunk / task->panel_blocks * task->rows;
    size_t rows = task->grid - row < task->rows ? task->grid - row : task->rows;
    memset(scratch, 0, g->source_channels * sizeof(float));
    find_pixels(task, row, rows, scratch, a, c);

    size_t depth = g->taps * g->source_channels;
    size_t column = chunk % task->panel_blocks * task->panels_each * PANEL;
    size_t end = column + task->panels_each * PANEL;
    end = end < g->target_channels ? end : g->target_channels;
    struct strip strip = {.rows = rows, .a_stride = BLOCK_ROWS, .panel_stride = depth * PANEL, .c = c, .beta = 1.0f};
    struct pass pass = {0};
    while (pass_next(&pass, g->taps, g->source_channels)) {
        bool begins = pass.start == 0;
        strip.segments = pass.segments;
        strip.length = pass.length;
        strip.first = pass.first;
        strip.a = a + pass.segment * BLOCK_ROWS;
        for (size_t n = column; n < end; n += STRIP_COLUMNS) {
            strip.columns = end - n < STRIP_COLUMNS ? end - n : STRIP_COLUMNS;
            strip.column = n;
            strip.b = task->packed + n * depth + pass.start * PANEL;
            strip.load = !begins || task->accumulate;
            strip.bias = begins && task->bias ? task->bias + n : NULL;
            KERNEL(strip_run)(&strip);
        }
    }
}

static void gather(struct pool *pool, struct gather_task *task, size_t batch)
{
    const size_t chunks_wanted = 32, panels_min = 2;
    const struct conv_gather *g = task->gather;
    size_t panels = ceil_div(g->target_channels, PANEL);
    assert(g->source_channels <= POOL_SCRATCH_FLOATS);
    task->grid = batch * g->grid_height * g->grid_width;
    task->rows = BLOCK_ROWS;
    task->panels_each = panels;
    while (ceil_div(task->grid, task->rows) * ceil_div(panels, task->panels_each) < chunks_wanted) {
        if (task->rows > BLOCK_ROWS / 2)
            task->rows /= 2;
        else if (task->panels_each > panels_min)
            task->panels_each = ceil_div(task->panels_each, 2 * panels_min) * panels_min;
        else
            break;
    }
    task->panel_blocks = ceil_div(panels, task->panels_each);
    pool_run(pool, ceil_div(task->grid, task->rows) * task->panel_blocks, run_gather, task);
}

void KERNEL(conv_forward)(struct pool *pool, const struct conv *conv, const float *x, const float *packed,
                          const float *bias, bool accumulate, float *y, float *workspace)
{
    (void)workspace;
    struct conv_gather plan;
    conv_gather_forward(conv, &plan);
    struct gather_task task = {
        .gather = &plan, .source = x, .packed = packed, .bias = bias, .target = y, .accumulate = accumulate};
    gather(pool, &task, conv->batch);
}

void KERNEL(conv_backward_data)(struct pool *pool, const struct conv *conv, const float *dy,
                                const float *packed_backward, bool accumulate, float *dx, float *workspace)
{
    (void)workspace;
    for (size_t i = 0; i < conv_gathers_backward(conv); i++) {
        struct conv_gather plan;
        conv_gather_backward(conv, i, &plan);
        struct gather_task task = {.gather = &plan,
                                   .source = dy,
                                   .packed = packed_backward + plan.packed_offset,
                                   .target = dx,
                                   .accumulate = accumulate};
        gather(pool, &task, conv->batch);
    }
}

struct weights_task {
    const struct conv *conv;
    size_t height, width; /* of the output */
    size_t padded_height, padded_width;
    size_t groups, strips;
    const float *x, *dy;
    float *padded; /* [groups][batch][padded_height][padded_width][PACK_ROWS] */
    float *panels; /* [out / PANEL][pixels][PANEL] */
    bool accumulate;
    float *dweights;
};

/* One chunk a line of padded x, over all groups. */
static void pad_line(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct weights_task *task = context;
    const struct conv *conv = task->conv;
    size_t padding = conv_padding(conv), in = conv->in, width = task->padded_width;
    size_t sample = chunk / task->padded_height, y = chunk % task->padded_height;
    size_t group_stride = conv->batch * task->padded_height * width * PACK_ROWS;
    for (size_t px = 0; px < width; px++) {
        size_t sy = y - padding, sx = px - padding; /* wraps to huge where above or left of the picture */
        bool inside = sy < conv->height && sx < conv->width;
        const float *from = inside ? task->x + ((sample * conv->height + sy) * conv->width + sx) * in : NULL;
        float *to = task->padded + (chunk * width + px) * PACK_ROWS;
        for (size_t channel = 0; channel < in; channel += PACK_ROWS, to += group_stride) {
            size_t count = in - channel < PACK_ROWS ? in - channel : PACK_ROWS;
            if (!inside)
                memset(to, 0, PACK_ROWS * sizeof(float));
            else if (count == PACK_ROWS)
                memcpy(to, from + channel, PACK_ROWS * sizeof(float));
            else
                memcpy(to, from + channel, count * sizeof(float));
        }
    }
}

/* One chunk a line of dy, over all panels. */
static void pack_line(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct weights_task *task = context;
    size_t out = task->conv->out, pixels = task->conv->batch * task->height * task->width;
    for (size_t pixel = chunk * task->width; pixel < (chunk + 1) * task->width; pixel++) {
        const float *from = task->dy + pixel * out;
        float *to = task->panels + pixel * PANEL;
        for (size_t channel = 0; channel < out; channel += PANEL, to += pixels * PANEL) {
            size_t count = out - channel < PANEL ? out - channel : PANEL;
            if (count == PANEL) {
                memcpy(to, from + channel, PANEL * sizeof(float));
            } else {
                memset(to, 0, PANEL * sizeof(float));
                memcpy(to, from + channel, count * sizeof(float));
            }
        }
    }
}

/* sums[taps][PACK_ROWS][STRIP_COLUMNS] -> dweights[out, in, taps] */
static void scatter_weights(const struct weights_task *task, size_t channel, size_t rows, size_t column, size_t columns,
                            const float *sums)
{
    const struct conv *conv = task->conv;
    size_t taps = (size_t)conv->kernel * conv->kernel;
    for (size_t j = 0; j < columns; j++) {
        float *to = task->dweights + ((column + j) * conv->in + channel) * taps;
        for (size_t i = 0; i < rows; i++) {
            for (size_t t = 0; t < taps; t++, to++) {
                float sum = sums[(t * PACK_ROWS + i) * STRIP_COLUMNS + j];
                *to = task->accumulate ? *to + sum : sum;
            }
        }
    }
}

/* A group of input channels by a strip of output channels, all taps; k runs over the lines of dy. */
static void run_weights(void *context, size_t chunk, float *scratch)
{
    const struct weights_task *task = context;
    const struct conv *conv = task->conv;
    size_t group = chunk / task->strips, column = chunk % task->strips * STRIP_COLUMNS;
    size_t taps = (size_t)conv->kernel * conv->kernel, pixels = conv->batch * task->height * task->width;
    size_t rows = conv->in - group * PACK_ROWS < PACK_ROWS ? conv->in - group * PACK_ROWS : PACK_ROWS;
    const float *padded = task->padded + group * conv->batch * task->padded_height * task->padded_width * PACK_ROWS;
    size_t offsets[PASS_DEPTH];
    float *c[9 * PACK_ROWS];
    for (size_t i = 0; i < taps * PACK_ROWS; i++)
        c[i] = scratch + i * STRIP_COLUMNS;
    struct strip strip = {.rows = rows,
                          .columns = conv->out - column < STRIP_COLUMNS ? conv->out - column : STRIP_COLUMNS,
                          .offsets = offsets,
                          .packed_step = conv->stride * PACK_ROWS,
                          .panel_stride = pixels * PANEL,
                          .beta = 1.0f};
    struct pass pass = {0};
    while (pass_next(&pass, conv->batch * task->height, task->width)) {
        for (size_t s = 0; s < pass.segments; s++) {
            size_t sample = (pass.segment + s) / task->height, y = (pass.segment + s) % task->height;
            size_t line = sample * task->padded_height + y * conv->stride;
            offsets[s] = (line * task->padded_width + pass.first * conv->stride) * PACK_ROWS;
        }
        strip.segments = pass.segments;
        strip.length = pass.length;
        strip.b = task->panels + column * pixels + pass.start * PANEL;
        strip.load = pass.start > 0;
        for (size_t t = 0; t < taps; t++) {
            strip.packed = padded + (t / conv->kernel * task->padded_width + t % conv->kernel) * PACK_ROWS;
            strip.c = c + t * PACK_ROWS;
            KERNEL(strip_run)(&strip);
        }
    }
    scatter_weights(task, group * PACK_ROWS, rows, column, strip.columns, scratch);
}

void KERNEL(conv_backward_weights)(struct pool *pool, const struct conv *conv, const float *x, const float *dy,
                                   bool accumulate, float *dweights, float *workspace)
{
    struct conv line = *conv;
    if (conv->kernel == 1) { /* rows are rows: long lines make short work */
        line.width = conv->batch * conv->height * conv->width;
        line.batch = 1;
        line.height = 1;
        if (line.width % 64 == 0) {
            line.height = line.width / 64;
            line.width = 64;
        }
    }
    struct weights_task task = {.conv = &line,
                                .height = conv_out_height(&line),
                                .width = conv_out_width(&line),
                                .padded_height = conv_padded_height(&line),
                                .padded_width = conv_padded_width(&line),
                                .groups = ceil_div(conv->in, PACK_ROWS),
                                .strips = ceil_div(conv->out, STRIP_COLUMNS),
                                .x = x,
                                .dy = dy,
                                .padded = workspace,
                                .panels = workspace + conv_padded_floats(conv),
                                .accumulate = accumulate,
                                .dweights = dweights};
    pool_run(pool, line.batch * task.padded_height, pad_line, &task);
    pool_run(pool, line.batch * task.height, pack_line, &task);
    pool_run(pool, task.groups * task.strips, run_weights, &task);
}
