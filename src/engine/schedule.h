/* Noise schedules, as diffusers' schedulers define them, and learning-rate schedules, as its get_scheduler does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { SCHEDULE_STEPS_MAX = 4000 }; /* training timesteps; every known model has 1000 */

enum prediction { PREDICT_NOISE, PREDICT_VELOCITY, PREDICT_SAMPLE };
enum spacing { SPACING_LEADING, SPACING_LINSPACE, SPACING_TRAILING };
enum beta_schedule { BETAS_SCALED_LINEAR, BETAS_LINEAR, BETAS_SQUARED_COSINE };

struct schedule {
    unsigned steps; /* timesteps of training */
    enum beta_schedule betas;
    double beta_start, beta_end;
    bool zero_terminal_snr; /* Lin et al., arXiv 2305.08891 */
    enum prediction prediction;
    enum spacing spacing;
    unsigned steps_offset;
    bool clip_sample;
    double clip_range;
    bool final_alpha_one; /* set_alpha_to_one: the step beyond t = 0 has no noise at all */
    bool karras;
    float alphas_cumprod[SCHEDULE_STEPS_MAX]; /* products of 1 - beta, rounded to single like the reference's */
};

/* SD 1.x: scaled linear 0.00085 to 0.012 in 1000 steps, noise prediction, leading spacing with offset 1. */
void schedule_defaults(struct schedule *schedule);
/* Reads BASE/scheduler/scheduler_config.json; the class named there chooses nothing but these numbers. */
struct error schedule_read(const char *base_folder, struct schedule *schedule) __attribute__((warn_unused_result));
/* alphas_cumprod from the other fields. */
void schedule_compute(struct schedule *schedule);
double schedule_snr(const struct schedule *schedule, unsigned timestep);
/* Loss weight min(snr, gamma) / snr, over snr + 1 for velocity; 1 when gamma is 0. Hang et al., arXiv 2303.09556 */
double schedule_min_snr_weight(const struct schedule *schedule, unsigned timestep, double gamma);

/* noisy = sqrt(acp) x0 + sqrt(1 - acp) noise, and what the model should say of it; count numbers each. */
void schedule_add_noise(const struct schedule *schedule, unsigned timestep, size_t count, const float *x0,
                        const float *noise, float *noisy, float *target);

/* ---- learning rate ---- */

enum rate_kind {
    RATE_CONSTANT,
    RATE_CONSTANT_WITH_WARMUP,
    RATE_LINEAR,
    RATE_COSINE,
    RATE_COSINE_WITH_RESTARTS,
    RATE_POLYNOMIAL,
};

struct rate_schedule {
    enum rate_kind kind;
    double base;            /* the rate that factors multiply */
    unsigned warmup, total; /* optimizer steps */
    unsigned cycles;        /* cosine with restarts */
    double power;           /* polynomial, which ends at 1e-7 */
};

/* From the API's name, such as "cosine-with-restarts". False when there is no such schedule. */
bool rate_kind_parse(const char *name, enum rate_kind *kind);
/* The rate of optimizer step index 0, 1, ... */
double rate_at(const struct rate_schedule *schedule, unsigned index);
