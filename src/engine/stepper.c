#include "engine/stepper.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/rng.h"

enum { class_place = 1 << 16 /* places of class pictures among a step's draws */ };

struct shaped_graph { /* made when its shape is first met */
    struct training *training;
    struct training_shape shape;
    struct shaped_graph *next;
};

struct stepper {
    struct stepper_parts parts;
    struct shaped_graph *graphs[LEARNER_COUNT];
    /* the batch under construction: `batch` pictures of one shape */
    struct bucket bucket;
    size_t batch, latent;
    float *clean, *noise, *noisy, *target; /* [batch, latent] */
    float *context, *pooled, *time_ids;
    int32_t *ids[2];
    float timesteps[JOB_BATCH_MAX], weights[JOB_BATCH_MAX];
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
    size_t size = stepper->parts.job->parameters.batch_size, tokens = info->tokens_max[0];
    size_t latents = size * stepper->parts.pictures->latent_max;
    stepper->clean = floats(latents);
    stepper->noise = floats(latents);
    stepper->noisy = floats(latents);
    stepper->target = floats(latents);
    stepper->context = floats(size * tokens * info->context_width);
    stepper->pooled = floats(size * info->pooled_width);
    stepper->time_ids = floats(size * 6);
    for (int i = 0; i < 2; i++)
        stepper->ids[i] = malloc(size * tokens * sizeof(int32_t));
    if (stepper->clean && stepper->noise && stepper->noisy && stepper->target && stepper->context && stepper->pooled &&
        stepper->time_ids && stepper->ids[0] && stepper->ids[1])
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
        for (struct shaped_graph *graph = stepper->graphs[role], *next; graph; graph = next) {
            next = graph->next;
            training_destroy(graph->training);
            free(graph);
        }
    }
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

/* Timestep and noise for the clean latent that stands at the batch's next place. */
static void add_noise(struct stepper *stepper, const struct draw *draw, float weight)
{
    double gamma = stepper->parts.job->parameters.min_snr_gamma;
    const struct schedule *schedule = &stepper->parts.base->schedule;
    size_t at = stepper->batch, latent = stepper->latent, from = at * latent;
    struct rng when = {draw->seed, RNG_TIMESTEP, draw->step, draw->place};
    struct rng noise = {draw->seed, RNG_NOISE, draw->step, draw->place};
    unsigned timestep = rng_below(&when, 0, schedule->steps);
    rng_normal(&noise, latent, stepper->noise + from);
    schedule_add_noise(schedule, timestep, latent, stepper->clean + from, stepper->noise + from, stepper->noisy + from,
                       stepper->target + from);
    stepper->timesteps[at] = (float)timestep;
    stepper->weights[at] = weight * (float)schedule_min_snr_weight(schedule, timestep, gamma);
    stepper->batch++;
}

static struct error add_picture(struct stepper *stepper, const struct picture *picture,
                                const struct condition *condition, const struct draw *draw, float weight)
{
    struct pictures *pictures = stepper->parts.pictures;
    TRY(pictures_draw(pictures, picture, draw, stepper->clean + stepper->batch * stepper->latent,
                      stepper->time_ids + stepper->batch * 6));
    set_condition(stepper, stepper->batch, condition);
    add_noise(stepper, draw, weight);
    return OK;
}

static void begin_batch(struct stepper *stepper, const struct picture *first)
{
    struct pictures *pictures = stepper->parts.pictures;
    stepper->batch = 0;
    stepper->bucket = pictures->buckets[first->bucket];
    stepper->latent = pictures_latent(pictures, first);
}

/* place: of the batch's first picture among those of the step. */
static struct error fill_batch(struct stepper *stepper, unsigned step, uint32_t place, const uint32_t *items,
                               size_t count)
{
    struct pictures *pictures = stepper->parts.pictures;
    begin_batch(stepper, &pictures->items[items[0]]);
    for (uint32_t i = 0; i < count; i++) {
        const struct picture *picture = &pictures->items[items[i]];
        struct draw draw = {stepper->parts.job->seed, step, place + i};
        TRY(add_picture(stepper, picture, &picture->condition, &draw, 1));
    }
    return OK;
}

static struct error fill_class_batch(struct stepper *stepper, unsigned step, uint32_t place, size_t count)
{
    struct pictures *pictures = stepper->parts.pictures;
    const struct job_parameters *parameters = &stepper->parts.job->parameters;
    size_t first = ((size_t)step * parameters->accumulation * parameters->batch_size + place) % pictures->class_count;
    begin_batch(stepper, &pictures->class_items[0]);
    for (uint32_t i = 0; i < count; i++) {
        const struct picture *picture = &pictures->class_items[(first + i) % pictures->class_count];
        struct draw draw = {stepper->parts.job->seed, step, class_place + place + i};
        TRY(add_picture(stepper, picture, &pictures->class_condition, &draw, (float)parameters->prior_weight));
    }
    return OK;
}

