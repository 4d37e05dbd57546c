/* What a base model's training is to do: FOLDER/job.json, read and checked. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum {
    PRETRAIN_ITEMS_MAX = 200000,
    PRETRAIN_CAPTIONS_MAX = 64, /* of a picture */
    PRETRAIN_GROUPS_MAX = 16,
    PRETRAIN_PHASES_MAX = 16,
    PRETRAIN_REPEATS_MAX = 100,
    PRETRAIN_STEPS_MAX = 10000000,
};

struct pretrain_item {
    const char *image; /* relative to the folder */
    unsigned group;
    size_t caption_count;
    const char **captions; /* one is drawn at each visit; a VAE needs none */
};

/* From a step on: how often an item of each group comes in an epoch. */
struct pretrain_phase {
    unsigned first_step;
    double timestep_power; /* timesteps are 1000 u^power: below 1, more of the noisy ones */
    unsigned repeats[PRETRAIN_GROUPS_MAX];
};

struct pretrain_job {
    const char *type;      /* "sd-1_5-base": UNet and text encoder; "vae" */
    const char *base_path; /* in diffusers layout; networks without weights begin from nothing */
    uint64_t seed;
    unsigned threads; /* 0: one a core */
    unsigned steps, batch_size;
    /* The rate rises over warmup_steps, stays, and falls to 0 on a half cosine over the last decay_steps. */
    unsigned warmup_steps, decay_steps;
    double learning_rate, beta1, beta2, weight_decay, gradient_norm_max;
    double average_decay;    /* of the averaged weights, which are the result */
    double caption_dropout;  /* share of empty captions */
    double timestep_power;   /* of phases that give none */
    unsigned probe_pictures; /* that the curve's measure of words is taken on */
    unsigned report_steps;   /* between rows of the curve, each with the weights so far */
    size_t item_count, phase_count;
    struct pretrain_item *items;
    struct pretrain_phase phases[PRETRAIN_PHASES_MAX];
    char fingerprint[65]; /* of all but steps and threads: what the steps before the decay depend on */
};

/* Everything lives in the arena. ERR_INVALID says what is wrong. */
struct error pretrain_job_read(struct arena *arena, const char *folder, struct pretrain_job *job)
    __attribute__((warn_unused_result));
/* Of step 0, 1, ... */
double pretrain_rate(const struct pretrain_job *job, unsigned step);
/* The first phase's, until the second begins. */
const struct pretrain_phase *pretrain_phase(const struct pretrain_job *job, unsigned step);
