/* Implicit GEMM: rows are output pixels, k runs over taps and channels. Taps outside the picture read a row of zeros,
 * or are left out where that goes for a whole tile: adding products with zero changes no sum. */
#include "engine/conv_plan.h"
#include "engine/tile.h"
#include "engine/winograd.h"

#include <assert.h>

#define BLOCK_ROWS 96 /* pixels of a chunk at most: their pointers for 9 taps stay in the first-level cache */
#define BANDS 9       /* kinds of pixels by which taps they lack */
#define RUN_ROWS_MIN                                                                                                   \
    4 /* fewer pixels of a kind are computed with the next ones: a tile of fewer rows waits for itself */

struct gather_task {
    const struct conv_gather *gather;
    size_t batch, grid; /* pixels of the grid over the batch */
    size_t rows, panels_each, panel_blocks;
    const float *source, *packed, *bias;
    float *target;
    bool accumulate;
};

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* The grid in three bands a side: where taps fall outside above or left, nowhere, below or right. Pixels are taken band
 * by band over the whole batch, so that neighbours lack the same taps, and those are left out for all of them. */
struct walk {
    size_t lines[4], columns[4]; /* where each band begins, and the end */
    size_t batch;
    size_t line_band, column_band, sample, y, x;
};

static void set_bands(size_t grid, size_t source, size_t step, size_t taps, const int *delta, size_t bands[4])
{
    int least = 0, most = 0;
    for (size_t t = 0; t < taps; t++) {
        least = delta[t] < least ? delta[t] : least;
        most = delta[t] > most ? delta[t] : most;
    }
    size_t first = ceil_div((size_t)-least, step);
    size_t last = source > (size_t)most ? ceil_div(source - (size_t)most, step) : 0;
    bands[0] = 0;
    bands[1] = first < grid ? first : grid;
    bands[2] = last < bands[1] ? bands[1] : last < grid ? last : grid;
    bands[3] = grid;
}

static size_t walk_lines(const struct walk *walk)
{
    return walk->lines[walk->line_band + 1] - walk->lines[walk->line_band];
}

static size_t walk_columns(const struct walk *walk)
{
    return walk->columns[walk->column_band + 1] - walk->columns[walk->column_band];
}

static void next_band(struct walk *walk)
{
    if (++walk->column_band == 3) {
        walk->column_band = 0;
        walk->line_band++;
    }
}

/* At the row-th pixel; there is one. */
static void walk_start(struct walk *walk, const struct conv_gather *g, size_t batch, size_t row)
{
    *walk = (struct walk){.batch = batch};
    set_bands(g->grid_height, g->source_height, g->source_step, g->taps, g->dy, walk->lines);
    set_bands(g->grid_width, g->source_width, g->source_step, g->taps, g->dx, walk->columns);
    for (size_t pixels; row >= (pixels = batch * walk_lines(walk) * walk_columns(walk)); next_band(walk))
        row -= pixels;
    size_t lines = walk_lines(walk), columns = walk_columns(walk);
    walk->x = walk->columns[walk->column_band] + row % columns;
    walk->y = walk->lines[walk->line_band] + row / columns % lines;
    walk->sample = row / columns / lines;
}

enum move { BESIDE, NEXT_LINE, NEXT_BAND };

/* There is a next pixel. */
static enum move walk_on(struct walk *walk)
{
    if (++walk->x < walk->columns[walk->column_band + 1])
        return BESIDE;
    walk->x = walk->columns[walk->column_band];
    if (++walk->y < walk->lines[walk->line_band + 1])
        return NEXT_LINE;
    walk->y = walk->lines[walk->line_band];
    if (++walk->sample < walk->batch)
        return NEXT_LINE;
    walk->sample = 0;
    do
        next_band(walk);
    while (!walk_lines(walk) || !walk_columns(walk));
    walk->x = walk->columns[walk->column_band];
    walk->y = walk->lines[walk->line_band];
    return NEXT_BAND;
}

/* What each tap of the pixel reads. */
static void find_taps(const struct gather_task *task, const struct walk *walk, const float *zeros, const float *taps[9])
{
    const struct conv_gather *g = task->gather;
    const float *source = task->source + walk->sample * g->source_height * g->source_width * g->source_channels;
    for (size_t t = 0; t < g->taps; t++) {
        ptrdiff_t y = (ptrdiff_t)(walk->y * g->source_step) + g->dy[t];
        ptrdiff_t x = (ptrdiff_t)(walk->x * g->source_step) + g->dx[t];
        bool inside = y >= 0 && x >= 0 && y < (ptrdiff_t)g->source_height && x < (ptrdiff_t)g->source_width;
        taps[t] = inside ? source + ((size_t)y * g->source_width + (size_t)x) * g->source_channels : zeros;
    }
}

