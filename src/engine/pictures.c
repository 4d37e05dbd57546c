#include "engine/pictures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "engine/mathd.h"
#include "engine/resample.h"

enum { class_pictures_min = 8, class_pictures_max = 100 };

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

/* ---- one picture ---- */

static const struct bucket *bucket_of(const struct pictures *pictures, const struct picture *picture)
{
    return &pictures->buckets[picture->bucket];
}

size_t pictures_latent(const struct pictures *pictures, const struct picture *picture)
{
    const struct bucket *bucket = bucket_of(pictures, picture);
    return bucket->height * bucket->width * pictures->base->info->latent_channels;
}

static struct window window_at(const struct pictures *pictures, const struct picture *picture, double scale, double x,
                               double y)
{
    const struct bucket *bucket = bucket_of(pictures, picture);
    return window_of_shape(picture->width, picture->height, (double)bucket->width, (double)bucket->height, scale, x, y);
}

/* Original size, the crop's corner after resizing, size trained on; each height first. */
static void set_time_ids(const struct pictures *pictures, const struct picture *picture, const struct window *window,
                         float time_ids[6])
{
    const struct bucket *bucket = bucket_of(pictures, picture);
    size_t factor = pictures->base->info->vae_factor;
    double height = (double)(bucket->height * factor), width = (double)(bucket->width * factor);
    time_ids[0] = (float)picture->height;
    time_ids[1] = (float)picture->width;
    time_ids[2] = (float)nearbyint(window->top * height / window->height);
    time_ids[3] = (float)nearbyint(window->left * width / window->width);
    time_ids[4] = (float)height;
    time_ids[5] = (float)width;
}

static struct error encode_window(const struct pictures *pictures, const struct picture *source,
                                  const struct window *window, float *mean, float *deviation)
{
    const struct bucket *bucket = bucket_of(pictures, source);
    size_t factor = pictures->base->info->vae_factor, count = pictures_latent(pictures, source);
    size_t height = bucket->height * factor, width = bucket->width * factor;
    CLEANUP_FREE float *picture = malloc(height * width * 3 * sizeof *picture);
    if (!picture)
        return no_memory();
    TRY(picture_resample(source->rgb, source->width, source->height, window, height, width, picture));
    TRY(model_encode_image(pictures->base->model, 1, height, width, picture, mean, deviation));
    for (size_t i = 0; i < count; i++)
        deviation[i] = (float)mathd_exp(deviation[i] / 2.0);
    return OK;
}

/* The window in the middle, encoded once for the whole training. */
static struct error encode_centre(const struct pictures *pictures, struct picture *picture)
{
    struct window window = window_at(pictures, picture, 1, 0.5, 0.5);
    size_t latent = pictures_latent(pictures, picture);
    picture->mean = malloc(latent * sizeof(float));
    picture->deviation = malloc(latent * sizeof(float));
    if (!picture->mean || !picture->deviation)
        return no_memory();
    set_time_ids(pictures, picture, &window, picture->time_ids);
    TRY(encode_window(pictures, picture, &window, picture->mean, picture->deviation));
    free(picture->rgb);
    picture->rgb = NULL;
    return OK;
}

static struct error load_picture(const struct pictures *pictures, const char *path, const struct picture_io *io,
                                 struct picture *picture)
{
    TRY(io->load_rgb(io->context, path, &picture->rgb, &picture->width, &picture->height));
    picture->bucket = buckets_choose(pictures->buckets, pictures->bucket_count, picture->width, picture->height);
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
        .latent_max = info->sample_size * info->sample_size * info->latent_channels,
        .count = job->item_count,
        .items = calloc(job->item_count, sizeof *pictures->items),
    };
    pictures->bucket_count =
        buckets_make(info->sample_size, info->unet_factor, job->parameters.aspect_buckets, pictures->buckets);
    struct error error = pictures->items ? load_all(pictures, folder, job, io, stop, at_fault) : no_memory();
    if (error.code)
        pictures_destroy(pictures);
    else
        *out = pictures;
    return error;
}

static void picture_finish(struct picture *picture)
{
    free(picture->mean);
    free(picture->deviation);
    free(picture->rgb);
    condition_finish(&picture->condition);
}

