#include "engine/pictures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/mathd.h"

enum { class_pictures_min = 8, class_pictures_max = 100 };

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

/* ---- resampling ---- */

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

/* Rows first: rows[height, side, 3], then columns. */
static void filter_rows(const struct filter *filter, const uint8_t *rgb, size_t width, size_t height, size_t side,
                        float *rows)
{
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < side; x++) {
            const float *weights = filter->weights + x * filter->taps;
            float sum[3] = {0};
            for (size_t i = 0; i < filter->taps && filter->first[x] + i < width; i++) {
                const uint8_t *pixel = rgb + (y * width + filter->first[x] + i) * 3;
                for (int c = 0; c < 3; c++)
                    sum[c] += weights[i] * pixel[c];
            }
            memcpy(rows + (y * side + x) * 3, sum, sizeof sum);
        }
    }
}

static void filter_columns(const struct filter *filter, const float *rows, size_t height, size_t side, float *out)
{
    for (size_t y = 0; y < side; y++) {
        const float *weights = filter->weights + y * filter->taps;
        for (size_t x = 0; x < side * 3; x++) {
            float sum = 0;
            for (size_t i = 0; i < filter->taps && filter->first[y] + i < height; i++)
                sum += weights[i] * rows[(filter->first[y] + i) * side * 3 + x];
            out[y * side * 3 + x] = sum / 127.5f - 1;
        }
    }
}

struct error picture_resample(const uint8_t *rgb, size_t width, size_t height, double left, double top, double window,
                              size_t side, float *out)
{
    struct filter across = {0}, down = {0};
    CLEANUP_FREE float *rows = malloc(height * side * 3 * sizeof *rows);
    struct error error = rows ? filter_init(&across, width, left, window, side) : no_memory();
    if (!error.code)
        error = filter_init(&down, height, top, window, side);
    if (!error.code) {
        filter_rows(&across, rgb, width, height, side, rows);
        filter_columns(&down, rows, height, side, out);
    }
    filter_finish(&across);
    filter_finish(&down);
    return error;
}

/* ---- one picture ---- */

static void set_time_ids(size_t width, size_t height, size_t side, double left, double top, double window,
                         float *time_ids)
{
    double scale = (double)side / window;
    time_ids[0] = (float)height;
    time_ids[1] = (float)width;
    time_ids[2] = (float)nearbyint(top * scale);
    time_ids[3] = (float)nearbyint(left * scale);
    time_ids[4] = time_ids[5] = (float)side;
}

static struct error encode_window(struct base_model *base, const struct picture *source, size_t side, double left,
                                  double top, double window, float *mean, float *deviation)
{
    const struct model_info *info = base->info;
    size_t latent_side = side / info->vae_factor, count = latent_side * latent_side * info->latent_channels;
    CLEANUP_FREE float *picture = malloc(side * side * 3 * sizeof *picture);
    if (!picture)
        return no_memory();
    TRY(picture_resample(source->rgb, source->width, source->height, left, top, window, side, picture));
    TRY(model_encode_image(base->model, 1, side, side, picture, mean, deviation));
    for (size_t i = 0; i < count; i++)
        deviation[i] = (float)mathd_exp(deviation[i] / 2.0);
    return OK;
}

static double short_side(const struct picture *picture)
{
    return (double)(picture->width < picture->height ? picture->width : picture->height);
}

/* The largest square in the middle, encoded once for the whole training. */
static struct error encode_centre(struct pictures *pictures, struct picture *picture)
{
    double window = short_side(picture);
    double left = ((double)picture->width - window) / 2, top = ((double)picture->height - window) / 2;
    picture->mean = malloc(pictures->latent * sizeof(float));
    picture->deviation = malloc(pictures->latent * sizeof(float));
    if (!picture->mean || !picture->deviation)
        return no_memory();
    set_time_ids(picture->width, picture->height, pictures->side, left, top, window, picture->time_ids);
    TRY(encode_window(pictures->base, picture, pictures->side, left, top, window, picture->mean, picture->deviation));
    free(picture->rgb);
    picture->rgb = NULL;
    return OK;
}

static struct error load_picture(struct pictures *pictures, const char *path, const struct picture_io *io,
                                 struct picture *picture)
{
    TRY(io->load_rgb(io->context, path, &picture->rgb, &picture->width, &picture->height));
    return pictures->parameters->random_crop ? OK : encode_centre(pictures, picture);
}

/* ---- captions ---- */

char *pictures_caption(const struct job *job, size_t item)
{
    const char *concept = job->parameters.concept_prompt, *caption = job->items[item].caption;
    char *whole = NULL;
    bool there = !*concept || strcasestr(caption, concept);
    int size =
        there ? asprintf(&whole, "%s", caption) : asprintf(&whole, "%s%s%s", concept, *caption ? ", " : "", caption);
    return size < 0 ? NULL : whole;
}

struct error pictures_encode_captions(struct pictures *pictures, const struct job *job)
{
    for (size_t i = 0; i < pictures->count; i++) {
        CLEANUP_FREE char *caption = pictures_caption(job, i);
        if (!caption)
            return no_memory();
        condition_finish(&pictures->items[i].condition);
        TRY(condition_init(pictures->base, caption, &pictures->items[i].condition));
    }
    if (!*job->parameters.class_prompt)
        return OK;
    condition_finish(&pictures->class_condition);
    return condition_init(pictures->base, job->parameters.class_prompt, &pictures->class_condition);
}

