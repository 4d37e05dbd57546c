#include "engine/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "engine/mathd.h"

enum { config_bytes_max = 1 << 20, config_arena_max = 16 << 20, path_bytes_max = 4096 };

void schedule_defaults(struct schedule *schedule)
{
    *schedule = (struct schedule){
        .steps = 1000,
        .betas = BETAS_SCALED_LINEAR,
        .beta_start = 0.00085,
        .beta_end = 0.012,
        .steps_offset = 1,
        .clip_range = 1,
    };
}

/* torch.linspace in single precision: from both ends towards the middle. */
static float linspace_at(float first, float last, unsigned count, unsigned index)
{
    float step = (last - first) / (float)(count - 1);
    return index < count / 2 ? first + step * (float)index : last - step * (float)(count - 1 - index);
}

static double squared_cosine(double progress)
{
    double c = mathd_cos_turn((progress + 0.008) / 1.008 / 4);
    return c * c;
}

static float beta_at(const struct schedule *schedule, unsigned t)
{
    if (schedule->betas == BETAS_SQUARED_COSINE) {
        double beta = 1 - squared_cosine((t + 1.0) / schedule->steps) / squared_cosine((double)t / schedule->steps);
        return (float)fmin(beta, 0.999);
    }
    if (schedule->betas == BETAS_LINEAR)
        return linspace_at((float)schedule->beta_start, (float)schedule->beta_end, schedule->steps, t);
    float root = linspace_at((float)sqrt(schedule->beta_start), (float)sqrt(schedule->beta_end), schedule->steps, t);
    return root * root;
}

/* sqrt(acp) is shifted so that the last is 0 and scaled so that the first stays. */
static void rescale_to_zero_snr(struct schedule *schedule)
{
    float *acp = schedule->alphas_cumprod;
    double first = sqrt((double)acp[0]), last = sqrt((double)acp[schedule->steps - 1]);
    for (unsigned t = 0; t < schedule->steps; t++) {
        double root = (sqrt((double)acp[t]) - last) * first / (first - last);
        acp[t] = (float)(root * root);
    }
}

void schedule_compute(struct schedule *schedule)
{
    double product = 1;
    for (unsigned t = 0; t < schedule->steps; t++) {
        product *= 1 - beta_at(schedule, t);
        schedule->alphas_cumprod[t] = (float)product;
    }
    if (schedule->zero_terminal_snr)
        rescale_to_zero_snr(schedule);
}

struct choice {
    const char *name;
    int value;
};

static struct error read_choice(const struct json *config, const char *key, const struct choice *choices, int *value)
{
    const char *name = json_string(config, key, NULL);
    if (!name)
        return OK;
    for (; choices->name; choices++) {
        if (strcmp(choices->name, name) == 0) {
            *value = choices->value;
            return OK;
        }
    }
    return error_make(ERR_INVALID, "scheduler_config.json: %s \"%s\" is not implemented", key, name);
}

static struct error read_choices(const struct json *config, struct schedule *schedule)
{
    static const struct choice betas[] = {{"scaled_linear", BETAS_SCALED_LINEAR},
                                          {"linear", BETAS_LINEAR},
                                          {"squaredcos_cap_v2", BETAS_SQUARED_COSINE},
                                          {NULL, 0}};
    static const struct choice predictions[] = {
        {"epsilon", PREDICT_NOISE}, {"v_prediction", PREDICT_VELOCITY}, {"sample", PREDICT_SAMPLE}, {NULL, 0}};
    static const struct choice spacings[] = {
        {"leading", SPACING_LEADING}, {"linspace", SPACING_LINSPACE}, {"trailing", SPACING_TRAILING}, {NULL, 0}};
    int beta = (int)schedule->betas, prediction = (int)schedule->prediction, spacing = (int)schedule->spacing;
    TRY(read_choice(config, "beta_schedule", betas, &beta));
    TRY(read_choice(config, "prediction_type", predictions, &prediction));
    TRY(read_choice(config, "timestep_spacing", spacings, &spacing));
    schedule->betas = (enum beta_schedule)beta;
    schedule->prediction = (enum prediction)prediction;
    schedule->spacing = (enum spacing)spacing;
    return OK;
}

