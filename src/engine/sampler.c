#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mathd.h"

static const struct {
    const char *name, *scheduler;
} kinds[SAMPLER_COUNT] = {
    [SAMPLER_DDIM] = {"ddim", "DDIMScheduler"},
    [SAMPLER_EULER] = {"euler", "EulerDiscreteScheduler"},
    [SAMPLER_EULER_ANCESTRAL] = {"euler_ancestral", "EulerAncestralDiscreteScheduler"},
    [SAMPLER_DPMPP_2M] = {"dpmpp_2m", "DPMSolverMultistepScheduler"},
    [SAMPLER_DPMPP_2M_KARRAS] = {"dpmpp_2m_karras", "DPMSolverMultistepScheduler"},
};

bool sampler_kind_parse(const char *name, enum sampler_kind *kind)
{
    for (int i = 0; i < SAMPLER_COUNT; i++) {
        if (strcmp(kinds[i].name, name) == 0 || strcmp(kinds[i].scheduler, name) == 0) {
            *kind = (enum sampler_kind)i;
            return true;
        }
    }
    return false;
}

const char *sampler_scheduler_name(enum sampler_kind kind)
{
    return kinds[kind].scheduler;
}

static bool is_euler(const struct sampler *sampler)
{
    return sampler->kind == SAMPLER_EULER || sampler->kind == SAMPLER_EULER_ANCESTRAL;
}

static bool is_dpmpp(const struct sampler *sampler)
{
    return sampler->kind == SAMPLER_DPMPP_2M || sampler->kind == SAMPLER_DPMPP_2M_KARRAS;
}

static bool is_karras(const struct sampler *sampler)
{
    bool may = sampler->kind == SAMPLER_EULER || sampler->kind == SAMPLER_DPMPP_2M;
    return sampler->kind == SAMPLER_DPMPP_2M_KARRAS || (may && sampler->schedule->karras);
}

/* ---- timesteps, descending ---- */

/* DPM-Solver++ lays its steps over one interval more and leaves out the cleanest. */
static void set_timesteps(struct sampler *sampler)
{
    const struct schedule *schedule = sampler->schedule;
    unsigned n = sampler->steps, total = schedule->steps;
    unsigned intervals = is_dpmpp(sampler) ? n + 1 : n, stride = total / intervals;
    for (unsigned i = 0; i < n; i++) {
        double up = intervals - 1 - i, timestep = 0; /* steps from the cleanest */
        switch (schedule->spacing) {
        case SPACING_LEADING:
            timestep = up * stride + schedule->steps_offset;
            break;
        case SPACING_LINSPACE:
            timestep = intervals > 1 ? up * (total - 1) / (intervals - 1) : 0;
            if (!is_euler(sampler))
                timestep = nearbyint(timestep);
            break;
        case SPACING_TRAILING:
            timestep = nearbyint(total - i * ((double)total / n)) - 1;
            break;
        }
        sampler->timesteps[i] = (float)fmin(fmax(timestep, 0), total - 1);
    }
}

static double sigma_of(const struct schedule *schedule, unsigned timestep)
{
    double least = 1.0 / (1 << 24); /* zero-terminal-SNR schedules end at acp = 0 */
    double acp = fmax(schedule->alphas_cumprod[timestep], least);
    return (float)sqrt((1 - acp) / acp);
}

static double sigma_at(const struct schedule *schedule, double timestep)
{
    unsigned low = (unsigned)timestep, high = low + 1 < schedule->steps ? low + 1 : low;
    double share = timestep - low;
    return (1 - share) * sigma_of(schedule, low) + share * sigma_of(schedule, high);
}

/* The fractional timestep with this sigma, linear in log sigma. */
static double timestep_of(const struct schedule *schedule, double sigma)
{
    unsigned low = 0;
    while (low + 2 < schedule->steps && sigma_of(schedule, low + 1) <= sigma)
        low++;
    double log_low = mathd_log(sigma_of(schedule, low)), log_high = mathd_log(sigma_of(schedule, low + 1));
    double share = (mathd_log(sigma) - log_low) / (log_high - log_low);
    return low + fmin(fmax(share, 0), 1);
}

