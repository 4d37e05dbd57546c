#include <assert.h>
#include <math.h>

#include "engine/kernels_table.h"
#include "engine/lanes.h"

#define CHUNK_FLOATS 8192

struct reduction {
    size_t count, each;
    const float *x;
    double sums[REDUCE_CHUNKS_MAX];
};

static void sum_chunk(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    struct reduction *task = context;
    size_t end = (chunk + 1) * task->each;
    end = end < task->count ? end : task->count;
    double sum = 0; /* runs short enough for float, added in double */
    for (size_t first = chunk * task->each; first < end; first += 1024) {
        size_t count = end - first < 1024 ? end - first : 1024;
        sum += (double)lanes_dot(count, task->x + first, task->x + first);
    }
    task->sums[chunk] = sum;
}

double KERNEL(sum_of_squares)(struct pool *pool, size_t count, const float *x)
{
    struct reduction task = {.count = count, .x = x};
    task.each = (count + REDUCE_CHUNKS_MAX - 1) / REDUCE_CHUNKS_MAX;
    task.each = task.each < CHUNK_FLOATS ? CHUNK_FLOATS : task.each;
    size_t chunks = (count + task.each - 1) / task.each;
    pool_run(pool, chunks, sum_chunk, &task);
    double sum = 0;
    for (size_t chunk = 0; chunk < chunks; chunk++)
        sum += task.sums[chunk];
    return sum;
}

struct loss {
    size_t batch, count;
    const float *prediction, *target, *weights;
    float *losses, *gradient;
};

static void sample_loss(void *context, size_t sample, float *scratch)
{
    const struct loss *task = context;
    const float *prediction = task->prediction + sample * task->count, *target = task->target + sample * task->count;
    float weight = task->weights ? task->weights[sample] : 1.0f;
    float factor = 2.0f * weight / (float)task->count / (float)task->batch;
    double sum = 0;
    for (size_t first = 0; first < task->count; first += 1024) {
        size_t count = task->count - first < 1024 ? task->count - first : 1024;
        INDEPENDENT
        for (size_t i = 0; i < count; i++)
            scratch[i] = prediction[first + i] - target[first + i];
        sum += (double)lanes_dot(count, scratch, scratch);
        float *gradient = task->gradient ? task->gradient + sample * task->count + first : NULL;
        if (!gradient)
            continue;
        INDEPENDENT
        for (size_t i = 0; i < count; i++)
            gradient[i] = factor * scratch[i];
    }
    task->losses[sample] = (float)(sum / (double)task->count);
}

double KERNEL(mse)(struct pool *pool, size_t batch, size_t count, const float *prediction, const float *target,
                   const float *weights, float *losses, float *gradient)
{
    struct loss task = {.batch = batch,
                        .count = count,
                        .prediction = prediction,
                        .target = target,
                        .weights = weights,
                        .losses = losses,
                        .gradient = gradient};
    pool_run(pool, batch, sample_loss, &task);
    double sum = 0;
    for (size_t sample = 0; sample < batch; sample++)
        sum += (double)(weights ? weights[sample] : 1.0f) * (double)losses[sample];
    return sum / (double)batch;
}

struct update {
    const struct adamw *optimizer;
    size_t count;
    float keep;               /* 1 - rate decay */
    float correction1, rate2; /* 1 / (1 - beta1^step), and the same of beta2 */
    float *weights, *m, *v;
    const float *gradient;
};

static void update_chunk(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct update *task = context;
    const struct adamw *o = task->optimizer;
    size_t end = (chunk + 1) * CHUNK_FLOATS;
    end = end < task->count ? end : task->count;
    float *w = task->weights, *m = task->m, *v = task->v;
    const float *gradient = task->gradient;
    float beta1 = o->beta1, beta2 = o->beta2, c1 = 1.0f - beta1, c2 = 1.0f - beta2, scale = o->gradient_scale;
    float rate = o->rate, epsilon = o->epsilon, keep = task->keep;
    float correction1 = task->correction1, rate2 = task->rate2;
    INDEPENDENT
    for (size_t i = chunk * CHUNK_FLOATS; i < end; i++) {
        float g = scale * gradient[i];
        m[i] = __builtin_fmaf(beta1, m[i], c1 * g);
        v[i] = __builtin_fmaf(beta2, v[i], c2 * g * g);
        float denominator = sqrtf(v[i] * rate2) + epsilon;
        w[i] = __builtin_fmaf(keep, w[i], -rate * (m[i] * correction1) / denominator);
    }
}

/* 1 / (1 - beta^step) by repeated squaring: pow() differs between C libraries. */
static float bias_correction(float beta, uint64_t step)
{
    double power = 1, square = (double)beta;
    for (uint64_t bits = step; bits; bits >>= 1) {
        if (bits & 1)
            power *= square;
        square *= square;
    }
    return (float)(1.0 / (1.0 - power));
}

void KERNEL(adamw_update)(struct pool *pool, const struct adamw *optimizer, size_t count, float *weights,
                          const float *gradient, float *first_moment, float *second_moment)
{
    assert(optimizer->step > 0);
    struct update task = {.optimizer = optimizer,
                          .count = count,
                          .keep = 1.0f - optimizer->rate * optimizer->decay,
                          .correction1 = bias_correction(optimizer->beta1, optimizer->step),
                          .rate2 = bias_correction(optimizer->beta2, optimizer->step),
                          .weights = weights,
                          .m = first_moment,
                          .v = second_moment,
                          .gradient = gradient};
    pool_run(pool, (count + CHUNK_FLOATS - 1) / CHUNK_FLOATS, update_chunk, &task);
}
