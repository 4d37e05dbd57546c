#include <string.h>

#include "engine/kernels_table.h"
#include "engine/lanes.h"
#include "engine/mathf.h"

#define CHUNK_FLOATS 8192 /* about 2 us of work: less is not worth handing out */

/* Every operation here is a loop over some of these; a chunk is a run of values, or of rows. */
struct task {
    size_t count, each; /* values or rows in all and in a chunk */
    size_t channels, channels_b, height, width;
    float alpha, beta;
    enum activation activation;
    bool accumulate;
    const float *a, *b;
    float *y, *y2;
};

struct range {
    size_t first, end;
};

static struct range range_of(const struct task *task, size_t chunk)
{
    size_t end = (chunk + 1) * task->each;
    return (struct range){chunk * task->each, end < task->count ? end : task->count};
}

static void run(struct pool *pool, struct task *task, size_t floats_each,
                void (*loop)(void *context, size_t chunk, float *scratch))
{
    task->each = floats_each < CHUNK_FLOATS ? CHUNK_FLOATS / (floats_each ? floats_each : 1) : 1;
    pool_run(pool, (task->count + task->each - 1) / task->each, loop, task);
}

/* Phi(x), the normal distribution, and its density */
static inline float normal_below(float x)
{
    return 0.5f * (1.0f + math_erf(x * 0.707106781f));
}

static inline float normal_density(float x)
{
    return 0.398942280f * math_exp(-0.5f * x * x);
}

static inline float gelu_slope(float x)
{
    return __builtin_fmaf(x, normal_density(x), normal_below(x));
}

static inline float sigmoid_slope(float x, float rate)
{
    float s = math_sigmoid(rate * x);
    return s * __builtin_fmaf(rate * x, 1.0f - s, 1.0f);
}

static void activate(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    const float *x = task->a;
    float *y = task->y;
    switch (task->activation) {
    case ACTIVATION_SILU:
        INDEPENDENT
        for (size_t i = r.first; i < r.end; i++)
            y[i] = x[i] * math_sigmoid(x[i]);
        break;
    case ACTIVATION_GELU:
        INDEPENDENT
        for (size_t i = r.first; i < r.end; i++)
            y[i] = x[i] * normal_below(x[i]);
        break;
    case ACTIVATION_QUICK_GELU:
        INDEPENDENT
        for (size_t i = r.first; i < r.end; i++)
            y[i] = x[i] * math_sigmoid(1.702f * x[i]);
        break;
    }
}

void KERNEL(activation_forward)(struct pool *pool, enum activation activation, size_t count, const float *x, float *y)
{
    struct task task = {.count = count, .activation = activation, .a = x, .y = y};
    run(pool, &task, 1, activate);
}

static void activate_backward(void *context, size_t chunk, float *scratch)
{
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    const float *x = task->a + r.first, *dy = task->b + r.first;
    float *dx = task->y + r.first;
    size_t count = r.end - r.first;
    switch (task->activation) {
    case ACTIVATION_SILU:
        INDEPENDENT
        for (size_t i = 0; i < count; i++)
            scratch[i] = sigmoid_slope(x[i], 1.0f);
        break;
    case ACTIVATION_GELU:
        INDEPENDENT
        for (size_t i = 0; i < count; i++)
            scratch[i] = gelu_slope(x[i]);
        break;
    case ACTIVATION_QUICK_GELU:
        INDEPENDENT
        for (size_t i = 0; i < count; i++)
            scratch[i] = sigmoid_slope(x[i], 1.702f);
        break;
    }
    bool accumulate = task->accumulate;
    INDEPENDENT
    for (size_t i = 0; i < count; i++)
        dx[i] = accumulate ? __builtin_fmaf(scratch[i], dy[i], dx[i]) : scratch[i] * dy[i];
}

void KERNEL(activation_backward)(struct pool *pool, enum activation activation, size_t count, const float *x,
                                 const float *dy, bool accumulate, float *dx)
{
    struct task task = {.count = count, .activation = activation, .accumulate = accumulate, .a = x, .b = dy, .y = dx};
    run(pool, &task, 1, activate_backward);
}

static void geglu_rows(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t channels = task->channels;
    for (size_t row = r.first; row < r.end; row++) {
        const float *value = task->a + row * 2 * channels, *gate = value + channels;
        float *y = task->y + row * channels;
        INDEPENDENT
        for (size_t c = 0; c < channels; c++)
            y[c] = value[c] * (gate[c] * normal_below(gate[c]));
    }
}