static void set_karras_sigmas(struct sampler *sampler)
{
    const double rho = 7;
    const struct schedule *schedule = sampler->schedule;
    double top = mathd_pow(sigma_of(schedule, schedule->steps - 1), 1 / rho);
    double bottom = mathd_pow(sigma_of(schedule, 0), 1 / rho);
    for (unsigned i = 0; i < sampler->steps; i++) {
        double share = sampler->steps > 1 ? (double)i / (sampler->steps - 1) : 0;
        sampler->sigmas[i] = mathd_pow(top + share * (bottom - top), rho);
        sampler->timesteps[i] = (float)timestep_of(schedule, sampler->sigmas[i]);
        if (is_dpmpp(sampler))
            sampler->timesteps[i] = nearbyintf(sampler->timesteps[i]);
    }
}

struct error sampler_init(struct sampler *sampler, const struct schedule *schedule, enum sampler_kind kind,
                          unsigned steps, size_t count)
{
    *sampler = (struct sampler){.schedule = schedule, .kind = kind, .steps = steps, .count = count, .first_sigma = 1};
    if (steps < 1 || steps > SAMPLER_STEPS_MAX || steps >= schedule->steps)
        return error_make(ERR_INVALID, "sampling steps must be 1 to %d", SAMPLER_STEPS_MAX);
    set_timesteps(sampler);
    for (unsigned i = 0; i < steps; i++)
        sampler->sigmas[i] = sigma_at(schedule, sampler->timesteps[i]);
    if (is_karras(sampler))
        set_karras_sigmas(sampler);
    if (is_euler(sampler)) {
        double top = sampler->sigmas[0];
        sampler->first_sigma = schedule->spacing == SPACING_LEADING ? sqrt(top * top + 1) : top;
    }
    if (is_dpmpp(sampler) || kind == SAMPLER_EULER_ANCESTRAL) {
        sampler->previous = malloc(count * sizeof(float));
        if (!sampler->previous)
            return error_make(ERR_INTERNAL, "not enough memory to sample");
    }
    return OK;
}

void sampler_finish(struct sampler *sampler)
{
    free(sampler->previous);
    sampler->previous = NULL;
}

/* As add_noise of diffusers' schedulers, at the first step taken. */
static void start_on(struct sampler *sampler, const float *clean, float *x)
{
    double sigma = sampler->sigmas[sampler->first], signal = 1, spread = sigma;
    if (is_dpmpp(sampler)) {
        signal = 1 / sqrt(sigma * sigma + 1);
        spread = sigma * signal;
    } else if (!is_euler(sampler)) {
        double acp = sampler->schedule->alphas_cumprod[(int)sampler->timesteps[sampler->first]];
        signal = sqrt(acp);
        spread = sqrt(1 - acp);
    }
    for (size_t i = 0; i < sampler->count; i++)
        x[i] = (float)(signal * clean[i] + spread * x[i]);
}

void sampler_start(struct sampler *sampler, const float *clean, double strength, float *x)
{
    if (clean) {
        unsigned taken = (unsigned)(sampler->steps * fmin(fmax(strength, 0), 1));
        sampler->first = sampler->steps - (taken ? taken : 1);
        start_on(sampler, clean, x);
        return;
    }
    for (size_t i = 0; i < sampler->count; i++)
        x[i] *= (float)sampler->first_sigma;
}

void sampler_scale_input(const struct sampler *sampler, unsigned index, const float *x, float *input)
{
    double sigma = sampler->sigmas[index];
    float factor = is_euler(sampler) ? (float)(1 / sqrt(sigma * sigma + 1)) : 1;
    for (size_t i = 0; i < sampler->count; i++)
        input[i] = x[i] * factor;
}

/* ---- what a prediction says of the clean latent, where x = signal x0 + spread noise ---- */

static double clean_of(enum prediction prediction, double said, double x, double signal, double spread)
{
    if (prediction == PREDICT_VELOCITY)
        return signal * x - spread * said;
    return prediction == PREDICT_NOISE ? (x - spread * said) / signal : said;
}

static double noise_of(enum prediction prediction, double said, double x, double signal, double spread)
{
    if (prediction == PREDICT_VELOCITY)
        return signal * said + spread * x;
    return prediction == PREDICT_NOISE ? said : (x - signal * said) / spread;
}