/* ---- the step ---- */

static bool same_shape(const struct training_shape *a, const struct training_shape *b)
{
    return a->batch == b->batch && a->height == b->height && a->width == b->width;
}

static struct error graph_for(struct stepper *stepper, enum learner_role role, struct training **out)
{
    struct training_shape shape = {.recompute = stepper->parts.job->parameters.recompute,
                                   .memory_max = stepper->parts.memory_max,
                                   .batch = stepper->batch,
                                   .height = stepper->bucket.height,
                                   .width = stepper->bucket.width,
                                   .tokens = stepper->parts.base->info->tokens_max[0]};
    struct shaped_graph *graph = stepper->graphs[role];
    while (graph && !same_shape(&graph->shape, &shape))
        graph = graph->next;
    if (!graph) {
        struct training *training;
        TRY(training_create(stepper->parts.base->model, stepper->parts.learners[role]->parameters, &shape, &training));
        graph = malloc(sizeof *graph);
        if (!graph) {
            training_destroy(training);
            return error_make(ERR_INTERNAL, "not enough memory for a training");
        }
        *graph = (struct shaped_graph){training, shape, stepper->graphs[role]};
        stepper->graphs[role] = graph;
    }
    *out = graph->training;
    return OK;
}

/* Gradients of the batch's loss, times scale, are added to those of the learner. */
static struct error forward_backward(struct stepper *stepper, enum learner_role role, float scale, double *loss)
{
    const struct model_info *info = stepper->parts.base->info;
    bool text = role == LEARNER_TEXT;
    struct training *graph = NULL;
    struct unet_input input = {
        .batch = stepper->batch,
        .height = stepper->bucket.height,
        .width = stepper->bucket.width,
        .tokens = info->tokens_max[0],
        .sample = stepper->noisy,
        .timesteps = stepper->timesteps,
        .context = text ? NULL : stepper->context,
        .pooled = text || !info->xl ? NULL : stepper->pooled,
        .time_ids = info->xl ? stepper->time_ids : NULL,
        .ids = text ? stepper->ids[0] : NULL,
        .ids_2 = text && info->xl ? stepper->ids[1] : NULL,
    };
    double batch_loss;
    TRY(graph_for(stepper, role, &graph));
    TRY(training_step(graph, &input, stepper->target, stepper->weights, scale, &batch_loss, NULL));
    *loss += (double)scale * batch_loss;
    return OK;
}

/* The mean loss of the pictures and, with class pictures, priorLossWeight times theirs. */
static struct error accumulate(struct stepper *stepper, unsigned step, enum learner_role role, double *loss)
{
    const struct job_plan *plan = stepper->parts.plan;
    const struct job_parameters *parameters = &stepper->parts.job->parameters;
    unsigned epoch = step / plan->steps_per_epoch;
    unsigned first = step % plan->steps_per_epoch * parameters->accumulation;
    unsigned left = plan->batches_per_epoch - first;
    unsigned batches = left < parameters->accumulation ? left : parameters->accumulation;
    float scale = 1 / (float)batches;
    for (unsigned i = 0; i < batches; i++) {
        size_t count;
        const uint32_t *items = batches_get(stepper->parts.batches, epoch, first + i, &count);
        TRY(fill_batch(stepper, step, i * parameters->batch_size, items, count));
        TRY(forward_backward(stepper, role, scale, loss));
        if (!stepper->parts.pictures->class_count)
            continue;
        TRY(fill_class_batch(stepper, step, i * parameters->batch_size, count));
        TRY(forward_backward(stepper, role, scale, loss));
    }
    return OK;
}

struct error stepper_step(struct stepper *stepper, unsigned step, double *loss)
{
    unsigned index;
    enum learner_role role = stepper_role(stepper->parts.plan, step, &index);
    *loss = 0;
    TRY(accumulate(stepper, step, role, loss));
    double norm = learner_step(stepper->parts.learners[role], model_pool(stepper->parts.base->model), index);
    if (!isfinite(*loss) || !isfinite(norm))
        return error_make(ERR_INVALID, "the loss is no number any more at step %u: lower learningRate", step + 1);
    return OK;
}

size_t stepper_bytes(const struct stepper *stepper, bool *recomputes)
{
    size_t most = 0;
    *recomputes = false;
    for (int role = 0; role < LEARNER_COUNT; role++) {
        for (const struct shaped_graph *graph = stepper->graphs[role]; graph; graph = graph->next) {
            size_t bytes = training_bytes(graph->training);
            most = bytes > most ? bytes : most;
            *recomputes |= training_recomputes(graph->training);
        }
    }
    return most;
}