void KERNEL(geglu_forward)(struct pool *pool, size_t rows, size_t channels, const float *x, float *y)
{
    struct task task = {.count = rows, .channels = channels, .a = x, .y = y};
    run(pool, &task, channels, geglu_rows);
}

static void geglu_gradients(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t channels = task->channels;
    for (size_t row = r.first; row < r.end; row++) {
        const float *value = task->a + row * 2 * channels, *gate = value + channels, *dy = task->b + row * channels;
        float *dvalue = task->y + row * 2 * channels, *dgate = dvalue + channels;
        INDEPENDENT
        for (size_t c = 0; c < channels; c++) {
            float below = normal_below(gate[c]), slope = __builtin_fmaf(gate[c], normal_density(gate[c]), below);
            float v = value[c];
            dvalue[c] = dy[c] * (gate[c] * below);
            dgate[c] = dy[c] * v * slope;
        }
    }
}

void KERNEL(geglu_backward)(struct pool *pool, size_t rows, size_t channels, const float *x, const float *dy, float *dx)
{
    struct task task = {.count = rows, .channels = channels, .a = x, .b = dy, .y = dx};
    run(pool, &task, channels, geglu_gradients);
}

/* A row here is a line of the small picture: it makes two lines of the large one. */
static void enlarge(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t channels = task->channels, width = task->width;
    for (size_t line = r.first; line < r.end; line++) {
        float *y = task->y + line * 4 * width * channels;
        for (size_t x = 0; x < width; x++) {
            const float *from = task->a + (line * width + x) * channels;
            memcpy(y + 2 * x * channels, from, channels * sizeof(float));
            memcpy(y + (2 * x + 1) * channels, from, channels * sizeof(float));
        }
        memcpy(y + 2 * width * channels, y, 2 * width * channels * sizeof(float));
    }
}

void KERNEL(upsample2_forward)(struct pool *pool, size_t batch, size_t height, size_t width, size_t channels,
                               const float *x, float *y)
{
    struct task task = {.count = batch * height, .width = width, .channels = channels, .a = x, .y = y};
    run(pool, &task, 4 * width * channels, enlarge);
}

static void reduce(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t channels = task->channels, width = task->width;
    bool accumulate = task->accumulate;
    for (size_t line = r.first; line < r.end; line++) {
        for (size_t x = 0; x < width; x++) {
            const float *upper = task->a + (line * 4 * width + 2 * x) * channels, *lower = upper + 2 * width * channels;
            float *dx = task->y + (line * width + x) * channels;
            INDEPENDENT
            for (size_t c = 0; c < channels; c++) {
                float sum = (upper[c] + upper[channels + c]) + (lower[c] + lower[channels + c]);
                dx[c] = accumulate ? dx[c] + sum : sum;
            }
        }
    }
}

void KERNEL(upsample2_backward)(struct pool *pool, size_t batch, size_t height, size_t width, size_t channels,
                                const float *dy, bool accumulate, float *dx)
{
    struct task task = {
        .count = batch * height, .width = width, .channels = channels, .accumulate = accumulate, .a = dy, .y = dx};
    run(pool, &task, 4 * width * channels, reduce);
}

static void join(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t a = task->channels, b = task->channels_b;
    for (size_t row = r.first; row < r.end; row++) {
        memcpy(task->y + row * (a + b), task->a + row * a, a * sizeof(float));
        memcpy(task->y + row * (a + b) + a, task->b + row * b, b * sizeof(float));
    }
}

void KERNEL(concat_forward)(struct pool *pool, size_t rows, size_t channels_a, size_t channels_b, const float *a,
                            const float *b, float *y)
{
    struct task task = {.count = rows, .channels = channels_a, .channels_b = channels_b, .a = a, .b = b, .y = y};
    run(pool, &task, channels_a + channels_b, join);
}

static void take(bool add, size_t count, const float *from, float *to)
{
    if (!add)
        memcpy(to, from, count * sizeof(float));
    for (size_t i = 0; add && i < count; i++)
        to[i] += from[i];
}

static void split(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t a = task->channels, b = task->channels_b;
    for (size_t row = r.first; row < r.end; row++) {
        const float *from = task->a + row * (a + b);
        if (task->y)
            take(task->accumulate, a, from, task->y + row * a);
        if (task->y2)
            take(task->accumulate, b, from + a, task->y2 + row * b);
    }
}

