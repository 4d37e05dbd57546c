#include "engine/norm_plan.h"

#include <math.h>
#include <string.h>

#include "engine/kernels_table.h"
#include "engine/lanes.h"
#include "engine/mathf.h"

struct group_task {
    const struct group_norm *norm;
    const float *x, *gamma, *beta, *dy;
    float *y, *stats, *dx;
    float *partial; /* [batch, blocks, 2, groups] forward, [batch, blocks, 2, channels] backward */
    float *totals;  /* [batch, 2, channels] */
    float *means;   /* [batch, groups, 2] */
    bool accumulate;
};

struct block {
    size_t sample, pixels;
    size_t offset; /* of its first value */
};

static struct block block_of(const struct group_norm *norm, size_t chunk)
{
    size_t blocks = group_norm_blocks(norm), first = chunk % blocks * GROUP_NORM_PIXELS, sample = chunk / blocks;
    size_t left = norm->pixels - first;
    return (struct block){.sample = sample,
                          .pixels = left < GROUP_NORM_PIXELS ? left : GROUP_NORM_PIXELS,
                          .offset = (sample * norm->pixels + first) * norm->channels};
}

/* Mean and sum of squared deviations of each group within a block of pixels. */
static void measure_block(void *context, size_t chunk, float *scratch)
{
    const struct group_task *task = context;
    const struct group_norm *norm = task->norm;
    struct block block = block_of(norm, chunk);
    size_t channels = norm->channels, width = channels / norm->groups;
    float *sums = scratch, *mean = scratch + channels, *out = task->partial + chunk * 2 * norm->groups;
    const float *x = task->x + block.offset;

    memset(sums, 0, channels * sizeof(float));
    for (size_t p = 0; p < block.pixels; p++) {
        INDEPENDENT
        for (size_t c = 0; c < channels; c++)
            sums[c] += x[p * channels + c];
    }
    for (size_t g = 0; g < norm->groups; g++) {
        out[2 * g] = lanes_sum(width, sums + g * width) / (float)(block.pixels * width);
        for (size_t c = g * width; c < (g + 1) * width; c++)
            mean[c] = out[2 * g];
    }
    memset(sums, 0, channels * sizeof(float));
    for (size_t p = 0; p < block.pixels; p++) {
        INDEPENDENT
        for (size_t c = 0; c < channels; c++) {
            float d = x[p * channels + c] - mean[c];
            sums[c] = __builtin_fmaf(d, d, sums[c]);
        }
    }
    for (size_t g = 0; g < norm->groups; g++)
        out[2 * g + 1] = lanes_sum(width, sums + g * width);
}

/* Joins the blocks of a sample in order (Chan, Golub, LeVeque 1979). */
static void join_blocks(void *context, size_t sample, float *scratch)
{
    (void)scratch;
    const struct group_task *task = context;
    const struct group_norm *norm = task->norm;
    size_t blocks = group_norm_blocks(norm), width = norm->channels / norm->groups;
    for (size_t g = 0; g < norm->groups; g++) {
        double count = 0, mean = 0, squares = 0;
        for (size_t b = 0; b < blocks; b++) {
            const float *in = task->partial + ((sample * blocks + b) * norm->groups + g) * 2;
            double n = (double)(block_of(norm, sample * blocks + b).pixels * width), delta = in[0] - mean;
            squares += in[1] + delta * delta * (count * n / (count + n));
            mean += delta * (n / (count + n));
            count += n;
        }
        float *stats = task->stats + (sample * norm->groups + g) * 2;
        stats[0] = (float)mean;
        stats[1] = (float)(1.0 / sqrt(squares / count + (double)norm->epsilon));
    }
}

/* Per channel: the group's mean and 1/deviation. */
static void spread_stats(const struct group_task *task, size_t sample, float *mean, float *inverse)
{
    size_t width = task->norm->channels / task->norm->groups;
    const float *stats = task->stats + sample * task->norm->groups * 2;
    for (size_t c = 0; c < task->norm->channels; stats += 2) {
        for (size_t end = c + width; c < end; c++) {
            mean[c] = stats[0];
            inverse[c] = stats[1];
        }
    }
}

