#include "engine/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

struct filter { /* for each output pixel, the first input pixel and the weights of those from there */
    size_t taps;
    size_t *first;
    float *weights; /* [outputs, taps] */
};

static void filter_finish(struct filter *filter)
{
    free(filter->first);
    free(filter->weights);
}

static void fill_weights(struct filter *filter, size_t at, size_t length, double centre, double radius)
{
    double sum = 0, first = fmax(ceil(centre - radius - 0.5), 0);
    float *weights = filter->weights + at * filter->taps;
    filter->first[at] = (size_t)fmin(first, (double)length - 1);
    for (size_t i = 0; i < filter->taps; i++) {
        size_t pixel = filter->first[at] + i;
        double weight = pixel < length ? fmax(0, 1 - fabs((double)pixel + 0.5 - centre) / radius) : 0;
        weights[i] = (float)weight;
        sum += weight;
    }
    for (size_t i = 0; i < filter->taps; i++)
        weights[i] = sum > 0 ? (float)(weights[i] / sum) : i == 0;
}

static struct error filter_init(struct filter *filter, size_t length, double start, double window, size_t outputs)
{
    double scale = window / (double)outputs, radius = fmax(scale, 1);
    filter->taps = (size_t)ceil(2 * radius) + 2;
    filter->first = calloc(outputs, sizeof *filter->first);
    filter->weights = calloc(outputs * filter->taps, sizeof *filter->weights);
    if (!filter->first || !filter->weights)
        return no_memory();
    for (size_t i = 0; i < outputs; i++)
        fill_weights(filter, i, length, start + ((double)i + 0.5) * scale, radius);
    return OK;
}

/* Rows first: rows[height, out_width, 3], then columns. */
static void filter_rows(const struct filter *filter, const uint8_t *rgb, size_t width, size_t height, size_t out_width,
                        float *rows)
{
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < out_width; x++) {
            const float *weights = filter->weights + x * filter->taps;
            float sum[3] = {0};
            for (size_t i = 0; i < filter->taps && filter->first[x] + i < width; i++) {
                const uint8_t *pixel = rgb + (y * width + filter->first[x] + i) * 3;
                for (int c = 0; c < 3; c++)
                    sum[c] += weights[i] * pixel[c];
            }
            memcpy(rows + (y * out_width + x) * 3, sum, sizeof sum);
        }
    }
}

static void filter_columns(const struct filter *filter, const float *rows, size_t height, size_t out_height,
                           size_t out_width, float *out)
{
    for (size_t y = 0; y < out_height; y++) {
        const float *weights = filter->weights + y * filter->taps;
        for (size_t x = 0; x < out_width * 3; x++) {
            float sum = 0;
            for (size_t i = 0; i < filter->taps && filter->first[y] + i < height; i++)
                sum += weights[i] * rows[(filter->first[y] + i) * out_width * 3 + x];
            out[y * out_width * 3 + x] = sum / 127.5f - 1;
        }
    }
}

struct window window_of_shape(size_t width, size_t height, double shape_width, double shape_height, double scale,
                              double x, double y)
{
    double unit = fmin((double)width / shape_width, (double)height / shape_height) * scale;
    struct window window = {.width = unit * shape_width, .height = unit * shape_height};
    window.left = ((double)width - window.width) * x;
    window.top = ((double)height - window.height) * y;
    return window;
}

struct error picture_resample(const uint8_t *rgb, size_t width, size_t height, const struct window *window,
                              size_t out_height, size_t out_width, float *out)
{
    struct filter across = {0}, down = {0};
    CLEANUP_FREE float *rows = malloc(height * out_width * 3 * sizeof *rows);
    struct error error = rows ? filter_init(&across, width, window->left, window->width, out_width) : no_memory();
    if (!error.code)
        error = filter_init(&down, height, window->top, window->height, out_height);
    if (!error.code) {
        filter_rows(&across, rgb, width, height, out_width, rows);
        filter_columns(&down, rows, height, out_height, out_width, out);
    }
    filter_finish(&across);
    filter_finish(&down);
    return error;
}
