#include "engine/base_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
#include "engine/resample.h"

enum { path_bytes_max = 4096, hints_bytes_max = 64 << 10, hints_arena_max = 1 << 20 };

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for a picture of this size");
}

static float *floats(size_t count)
{
    return malloc(count * sizeof(float));
}

/* ---- opening ---- */

static struct error read_hints_file(const char *path, struct base_hints *hints)
{
    struct arena arena;
    arena_init(&arena, hints_arena_max);
    const struct json *root;
    struct error error = json_read_file(&arena, path, hints_bytes_max, &root);
    if (!error.code) {
        hints->learning_rate_scale = json_number(root, "learningRateScale", hints->learning_rate_scale);
        hints->learning_rate_max = json_number(root, "learningRateMax", hints->learning_rate_max);
        hints->wide_targets = strcmp(json_string(root, "loraTargets", "attention"), "wide") == 0;
        hints->half_weights = strcmp(json_string(root, "weights", "fp32"), "bf16") == 0;
        double steps = json_number(root, "sampleSteps", hints->sample_steps);
        hints->sample_steps = steps >= 1 && steps <= SAMPLER_STEPS_MAX ? (unsigned)steps : hints->sample_steps;
        hints->guidance = json_number(root, "guidance", hints->guidance);
        snprintf(hints->caption_prefix, sizeof hints->caption_prefix, "%s", json_string(root, "captionPrefix", ""));
    }
    arena_finish(&arena);
    return error;
}

static struct error read_hints(const char *folder, struct base_hints *hints)
{
    char path[path_bytes_max];
    *hints = (struct base_hints){.learning_rate_scale = 1, .sample_steps = 30, .guidance = 7.5};
    if (snprintf(path, sizeof path, "%s/maquette.json", folder) >= (int)sizeof path)
        return error_make(ERR_INVALID, "the base model's path is too long");
    if (fs_exists(path))
        TRY(read_hints_file(path, hints));
    if (!(hints->learning_rate_scale > 0) || !(hints->guidance >= 0) || !(hints->learning_rate_max >= 0))
        return error_make(ERR_INVALID, "maquette.json: rates and guidance must be positive");
    return OK;
}

static struct error open_tokenizers(const char *folder, struct base_model *base)
{
    static const char *const names[] = {"tokenizer", "tokenizer_2"};
    char path[path_bytes_max];
    for (int i = 0; i < (base->info->xl ? 2 : 1); i++) {
        if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= (int)sizeof path)
            return error_make(ERR_INVALID, "the base model's path is too long");
        TRY(tokenizer_open(path, &base->tokenizers[i]));
    }
    return OK;
}

static struct error open_parts(const char *folder, const uint64_t *fresh_seed, struct pool *pool,
                               struct base_model *base)
{
    TRY(read_hints(folder, &base->hints));
    TRY(schedule_read(folder, &base->schedule));
    TRY(fresh_seed                 ? model_open_fresh(folder, *fresh_seed, pool, &base->model)
        : base->hints.half_weights ? model_open_half(folder, pool, &base->model)
                                   : model_open(folder, pool, &base->model));
    base->info = model_info(base->model);
    return open_tokenizers(folder, base);
}

static struct error open_with(const char *folder, const uint64_t *fresh_seed, struct pool *pool,
                              struct base_model **out)
{
    struct base_model *base = calloc(1, sizeof *base);
    if (!base)
        return no_memory();
    struct error error = open_parts(folder, fresh_seed, pool, base);
    if (error.code) {
        base_model_destroy(base);
        return error;
    }
    *out = base;
    return OK;
}

struct error base_model_open(const char *folder, struct pool *pool, struct base_model **out)
{
    return open_with(folder, NULL, pool, out);
}

struct error base_model_open_fresh(const char *folder, uint64_t seed, struct pool *pool, struct base_model **out)
{
    return open_with(folder, &seed, pool, out);
}

void base_model_destroy(struct base_model *base)
{
    if (!base)
        return;
    tokenizer_destroy(base->tokenizers[0]);
    tokenizer_destroy(base->tokenizers[1]);
    model_destroy(base->model);
    free(base);
}

/* ---- memory ---- */

