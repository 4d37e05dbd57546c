/* What pictures to draw: JOBDIR/job.json of kind "generation", read and checked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "engine/lora_merge.h"
#include "engine/sampler.h"

enum {
    GENERATION_PICTURES_MAX = 128,
    GENERATION_LORAS_MAX = 256, /* of a composition of compositions */
};

struct generation_job {
    const char *base_path;
    bool xl;
    unsigned threads;
    const char *prompt, *negative;
    size_t width, height; /* 0: the base's own */
    unsigned steps;       /* 0: the base's */
    bool has_guidance;    /* else the base's */
    double guidance;
    enum sampler_kind sampler;
    size_t lora_count, picture_count;
    struct lora_choice *loras; /* paths begin with the folder's */
    const char *image;         /* to begin on, likewise; NULL: none */
    double strength;           /* share of the steps that change it */
    uint64_t *seeds;           /* one a picture */
};

/* Whether the folder holds a generation rather than a training. False when its job.json cannot be read. */
bool generation_is(const char *folder);
/* Everything lives in the arena. ERR_INVALID names what is wrong. */
struct error generation_read(struct arena *arena, const char *folder, struct generation_job *job)
    __attribute__((warn_unused_result));
