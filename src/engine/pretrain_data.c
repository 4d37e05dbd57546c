#include "engine/pretrain_data.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/mathd.h"
#include "engine/resample.h"

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

/* ---- loading ---- */

static struct error encode_picture(struct pretrain_data *data, const uint8_t *rgb, size_t width, size_t height,
                                   float *latent)
{
    const struct model_info *info = data->base->info;
    size_t side = info->sample_size * info->vae_factor, square = width < height ? width : height;
    CLEANUP_FREE float *picture = malloc(side * side * 3 * sizeof *picture);
    CLEANUP_FREE float *unused = malloc(data->latent * sizeof *unused);
    if (!picture || !unused)
        return no_memory();
    const struct window window = {(double)(width - square) / 2, (double)(height - square) / 2, (double)square,
                                  (double)square};
    TRY(picture_resample(rgb, width, height, &window, side, side, picture));
    TRY(model_encode_image(data->base->model, 1, side, side, picture, latent, unused));
    latents_scale(info, info->sample_size * info->sample_size, latent);
    return OK;
}

static struct error load_picture(struct pretrain_data *data, const char *folder, const struct picture_io *io,
                                 size_t index)
{
    char path[4096];
    CLEANUP_FREE uint8_t *rgb = NULL;
    size_t width, height;
    if (snprintf(path, sizeof path, "%s/%s", folder, data->job->items[index].image) >= (int)sizeof path)
        return error_make(ERR_INVALID, "job.json: items[%zu].image is too long", index);
    TRY(io->load_rgb(io->context, path, &rgb, &width, &height));
    return encode_picture(data, rgb, width, height, data->latents + index * data->latent);
}

static struct error tokenize(struct pretrain_data *data)
{
    const struct tokenizer *tokenizer = data->base->tokenizers[0];
    size_t row = 0;
    for (size_t i = 0; i < data->job->item_count; i++) {
        const struct pretrain_item *item = &data->job->items[i];
        data->first_captions[i] = row;
        for (size_t c = 0; c < item->caption_count; c++, row++)
            TRY(tokenizer_encode(tokenizer, item->captions[c], data->tokens, data->ids + row * data->tokens, NULL));
    }
    return tokenizer_encode(tokenizer, "", data->tokens, data->empty, NULL);
}

static struct error allocate(struct pretrain_data *data)
{
    const struct pretrain_job *job = data->job;
    size_t captions = 1, visits = 1; /* no block of no size */
    for (size_t i = 0; i < job->item_count; i++)
        captions += job->items[i].caption_count;
    for (size_t p = 0; p < job->phase_count; p++) {
        size_t count = 0;
        for (size_t i = 0; i < job->item_count; i++)
            count += job->phases[p].repeats[job->items[i].group];
        visits = count > visits ? count : visits;
    }
    data->latents = calloc(job->item_count, data->latent * sizeof *data->latents);
    data->ids = calloc(captions, data->tokens * sizeof *data->ids);
    data->first_captions = calloc(job->item_count, sizeof *data->first_captions);
    data->empty = calloc(data->tokens, sizeof *data->empty);
    data->order = calloc(visits, sizeof *data->order);
    return data->latents && data->ids && data->first_captions && data->empty && data->order ? OK : no_memory();
}

static struct error load(struct pretrain_data *data, const char *folder, const struct picture_io *io,
                         const volatile sig_atomic_t *stop)
{
    const struct model_info *info = data->base->info;
    data->latent = info->sample_size * info->sample_size * info->latent_channels;
    data->tokens = info->tokens_max[0];
    data->order_step = UINT32_MAX;
    TRY(allocate(data));
    TRY(tokenize(data));
    for (size_t i = 0; i < data->job->item_count; i++) {
        if (*stop)
            return error_make(ERR_CANCELED, "stopped while preparing");
        TRY(load_picture(data, folder, io, i));
    }
    return OK;
}

struct error pretrain_data_load(struct base_model *base, const char *folder, const struct pretrain_job *job,
                                const struct picture_io *io, const volatile sig_atomic_t *stop,
                                struct pretrain_data **out)
{
    struct pretrain_data *data = calloc(1, sizeof *data);
    if (!data)
        return no_memory();
    data->base = base;
    data->job = job;
    struct error error = load(data, folder, io, stop);
    if (error.code)
        pretrain_data_destroy(data);
    else
        *out = data;
    return error;
}

void pretrain_data_destroy(struct pretrain_data *data)
{
    if (!data)
        return;
    free(data->latents);
    free(data->ids);
    free(data->first_captions);
    free(data->empty);
    free(data->order);
    free(data);
}

/* ---- batches ---- */

struct error pretrain_batch_init(const struct pretrain_data *data, size_t size, struct pretrain_batch *batch)
{
    *batch = (struct pretrain_batch){
        .size = size,
        .noisy = calloc(size, data->latent * sizeof(float)),
        .target = calloc(size, data->latent * sizeof(float)),
        .ids = calloc(size, data->tokens * sizeof(int32_t)),
        .timesteps = calloc(size, sizeof(float)),
        .noise = calloc(data->latent, sizeof(float)),
        .strata = calloc(size, sizeof(uint32_t)),
    };
    return batch->noisy && batch->target && batch->ids && batch->timesteps && batch->noise && batch->strata
               ? OK
               : no_memory();
}