static void apply_block(void *context, size_t chunk, float *scratch)
{
    const struct group_task *task = context;
    struct block block = block_of(task->norm, chunk);
    size_t channels = task->norm->channels;
    float *mean = scratch, *factor = scratch + channels;
    const float *x = task->x + block.offset, *beta = task->beta;
    float *y = task->y + block.offset;
    spread_stats(task, block.sample, mean, factor);
    INDEPENDENT
    for (size_t c = 0; c < channels; c++)
        factor[c] *= task->gamma[c];
    for (size_t p = 0; p < block.pixels; p++, x += channels, y += channels) {
        if (task->norm->silu) {
            INDEPENDENT
            for (size_t c = 0; c < channels; c++) {
                float z = __builtin_fmaf(x[c] - mean[c], factor[c], beta[c]);
                y[c] = z * math_sigmoid(z);
            }
        } else {
            INDEPENDENT
            for (size_t c = 0; c < channels; c++)
                y[c] = __builtin_fmaf(x[c] - mean[c], factor[c], beta[c]);
        }
    }
}

void KERNEL(group_norm_forward)(struct pool *pool, const struct group_norm *norm, const float *x, const float *gamma,
                                const float *beta, float *y, float *stats, float *workspace)
{
    struct group_task task = {
        .norm = norm, .x = x, .gamma = gamma, .beta = beta, .y = y, .stats = stats, .partial = workspace};
    size_t chunks = norm->batch * group_norm_blocks(norm);
    pool_run(pool, chunks, measure_block, &task);
    pool_run(pool, norm->batch, join_blocks, &task);
    pool_run(pool, chunks, apply_block, &task);
}

/* d y / d z of y = z sigmoid(z) */
static inline float silu_slope(float z)
{
    float s = math_sigmoid(z);
    return s * __builtin_fmaf(z, 1.0f - s, 1.0f);
}

/* Sums of dz and dz xhat over the pixels of a block, per channel. */
static void measure_gradients(void *context, size_t chunk, float *scratch)
{
    const struct group_task *task = context;
    struct block block = block_of(task->norm, chunk);
    size_t channels = task->norm->channels;
    float *mean = scratch, *inverse = scratch + channels, *factor = scratch + 2 * channels;
    float *sums = task->partial + chunk * 2 * channels, *products = sums + channels;
    const float *x = task->x + block.offset, *dy = task->dy + block.offset, *beta = task->beta;
    spread_stats(task, block.sample, mean, inverse);
    INDEPENDENT
    for (size_t c = 0; c < channels; c++)
        factor[c] = inverse[c] * task->gamma[c];
    memset(sums, 0, 2 * channels * sizeof(float));
    for (size_t p = 0; p < block.pixels; p++, x += channels, dy += channels) {
        if (task->norm->silu) {
            INDEPENDENT
            for (size_t c = 0; c < channels; c++) {
                float centred = x[c] - mean[c];
                float dz = dy[c] * silu_slope(__builtin_fmaf(centred, factor[c], beta[c]));
                sums[c] += dz;
                products[c] = __builtin_fmaf(dz, centred * inverse[c], products[c]);
            }
        } else {
            INDEPENDENT
            for (size_t c = 0; c < channels; c++) {
                sums[c] += dy[c];
                products[c] = __builtin_fmaf(dy[c], (x[c] - mean[c]) * inverse[c], products[c]);
            }
        }
    }
}

static void join_gradients(void *context, size_t sample, float *scratch)
{
    const struct group_task *task = context;
    const struct group_norm *norm = task->norm;
    size_t blocks = group_norm_blocks(norm), channels = norm->channels, width = channels / norm->groups;
    float *totals = task->totals + sample * 2 * channels;
    memset(totals, 0, 2 * channels * sizeof(float));
    for (size_t b = 0; b < blocks; b++) {
        const float *partial = task->partial + (sample * blocks + b) * 2 * channels;
        INDEPENDENT
        for (size_t c = 0; c < 2 * channels; c++)
            totals[c] += partial[c];
    }
    for (size_t g = 0; g < norm->groups; g++) {
        float count = (float)(norm->pixels * width), *means = task->means + (sample * norm->groups + g) * 2;
        for (size_t i = 0; i < 2; i++) {
            for (size_t c = 0; c < width; c++)
                scratch[c] = totals[i * channels + g * width + c] * task->gamma[g * width + c];
            means[i] = lanes_sum(width, scratch) / count;
        }
    }
}