static struct error read_config(const struct json *config, struct schedule *schedule)
{
    TRY(read_choices(config, schedule));
    double steps = json_number(config, "num_train_timesteps", schedule->steps);
    double offset = json_number(config, "steps_offset", 0);
    schedule->beta_start = json_number(config, "beta_start", schedule->beta_start);
    schedule->beta_end = json_number(config, "beta_end", schedule->beta_end);
    schedule->zero_terminal_snr = json_bool(config, "rescale_betas_zero_snr", false);
    schedule->clip_sample = json_bool(config, "clip_sample", false);
    schedule->clip_range = json_number(config, "clip_sample_range", 1);
    schedule->final_alpha_one = json_bool(config, "set_alpha_to_one", false);
    schedule->karras = json_bool(config, "use_karras_sigmas", false);
    if (!(steps >= 2 && steps <= SCHEDULE_STEPS_MAX) || !(offset >= 0 && offset < steps))
        return error_make(ERR_INVALID, "scheduler_config.json: num_train_timesteps must be 2 to %d, steps_offset less",
                          SCHEDULE_STEPS_MAX);
    if (!(schedule->beta_start > 0 && schedule->beta_start <= schedule->beta_end && schedule->beta_end < 1))
        return error_make(ERR_INVALID, "scheduler_config.json: betas must rise within 0 and 1");
    schedule->steps = (unsigned)steps;
    schedule->steps_offset = (unsigned)offset;
    return OK;
}

struct error schedule_read(const char *base_folder, struct schedule *schedule)
{
    char path[path_bytes_max];
    schedule_defaults(schedule);
    if (snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", base_folder) >= (int)sizeof path)
        return error_make(ERR_INVALID, "the base model's path is too long");
    struct arena arena;
    arena_init(&arena, config_arena_max);
    const struct json *config;
    struct error error = json_read_file(&arena, path, config_bytes_max, &config);
    if (!error.code)
        error = read_config(config, schedule);
    arena_finish(&arena);
    if (!error.code)
        schedule_compute(schedule);
    return error;
}

double schedule_snr(const struct schedule *schedule, unsigned timestep)
{
    double acp = schedule->alphas_cumprod[timestep];
    return acp / (1 - acp);
}

double schedule_min_snr_weight(const struct schedule *schedule, unsigned timestep, double gamma)
{
    double snr = schedule_snr(schedule, timestep);
    if (gamma <= 0 || snr <= 0)
        return 1;
    return fmin(snr, gamma) / (schedule->prediction == PREDICT_VELOCITY ? snr + 1 : snr);
}

void schedule_add_noise(const struct schedule *schedule, unsigned timestep, size_t count, const float *x0,
                        const float *noise, float *noisy, float *target)
{
    double acp = schedule->alphas_cumprod[timestep];
    float signal = (float)sqrt(acp), spread = (float)sqrt(1 - acp);
    for (size_t i = 0; i < count; i++) {
        noisy[i] = signal * x0[i] + spread * noise[i];
        if (schedule->prediction == PREDICT_VELOCITY)
            target[i] = signal * noise[i] - spread * x0[i];
        else
            target[i] = schedule->prediction == PREDICT_NOISE ? noise[i] : x0[i];
    }
}

/* ---- learning rate ---- */

bool rate_kind_parse(const char *name, enum rate_kind *kind)
{
    static const char *const names[] = {"constant", "constant-with-warmup", "linear",
                                        "cosine",   "cosine-with-restarts", "polynomial"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            *kind = (enum rate_kind)i;
            return true;
        }
    }
    return false;
}

static double polynomial_factor(const struct rate_schedule *schedule, unsigned index, double progress)
{
    const double end = 1e-7;
    if (index > schedule->total)
        return end / schedule->base;
    return ((schedule->base - end) * mathd_pow(1 - progress, schedule->power) + end) / schedule->base;
}

double rate_at(const struct rate_schedule *schedule, unsigned index)
{
    unsigned warmup = schedule->kind == RATE_CONSTANT ? 0 : schedule->warmup;
    if (index < warmup)
        return schedule->base * index / warmup;
    unsigned span = schedule->total > warmup ? schedule->total - warmup : 1;
    double progress = (double)(index - warmup) / span, factor = 1;
    switch (schedule->kind) {
    case RATE_CONSTANT:
    case RATE_CONSTANT_WITH_WARMUP:
        break;
    case RATE_LINEAR:
        factor = fmax(0, 1 - progress);
        break;
    case RATE_COSINE:
        factor = fmax(0, (1 + mathd_cos_turn(progress / 2)) / 2);
        break;
    case RATE_COSINE_WITH_RESTARTS:
        factor = progress >= 1 ? 0 : fmax(0, (1 + mathd_cos_turn(fmod(schedule->cycles * progress, 1) / 2)) / 2);
        break;
    case RATE_POLYNOMIAL:
        factor = polynomial_factor(schedule, index, progress);
        break;
    }
    return schedule->base * factor;
}
