#include "engine/stepper.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/rng.h"

enum { batch_max = 2 * JOB_BATCH_MAX, class_place = 1 << 16 /* places of class pictures among a step's draws */ };

struct stepper {
    struct stepper_parts parts;
    struct training *graphs[LEARNER_COUNT][batch_max + 1]; /* by batch size, made when first met */
    uint32_t *order;                                       /* of the current epoch */
    unsigned order_epoch;
    size_t batch;
    float *clean, *noise, *noisy, *target; /* [batch, latent] */
    float *context, *pooled, *time_ids;
    int32_t *ids[2];
    float timesteps[batch_max], weights[batch_max];
};

enum learner_role stepper_role(const struct job_plan *plan, unsigned step, unsigned *index)
{
    bool text = step < plan->text_steps;
    *index = text ? step : step - plan->text_steps;
    return text ? LEARNER_TEXT : LEARNER_UNET;
}

static float *floats(size_t count)
{
    return malloc((count + 1) * sizeof(float));
}

static struct error allocate(struct stepper *stepper)
{
    const struct model_info *info = stepper->parts.base->info;
    size_t latent = stepper->parts.pictures->latent, tokens = info->tokens_max[0];
    stepper->order = malloc(stepper->parts.job->item_count * stepper->parts.job->parameters.repeats * sizeof(uint32_t));
    stepper->clean = floats(batch_max * latent);
    stepper->noise = floats(batch_max * latent);
    stepper->noisy = floats(batch_max * latent);
    stepper->target = floats(batch_max * latent);
    stepper->context = floats(batch_max * tokens * info->context_width);
    stepper->pooled = floats(batch_max * info->pooled_width);
    stepper->time_ids = floats(batch_max * 6);
    for (int i = 0; i < 2; i++)
        stepper->ids[i] = malloc(batch_max * tokens * sizeof(int32_t));
    if (stepper->order && stepper->clean && stepper->noise && stepper->noisy && stepper->target && stepper->context &&
        stepper->pooled && stepper->time_ids && stepper->ids[0] && stepper->ids[1])
        return OK;
    return error_make(ERR_INTERNAL, "not enough memory for a batch of %u pictures",
                      stepper->parts.job->parameters.batch_size);
}

struct error stepper_create(const struct stepper_parts *parts, struct stepper **out)
{
    struct stepper *stepper = calloc(1, sizeof *stepper);
    if (!stepper)
        return error_make(ERR_INTERNAL, "not enough memory for a training");
    stepper->parts = *parts;
    stepper->order_epoch = UINT32_MAX;
    struct error error = allocate(stepper);
    if (error.code)
        stepper_destroy(stepper);
    else
        *out = stepper;
    return error;
}

void stepper_destroy(struct stepper *stepper)
{
    if (!stepper)
        return;
    for (int role = 0; role < LEARNER_COUNT; role++) {
        for (int i = 0; i <= batch_max; i++)
            training_destroy(stepper->graphs[role][i]);
    }
    free(stepper->order);
    free(stepper->clean);
    free(stepper->noise);
    free(stepper->noisy);
    free(stepper->target);
    free(stepper->context);
    free(stepper->pooled);
    free(stepper->time_ids);
    free(stepper->ids[0]);
    free(stepper->ids[1]);
    free(stepper);
}

/* ---- the batch ---- */

/* Every picture comes nbRepeats times an epoch, in an order of that epoch. */
static void shuffle(struct stepper *stepper, unsigned epoch)
{
    const struct job *job = stepper->parts.job;
    uint32_t count = (uint32_t)(job->item_count * job->parameters.repeats);
    if (stepper->order_epoch == epoch)
        return;
    for (uint32_t i = 0; i < count; i++)
        stepper->order[i] = i % (uint32_t)job->item_count;
    rng_shuffle(&(struct rng){.seed = job->seed, .purpose = RNG_ORDER, .step = epoch}, count, stepper->order);
    stepper->order_epoch = epoch;
}

static void set_condition(struct stepper *stepper, size_t at, const struct condition *condition)
{
    const struct model_info *info = stepper->parts.base->info;
    size_t tokens = info->tokens_max[0], width = tokens * info->context_width;
    memcpy(stepper->context + at * width, condition->context, width * sizeof(float));
    if (condition->pooled)
        memcpy(stepper->pooled + at * info->pooled_width, condition->pooled, info->pooled_width * sizeof(float));
    for (int i = 0; i < 2 && condition->ids[i]; i++)
        memcpy(stepper->ids[i] + at * tokens, condition->ids[i], tokens * sizeof(int32_t));
}

