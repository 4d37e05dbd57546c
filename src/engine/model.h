/* A Stable-Diffusion-family base model (SD 1.x, 2.x, SDXL and small ones like them) from a folder in diffusers layout,
 * and what a sampler and a trainer do with it. The graphs behind it are built once a shape and planned into one block
 * of memory; a call with the shape of the call before allocates nothing.
 *
 * Layout: everything is fp32 and NHWC: images [batch, height, width, 3] in [-1, 1], latents [batch, h, w, channels],
 * text [batch, tokens, width]. Errors: ERR_NOT_FOUND (a file is missing), ERR_CORRUPT (it is not what its config says),
 * ERR_INVALID (a configuration or shape that is not implemented; nothing is silently ignored). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/pool.h"

enum {
    MODEL_BATCH_MAX = 64,   /* pictures a step */
    MODEL_TOKENS_MAX = 77,  /* positions of a CLIP text encoder */
    MODEL_LATENT_MAX = 256, /* side of a latent: 2048 px at factor 8 */
    MODEL_TILE = 128,       /* side of the latent that goes through the VAE at once: 1,024 px at factor 8 */
    LORA_RANK_MAX = 256,    /* more is full training by other means */
};

enum component { COMPONENT_UNET, COMPONENT_TEXT, COMPONENT_TEXT_2, COMPONENT_VAE, COMPONENT_COUNT };

struct model;

struct model_info {
    bool xl;                   /* second text encoder, pooled text and time ids */
    size_t latent_channels;    /* of the UNet's sample and the VAE's latent */
    size_t vae_factor;         /* image pixels a latent pixel, each way */
    size_t sample_size;        /* latent side the model was made for */
    size_t unet_factor;        /* latent sides are best multiples of it */
    size_t context_width;      /* channels of the text context */
    size_t pooled_width;       /* channels of the pooled text; 0 unless xl */
    size_t tokens_max[2];      /* positions of the text encoders; [1] is 0 unless xl */
    size_t vocabulary[2];      /* ids are below it */
    double scaling_factor;     /* latent = (moments' sample - shift) * scaling */
    double shift_factor;       /* 0 when absent */
    const float *latents_mean; /* [latent_channels] or NULL: latent = (sample - mean) * scaling / std */
    const float *latents_std;
    bool zero_for_empty_prompt; /* force_zeros_for_empty_prompt of model_index.json: zeros as negative condition */
    size_t parameters;          /* numbers in all components */
};

/* The pool must outlive the model. All weights are read and checked here. */
struct error model_open(const char *folder, struct pool *pool, struct model **out) __attribute__((warn_unused_result));
/* The same; networks whose folders hold a config.json and no weights begin with values drawn from the seed. */
struct error model_open_fresh(const char *folder, uint64_t seed, struct pool *pool, struct model **out)
    __attribute__((warn_unused_result));
/* The same with the weights of UNet and text encoders rounded to bfloat16: half the memory, sums in fp32 all the same.
 */
struct error model_open_half(const char *folder, struct pool *pool, struct model **out)
    __attribute__((warn_unused_result));
void model_destroy(struct model *model);
uint64_t model_weight_bytes(const struct model *model); /* in memory now, packed */
/* What opening the folder will take, and with training what a LoRA's backward pass adds: known before weights are read.
 */
struct error model_bytes_needed(const char *folder, bool half, bool training, uint64_t *bytes)
    __attribute__((warn_unused_result));
const struct model_info *model_info(const struct model *model);
struct pool *model_pool(const struct model *model);

/* Token ids [batch, tokens] of each tokenizer (ids_2 NULL unless xl) -> context [batch, tokens, context_width] and, if
 * xl, pooled [batch, pooled_width]. clip_skip 0 or 1 is the usual layer; n takes the n-th from the end. */
struct error model_encode_text(struct model *model, size_t batch, size_t tokens, const int32_t *ids,
                               const int32_t *ids_2, unsigned clip_skip, float *context, float *pooled)
    __attribute__((warn_unused_result));
/* height and width in pixels, multiples of vae_factor. mean and logvar (clamped to [-30, 20]) are
 * [batch, height/f, width/f, latent_channels], unscaled. */
struct error model_encode_image(struct model *model, size_t batch, size_t height, size_t width, const float *rgb,
                                float *mean, float *logvar) __attribute__((warn_unused_result));
/* latents unscaled, height and width in latent pixels; rgb is not clamped. */
struct error model_decode_latents(struct model *model, size_t batch, size_t height, size_t width, const float *latents,
                                  float *rgb) __attribute__((warn_unused_result));

/* Pictures with a larger side go through the VAE in overlapping tiles, MODEL_TILE unless set. At least 4. */
void model_set_tile(struct model *model, size_t latent_pixels);