uint64_t base_model_free_memory(void)
{
    unsigned long long kilobytes = 0;
    char line[128];
    CLEANUP_FILE FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %llu", &kilobytes) == 1)
            return kilobytes * 1024;
    }
    return UINT64_MAX;
}

struct error base_model_check_memory(const char *folder, bool training, uint64_t most)
{
    struct base_hints hints;
    uint64_t needed, have = most ? most : base_model_free_memory();
    TRY(read_hints(folder, &hints));
    TRY(model_bytes_needed(folder, hints.half_weights, training, &needed));
    if (needed <= have)
        return OK;
    return error_make(ERR_INTERNAL,
                      "not enough memory: this base model needs %llu MB, %llu MB are free; \"weights\": "
                      "\"bf16\" in its maquette.json halves that",
                      (unsigned long long)needed >> 20, (unsigned long long)have >> 20);
}

/* ---- text ---- */

static struct error tokenize(struct base_model *base, const char *text, struct condition *condition)
{
    size_t tokens = base->info->tokens_max[0];
    for (int i = 0; i < 2 && base->tokenizers[i]; i++) {
        condition->ids[i] = malloc(tokens * sizeof(int32_t));
        if (!condition->ids[i])
            return no_memory();
        TRY(tokenizer_encode(base->tokenizers[i], text, tokens, condition->ids[i], NULL));
        for (size_t at = 0; at < tokens; at++) {
            if ((size_t)condition->ids[i][at] >= base->info->vocabulary[i])
                return error_make(ERR_CORRUPT, "the tokenizer knows token %d, the text encoder ends at %zu",
                                  condition->ids[i][at], base->info->vocabulary[i]);
        }
    }
    return OK;
}

static struct error encode(struct base_model *base, const char *text, struct condition *condition)
{
    const struct model_info *info = base->info;
    TRY(tokenize(base, text, condition));
    condition->context = floats(info->tokens_max[0] * info->context_width);
    condition->pooled = info->xl ? floats(info->pooled_width) : NULL;
    if (!condition->context || (info->xl && !condition->pooled))
        return no_memory();
    return model_encode_text(base->model, 1, info->tokens_max[0], condition->ids[0], condition->ids[1], 0,
                             condition->context, condition->pooled);
}

struct error condition_init(struct base_model *base, const char *text, struct condition *condition)
{
    const char *prefix = base->hints.caption_prefix;
    bool has = strncmp(text, prefix, strlen(prefix)) == 0;
    CLEANUP_FREE char *whole = NULL;
    *condition = (struct condition){0};
    if (asprintf(&whole, "%s%s", has ? "" : prefix, text) < 0) {
        whole = NULL;
        return no_memory();
    }
    struct error error = encode(base, whole, condition);
    if (error.code)
        condition_finish(condition);
    return error;
}

void condition_finish(struct condition *condition)
{
    free(condition->ids[0]);
    free(condition->ids[1]);
    free(condition->context);
    free(condition->pooled);
    *condition = (struct condition){0};
}

/* ---- latents ---- */

void latents_scale(const struct model_info *info, size_t pixels, float *latents)
{
    float scaling = (float)info->scaling_factor, shift = (float)info->shift_factor;
    for (size_t i = 0; i < pixels * info->latent_channels; i++) {
        size_t channel = i % info->latent_channels;
        if (info->latents_mean && info->latents_std)
            latents[i] = (latents[i] - info->latents_mean[channel]) * scaling / info->latents_std[channel];
        else
            latents[i] = (latents[i] - shift) * scaling;
    }
}

void latents_unscale(const struct model_info *info, size_t pixels, float *latents)
{
    float scaling = (float)info->scaling_factor, shift = (float)info->shift_factor;
    for (size_t i = 0; i < pixels * info->latent_channels; i++) {
        size_t channel = i % info->latent_channels;
        if (info->latents_mean && info->latents_std)
            latents[i] = latents[i] * info->latents_std[channel] / scaling + info->latents_mean[channel];
        else
            latents[i] = latents[i] / scaling + shift;
    }
}

/* ---- pictures ---- */

