/* The UNet and the text encoder, trained together on cached latents. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/kernels.h"
#include "engine/mathd.h"
#include "engine/pretrain_subject.h"

enum {
    probe_batch_max = 16,
    probe_timestep = 990, /* hardly anything but noise: what is drawn there comes from the words */
};

struct batch {
    size_t size;
    float *noisy, *target; /* [size, latent] */
    int32_t *ids;          /* [size, tokens] */
    float *timesteps;      /* [size] */
    float *noise;          /* [latent], room */
    uint32_t *strata;      /* [size], room */
};

struct own {
    size_t latent, tokens;  /* floats of a latent, ids of a caption */
    float *latents;         /* [items, latent], scaled */
    int32_t *ids;           /* [captions of all items, tokens] */
    size_t *first_captions; /* [items]: rows of ids */
    int32_t *empty;         /* [tokens] */
    struct batch batch, probe;
    struct training *training;
};

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

/* ---- loading ---- */

static struct error encode_picture(struct pretrain *run, size_t item)
{
    const struct model_info *info = run->base->info;
    struct own *own = run->own;
    size_t side = run->data.side;
    float *latent = own->latents + item * own->latent;
    CLEANUP_FREE float *rgb = malloc(side * side * 3 * sizeof *rgb);
    CLEANUP_FREE float *unused = malloc(own->latent * sizeof *unused);
    if (!rgb || !unused)
        return no_memory();
    TRY(pretrain_data_picture(&run->data, run->options->folder, &run->options->io, item, rgb));
    TRY(model_encode_image(run->base->model, 1, side, side, rgb, latent, unused));
    latents_scale(info, info->sample_size * info->sample_size, latent);
    return OK;
}

static struct error tokenize(struct pretrain *run)
{
    const struct tokenizer *tokenizer = run->base->tokenizers[0];
    struct own *own = run->own;
    size_t row = 0;
    for (size_t i = 0; i < run->job.item_count; i++) {
        const struct pretrain_item *item = &run->job.items[i];
        own->first_captions[i] = row;
        if (!item->caption_count)
            return error_make(ERR_INVALID, "job.json: items[%zu].captions is empty", i);
        for (size_t c = 0; c < item->caption_count; c++, row++)
            TRY(tokenizer_encode(tokenizer, item->captions[c], own->tokens, own->ids + row * own->tokens, NULL));
    }
    return tokenizer_encode(tokenizer, "", own->tokens, own->empty, NULL);
}

static struct error batch_init(const struct own *own, size_t size, struct batch *batch)
{
    *batch = (struct batch){
        .size = size,
        .noisy = calloc(size, own->latent * sizeof(float)),
        .target = calloc(size, own->latent * sizeof(float)),
        .ids = calloc(size, own->tokens * sizeof(int32_t)),
        .timesteps = calloc(size, sizeof(float)),
        .noise = calloc(own->latent, sizeof(float)),
        .strata = calloc(size, sizeof(uint32_t)),
    };
    return batch->noisy && batch->target && batch->ids && batch->timesteps && batch->noise && batch->strata
               ? OK
               : no_memory();
}

static void batch_finish(struct batch *batch)
{
    free(batch->noisy);
    free(batch->target);
    free(batch->ids);
    free(batch->timesteps);
    free(batch->noise);
    free(batch->strata);
}

static struct error allocate(struct pretrain *run)
{
    const struct pretrain_job *job = &run->job;
    const struct model_info *info = run->base->info;
    struct own *own = run->own;
    size_t captions = 1, wanted = job->probe_pictures; /* captions: no block of no size */
    for (size_t i = 0; i < job->item_count; i++)
        captions += job->items[i].caption_count;
    own->latent = info->sample_size * info->sample_size * info->latent_channels;
    own->tokens = info->tokens_max[0];
    assert(job->item_count > 0 && own->latent > 0 && own->tokens > 0); /* job.json and configs were checked */
    own->latents = calloc(job->item_count, own->latent * sizeof *own->latents);
    own->ids = calloc(captions, own->tokens * sizeof *own->ids);
    own->first_captions = calloc(job->item_count, sizeof *own->first_captions);
    own->empty = calloc(own->tokens, sizeof *own->empty);
    if (!own->latents || !own->ids || !own->first_captions || !own->empty)
        return no_memory();
    TRY(batch_init(own, job->batch_size, &own->batch));
    return batch_init(own, wanted < probe_batch_max ? wanted : probe_batch_max, &own->probe);
}

