/* What engine/pretrain.c has in common for its subjects, the denoiser (UNet and text encoder) and the VAE. */
#pragma once

#include "engine/pretrain.h"
#include "engine/pretrain_data.h"

enum { SUBJECT_NUMBERS = 3 }; /* of a row of the curve, beside step, loss and rate */

struct pretrain;

struct subject {
    const char *type;    /* job.json's */
    const char *columns; /* names of the numbers that measure gives: "a,b,c" */
    struct parameter_options parameters;
    /* Pictures and graphs, behind run->own. */
    struct error (*load)(struct pretrain *run) __attribute__((warn_unused_result));
    void (*unload)(struct pretrain *run); /* own may be NULL */
    /* Forward and backward of the batch of run->step. */
    struct error (*step)(struct pretrain *run, double *loss) __attribute__((warn_unused_result));
    /* With the averaged weights, which are in the model. */
    struct error (*measure)(struct pretrain *run, float numbers[SUBJECT_NUMBERS]) __attribute__((warn_unused_result));
    /* The averaged weights as files in out/. */
    struct error (*publish)(struct pretrain *run) __attribute__((warn_unused_result));
};

extern const struct subject denoiser_subject, vae_subject;

struct pretrain { /* a run, as far as subjects see it */
    const struct subject *subject;
    const struct trainer_options *options;
    struct pretrain_job job;
    struct pool *pool;
    struct base_model *base;
    struct parameters *parameters;
    float *average; /* [parameters->count] */
    struct pretrain_data data;
    unsigned step;
    void *own; /* the subject's */
};

/* values as out/PART/FILE */
struct error pretrain_write_weights(const struct pretrain *run, const char *part, const char *file,
                                    enum component component, const float *values) __attribute__((warn_unused_result));