/* dx = (gamma dz - mean(gamma dz) - xhat mean(gamma dz xhat)) / deviation */
static void apply_gradients(void *context, size_t chunk, float *scratch)
{
    const struct group_task *task = context;
    const struct group_norm *norm = task->norm;
    struct block block = block_of(norm, chunk);
    size_t channels = norm->channels, width = channels / norm->groups;
    float *mean = scratch, *inverse = mean + channels, *factor = inverse + channels;
    float *first = factor + channels, *second = first + channels;
    const float *x = task->x + block.offset, *dy = task->dy + block.offset, *gamma = task->gamma, *beta = task->beta;
    float *dx = task->dx + block.offset;
    bool accumulate = task->accumulate, silu = norm->silu;
    spread_stats(task, block.sample, mean, inverse);
    INDEPENDENT
    for (size_t c = 0; c < channels; c++) {
        const float *means = task->means + (block.sample * norm->groups + c / width) * 2;
        factor[c] = inverse[c] * gamma[c];
        first[c] = means[0];
        second[c] = means[1];
    }
    for (size_t p = 0; p < block.pixels; p++, x += channels, dy += channels, dx += channels) {
        float *dz = second + channels;
        if (silu) {
            INDEPENDENT
            for (size_t c = 0; c < channels; c++)
                dz[c] = dy[c] * silu_slope(__builtin_fmaf(x[c] - mean[c], factor[c], beta[c]));
        } else {
            memcpy(dz, dy, channels * sizeof(float));
        }
        INDEPENDENT
        for (size_t c = 0; c < channels; c++) {
            float xhat = (x[c] - mean[c]) * inverse[c];
            float rest = __builtin_fmaf(-xhat, second[c], __builtin_fmaf(gamma[c], dz[c], -first[c]));
            dx[c] = accumulate ? __builtin_fmaf(rest, inverse[c], dx[c]) : rest * inverse[c];
        }
    }
}

void KERNEL(group_norm_backward)(struct pool *pool, const struct group_norm *norm, const float *x, const float *gamma,
                                 const float *beta, const float *stats, const float *dy, bool accumulate, float *dx,
                                 float *dgamma, float *dbeta, float *workspace)
{
    size_t chunks = norm->batch * group_norm_blocks(norm), channels = norm->channels;
    float *totals = workspace + chunks * 2 * channels;
    struct group_task task = {.norm = norm,
                              .x = x,
                              .gamma = gamma,
                              .beta = beta,
                              .dy = dy,
                              .stats = (float *)stats,
                              .dx = dx,
                              .partial = workspace,
                              .totals = totals,
                              .means = totals + norm->batch * 2 * channels,
                              .accumulate = accumulate};
    pool_run(pool, chunks, measure_gradients, &task);
    pool_run(pool, norm->batch, join_gradients, &task);
    if (dx)
        pool_run(pool, chunks, apply_gradients, &task);
    for (size_t sample = 0; sample < norm->batch; sample++) {
        INDEPENDENT
        for (size_t c = 0; c < channels; c++) {
            if (dbeta)
                dbeta[c] += totals[sample * 2 * channels + c];
            if (dgamma)
                dgamma[c] += totals[(sample * 2 + 1) * channels + c];
        }
    }
}

struct layer_task {
    size_t rows, channels, rows_each;
    float epsilon;
    const float *x, *gamma, *beta, *dy;
    float *y, *stats, *dx;
    float *partial; /* [chunks, 2, channels] = sums of dy xhat, of dy; or NULL */
    bool accumulate;
};

static size_t rows_end(const struct layer_task *task, size_t chunk)
{
    size_t end = (chunk + 1) * task->rows_each;
    return end < task->rows ? end : task->rows;
}

static void layer_rows(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct layer_task *task = context;
    size_t channels = task->channels;
    const float *gamma = task->gamma, *beta = task->beta;
    for (size_t row = chunk * task->rows_each; row < rows_end(task, chunk); row++) {
        const float *x = task->x + row * channels;
        float *y = task->y + row * channels;
        float mean = lanes_sum(channels, x) / (float)channels;
        float variance = lanes_spread(channels, x, mean) / (float)channels;
        float inverse = 1.0f / sqrtf(variance + task->epsilon);
        INDEPENDENT
        for (size_t c = 0; c < channels; c++)
            y[c] = __builtin_fmaf((x[c] - mean) * inverse, gamma[c], beta[c]);
        task->stats[row * 2] = mean;
        task->stats[row * 2 + 1] = inverse;
    }
}

void KERNEL(layer_norm_forward)(struct pool *pool, size_t rows, size_t channels, float epsilon, const float *x,
                                const float *gamma, const float *beta, float *y, float *stats)
{
    struct layer_task task = {.rows = rows,
                              .channels = channels,
                              .rows_each = layer_norm_chunk_rows(rows),
                              .epsilon = epsilon,
                              .x = x,
                              .gamma = gamma,
                              .beta = beta,
                              .y = y,
                              .stats = stats};
    pool_run(pool, layer_norm_chunks(rows), layer_rows, &task);
}

