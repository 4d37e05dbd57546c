#include "engine/gemm.h"
#include "engine/lanes.h"
#include "engine/mathf.h"

#include <assert.h>
#include <math.h>

#define QUERY_ROWS 96 /* of a block, fewer where the keys are many */

/* y = e^(scale x - maximum) over the visible columns, 0 beyond; returns the sum, gives the maximum of scale x. */
static float exponentials(size_t columns, size_t visible, float factor, const float *x, float *y, float *maximum)
{
    float largest = factor * lanes_max(visible, x); /* rounding is monotonic, factor positive */
    INDEPENDENT
    for (size_t i = 0; i < visible; i++)
        y[i] = math_exp(__builtin_fmaf(factor, x[i], -largest));
    memset(y + visible, 0, (columns - visible) * sizeof(float));
    *maximum = largest;
    return lanes_sum(visible, y);
}

static void multiply(size_t count, float factor, float *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] *= factor;
}

struct softmax_task {
    size_t rows, columns, rows_each;
    float factor;
    bool causal;
    const float *x, *y, *dy;
    float *out;
};

static void softmax_rows(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct softmax_task *task = context;
    size_t columns = task->columns, end = (chunk + 1) * task->rows_each;
    for (size_t row = chunk * task->rows_each; row < end && row < task->rows; row++) {
        float maximum, *y = task->out + row * columns;
        size_t visible = task->causal ? row % columns + 1 : columns;
        float sum = exponentials(columns, visible, task->factor, task->x + row * columns, y, &maximum);
        multiply(visible, 1.0f / sum, y);
    }
}

static void softmax_gradients(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct softmax_task *task = context;
    size_t columns = task->columns, end = (chunk + 1) * task->rows_each;
    for (size_t row = chunk * task->rows_each; row < end && row < task->rows; row++) {
        const float *y = task->y + row * columns, *dy = task->dy + row * columns;
        float *dx = task->out + row * columns, dot = lanes_dot(columns, y, dy), factor = task->factor;
        INDEPENDENT
        for (size_t i = 0; i < columns; i++)
            dx[i] = y[i] * factor * (dy[i] - dot);
    }
}

static void run_softmax(struct pool *pool, struct softmax_task *task,
                        void (*rows)(void *context, size_t chunk, float *scratch))
{
    const size_t chunk_floats = 8192;
    task->rows_each = task->columns < chunk_floats ? chunk_floats / task->columns : 1;
    pool_run(pool, (task->rows + task->rows_each - 1) / task->rows_each, rows, task);
}

void KERNEL(softmax_forward)(struct pool *pool, size_t rows, size_t columns, float scale, bool causal, const float *x,
                             float *y)
{
    struct softmax_task task = {.rows = rows, .columns = columns, .factor = scale, .causal = causal, .x = x, .out = y};
    run_softmax(pool, &task, softmax_rows);
}

void KERNEL(softmax_backward)(struct pool *pool, size_t rows, size_t columns, float scale, const float *y,
                              const float *dy, float *dx)
{
    struct softmax_task task = {.rows = rows, .columns = columns, .factor = scale, .y = y, .dy = dy, .out = dx};
    run_softmax(pool, &task, softmax_gradients);
}

struct attention_task {
    const struct attention *shape;
    size_t rows, blocks; /* queries of a block, blocks of a head */
    float factor;
    const float *q, *k, *v, *out, *dout;
    float *y, *stats, *sums, *dq, *dk, *dv;
};

/* Rows [row, row + rows) of one head of one sample. */
struct head_block {
    size_t row, rows;
    size_t queries, keys; /* offsets of the head in arrays of queries and of keys */
    size_t stats;         /* index of the first row in [batch, heads, queries] */
};

static struct head_block find_block(const struct attention_task *task, size_t head_index, size_t block)
{
    const struct attention *s = task->shape;
    size_t sample = head_index / s->heads, head = head_index % s->heads, row = block * task->rows;
    return (struct head_block){.row = row,
                               .rows = s->queries - row < task->rows ? s->queries - row : task->rows,
                               .queries = ((sample * s->queries + row) * s->heads + head) * s->depth,
                               .keys = (sample * s->keys * s->heads + head) * s->depth,
                               .stats = head_index * s->queries + row};
}