void pretrain_batch_finish(struct pretrain_batch *batch)
{
    free(batch->noisy);
    free(batch->target);
    free(batch->ids);
    free(batch->timesteps);
    free(batch->noise);
    free(batch->strata);
}

/* Every item comes as often as its group's repeats say, in an order of that epoch of that phase. */
static void shuffle(struct pretrain_data *data, const struct pretrain_phase *phase, uint32_t epoch)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < data->job->item_count; i++) {
        for (unsigned r = 0; r < phase->repeats[data->job->items[i].group]; r++)
            data->order[count++] = i;
    }
    assert(count > 0); /* pretrain_job_read has seen to it */
    rng_shuffle(&(struct rng){data->job->seed, RNG_ORDER, phase->first_step, epoch}, count, data->order);
    data->order_count = count;
    data->order_step = phase->first_step;
    data->order_epoch = epoch;
}

static size_t item_at(struct pretrain_data *data, unsigned step, size_t place)
{
    const struct pretrain_phase *phase = pretrain_phase(data->job, step);
    size_t visit = (size_t)(step - phase->first_step) * data->job->batch_size + place;
    if (data->order_step != phase->first_step)
        shuffle(data, phase, 0);
    assert(data->order_count > 0);
    uint32_t epoch = (uint32_t)(visit / data->order_count);
    if (data->order_epoch != epoch)
        shuffle(data, phase, epoch);
    return data->order[visit % data->order_count];
}

static const int32_t *caption_at(const struct pretrain_data *data, size_t item, unsigned step, size_t place)
{
    const struct rng rng = {data->job->seed, RNG_CAPTION, step, (uint32_t)place};
    if (rng_uniform(&rng, 0) < data->job->caption_dropout)
        return data->empty;
    uint32_t chosen = rng_below(&rng, 1, (uint32_t)data->job->items[item].caption_count);
    return data->ids + (data->first_captions[item] + chosen) * data->tokens;
}

static void set_place(const struct pretrain_data *data, struct pretrain_batch *batch, size_t place, size_t item,
                      const int32_t *ids, unsigned timestep, const struct rng *noise)
{
    size_t from = place * data->latent;
    rng_normal(noise, data->latent, batch->noise);
    schedule_add_noise(&data->base->schedule, timestep, data->latent, data->latents + item * data->latent, batch->noise,
                       batch->noisy + from, batch->target + from);
    memcpy(batch->ids + place * data->tokens, ids, data->tokens * sizeof *ids);
    batch->timesteps[place] = (float)timestep;
}

/* One timestep of each of `size` equal parts of [0, 1), in a random order. */
static unsigned timestep_at(const struct pretrain_data *data, const struct pretrain_batch *batch, unsigned step,
                            size_t place)
{
    const struct rng rng = {data->job->seed, RNG_TIMESTEP, step, (uint32_t)place};
    unsigned steps = data->base->schedule.steps;
    double u = (batch->strata[place] + rng_uniform(&rng, 0)) / (double)batch->size;
    unsigned timestep = (unsigned)(steps * mathd_pow(u, data->job->timestep_power));
    return timestep < steps ? timestep : steps - 1;
}

void pretrain_batch_draw(struct pretrain_data *data, unsigned step, struct pretrain_batch *batch)
{
    const uint64_t seed = data->job->seed;
    for (uint32_t i = 0; i < batch->size; i++)
        batch->strata[i] = i;
    rng_shuffle(&(struct rng){seed, RNG_TIMESTEP, step, UINT32_MAX}, (uint32_t)batch->size, batch->strata);
    for (size_t place = 0; place < batch->size; place++) {
        size_t item = item_at(data, step, place);
        set_place(data, batch, place, item, caption_at(data, item, step, place), timestep_at(data, batch, step, place),
                  &(struct rng){seed, RNG_NOISE, step, (uint32_t)place});
    }
}

/* The count-th item, in a fixed order, of those that the first phase has. */
static size_t probe_item(const struct pretrain_data *data, size_t count)
{
    const struct pretrain_job *job = data->job;
    size_t have = 0, stride = 7919; /* a prime: spread over the list */
    for (size_t i = 0; i < job->item_count; i++)
        have += job->phases[0].repeats[job->items[i].group] > 0;
    assert(have > 0);
    size_t wanted = count * stride % have;
    for (size_t i = 0;; i++) {
        if (job->phases[0].repeats[job->items[i].group] && !wanted--)
            return i;
    }
}

void pretrain_batch_probe(const struct pretrain_data *data, unsigned index, unsigned timestep, int shift,
                          struct pretrain_batch *batch)
{
    for (size_t place = 0; place < batch->size; place++) {
        size_t at = index + place, item = probe_item(data, at), other = shift > 0 ? probe_item(data, at + 1) : item;
        const int32_t *ids = shift < 0 ? data->empty : data->ids + data->first_captions[other] * data->tokens;
        set_place(data, batch, place, item, ids, timestep, &(struct rng){data->job->seed, RNG_PROBE, 0, (uint32_t)at});
    }
}