void pictures_destroy(struct pictures *pictures)
{
    if (!pictures)
        return;
    for (size_t i = 0; pictures->items && i < pictures->count; i++)
        picture_finish(&pictures->items[i]);
    for (size_t i = 0; pictures->class_items && i < pictures->class_count; i++)
        picture_finish(&pictures->class_items[i]);
    condition_finish(&pictures->class_condition);
    free(pictures->class_items);
    free(pictures->items);
    free(pictures);
}

/* ---- class pictures ---- */

static struct error make_class_picture(const struct pictures *pictures, const char *path, const struct job *job,
                                       size_t index, const struct picture_io *io, const volatile sig_atomic_t *stop)
{
    struct rng noise = {.seed = job->seed, .purpose = RNG_CLASS, .index = (uint32_t)index};
    struct picture_request request = {.prompt = job->parameters.class_prompt};
    CLEANUP_FREE uint8_t *rgb = NULL;
    TRY(picture_resolve(pictures->base, &request));
    TRY(picture_render(pictures->base, &request, &noise, stop, &rgb));
    return io->save_png(io->context, path, rgb, request.width, request.height);
}

size_t pictures_class_wanted(const struct pictures *pictures)
{
    size_t count = pictures->count < class_pictures_min ? class_pictures_min : pictures->count;
    return count > class_pictures_max ? class_pictures_max : count;
}

static struct error begin_class(struct pictures *pictures, const char *folder)
{
    CLEANUP_FREE char *path = NULL;
    pictures->class_items = calloc(pictures_class_wanted(pictures), sizeof *pictures->class_items);
    if (!pictures->class_items || asprintf(&path, "%s/class", folder) < 0)
        return no_memory();
    return fs_make_dirs(path);
}

struct error pictures_add_class(struct pictures *pictures, const char *folder, const struct job *job,
                                const struct picture_io *io, const volatile sig_atomic_t *stop)
{
    size_t index = pictures->class_count;
    CLEANUP_FREE char *path = NULL;
    if (!pictures->class_items)
        TRY(begin_class(pictures, folder));
    if (asprintf(&path, "%s/class/%04zu.png", folder, index + 1) < 0)
        return no_memory();
    if (!fs_exists(path))
        TRY(make_class_picture(pictures, path, job, index, io, stop));
    struct picture *picture = &pictures->class_items[pictures->class_count++]; /* from here on it is freed */
    TRY(io->load_rgb(io->context, path, &picture->rgb, &picture->width, &picture->height));
    return encode_centre(pictures, picture);
}

/* ---- a step's draw ---- */

/* With probability crop_ratio a window of crop_scale times the largest that fits, anywhere; else the one in the middle.
 */
static struct error encode_random(const struct pictures *pictures, const struct picture *picture,
                                  const struct draw *draw, float *mean, float *deviation, float time_ids[6])
{
    struct rng rng = {.seed = draw->seed, .purpose = RNG_CROP, .step = draw->step, .index = draw->place};
    bool random = rng_uniform(&rng, 0) < pictures->parameters->crop_ratio;
    struct window window = window_at(pictures, picture, random ? pictures->parameters->crop_scale : 1,
                                     random ? rng_uniform(&rng, 1) : 0.5, random ? rng_uniform(&rng, 2) : 0.5);
    set_time_ids(pictures, picture, &window, time_ids);
    return encode_window(pictures, picture, &window, mean, deviation);
}

struct error pictures_draw(const struct pictures *pictures, const struct picture *picture, const struct draw *draw,
                           float *latent, float *time_ids)
{
    struct rng rng = {.seed = draw->seed, .purpose = RNG_POSTERIOR, .step = draw->step, .index = draw->place};
    size_t count = pictures_latent(pictures, picture);
    CLEANUP_FREE float *moments = NULL;
    const float *mean = picture->mean, *deviation = picture->deviation;
    float ids[6];
    memcpy(ids, picture->time_ids, sizeof ids);
    if (!mean) {
        moments = malloc(2 * count * sizeof *moments);
        if (!moments)
            return no_memory();
        TRY(encode_random(pictures, picture, draw, moments, moments + count, ids));
        mean = moments;
        deviation = moments + count;
    }
    if (time_ids)
        memcpy(time_ids, ids, sizeof ids);
    rng_normal(&rng, count, latent);
    for (size_t i = 0; i < count; i++)
        latent[i] = mean[i] + deviation[i] * latent[i];
    latents_scale(pictures->base->info, count / pictures->base->info->latent_channels, latent);
    return OK;
}