void KERNEL(concat_backward)(struct pool *pool, size_t rows, size_t channels_a, size_t channels_b, const float *dy,
                             bool accumulate, float *da, float *db)
{
    struct task task = {.count = rows,
                        .channels = channels_a,
                        .channels_b = channels_b,
                        .accumulate = accumulate,
                        .a = dy,
                        .y = da,
                        .y2 = db};
    run(pool, &task, channels_a + channels_b, split);
}

static void combine(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    const float *a = task->a, *b = task->b;
    float *y = task->y, alpha = task->alpha, beta = task->beta;
    INDEPENDENT
    for (size_t i = r.first; i < r.end; i++)
        y[i] = __builtin_fmaf(alpha, a[i], beta * b[i]);
}

void KERNEL(add_scaled)(struct pool *pool, size_t count, float alpha, const float *a, float beta, const float *b,
                        float *y)
{
    struct task task = {.count = count, .alpha = alpha, .beta = beta, .a = a, .b = b, .y = y};
    run(pool, &task, 1, combine);
}

static void add_to(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    const float *a = task->a;
    float *y = task->y, alpha = task->alpha;
    INDEPENDENT
    for (size_t i = r.first; i < r.end; i++)
        y[i] = __builtin_fmaf(alpha, a[i], y[i]);
}

void KERNEL(axpy)(struct pool *pool, size_t count, float alpha, const float *x, float *y)
{
    struct task task = {.count = count, .alpha = alpha, .a = x, .y = y};
    run(pool, &task, 1, add_to);
}

static void multiply(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    const float *a = task->a;
    float *y = task->y, alpha = task->alpha;
    INDEPENDENT
    for (size_t i = r.first; i < r.end; i++)
        y[i] = alpha * a[i];
}

void KERNEL(scale_by)(struct pool *pool, size_t count, float alpha, const float *x, float *y)
{
    struct task task = {.count = count, .alpha = alpha, .a = x, .y = y};
    run(pool, &task, 1, multiply);
}

struct unpacking {
    size_t count;
    const uint16_t *x;
    float *y;
};

static void unpack_chunk(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct unpacking *task = context;
    size_t first = chunk * CHUNK_FLOATS, end = first + CHUNK_FLOATS;
    end = end < task->count ? end : task->count;
    INDEPENDENT
    for (size_t i = first; i < end; i++) {
        uint32_t bits = (uint32_t)task->x[i] << 16;
        memcpy(&task->y[i], &bits, sizeof bits);
    }
}

void KERNEL(unpack_bfloats)(struct pool *pool, size_t count, const uint16_t *x, float *y)
{
    struct unpacking task = {count, x, y};
    pool_run(pool, (count + CHUNK_FLOATS - 1) / CHUNK_FLOATS, unpack_chunk, &task);
}

/* y[row] = a[row] + b[row / width] */
static void add_rows(void *context, size_t chunk, float *scratch)
{
    (void)scratch;
    const struct task *task = context;
    struct range r = range_of(task, chunk);
    size_t channels = task->channels;
    for (size_t row = r.first; row < r.end; row++) {
        const float *x = task->a + row * channels, *bias = task->b + row / task->width * channels;
        float *y = task->y + row * channels;
        INDEPENDENT
        for (size_t c = 0; c < channels; c++)
            y[c] = x[c] + bias[c];
    }
}

void KERNEL(sample_add_forward)(struct pool *pool, size_t batch, size_t pixels, size_t channels, const float *x,
                                const float *add, float *y)
{
    struct task task = {.count = batch * pixels, .width = pixels, .channels = channels, .a = x, .b = add, .y = y};
    run(pool, &task, channels, add_rows);
}

void KERNEL(bias_add)(struct pool *pool, size_t rows, size_t channels, const float *x, const float *bias, float *y)
{
    KERNEL(sample_add_forward)(pool, 1, rows, channels, x, bias, y);
}

static void sum_pixels(void *context, size_t sample, float *scratch)
{
    const struct task *task = context;
    size_t channels = task->channels;
    memset(scratch, 0, channels * sizeof(float));
    for (size_t pixel = sample * task->width; pixel < (sample + 1) * task->width; pixel++) {
        const float *a = task->a + pixel * channels;
        INDEPENDENT
        for (size_t c = 0; c < channels; c++)
            scratch[c] += a[c];
    }
    take(task->accumulate, channels, scratch, task->y + sample * channels);
}

void KERNEL(sample_add_backward)(struct pool *pool, size_t batch, size_t pixels, size_t channels, const float *dy,
                                 bool accumulate, float *dadd)
{
    struct task task = {.width = pixels, .channels = channels, .accumulate = accumulate, .a = dy, .y = dadd};
    pool_run(pool, batch, sum_pixels, &task);
}
