#include "engine/winograd.h"

#include <assert.h>
#include <string.h>

#include "engine/tile.h"

#define POINTS 16    /* numbers of a 4 x 4 tile of the source, and of its transform */
#define TILES_MAX 24 /* of a chunk: whole tiles of rows in every kernel set */
#define SIDE 2       /* of the target's pixels that a tile gives */
#define CHUNKS_MIN 8 /* wanted, for a few threads to share */

struct task {
    size_t height, width, source_channels, target_channels;
    size_t lines, columns; /* tiles of a picture */
    size_t tiles;          /* of the batch */
    size_t tiles_each, channels_each, blocks;
    const float *source, *packed, *bias;
    float *target;
    bool accumulate;
};

struct place {
    size_t sample, y, x; /* of the tile's first target pixel */
};

static struct place place_of(const struct task *task, size_t tile)
{
    return (struct place){.sample = tile / (task->lines * task->columns),
                          .y = tile / task->columns % task->lines * SIDE,
                          .x = tile % task->columns * SIDE};
}

/* B^T d for four vectors: rows of B^T are (1 0 -1 0), (0 1 1 0), (0 -1 1 0), (0 1 0 -1). */
static inline void transform_four(const vec d[4], vec out[4])
{
    out[0] = d[0] - d[2];
    out[1] = d[1] + d[2];
    out[2] = d[2] - d[1];
    out[3] = d[1] - d[3];
}

/* v[point][tile][channels] = B^T d B of the 4 x 4 pixels round a tile; outside the picture is zero. */
static void transform_source(const struct task *task, size_t tile, const float *zeros, float *v, size_t point_stride)
{
    const struct place place = place_of(task, tile);
    const size_t channels = task->source_channels;
    const float *pixels[POINTS];
    for (size_t i = 0; i < POINTS; i++) {
        size_t y = place.y + i / 4 - 1, x = place.x + i % 4 - 1; /* wraps to huge where above or left of the picture */
        bool inside = y < task->height && x < task->width;
        pixels[i] = inside ? task->source + ((place.sample * task->height + y) * task->width + x) * channels : zeros;
    }
    for (size_t c = 0; c < channels; c += LANES) {
        vec columns[4][4], rows[4]; /* columns[x][y], transformed along y */
        for (size_t x = 0; x < 4; x++) {
            const vec d[4] = {VEC_LOAD(pixels[x] + c), VEC_LOAD(pixels[4 + x] + c), VEC_LOAD(pixels[8 + x] + c),
                              VEC_LOAD(pixels[12 + x] + c)};
            transform_four(d, columns[x]);
        }
        for (size_t y = 0; y < 4; y++) {
            const vec d[4] = {columns[0][y], columns[1][y], columns[2][y], columns[3][y]};
            transform_four(d, rows);
            for (size_t x = 0; x < 4; x++)
                VEC_STORE(v + (4 * y + x) * point_stride + c, rows[x]);
        }
    }
}

/* A^T m for four vectors: rows of A^T are (1 1 1 0), (0 1 -1 -1). */
static inline void gather_two(const vec m[4], vec out[2])
{
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[1] - m[2] - m[3];
}

/* The tile's pixels of some target channels from m[point][tile][STRIP_COLUMNS]. */
static void write_target(const struct task *task, size_t tile, size_t channel, size_t count, const float *m,
                         size_t point_stride)
{
    const struct place place = place_of(task, tile);
    for (size_t c = 0; c < count; c += LANES) {
        vec columns[4][2], out[2][2]; /* columns[x][y], gathered along y */
        for (size_t x = 0; x < 4; x++) {
            const vec d[4] = {VEC_LOAD(m + x * point_stride + c), VEC_LOAD(m + (4 + x) * point_stride + c),
                              VEC_LOAD(m + (8 + x) * point_stride + c), VEC_LOAD(m + (12 + x) * point_stride + c)};
            gather_two(d, columns[x]);
        }
        for (size_t y = 0; y < SIDE; y++) {
            const vec d[4] = {columns[0][y], columns[1][y], columns[2][y], columns[3][y]};
            gather_two(d, out[y]);
        }
        for (size_t i = 0; i < SIDE * SIDE; i++) {
            size_t y = place.y + i / SIDE, x = place.x + i % SIDE;
            if (y >= task->height || x >= task->width)
                continue;
            float *to = task->target + ((place.sample * task->height + y) * task->width + x) * task->target_channels +
                        channel + c;
            vec value = out[i / SIDE][i % SIDE];
            if (task->bias)
                value += VEC_LOAD(task->bias + channel + c);
            if (task->accumulate)
                value += VEC_LOAD(to);
            VEC_STORE(to, value);
        }
    }
}