static void ddim_step(struct sampler *sampler, unsigned index, const float *prediction, float *x)
{
    const struct schedule *schedule = sampler->schedule;
    int now = (int)sampler->timesteps[index], next = now - (int)(schedule->steps / sampler->steps);
    double acp = schedule->alphas_cumprod[now];
    double acp_beyond = schedule->final_alpha_one ? 1 : schedule->alphas_cumprod[0];
    double acp_next = next >= 0 ? schedule->alphas_cumprod[next] : acp_beyond;
    double signal = sqrt(acp), spread = sqrt(1 - acp), signal_next = sqrt(acp_next), spread_next = sqrt(1 - acp_next);
    for (size_t i = 0; i < sampler->count; i++) {
        double clean = clean_of(schedule->prediction, prediction[i], x[i], signal, spread);
        double noise = noise_of(schedule->prediction, prediction[i], x[i], signal, spread);
        if (schedule->clip_sample)
            clean = fmin(fmax(clean, -schedule->clip_range), schedule->clip_range);
        x[i] = (float)(signal_next * clean + spread_next * noise);
    }
}

/* Here x = x0 + sigma noise, and the model saw x / sqrt(sigma^2 + 1). */
static void euler_step(struct sampler *sampler, unsigned index, const float *prediction, float *x)
{
    double sigma = sampler->sigmas[index], step = sampler->sigmas[index + 1] - sigma;
    double signal = 1 / sqrt(sigma * sigma + 1), spread = sigma * signal;
    for (size_t i = 0; i < sampler->count; i++) {
        double noise = noise_of(sampler->schedule->prediction, prediction[i], x[i] * signal, signal, spread);
        x[i] = (float)(x[i] + step * noise);
    }
}

/* Goes down further than the next sigma, and up to it again by noise: down^2 + up^2 = next^2. */
static void ancestral_step(struct sampler *sampler, unsigned index, const float *prediction, float *x)
{
    double sigma = sampler->sigmas[index], next = sampler->sigmas[index + 1];
    double up = next * sqrt(sigma * sigma - next * next) / sigma, down = next * next / sigma;
    double signal = 1 / sqrt(sigma * sigma + 1), spread = sigma * signal;
    sampler->noise.purpose = RNG_ANCESTRAL;
    sampler->noise.step = index;
    rng_normal(&sampler->noise, sampler->count, sampler->previous);
    for (size_t i = 0; i < sampler->count; i++) {
        double noise = noise_of(sampler->schedule->prediction, prediction[i], x[i] * signal, signal, spread);
        x[i] = (float)(x[i] + (down - sigma) * noise + up * sampler->previous[i]);
    }
}

static double half_log_snr(double sigma)
{
    return -mathd_log(sigma);
}

/* Second order by the midpoint rule; first order at the start and at the end, where sigma is 0. */
static void dpmpp_step(struct sampler *sampler, unsigned index, const float *prediction, float *x)
{
    double sigma = sampler->sigmas[index], sigma_next = sampler->sigmas[index + 1];
    double signal = 1 / sqrt(sigma * sigma + 1), spread = sigma * signal;
    double signal_next = 1 / sqrt(sigma_next * sigma_next + 1), spread_next = sigma_next * signal_next;
    bool last = index + 1 == sampler->steps;
    double h = last ? 0 : half_log_snr(sigma_next) - half_log_snr(sigma);
    double decay = sigma_next / sigma - 1; /* e^-h - 1 */
    double ratio =
        index > sampler->first && !last ? (half_log_snr(sigma) - half_log_snr(sampler->sigmas[index - 1])) / h : 0;
    for (size_t i = 0; i < sampler->count; i++) {
        double clean = clean_of(sampler->schedule->prediction, prediction[i], x[i], signal, spread);
        double next = spread_next / spread * x[i] - signal_next * decay * clean;
        if (ratio > 0)
            next -= signal_next * decay * 0.5 * (clean - sampler->previous[i]) / ratio;
        sampler->previous[i] = (float)clean;
        x[i] = (float)next;
    }
}

void sampler_step(struct sampler *sampler, unsigned index, const float *prediction, float *x)
{
    switch (sampler->kind) {
    case SAMPLER_DDIM:
        ddim_step(sampler, index, prediction, x);
        break;
    case SAMPLER_EULER:
        euler_step(sampler, index, prediction, x);
        break;
    case SAMPLER_EULER_ANCESTRAL:
        ancestral_step(sampler, index, prediction, x);
        break;
    case SAMPLER_DPMPP_2M:
    case SAMPLER_DPMPP_2M_KARRAS:
        dpmpp_step(sampler, index, prediction, x);
        break;
    case SAMPLER_COUNT:
        break;
    }
}