struct error picture_resolve(const struct base_model *base, struct picture_request *request)
{
    const struct model_info *info = base->info;
    size_t own = info->sample_size * info->vae_factor, step = info->vae_factor;
    size_t largest = (size_t)MODEL_LATENT_MAX * info->vae_factor;
    request->width = request->width ? request->width : own;
    request->height = request->height ? request->height : own;
    request->steps = request->steps ? request->steps : base->hints.sample_steps;
    request->guidance = request->guidance > 0 ? request->guidance : base->hints.guidance;
    if (request->width % step || request->height % step || request->width > largest || request->height > largest)
        return error_make(ERR_INVALID, "width and height must be multiples of %zu up to %zu", step, largest);
    if (request->steps > SAMPLER_STEPS_MAX)
        return error_make(ERR_INVALID, "steps must be at most %d", SAMPLER_STEPS_MAX);
    if (!(request->guidance <= 50))
        return error_make(ERR_INVALID, "guidance must be at most 50");
    return OK;
}

/* The two conditions of a picture side by side, as one batch for the UNet: with guidance, negative then positive. */
struct guided {
    size_t batch; /* 1 or 2 */
    float *context, *pooled, *time_ids;
    float *sample;     /* [batch, latent] */
    float *prediction; /* [batch, latent] */
};

static void guided_finish(struct guided *guided)
{
    free(guided->context);
    free(guided->pooled);
    free(guided->time_ids);
    free(guided->sample);
    free(guided->prediction);
}

static struct error add_condition(struct base_model *base, struct guided *guided, size_t at, const char *text)
{
    const struct model_info *info = base->info;
    size_t size = info->tokens_max[0] * info->context_width;
    if (info->zero_for_empty_prompt && !*text) {
        memset(guided->context + at * size, 0, size * sizeof(float));
        if (info->xl)
            memset(guided->pooled + at * info->pooled_width, 0, info->pooled_width * sizeof(float));
        return OK;
    }
    struct condition condition;
    TRY(condition_init(base, text, &condition));
    memcpy(guided->context + at * size, condition.context, size * sizeof(float));
    if (condition.pooled)
        memcpy(guided->pooled + at * info->pooled_width, condition.pooled, info->pooled_width * sizeof(float));
    condition_finish(&condition);
    return OK;
}

static struct error guided_init(struct base_model *base, const struct picture_request *request, size_t latent,
                                struct guided *guided)
{
    const struct model_info *info = base->info;
    size_t batch = request->guidance > 1 ? 2 : 1;
    *guided = (struct guided){
        .batch = batch,
        .context = floats(batch * info->tokens_max[0] * info->context_width),
        .pooled = floats(batch * info->pooled_width + 1),
        .time_ids = floats(batch * 6),
        .sample = floats(batch * latent),
        .prediction = floats(batch * latent),
    };
    if (!guided->context || !guided->pooled || !guided->time_ids || !guided->sample || !guided->prediction)
        return no_memory();
    float ids[6] = {(float)request->height, (float)request->width, 0, 0, (float)request->height, (float)request->width};
    for (size_t i = 0; i < batch * 6; i++)
        guided->time_ids[i] = ids[i % 6];
    if (batch == 2)
        TRY(add_condition(base, guided, 0, request->negative ? request->negative : ""));
    return add_condition(base, guided, batch - 1, request->prompt);
}

/* The guided prediction for x at one timestep, left in guided->prediction's first half. */
static struct error predict(struct base_model *base, const struct picture_request *request, struct guided *guided,
                            struct sampler *sampler, unsigned index, const float *x)
{
    size_t latent = sampler->count;
    float timesteps[2] = {sampler->timesteps[index], sampler->timesteps[index]};
    for (size_t i = 0; i < guided->batch; i++)
        sampler_scale_input(sampler, index, x, guided->sample + i * latent);
    struct unet_input input = {
        .batch = guided->batch,
        .height = request->height / base->info->vae_factor,
        .width = request->width / base->info->vae_factor,
        .tokens = base->info->tokens_max[0],
        .sample = guided->sample,
        .timesteps = timesteps,
        .context = guided->context,
        .pooled = base->info->xl ? guided->pooled : NULL,
        .time_ids = base->info->xl ? guided->time_ids : NULL,
    };
    TRY(model_predict(base->model, &input, guided->prediction));
    float guidance = (float)request->guidance;
    for (size_t i = 0; i < latent && guided->batch == 2; i++) {
        float without = guided->prediction[i], with = guided->prediction[latent + i];
        guided->prediction[i] = without + guidance * (with - without);
    }
    return OK;
}