static struct error denoiser_load(struct pretrain *run)
{
    size_t side = run->base->info->sample_size;
    struct own *own = run->own = calloc(1, sizeof *own);
    if (!own)
        return no_memory();
    TRY(allocate(run));
    TRY(tokenize(run));
    for (size_t i = 0; i < run->job.item_count; i++) {
        if (*run->options->stop)
            return error_make(ERR_CANCELED, "stopped while preparing");
        TRY(encode_picture(run, i));
    }
    const struct training_shape shape = {
        .batch = run->job.batch_size, .height = side, .width = side, .tokens = own->tokens};
    return training_create(run->base->model, run->parameters, &shape, &own->training);
}

static void denoiser_unload(struct pretrain *run)
{
    struct own *own = run->own;
    if (!own)
        return;
    training_destroy(own->training);
    batch_finish(&own->batch);
    batch_finish(&own->probe);
    free(own->latents);
    free(own->ids);
    free(own->first_captions);
    free(own->empty);
    free(own);
}

/* ---- batches ---- */

static const int32_t *caption_at(const struct pretrain *run, size_t item, size_t place)
{
    const struct own *own = run->own;
    const struct rng rng = {run->job.seed, RNG_CAPTION, run->step, (uint32_t)place};
    if (rng_uniform(&rng, 0) < run->job.caption_dropout)
        return own->empty;
    uint32_t chosen = rng_below(&rng, 1, (uint32_t)run->job.items[item].caption_count);
    return own->ids + (own->first_captions[item] + chosen) * own->tokens;
}

static void set_place(const struct pretrain *run, struct batch *batch, size_t place, size_t item, const int32_t *ids,
                      unsigned timestep, const struct rng *noise)
{
    const struct own *own = run->own;
    size_t from = place * own->latent;
    rng_normal(noise, own->latent, batch->noise);
    schedule_add_noise(&run->base->schedule, timestep, own->latent, own->latents + item * own->latent, batch->noise,
                       batch->noisy + from, batch->target + from);
    memcpy(batch->ids + place * own->tokens, ids, own->tokens * sizeof *ids);
    batch->timesteps[place] = (float)timestep;
}

/* One timestep of each of `size` equal parts of [0, 1), in a random order. */
static unsigned timestep_at(const struct pretrain *run, const struct batch *batch, size_t place)
{
    const struct rng rng = {run->job.seed, RNG_TIMESTEP, run->step, (uint32_t)place};
    unsigned steps = run->base->schedule.steps;
    double u = (batch->strata[place] + rng_uniform(&rng, 0)) / (double)batch->size;
    unsigned timestep = (unsigned)(steps * mathd_pow(u, pretrain_phase(&run->job, run->step)->timestep_power));
    return timestep < steps ? timestep : steps - 1;
}

static void draw_batch(struct pretrain *run, struct batch *batch)
{
    const uint64_t seed = run->job.seed;
    for (uint32_t i = 0; i < batch->size; i++)
        batch->strata[i] = i;
    rng_shuffle(&(struct rng){seed, RNG_TIMESTEP, run->step, UINT32_MAX}, (uint32_t)batch->size, batch->strata);
    for (size_t place = 0; place < batch->size; place++) {
        size_t item = pretrain_data_item(&run->data, run->step, place);
        set_place(run, batch, place, item, caption_at(run, item, place), timestep_at(run, batch, place),
                  &(struct rng){seed, RNG_NOISE, run->step, (uint32_t)place});
    }
}

