/* The pictures of a base model's training as latents, their captions as token ids, and the batches drawn of them. A
 * batch depends on the job and its step alone. */
#pragma once

#include "engine/base_model.h"
#include "engine/pictures.h"
#include "engine/pretrain_job.h"

struct pretrain_data {
    struct base_model *base;        /* borrowed */
    const struct pretrain_job *job; /* borrowed */
    size_t latent, tokens;          /* floats of a latent, ids of a caption */
    float *latents;                 /* [items, latent], scaled */
    int32_t *ids;                   /* [captions of all items, tokens] */
    size_t *first_captions;         /* [items]: rows of ids */
    int32_t *empty;                 /* [tokens] */
    uint32_t *order;                /* items of the epoch at hand */
    size_t order_count;             /* visits an epoch */
    uint32_t order_epoch;
    unsigned order_step; /* first of the phase; UINT32_MAX before the first batch */
};

/* One step's batch, and room for it. */
struct pretrain_batch {
    size_t size;
    float *noisy, *target; /* [size, latent] */
    int32_t *ids;          /* [size, tokens] */
    float *timesteps;      /* [size] */
    float *noise;          /* [latent], room */
    uint32_t *strata;      /* [size], room */
};

/* Encodes all pictures by the VAE's mean. ERR_CANCELED soon after *stop becomes nonzero. */
struct error pretrain_data_load(struct base_model *base, const char *folder, const struct pretrain_job *job,
                                const struct picture_io *io, const volatile sig_atomic_t *stop,
                                struct pretrain_data **out) __attribute__((warn_unused_result));
void pretrain_data_destroy(struct pretrain_data *data);

struct error pretrain_batch_init(const struct pretrain_data *data, size_t size, struct pretrain_batch *batch)
    __attribute__((warn_unused_result));
void pretrain_batch_finish(struct pretrain_batch *batch);
/* The batch of step 0, 1, ... */
void pretrain_batch_draw(struct pretrain_data *data, unsigned step, struct pretrain_batch *batch);
/* Fixed pictures of the first phase at one timestep, from the index-th on, with their first captions (shift 0), those
 * of the pictures after them (shift 1), or none (shift -1). The noise is always the same. */
void pretrain_batch_probe(const struct pretrain_data *data, unsigned index, unsigned timestep, int shift,
                          struct pretrain_batch *batch);