/* What the UNet sees. context and pooled are unused where token ids are given to a training graph with text. */
struct unet_input {
    size_t batch, height, width; /* latent pixels */
    size_t tokens;
    const float *sample;    /* [batch, height, width, latent_channels] */
    const float *timesteps; /* [batch], 0..999, fractions allowed */
    const float *context;   /* [batch, tokens, context_width] */
    const float *pooled;    /* xl: [batch, pooled_width] */
    const float *time_ids;  /* xl: [batch, 6] = original height, width, crop top, left, target height, width */
    const int32_t *ids;     /* training with text: [batch, tokens] */
    const int32_t *ids_2;   /* and xl */
    unsigned clip_skip;
};
/* prediction [batch, height, width, latent_channels]; what it means is the scheduler's prediction_type. */
struct error model_predict(struct model *model, const struct unet_input *input, float *prediction)
    __attribute__((warn_unused_result));

/* ---- trained parameters ---- */

enum training_targets {
    TARGETS_ATTENTION, /* to_q, to_k, to_v, to_out.0; text: q_proj, k_proj, v_proj, out_proj */
    TARGETS_WIDE,      /* and ff.net.*, proj_in, proj_out, conv1, conv2, conv_shortcut; text: and mlp.fc1, fc2 */
    TARGETS_FULL,      /* no LoRA: every weight of the UNet, of the text encoders, or of both; or of the VAE */
};

struct parameter_options {
    enum training_targets targets;
    bool unet, text;
    bool vae;      /* full only, and alone: for engine/vae_training.h */
    unsigned rank; /* 1..LORA_RANK_MAX */
    float alpha;   /* the LoRA's output is scaled by alpha / rank */
};

enum parameter_role { PARAMETER_LORA_A, PARAMETER_LORA_B, PARAMETER_WEIGHT, PARAMETER_BIAS };

/* One tensor in the flat vectors. LoRA A is [rank, in] or [rank, in, k, k], B is [out, rank] or [out, rank, 1, 1]. */
struct parameter {
    enum component component;
    const char *module; /* diffusers' path in its component, "down_blocks.0.attentions.0....attn1.to_q" */
    enum parameter_role role;
    size_t dimensions, shape[4];
    size_t offset, count; /* in floats */
};

/* A and B of a module follow one another in the table. gradients are added to by training_step: zero them when an
 * optimizer step is done. */
struct parameters {
    size_t count; /* floats */
    float *values, *gradients;
    size_t table_count;
    const struct parameter *table;
    unsigned rank;
    float alpha;
};

/* values start as zeros (FULL: as the model's weights); LoRA A and B are the caller's to draw. The model must outlive
 * them. */
struct error parameters_create(struct model *model, const struct parameter_options *options, struct parameters **out)
    __attribute__((warn_unused_result));
void parameters_destroy(struct parameters *parameters);

/* ---- training ---- */

enum recompute { /* gradient checkpointing: activations block by block again in the backward pass; the same bytes */
                 RECOMPUTE_TO_FIT, /* when the plan would take more than memory_max */
                 RECOMPUTE_NEVER,
                 RECOMPUTE_ALWAYS,
};

struct training_shape {
    size_t batch, height, width; /* latent pixels */
    size_t tokens;
    unsigned clip_skip;
    enum recompute recompute;
    uint64_t memory_max; /* bytes; 0: no limit */
};

struct training;

/* Parameters of the text encoders put these into the graph: the input then needs ids instead of context and pooled.
 * Several shapes can train the same parameters. */
struct error training_create(struct model *model, struct parameters *parameters, const struct training_shape *shape,
                             struct training **out) __attribute__((warn_unused_result));
void training_destroy(struct training *training);
/* Forward, loss = mean over the batch of weights[b] mean((prediction - target)^2), backward. weights NULL: all 1.
 * gradient_scale multiplies the loss before backward (1 / accumulation). losses[batch], unweighted, may be NULL. */
struct error training_step(struct training *training, const struct unet_input *input, const float *target,
                           const float *weights, float gradient_scale, double *loss, float *losses)
    __attribute__((warn_unused_result));
size_t training_bytes(const struct training *training); /* memory of its plan, shared with all graphs of the model */
bool training_recomputes(const struct training *training);

/* ---- LoRAs in the weights, for sampling ---- */

/* One module's change: weight += scale * B A. in, out, kernel are checked against the module. */
struct lora_delta {
    enum component component;
    const char *module;
    size_t rank, in, out, kernel; /* kernel 1 or 3: A is [rank, in, k, k] */
    bool conv;                    /* a convolution in the base's files, not a linear layer */
    const float *a, *b;
    float scale; /* strength * alpha / rank */
};
/* The weights become those of the files plus all deltas; count 0 restores them. Do not train while any is merged. */
struct error model_merge(struct model *model, const struct lora_delta *deltas, size_t count)
    __attribute__((warn_unused_result));
/* The same from parameters in training, strength times. */
struct error model_merge_parameters(struct model *model, const struct parameters *parameters, float strength)
    __attribute__((warn_unused_result));