/* Pointers for pixels [row, row + rows): a[taps][BLOCK_ROWS] into the source, c[rows] into the target. Rows from
 * ends[i - 1] up to ends[i] lack the same taps, save where there are few. Returns the number of ends. */
static size_t find_pixels(const struct gather_task *task, size_t row, size_t rows, const float *zeros, const float **a,
                          float **c, size_t ends[BANDS])
{
    const struct conv_gather *g = task->gather;
    const float *taps[9];
    struct walk walk;
    size_t runs = 0, begun = 0;
    if (g->taps == 1 && g->source_step == 1 && g->target_step == 1) { /* a linear layer */
        for (size_t i = 0; i < rows; i++) {
            a[i] = task->source + (row + i) * g->source_channels;
            c[i] = task->target + (row + i) * g->target_channels;
        }
        ends[0] = rows;
        return 1;
    }
    walk_start(&walk, g, task->batch, row);
    for (size_t i = 0; i < rows; i++) {
        enum move move = i > 0 ? walk_on(&walk) : NEXT_LINE;
        if (move == NEXT_BAND && i - begun >= RUN_ROWS_MIN)
            ends[runs++] = begun = i;
        bool shifted = move == BESIDE && walk.column_band == 1; /* no tap leaves the picture to the side */
        for (size_t t = 0; shifted && t < g->taps; t++)
            taps[t] += taps[t] == zeros ? 0 : g->source_step * g->source_channels;
        if (!shifted)
            find_taps(task, &walk, zeros, taps);
        for (size_t t = 0; t < g->taps; t++)
            a[t * BLOCK_ROWS + i] = taps[t];
        size_t target = (walk.sample * g->target_height + walk.y * g->target_step + g->target_y) * g->target_width +
                        walk.x * g->target_step + g->target_x;
        c[i] = task->target + target * g->target_channels;
    }
    ends[runs++] = rows;
    return runs;
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
    size_t ends[BANDS], runs = find_pixels(task, row, rows, scratch, a, c, ends);

    size_t depth = g->taps * g->source_channels;
    size_t column = chunk % task->panel_blocks * task->panels_each * PANEL;
    size_t end = column + task->panels_each * PANEL;
    end = end < g->target_channels ? end : g->target_channels;
    struct strip strip = {.a_stride = BLOCK_ROWS, .zeros = scratch, .panel_stride = depth * PANEL, .beta = 1.0f};
    struct pass pass = {0};
    while (pass_next(&pass, g->taps, g->source_channels)) {
        bool begins = pass.start == 0;
        strip.segments = pass.segments;
        strip.length = pass.length;
        strip.first = pass.first;
        for (size_t n = column; n < end; n += STRIP_COLUMNS) {
            strip.columns = end - n < STRIP_COLUMNS ? end - n : STRIP_COLUMNS;
            strip.column = n;
            strip.b = task->packed + n * depth + pass.start * PANEL;
            strip.load = !begins || task->accumulate;
            strip.bias = begins && task->bias ? task->bias + n : NULL;
            for (size_t run = 0, begin = 0; run < runs; begin = ends[run++]) {
                strip.rows = ends[run] - begin;
                strip.a = a + pass.segment * BLOCK_ROWS + begin;
                strip.c = c + begin;
                KERNEL(strip_run)(&strip);
            }
        }
    }
}

