/* A base model and all it takes to use it: weights, tokenizers, noise schedule, and the hints of its maker. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/model.h"
#include "engine/rng.h"
#include "engine/sampler.h"
#include "engine/schedule.h"
#include "engine/tokenizer.h"

/* BASE/maquette.json, which is optional: what suits this base. */
struct base_hints {
    double learning_rate_scale; /* the API's rates are made for 860 million parameters; 1 when absent */
    double learning_rate_max;   /* of the scaled rate; 0 for no limit */
    bool wide_targets;          /* loraTargets "wide": attention alone is not enough for a small model */
    bool half_weights;          /* weights "bf16": a large model in half the memory */
    unsigned sample_steps;
    double guidance;
    char caption_prefix[128]; /* put before captions and prompts that do not begin with it */
};

struct base_model {
    struct model *model;
    const struct model_info *info; /* borrowed from model */
    struct schedule schedule;
    struct tokenizer *tokenizers[2]; /* [1] only for SDXL */
    struct base_hints hints;
};

/* What the UNet is told beside the picture, for one prompt. Arrays are the holder's: free with condition_finish. */
struct condition {
    int32_t *ids[2]; /* [tokens_max[0]] each; [1] only for SDXL */
    float *context;  /* [tokens_max[0], context_width] */
    float *pooled;   /* [pooled_width] or NULL */
};

/* folder in diffusers layout; the pool must outlive the base. */
struct error base_model_open(const char *folder, struct pool *pool, struct base_model **out)
    __attribute__((warn_unused_result));
/* The same; a UNet and text encoders without weights begin with values drawn from the seed. */
struct error base_model_open_fresh(const char *folder, uint64_t seed, struct pool *pool, struct base_model **out)
    __attribute__((warn_unused_result));
void base_model_destroy(struct base_model *base);
/* Before the memory is taken: ERR_INTERNAL when opening the folder, for a training or to draw, needs more than most;
 * 0 stands for what the machine has free. */
struct error base_model_check_memory(const char *folder, bool training, uint64_t most)
    __attribute__((warn_unused_result));
uint64_t base_model_free_memory(void); /* bytes that this machine could still give; UINT64_MAX when it does not say */

/* The text with the base's prefix is encoded with the weights as they are now, LoRAs included. */
struct error condition_init(struct base_model *base, const char *text, struct condition *condition)
    __attribute__((warn_unused_result));
void condition_finish(struct condition *condition);

/* Between what the VAE gives and what the UNet sees; latents are [pixels, latent_channels], in place. */
void latents_scale(const struct model_info *info, size_t pixels, float *latents);
void latents_unscale(const struct model_info *info, size_t pixels, float *latents);

/* A picture to begin on: its middle, of the shape asked for. */
struct picture_start {
    const uint8_t *rgb; /* [height, width, 3] */
    size_t width, height;
    double strength; /* share of the steps that change it, 0 to 1 */
};

struct picture_request {
    const char *prompt, *negative; /* negative may be NULL */
    uint64_t seed;
    size_t width, height; /* pixels, multiples of what picture_sizes_fit says; 0 for the base's own size */
    unsigned steps;       /* 0 for the base's */
    double guidance;      /* 0 for the base's; at most 1 means without negative prompt */
    enum sampler_kind sampler;
    const struct picture_start *start;                             /* NULL: noise alone */
    void (*on_step)(void *context, unsigned step, unsigned steps); /* after each step; NULL: nobody looks */
    void *on_step_context;
};

/* Fills in zeros from the base's hints; ERR_INVALID when a value is out of range. */
struct error picture_resolve(const struct base_model *base, struct picture_request *request)
    __attribute__((warn_unused_result));
/* Scaled latents [height/f, width/f, channels] of a resolved request. ERR_CANCELED soon after *stop becomes nonzero;
 * stop may be NULL. */
struct error picture_latents(struct base_model *base, const struct picture_request *request, const struct rng *noise,
                             const volatile sig_atomic_t *stop, float *latents) __attribute__((warn_unused_result));
/* rgb is malloc'd: [height, width, 3], 8 bits. noise NULL: drawn from the request's seed. */
struct error picture_render(struct base_model *base, const struct picture_request *request, const struct rng *noise,
                            const volatile sig_atomic_t *stop, uint8_t **rgb) __attribute__((warn_unused_result));