/* A product with the rows of a head: x[rows, keys] = a[rows, depth] b[keys, depth]^T alpha */
static struct gemm scores_of(const struct attention *s, size_t rows, const float *a, const float *b, float alpha,
                             float *x)
{
    size_t stride = s->heads * s->depth;
    return (struct gemm){.m = rows,
                         .n = s->keys,
                         .k = s->depth,
                         .a = a,
                         .lda = stride,
                         .b = b,
                         .ldb = stride,
                         .transpose_b = true,
                         .c = x,
                         .ldc = s->keys,
                         .alpha = alpha};
}

/* y[rows, depth] = x[rows, keys] b[keys, depth] */
static struct gemm values_of(const struct attention *s, size_t rows, const float *x, const float *b, float *y)
{
    size_t stride = s->heads * s->depth;
    return (struct gemm){.m = rows,
                         .n = s->depth,
                         .k = s->keys,
                         .a = x,
                         .lda = s->keys,
                         .b = b,
                         .ldb = stride,
                         .c = y,
                         .ldc = stride,
                         .alpha = 1.0f};
}

/* y[keys, depth] (+)= x[rows, keys]^T b[rows, depth] */
static struct gemm sums_of(const struct attention *s, size_t rows, const float *x, const float *b, bool add, float *y)
{
    size_t stride = s->heads * s->depth;
    return (struct gemm){.m = s->keys,
                         .n = s->depth,
                         .k = rows,
                         .a = x,
                         .lda = s->keys,
                         .transpose_a = true,
                         .b = b,
                         .ldb = stride,
                         .c = y,
                         .ldc = stride,
                         .alpha = 1.0f,
                         .beta = add ? 1.0f : 0.0f};
}

static size_t visible_keys(const struct attention *s, size_t row)
{
    return s->causal && row + 1 < s->keys ? row + 1 : s->keys;
}

static void attend(void *context, size_t chunk, float *scratch)
{
    const struct attention_task *task = context;
    const struct attention *s = task->shape;
    struct head_block block = find_block(task, chunk / task->blocks, chunk % task->blocks);
    float *scores = scratch + GEMM_SCRATCH_FLOATS;
    struct gemm product = scores_of(s, block.rows, task->q + block.queries, task->k + block.keys, 1.0f, scores);
    KERNEL(gemm_serial)(&product, scratch);
    for (size_t i = 0; i < block.rows; i++) {
        float maximum, *row = scores + i * s->keys;
        size_t visible = visible_keys(s, block.row + i);
        float inverse = 1.0f / exponentials(s->keys, visible, task->factor, row, row, &maximum);
        multiply(visible, inverse, row);
        task->stats[(block.stats + i) * 2] = maximum;
        task->stats[(block.stats + i) * 2 + 1] = inverse;
    }
    product = values_of(s, block.rows, scores, task->v + block.keys, task->y + block.queries);
    KERNEL(gemm_serial)(&product, scratch);
}

static float factor_of(const struct attention *attention)
{
    return 1.0f / sqrtf((float)attention->depth);
}

/* As many query rows as leave room for that many arrays of scores. */
static size_t block_rows(const struct attention *attention, size_t arrays)
{
    assert(attention->keys > 0 && attention->keys <= ATTENTION_KEYS_MAX);
    size_t rows = (POOL_SCRATCH_FLOATS - GEMM_SCRATCH_FLOATS) / (arrays * attention->keys);
    return rows < QUERY_ROWS ? rows : QUERY_ROWS;
}

void KERNEL(attention_forward)(struct pool *pool, const struct attention *attention, const float *q, const float *k,
                               const float *v, float *out, float *stats)
{
    struct attention_task task = {.shape = attention,
                                  .rows = block_rows(attention, 1),
                                  .factor = factor_of(attention),
                                  .q = q,
                                  .k = k,
                                  .v = v,
                                  .y = out,
                                  .stats = stats};
    task.blocks = (attention->queries + task.rows - 1) / task.rows;
    pool_run(pool, attention->batch * attention->heads * task.blocks, attend, &task);
}