static void gather(struct pool *pool, struct gather_task *task, size_t batch)
{
    const size_t chunks_wanted = 32, panels_min = 2;
    const struct conv_gather *g = task->gather;
    size_t panels = ceil_div(g->target_channels, PANEL);
    assert(g->source_channels <= POOL_SCRATCH_FLOATS);
    task->batch = batch;
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
    if (conv->winograd) {
        KERNEL(winograd)(pool, conv, false, x, packed, bias, accumulate, y);
        return;
    }
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
    if (conv->winograd) {
        KERNEL(winograd)(pool, conv, true, dy, packed_backward, NULL, accumulate, dx);
        return;
    }
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
    float *padded; /* [groups][batch][padded_height][padded_width][PACK_ROWS], or NULL: x is read in place */
    size_t group_stride, pixel_stride; /* of what is read, in floats */
    float *panels;                     /* [out / PANEL][pixels][PANEL] */
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
    size_t group_stride = task->group_stride;
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

/* Outputs o in [first, end) have their tap o * stride + tap - padding inside the picture. */
struct inside {
    size_t first, end;
};

static struct inside inside_of(const struct conv *conv, size_t tap, size_t size, size_t first, size_t end)
{
    size_t padding = conv_padding(conv), least = tap < padding ? ceil_div(padding - tap, conv->stride) : 0;
    size_t most = size + padding > tap ? ceil_div(size + padding - tap, conv->stride) : 0;
    return (struct inside){least > first ? least : first, most < end ? most : end};
}

/* The lines of a pass that tap t reads, cut to what it reads of them: strip->offsets, terms, segments, length. */
static void set_lines(const struct weights_task *task, const struct pass *pass, size_t t, struct strip *strip,
                      size_t *offsets, size_t *terms)
{
    const struct conv *conv = task->conv;
    size_t ky = t / conv->kernel, kx = t % conv->kernel, kept = 0;
    struct inside x = inside_of(conv, kx, conv->width, pass->first, pass->first + pass->length);
    struct inside y = inside_of(conv, ky, conv->height, 0, task->height);
    size_t sample = pass->segment / task->height, line = pass->segment % task->height;
    for (size_t s = 0; s < pass->segments && x.first < x.end; s++) {
        if (line >= y.first && line < y.end) {
            size_t from = sample * task->padded_height + line * conv->stride + ky;
            offsets[kept] = (from * task->padded_width + x.first * conv->stride + kx) * task->pixel_stride;
            terms[kept++] = s * pass->length + x.first - pass->first;
        }
        if (++line == task->height) {
            line = 0;
            sample++;
        }
    }
    strip->segments = kept;
    strip->length = x.end - x.first;
}

/* A group of input channels by a strip of output channels, all taps; k runs over the lines of dy. */
static void run_weights(void *context, size_t chunk, float *scratch)
{
    const struct weights_task *task = context;
    const struct conv *conv = task->conv;
    size_t group = chunk / task->strips, column = chunk % task->strips * STRIP_COLUMNS;
    size_t taps = (size_t)conv->kernel * conv->kernel, pixels = conv->batch * task->height * task->width;
    size_t rows = conv->in - group * PACK_ROWS < PACK_ROWS ? conv->in - group * PACK_ROWS : PACK_ROWS;
    size_t offsets[PASS_DEPTH], terms[PASS_DEPTH];
    float *c[9 * PACK_ROWS];
    for (size_t i = 0; i < taps * PACK_ROWS; i++)
        c[i] = scratch + i * STRIP_COLUMNS;
    struct strip strip = {.rows = rows,
                          .columns = conv->out - column < STRIP_COLUMNS ? conv->out - column : STRIP_COLUMNS,
                          .packed = (task->padded ? task->padded : task->x) + group * task->group_stride,
                          .offsets = offsets,
                          .terms = terms,
                          .packed_step = conv->stride * task->pixel_stride,
                          .panel_stride = pixels * PANEL,
                          .beta = 1.0f};
    struct pass pass = {0};
    while (pass_next(&pass, conv->batch * task->height, task->width)) {
        strip.b = task->panels + column * pixels + pass.start * PANEL;
        strip.load = pass.start > 0;
        for (size_t t = 0; t < taps; t++) {
            set_lines(task, &pass, t, &strip, offsets, terms);
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
    bool in_place = conv->kernel == 1 && conv->out <= PANEL; /* read once: a copy would not pay */
    struct weights_task task = {.conv = &line,
                                .height = conv_out_height(&line),
                                .width = conv_out_width(&line),
                                .padded_height = conv_padded_height(&line),
                                .padded_width = conv_padded_width(&line),
                                .groups = ceil_div(conv->in, PACK_ROWS),
                                .strips = ceil_div(conv->out, STRIP_COLUMNS),
                                .x = x,
                                .dy = dy,
                                .padded = in_place ? NULL : workspace,
                                .panels = workspace + conv_padded_floats(conv),
                                .accumulate = accumulate,
                                .dweights = dweights};
    size_t pixels = line.batch * task.padded_height * task.padded_width;
    task.group_stride = in_place ? PACK_ROWS : pixels * PACK_ROWS;
    task.pixel_stride = in_place ? conv->in : PACK_ROWS;
    if (!in_place)
        pool_run(pool, line.batch * task.padded_height, pad_line, &task);
    pool_run(pool, line.batch * task.height, pack_line, &task);
    pool_run(pool, task.groups * task.strips, run_weights, &task);
}
