/* What a training is to do: JOBDIR/job.json, read and checked, and the plan of steps that follows from it.
 * The file has all parameters under the API's names; what is missing has the API's default. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "engine/lora_file.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/schedule.h"

enum {
    JOB_ITEMS_MAX = 2000,    /* pictures; the API allows 50 */
    JOB_PROMPTS_MAX = 64,    /* sample prompts */
    JOB_STEPS_MAX = 1000000, /* of a whole training: 30 epochs, 30 repeats, 1000 pictures */
    JOB_BATCH_MAX = 16,
    JOB_ACCUMULATION_MAX = 64, /* batches a step */
};

struct job_item {
    const char *image; /* relative to the folder */
    const char *caption;
    const char *source_id; /* NULL when unknown; named in errors */
};

struct job_prompt {
    const char *text, *negative;
    uint64_t seed;
    size_t width, height; /* 0: the base's own */
    unsigned steps;       /* 0: the base's */
    double guidance;      /* 0: the base's */
    enum sampler_kind sampler;
};

/* The API's names and, last, some of our own: minSnrGamma, gradientAccumulationSteps, aspectBuckets,
 * gradientCheckpointing (absent: when memory is short), loraFormat ("kohya" or "diffusers"). */
struct job_parameters {
    unsigned batch_size, epochs, repeats, rank; /* epochs 0: not given */
    unsigned steps_max;                         /* 0: not given */
    bool steps_split;                           /* numTextTrainSteps or numUNetTrainSteps are given: */
    unsigned text_steps, unet_steps;            /* the text encoder's steps, then the UNet's */
    double text_ratio;                          /* or the share of all steps that are the text encoder's */
    double learning_rate, text_learning_rate;   /* before the base's scale */
    bool text_rate_given;
    enum rate_kind rate_kind;
    const char *rate_name;
    const char *class_prompt, *concept_prompt; /* "" when not given */
    double prior_weight;
    bool random_crop;
    double crop_ratio; /* how often a picture is cropped at random rather than at its centre */
    double crop_scale; /* side of the random window, of the largest that fits */
    unsigned validation_frequency;
    double min_snr_gamma;  /* 0: off */
    unsigned accumulation; /* batches whose mean gradient makes a step */
    bool aspect_buckets;   /* pictures keep their shape, rather than being cut to squares */
    enum recompute recompute;
    enum lora_format lora_format;
};

struct job {
    const char *id, *name, *type, *base_path;
    bool xl;
    unsigned threads;
    uint64_t seed;
    struct job_parameters parameters;
    size_t item_count, prompt_count;
    struct job_item *items;
    struct job_prompt *prompts;
    char fingerprint[65]; /* SHA-256 of job.json: a state belongs to one job */
};

struct job_plan {
    unsigned steps, text_steps;    /* text_steps of them first train the text encoder, the others the UNet */
    unsigned batches_per_epoch;    /* one pass over the pictures and their repeats */
    unsigned steps_per_epoch;      /* each of `accumulation` batches, the last one of an epoch of what is left */
    unsigned steps_per_checkpoint; /* weights and samples are published this often, and at the end */
    unsigned checkpoints;
};

/* Everything lives in the arena. ERR_INVALID or ERR_CORRUPT names what is wrong. */
struct error job_read(struct arena *arena, const char *folder, struct job *job) __attribute__((warn_unused_result));
struct error job_plan_make(const struct job *job, unsigned batches_per_epoch, struct job_plan *plan)
    __attribute__((warn_unused_result));