/* ---- all of them ---- */

static struct error load_all(struct pictures *pictures, const char *folder, const struct job *job,
                             const struct picture_io *io, const volatile sig_atomic_t *stop, size_t *at_fault)
{
    for (size_t i = 0; i < job->item_count; i++) {
        CLEANUP_FREE char *path = NULL;
        if (asprintf(&path, "%s/%s", folder, job->items[i].image) < 0)
            return no_memory();
        if (*stop)
            return error_make(ERR_CANCELED, "reading the pictures was interrupted");
        *at_fault = i;
        TRY(load_picture(pictures, path, io, &pictures->items[i]));
    }
    *at_fault = SIZE_MAX;
    return pictures_encode_captions(pictures, job);
}

struct error pictures_load(struct base_model *base, const char *folder, const struct job *job,
                           const struct picture_io *io, const volatile sig_atomic_t *stop, struct pictures **out,
                           size_t *at_fault)
{
    struct pictures *pictures = calloc(1, sizeof *pictures);
    const struct model_info *info = base->info;
    *at_fault = SIZE_MAX;
    if (!pictures)
        return no_memory();
    *pictures = (struct pictures){
        .base = base,
        .parameters = &job->parameters,
        .side = info->sample_size * info->vae_factor,
        .latent = info->sample_size * info->sample_size * info->latent_channels,
        .count = job->item_count,
        .items = calloc(job->item_count, sizeof *pictures->items),
    };
    struct error error = pictures->items ? load_all(pictures, folder, job, io, stop, at_fault) : no_memory();
    if (error.code)
        pictures_destroy(pictures);
    else
        *out = pictures;
    return error;
}

void pictures_destroy(struct pictures *pictures)
{
    if (!pictures)
        return;
    for (size_t i = 0; pictures->items && i < pictures->count; i++) {
        free(pictures->items[i].mean);
        free(pictures->items[i].deviation);
        free(pictures->items[i].rgb);
        condition_finish(&pictures->items[i].condition);
    }
    condition_finish(&pictures->class_condition);
    free(pictures->class_latents);
    free(pictures->items);
    free(pictures);
}

struct error pictures_draw_class(struct pictures *pictures, const struct job *job, const volatile sig_atomic_t *stop)
{
    struct picture_request request = {
        .prompt = job->parameters.class_prompt, .width = pictures->side, .height = pictures->side};
    size_t count = pictures->count < class_pictures_min ? class_pictures_min : pictures->count;
    pictures->class_count = count > class_pictures_max ? class_pictures_max : count;
    pictures->class_latents = malloc(pictures->class_count * pictures->latent * sizeof(float));
    if (!pictures->class_latents)
        return no_memory();
    TRY(picture_resolve(pictures->base, &request));
    for (size_t i = 0; i < pictures->class_count; i++) {
        struct rng noise = {.seed = job->seed, .purpose = RNG_CLASS, .index = (uint32_t)i};
        TRY(picture_latents(pictures->base, &request, &noise, stop, pictures->class_latents + i * pictures->latent));
    }
    return OK;
}

/* ---- a step's draw ---- */

/* With probability crop_ratio a window of crop_scale times the largest square, anywhere; else the square in the middle.
 */
static struct error encode_random(const struct pictures *pictures, const struct picture *picture, uint64_t seed,
                                  uint32_t step, uint32_t place, float *mean, float *deviation, float *time_ids)
{
    struct rng rng = {.seed = seed, .purpose = RNG_CROP, .step = step, .index = place};
    bool random = rng_uniform(&rng, 0) < pictures->parameters->crop_ratio;
    double window = short_side(picture) * (random ? pictures->parameters->crop_scale : 1);
    double left = ((double)picture->width - window) * (random ? rng_uniform(&rng, 1) : 0.5);
    double top = ((double)picture->height - window) * (random ? rng_uniform(&rng, 2) : 0.5);
    float ids[6];
    set_time_ids(picture->width, picture->height, pictures->side, left, top, window, ids);
    if (time_ids)
        memcpy(time_ids, ids, sizeof ids);
    return encode_window(pictures->base, picture, pictures->side, left, top, window, mean, deviation);
}

struct error pictures_draw(const struct pictures *pictures, size_t item, uint64_t seed, uint32_t step, uint32_t place,
                           float *latent, float *time_ids)
{
    const struct picture *picture = &pictures->items[item];
    const struct model_info *info = pictures->base->info;
    struct rng rng = {.seed = seed, .purpose = RNG_POSTERIOR, .step = step, .index = place};
    CLEANUP_FREE float *moments = NULL;
    const float *mean = picture->mean, *deviation = picture->deviation;
    if (time_ids)
        memcpy(time_ids, picture->time_ids, sizeof picture->time_ids);
    if (!mean) {
        moments = malloc(2 * pictures->latent * sizeof *moments);
        if (!moments)
            return no_memory();
        TRY(encode_random(pictures, picture, seed, step, place, moments, moments + pictures->latent, time_ids));
        mean = moments;
        deviation = moments + pictures->latent;
    }
    rng_normal(&rng, pictures->latent, latent);
    for (size_t i = 0; i < pictures->latent; i++)
        latent[i] = mean[i] + deviation[i] * latent[i];
    latents_scale(info, pictures->latent / info->latent_channels, latent);
    return OK;
}
