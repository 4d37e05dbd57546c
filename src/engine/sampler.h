/* From noise to latents: DDIM (Song et al., arXiv 2010.02502), Euler with and without added noise (Karras et al., arXiv
 * 2206.00364) and DPM-Solver++ 2M (Lu et al., arXiv 2211.01095), with the timesteps and conventions of diffusers'
 * schedulers.
 *
 *     sampler_init; x = noise; sampler_start;
 *     for i from first to steps: sampler_scale_input -> model at timesteps[i] -> sampler_step
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "engine/rng.h"
#include "engine/schedule.h"

enum { SAMPLER_STEPS_MAX = 250 }; /* pictures stop changing long before */

enum sampler_kind {
    SAMPLER_DDIM,
    SAMPLER_EULER,
    SAMPLER_EULER_ANCESTRAL, /* part of each step is fresh noise */
    SAMPLER_DPMPP_2M,
    SAMPLER_DPMPP_2M_KARRAS, /* with the sigmas of Karras et al., whatever the schedule says */
    SAMPLER_COUNT,
};

struct sampler {
    const struct schedule *schedule; /* borrowed */
    enum sampler_kind kind;
    unsigned steps, first; /* first: that a walk begins with; 0 unless it begins on a picture */
    float timesteps[SAMPLER_STEPS_MAX];
    double sigmas[SAMPLER_STEPS_MAX + 1]; /* sqrt((1 - acp) / acp) and a final 0; unused by DDIM */
    double first_sigma;                   /* of the noise to begin with */
    size_t count;                         /* numbers in a latent */
    float *previous;                      /* [count] x0 of the step before (DPM-Solver++), or fresh noise (ancestral) */
    struct rng noise;                     /* ancestral: the caller sets seed and index */
};

/* "ddim", "euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", or the name of diffusers' scheduler. */
bool sampler_kind_parse(const char *name, enum sampler_kind *kind);
const char *sampler_scheduler_name(enum sampler_kind kind); /* diffusers', which the API's are */
struct error sampler_init(struct sampler *sampler, const struct schedule *schedule, enum sampler_kind kind,
                          unsigned steps, size_t count) __attribute__((warn_unused_result));
void sampler_finish(struct sampler *sampler);
/* x, noise, becomes what a walk begins with: noise alone, or with clean latents [count] those, with as much noise as
 * the last strength (0 to 1) of the steps take away again: int(steps * strength) of them, at least 1. */
void sampler_start(struct sampler *sampler, const float *clean, double strength, float *x);
void sampler_scale_input(const struct sampler *sampler, unsigned index, const float *x, float *input); /* may be x */
/* x, the latent at timesteps[index], becomes that of the next. prediction is the model's, after guidance. */
void sampler_step(struct sampler *sampler, unsigned index, const float *prediction, float *x);
