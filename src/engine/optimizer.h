/* One set of trained parameters with its optimizer: AdamW as torch orders it (betas 0.9 and 0.999, epsilon 1e-8, weight
 * decay 0.01), gradients clipped to a global norm of 1. */
#pragma once

#include "base/error.h"
#include "engine/model.h"
#include "engine/schedule.h"

struct learner {
    struct parameters *parameters;
    float *first_moment, *second_moment; /* [parameters->count] */
    struct rate_schedule rates;
};

/* LoRA down factors are drawn from U(-1, 1) / sqrt(inputs) (kohya's and PEFT's initial values), up factors are 0. */
struct error learner_init(struct learner *learner, struct model *model, const struct parameter_options *options,
                          const struct rate_schedule *rates, uint64_t seed) __attribute__((warn_unused_result));
void learner_finish(struct learner *learner);
/* The update of optimizer step index 0, 1, ... from the gradients, which are zeroed. Returns their norm before
 * clipping. */
double learner_step(struct learner *learner, struct pool *pool, unsigned index);