/* Makes the probabilities again: scores hold q k^T. */
static void recompute(const struct attention_task *task, const struct head_block *block, float *scores)
{
    const struct attention *s = task->shape;
    for (size_t i = 0; i < block->rows; i++) {
        const float *stats = task->stats + (block->stats + i) * 2;
        float *row = scores + i * s->keys, maximum = stats[0], inverse = stats[1];
        size_t visible = visible_keys(s, block->row + i);
        float factor = task->factor;
        INDEPENDENT
        for (size_t j = 0; j < visible; j++)
            row[j] = math_exp(__builtin_fmaf(factor, row[j], -maximum)) * inverse;
        memset(row + visible, 0, (s->keys - visible) * sizeof(float));
    }
}

/* d = p (dp - <dout, out>) scale, over the gradients dp of the probabilities */
static void score_gradients(const struct attention_task *task, const struct head_block *block, const float *p, float *d)
{
    const struct attention *s = task->shape;
    size_t stride = s->heads * s->depth;
    for (size_t i = 0; i < block->rows; i++) {
        size_t at = block->queries + i * stride, end = (i + 1) * s->keys;
        float sum = lanes_dot(s->depth, task->dout + at, task->out + at);
        task->sums[block->stats + i] = sum;
        float factor = task->factor;
        INDEPENDENT
        for (size_t j = i * s->keys; j < end; j++)
            d[j] = p[j] * factor * (d[j] - sum);
    }
}

/* A chunk is a head of a sample, its blocks of queries in order: dk and dv are sums over them. */
static void attend_backward(void *context, size_t chunk, float *scratch)
{
    const struct attention_task *task = context;
    const struct attention *s = task->shape;
    float *p = scratch + GEMM_SCRATCH_FLOATS, *d = p + task->rows * s->keys;
    for (size_t index = 0; index < task->blocks; index++) {
        struct head_block block = find_block(task, chunk, index);
        const float *q = task->q + block.queries, *dout = task->dout + block.queries;
        struct gemm product = scores_of(s, block.rows, q, task->k + block.keys, 1.0f, p);
        KERNEL(gemm_serial)(&product, scratch);
        recompute(task, &block, p);
        if (task->dv) {
            product = sums_of(s, block.rows, p, dout, index > 0, task->dv + block.keys);
            KERNEL(gemm_serial)(&product, scratch);
        }
        if (!task->dq && !task->dk)
            continue;
        product = scores_of(s, block.rows, dout, task->v + block.keys, 1.0f, d);
        KERNEL(gemm_serial)(&product, scratch);
        score_gradients(task, &block, p, d);
        if (task->dq) {
            product = values_of(s, block.rows, d, task->k + block.keys, task->dq + block.queries);
            KERNEL(gemm_serial)(&product, scratch);
        }
        if (task->dk) {
            product = sums_of(s, block.rows, d, q, index > 0, task->dk + block.keys);
            KERNEL(gemm_serial)(&product, scratch);
        }
    }
}

void KERNEL(attention_backward)(struct pool *pool, const struct attention *attention, const float *q, const float *k,
                                const float *v, const float *out, const float *stats, const float *dout, float *dq,
                                float *dk, float *dv, float *workspace)
{
    struct attention_task task = {.shape = attention,
                                  .rows = block_rows(attention, 2),
                                  .factor = factor_of(attention),
                                  .q = q,
                                  .k = k,
                                  .v = v,
                                  .out = out,
                                  .dout = dout,
                                  .stats = (float *)stats,
                                  .sums = workspace,
                                  .dq = dq,
                                  .dk = dk,
                                  .dv = dv};
    task.blocks = (attention->queries + task.rows - 1) / task.rows;
    pool_run(pool, attention->batch * attention->heads, attend_backward, &task);
}