static struct error walk(struct base_model *base, const struct picture_request *request, struct guided *guided,
                         struct sampler *sampler, const volatile sig_atomic_t *stop, float *x)
{
    for (unsigned i = sampler->first; i < sampler->steps; i++) {
        if (stop && *stop)
            return error_make(ERR_CANCELED, "sampling was interrupted");
        TRY(predict(base, request, guided, sampler, i, x));
        sampler_step(sampler, i, guided->prediction, x);
        if (request->on_step)
            request->on_step(request->on_step_context, i + 1, sampler->steps);
    }
    return OK;
}

static size_t latent_pixels(const struct base_model *base, const struct picture_request *request)
{
    return request->width / base->info->vae_factor * (request->height / base->info->vae_factor);
}

/* The start's latents, scaled: the VAE's mean. */
static struct error encode_start(struct base_model *base, const struct picture_request *request, float *latents)
{
    const struct picture_start *start = request->start;
    size_t width = request->width, height = request->height, pixels = latent_pixels(base, request);
    const struct window middle =
        window_of_shape(start->width, start->height, (double)width, (double)height, 1, 0.5, 0.5);
    CLEANUP_FREE float *rgb = floats(width * height * 3);
    CLEANUP_FREE float *logvar = floats(pixels * base->info->latent_channels);
    if (!rgb || !logvar)
        return no_memory();
    TRY(picture_resample(start->rgb, start->width, start->height, &middle, height, width, rgb));
    TRY(model_encode_image(base->model, 1, height, width, rgb, latents, logvar));
    latents_scale(base->info, pixels, latents);
    return OK;
}

static struct error start_walk(struct base_model *base, const struct picture_request *request, struct sampler *sampler,
                               float *x)
{
    if (!request->start) {
        sampler_start(sampler, NULL, 1, x);
        return OK;
    }
    CLEANUP_FREE float *clean = floats(sampler->count);
    if (!clean)
        return no_memory();
    TRY(encode_start(base, request, clean));
    sampler_start(sampler, clean, request->start->strength, x);
    return OK;
}

struct error picture_latents(struct base_model *base, const struct picture_request *request, const struct rng *noise,
                             const volatile sig_atomic_t *stop, float *latents)
{
    size_t count = latent_pixels(base, request) * base->info->latent_channels;
    struct sampler sampler;
    struct guided guided = {0};
    rng_normal(noise, count, latents);
    struct error error = sampler_init(&sampler, &base->schedule, request->sampler, request->steps, count);
    sampler.noise = *noise;
    if (!error.code)
        error = guided_init(base, request, count, &guided);
    if (!error.code)
        error = start_walk(base, request, &sampler, latents);
    if (!error.code)
        error = walk(base, request, &guided, &sampler, stop, latents);
    guided_finish(&guided);
    sampler_finish(&sampler);
    return error;
}

struct error picture_render(struct base_model *base, const struct picture_request *request, const struct rng *noise,
                            const volatile sig_atomic_t *stop, uint8_t **rgb)
{
    size_t pixels = latent_pixels(base, request), count = request->width * request->height * 3;
    CLEANUP_FREE float *latents = floats(pixels * base->info->latent_channels);
    CLEANUP_FREE float *picture = floats(count);
    struct rng own_noise = {.seed = request->seed, .purpose = RNG_SAMPLE};
    if (!latents || !picture)
        return no_memory();
    TRY(picture_latents(base, request, noise ? noise : &own_noise, stop, latents));
    latents_unscale(base->info, pixels, latents);
    TRY(model_decode_latents(base->model, 1, request->height / base->info->vae_factor,
                             request->width / base->info->vae_factor, latents, picture));
    *rgb = malloc(count);
    if (!*rgb)
        return no_memory();
    for (size_t i = 0; i < count; i++)
        (*rgb)[i] = (uint8_t)lrintf(fminf(fmaxf(picture[i] / 2 + 0.5f, 0), 1) * 255);
    return OK;
}