static struct unet_input input_of(const struct pretrain *run, const struct batch *batch)
{
    const struct model_info *info = run->base->info;
    const struct own *own = run->own;
    return (struct unet_input){.batch = batch->size,
                               .height = info->sample_size,
                               .width = info->sample_size,
                               .tokens = own->tokens,
                               .sample = batch->noisy,
                               .timesteps = batch->timesteps,
                               .ids = batch->ids};
}

static struct error denoiser_step(struct pretrain *run, double *loss)
{
    struct own *own = run->own;
    draw_batch(run, &own->batch);
    const struct unet_input input = input_of(run, &own->batch);
    return training_step(own->training, &input, own->batch.target, NULL, 1, loss, NULL);
}

/* ---- how well words are obeyed ---- */

enum words { WORDS_RIGHT, WORDS_NONE, WORDS_WRONG };

/* Fixed pictures and noise, from the first-th on; wrong words are those of the picture after. */
static void draw_probe(const struct pretrain *run, size_t first, enum words words, struct batch *batch)
{
    const struct own *own = run->own;
    for (size_t place = 0; place < batch->size; place++) {
        size_t at = first + place, item = pretrain_data_probe(&run->data, at);
        size_t said = words == WORDS_WRONG ? pretrain_data_probe(&run->data, at + 1) : item;
        const int32_t *ids = words == WORDS_NONE ? own->empty : own->ids + own->first_captions[said] * own->tokens;
        set_place(run, batch, place, item, ids, probe_timestep,
                  &(struct rng){run->job.seed, RNG_PROBE, 0, (uint32_t)at});
    }
}

/* Mean squared error over whole batches: maybe some pictures more than asked for. */
static struct error probe_loss(struct pretrain *run, enum words words, float *prediction, float *context, float *loss)
{
    struct own *own = run->own;
    struct model *model = run->base->model;
    size_t batch = own->probe.size, batches = (run->job.probe_pictures + batch - 1) / batch;
    float losses[probe_batch_max];
    double sum = 0;
    for (size_t i = 0; i < batches; i++) {
        draw_probe(run, i * batch, words, &own->probe);
        struct unet_input input = input_of(run, &own->probe);
        input.context = context;
        TRY(model_encode_text(model, batch, own->tokens, input.ids, NULL, 0, context, NULL));
        TRY(model_predict(model, &input, prediction));
        sum += mse(run->pool, batch, own->latent, prediction, own->probe.target, NULL, losses, NULL);
    }
    *loss = (float)(sum / (double)batches);
    return OK;
}

static struct error denoiser_measure(struct pretrain *run, float numbers[SUBJECT_NUMBERS])
{
    const struct own *own = run->own;
    size_t context_floats = own->probe.size * own->tokens * run->base->info->context_width;
    CLEANUP_FREE float *prediction = malloc(own->probe.size * own->latent * sizeof(float));
    CLEANUP_FREE float *context = malloc(context_floats * sizeof(float));
    if (!prediction || !context)
        return error_make(ERR_INTERNAL, "not enough memory for the probe");
    for (enum words words = WORDS_RIGHT; words <= WORDS_WRONG; words++)
        TRY(probe_loss(run, words, prediction, context, &numbers[words]));
    return OK;
}

static struct error denoiser_publish(struct pretrain *run)
{
    TRY(pretrain_write_weights(run, "unet", "diffusion_pytorch_model.safetensors", COMPONENT_UNET, run->average));
    return pretrain_write_weights(run, "text_encoder", "model.safetensors", COMPONENT_TEXT, run->average);
}

const struct subject denoiser_subject = {
    .type = "sd-1_5-base",
    .columns = "t990_right,t990_none,t990_wrong",
    .parameters = {.targets = TARGETS_FULL, .unet = true, .text = true},
    .load = denoiser_load,
    .unload = denoiser_unload,
    .step = denoiser_step,
    .measure = denoiser_measure,
    .publish = denoiser_publish,
};
