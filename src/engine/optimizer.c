#include "engine/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels.h"
#include "engine/rng.h"

static void draw_initial(struct parameters *parameters, uint64_t seed)
{
    for (size_t i = 0; i < parameters->table_count; i++) {
        const struct parameter *parameter = &parameters->table[i];
        if (parameter->role != PARAMETER_LORA_A)
            continue;
        struct rng rng = {seed, RNG_INITIAL, (uint32_t)parameter->component, (uint32_t)i};
        double bound = 1 / sqrt((double)parameter->count / (double)parameter->shape[0]);
        for (size_t j = 0; j < parameter->count; j++)
            parameters->values[parameter->offset + j] = (float)((2 * rng_uniform(&rng, (uint32_t)j) - 1) * bound);
    }
}

struct error learner_init(struct learner *learner, struct model *model, const struct parameter_options *options,
                          const struct rate_schedule *rates, uint64_t seed)
{
    *learner = (struct learner){.rates = *rates};
    TRY(parameters_create(model, options, &learner->parameters));
    learner->first_moment = calloc(learner->parameters->count, sizeof(float));
    learner->second_moment = calloc(learner->parameters->count, sizeof(float));
    if (!learner->first_moment || !learner->second_moment)
        return error_make(ERR_INTERNAL, "not enough memory for the optimizer");
    draw_initial(learner->parameters, seed);
    return OK;
}

void learner_finish(struct learner *learner)
{
    parameters_destroy(learner->parameters);
    free(learner->first_moment);
    free(learner->second_moment);
    *learner = (struct learner){0};
}

double learner_step(struct learner *learner, struct pool *pool, unsigned index)
{
    const double norm_max = 1;
    struct parameters *parameters = learner->parameters;
    double norm = sqrt(sum_of_squares(pool, parameters->count, parameters->gradients));
    double factor = norm_max / (norm + 1e-6);
    struct adamw adamw = {
        .rate = (float)rate_at(&learner->rates, index),
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .decay = 1e-2f,
        .gradient_scale = factor < 1 ? (float)factor : 1,
        .step = index + 1,
    };
    adamw_update(pool, &adamw, parameters->count, parameters->values, parameters->gradients, learner->first_moment,
                 learner->second_moment);
    memset(parameters->gradients, 0, parameters->count * sizeof(float));
    return norm;
}