/* m[point][tile][columns] = v[point][tile][source_channels] times the point's weights, for all points. */
static void multiply(const struct task *task, size_t tiles, size_t channel, size_t columns, const float *v, float *m)
{
    const size_t channels = task->source_channels;
    const float *a[TILES_MAX];
    float *c[TILES_MAX];
    struct strip strip = {.rows = tiles,
                          .columns = columns,
                          .segments = 1,
                          .a = a,
                          .panel_stride = channels * PANEL,
                          .c = c,
                          .beta = 1.0f};
    for (size_t point = 0; point < POINTS; point++) {
        const float *weights = task->packed + (point * task->target_channels + channel) * channels;
        for (size_t i = 0; i < tiles; i++) {
            a[i] = v + (point * tiles + i) * channels;
            c[i] = m + (point * tiles + i) * STRIP_COLUMNS;
        }
        struct pass pass = {0};
        while (pass_next(&pass, 1, channels)) {
            strip.length = pass.length;
            strip.first = pass.first;
            strip.b = weights + pass.start * PANEL;
            strip.load = pass.start > 0;
            KERNEL(strip_run)(&strip);
        }
    }
}

static void run_tiles(void *context, size_t chunk, float *scratch)
{
    const struct task *task = context;
    const size_t channels = task->source_channels, first = chunk / task->blocks * task->tiles_each;
    const size_t tiles = task->tiles - first < task->tiles_each ? task->tiles - first : task->tiles_each;
    float *zeros = scratch, *v = zeros + channels, *m = v + POINTS * tiles * channels;
    memset(zeros, 0, channels * sizeof *zeros);
    for (size_t i = 0; i < tiles; i++)
        transform_source(task, first + i, zeros, v + i * channels, tiles * channels);
    size_t channel = chunk % task->blocks * task->channels_each, end = channel + task->channels_each;
    end = end < task->target_channels ? end : task->target_channels;
    for (; channel < end; channel += STRIP_COLUMNS) {
        size_t columns = end - channel < STRIP_COLUMNS ? end - channel : STRIP_COLUMNS;
        multiply(task, tiles, channel, columns, v, m);
        for (size_t i = 0; i < tiles; i++)
            write_target(task, first + i, channel, columns, m + i * STRIP_COLUMNS, tiles * STRIP_COLUMNS);
    }
}

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Chunks of tiles; where there are few, of target channels too, each of which transforms the source again. */
static void plan(struct task *task)
{
    const size_t strip = 32; /* of every kernel set */
    size_t room = (POOL_SCRATCH_FLOATS - task->source_channels) / (POINTS * (task->source_channels + strip));
    assert(room >= 1);
    task->tiles_each = room < TILES_MAX ? room : TILES_MAX;
    task->channels_each = ceil_div(task->target_channels, strip) * strip;
    size_t chunks = ceil_div(task->tiles, task->tiles_each);
    while (chunks * ceil_div(task->target_channels, task->channels_each) < CHUNKS_MIN && task->channels_each > strip)
        task->channels_each = ceil_div(task->channels_each, 2 * strip) * strip;
    task->blocks = ceil_div(task->target_channels, task->channels_each);
}

void KERNEL(winograd)(struct pool *pool, const struct conv *conv, bool backward, const float *source,
                      const float *packed, const float *bias, bool accumulate, float *target)
{
    struct task task = {.height = conv->height,
                        .width = conv->width,
                        .source_channels = backward ? conv->out : conv->in,
                        .target_channels = backward ? conv->in : conv->out,
                        .lines = ceil_div(conv->height, SIDE),
                        .columns = ceil_div(conv->width, SIDE),
                        .source = source,
                        .packed = packed,
                        .bias = bias,
                        .target = target,
                        .accumulate = accumulate};
    task.tiles = conv->batch * task.lines * task.columns;
    plan(&task);
    pool_run(pool, ceil_div(task.tiles, task.tiles_each) * task.blocks, run_tiles, &task);
}