/* Timestep and noise for the clean latent that stands at a place of the batch. */
static void add_noise(struct stepper *stepper, unsigned step, uint32_t place, float weight)
{
    const struct job *job = stepper->parts.job;
    const struct schedule *schedule = &stepper->parts.base->schedule;
    size_t at = stepper->batch, latent = stepper->parts.pictures->latent, from = at * latent;
    struct rng when = {job->seed, RNG_TIMESTEP, step, place}, noise = {job->seed, RNG_NOISE, step, place};
    unsigned timestep = rng_below(&when, 0, schedule->steps);
    rng_normal(&noise, latent, stepper->noise + from);
    schedule_add_noise(schedule, timestep, latent, stepper->clean + from, stepper->noise + from, stepper->noisy + from,
                       stepper->target + from);
    stepper->timesteps[at] = (float)timestep;
    stepper->weights[at] = weight * (float)schedule_min_snr_weight(schedule, timestep, job->parameters.min_snr_gamma);
    stepper->batch++;
}

static struct error add_picture(struct stepper *stepper, unsigned step, uint32_t place, size_t item, float weight)
{
    struct pictures *pictures = stepper->parts.pictures;
    TRY(pictures_draw(pictures, item, stepper->parts.job->seed, step, place,
                      stepper->clean + stepper->batch * pictures->latent, stepper->time_ids + stepper->batch * 6));
    set_condition(stepper, stepper->batch, &pictures->items[item].condition);
    add_noise(stepper, step, place, weight);
    return OK;
}

static void add_class_picture(struct stepper *stepper, unsigned step, uint32_t place, float weight)
{
    struct pictures *pictures = stepper->parts.pictures;
    size_t item = ((size_t)step * stepper->parts.job->parameters.batch_size + place) % pictures->class_count;
    float side = (float)pictures->side, ids[6] = {side, side, 0, 0, side, side};
    memcpy(stepper->clean + stepper->batch * pictures->latent, pictures->class_latents + item * pictures->latent,
           pictures->latent * sizeof(float));
    memcpy(stepper->time_ids + stepper->batch * 6, ids, sizeof ids);
    set_condition(stepper, stepper->batch, &pictures->class_condition);
    add_noise(stepper, step, class_place + place, weight);
}

/* The pictures' part of the loss is their mean; with class pictures, the class part is weighed by priorLossWeight and
 * added. The loss of the whole batch is a mean over both, hence the 2. */
static struct error fill_batch(struct stepper *stepper, unsigned step)
{
    const struct job *job = stepper->parts.job;
    unsigned per_epoch = stepper->parts.plan->steps_per_epoch, size = job->parameters.batch_size;
    size_t total = job->item_count * job->parameters.repeats, first = (size_t)(step % per_epoch) * size;
    bool prior = stepper->parts.pictures->class_count > 0;
    uint32_t count = (uint32_t)(first + size <= total ? size : total - first);
    shuffle(stepper, step / per_epoch);
    stepper->batch = 0;
    for (uint32_t i = 0; i < count; i++)
        TRY(add_picture(stepper, step, i, stepper->order[first + i], prior ? 2 : 1));
    for (uint32_t i = 0; prior && i < count; i++)
        add_class_picture(stepper, step, i, 2 * (float)job->parameters.prior_weight);
    return OK;
}

/* ---- the step ---- */

static struct error graph_for(struct stepper *stepper, enum learner_role role, struct training **out)
{
    const struct model_info *info = stepper->parts.base->info;
    struct training **graph = &stepper->graphs[role][stepper->batch];
    struct training_shape shape = {.batch = stepper->batch,
                                   .height = info->sample_size,
                                   .width = info->sample_size,
                                   .tokens = info->tokens_max[0]};
    if (!*graph)
        TRY(training_create(stepper->parts.base->model, stepper->parts.learners[role]->parameters, &shape, graph));
    *out = *graph;
    return OK;
}

static struct error forward_backward(struct stepper *stepper, enum learner_role role, double *loss)
{
    const struct model_info *info = stepper->parts.base->info;
    bool text = role == LEARNER_TEXT;
    struct training *graph;
    struct unet_input input = {
        .batch = stepper->batch,
        .height = info->sample_size,
        .width = info->sample_size,
        .tokens = info->tokens_max[0],
        .sample = stepper->noisy,
        .timesteps = stepper->timesteps,
        .context = text ? NULL : stepper->context,
        .pooled = text || !info->xl ? NULL : stepper->pooled,
        .time_ids = info->xl ? stepper->time_ids : NULL,
        .ids = text ? stepper->ids[0] : NULL,
        .ids_2 = text && info->xl ? stepper->ids[1] : NULL,
    };
    TRY(graph_for(stepper, role, &graph));
    return training_step(graph, &input, stepper->target, stepper->weights, 1, loss, NULL);
}

struct error stepper_step(struct stepper *stepper, unsigned step, double *loss)
{
    unsigned index;
    enum learner_role role = stepper_role(stepper->parts.plan, step, &index);
    TRY(fill_batch(stepper, step));
    TRY(forward_backward(stepper, role, loss));
    double norm = learner_step(stepper->parts.learners[role], model_pool(stepper->parts.base->model), index);
    if (!isfinite(*loss) || !isfinite(norm))
        return error_make(ERR_INVALID, "the loss is no number any more at step %u: lower learningRate", step + 1);
    return OK;
}