/* dx = (gamma dy - mean(gamma dy) - xhat mean(gamma dy xhat)) / deviation */
static void layer_row_gradient(const struct layer_task *task, size_t row, float *scratch)
{
    size_t channels = task->channels;
    const float *x = task->x + row * channels, *dy = task->dy + row * channels;
    float mean = task->stats[row * 2], inverse = task->stats[row * 2 + 1];
    float *dx = task->dx + row * channels, *xhat = scratch, *d = scratch + channels;
    bool accumulate = task->accumulate;
    INDEPENDENT
    for (size_t c = 0; c < channels; c++) {
        xhat[c] = (x[c] - mean) * inverse;
        d[c] = dy[c] * task->gamma[c];
    }
    float first = lanes_sum(channels, d) / (float)channels;
    float second = lanes_dot(channels, d, xhat) / (float)channels;
    INDEPENDENT
    for (size_t c = 0; c < channels; c++) {
        float rest = __builtin_fmaf(-xhat[c], second, d[c] - first);
        dx[c] = accumulate ? __builtin_fmaf(rest, inverse, dx[c]) : rest * inverse;
    }
}

static void layer_gradients(void *context, size_t chunk, float *scratch)
{
    const struct layer_task *task = context;
    size_t channels = task->channels, first = chunk * task->rows_each, end = rows_end(task, chunk);
    if (task->partial) {
        float *dgamma = task->partial + chunk * 2 * channels, *dbeta = dgamma + channels;
        memset(dgamma, 0, 2 * channels * sizeof(float));
        for (size_t row = first; row < end; row++) {
            const float *x = task->x + row * channels, *dy = task->dy + row * channels;
            float mean = task->stats[row * 2], inverse = task->stats[row * 2 + 1];
            INDEPENDENT
            for (size_t c = 0; c < channels; c++) {
                dgamma[c] = __builtin_fmaf(dy[c], (x[c] - mean) * inverse, dgamma[c]);
                dbeta[c] += dy[c];
            }
        }
    }
    for (size_t row = first; task->dx && row < end; row++)
        layer_row_gradient(task, row, scratch);
}

void KERNEL(layer_norm_backward)(struct pool *pool, size_t rows, size_t channels, const float *x, const float *gamma,
                                 const float *stats, const float *dy, bool accumulate, float *dx, float *dgamma,
                                 float *dbeta, float *workspace)
{
    struct layer_task task = {.rows = rows,
                              .channels = channels,
                              .rows_each = layer_norm_chunk_rows(rows),
                              .x = x,
                              .gamma = gamma,
                              .dy = dy,
                              .stats = (float *)stats,
                              .dx = dx,
                              .partial = dgamma || dbeta ? workspace : NULL,
                              .accumulate = accumulate};
    size_t chunks = layer_norm_chunks(rows);
    pool_run(pool, chunks, layer_gradients, &task);
    for (size_t chunk = 0; task.partial && chunk < chunks; chunk++) {
        const float *partial = workspace + chunk * 2 * channels;
        INDEPENDENT
        for (size_t c = 0; c < channels; c++) {
            if (dgamma)
                dgamma[c] += partial[c];
            if (dbeta)
                dbeta[c] += partial[channels + c];
        }
    }
}

struct bias_task {
    size_t rows, channels, rows_each;
    const float *dy;
    float *partial; /* [chunks, channels] */
};

static void bias_rows(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct bias_task *task = context;
    size_t first = chunk * task->rows_each, end = first + task->rows_each;
    float *sums = task->partial + chunk * task->channels;
    memset(sums, 0, task->channels * sizeof(float));
    for (size_t row = first; row < end && row < task->rows; row++) {
        INDEPENDENT
        for (size_t c = 0; c < task->channels; c++)
            sums[c] += task->dy[row * task->channels + c];
    }
}

void KERNEL(bias_backward)(struct pool *pool, size_t rows, size_t channels, const float *dy, bool accumulate,
                           float *dbias, float *workspace)
{
    struct bias_task task = {
        .rows = rows, .channels = channels, .rows_each = layer_norm_chunk_rows(rows), .dy = dy, .partial = workspace};
    size_t chunks = layer_norm_chunks(rows);
    pool_run(pool, chunks, bias_rows, &task);
    if (!accumulate)
        memset(dbias, 0, channels * sizeof(float));
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        INDEPENDENT
        for (size_t c = 0; c < channels; c++)
            dbias[c] += workspace[chunk * channels + c];
    }
}
