#include "engine/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "engine/event_log.h"
#include "engine/job_folder.h"
#include "engine/kernels.h"
#include "engine/publish.h"
#include "engine/run_end.h"
#include "engine/state.h"
#include "engine/stepper.h"

enum {
    path_bytes_max = 4096,
    job_arena_max = 256 << 20, /* job.json of 8 MB as a tree */
    progress_interval_ms = 250,
    state_interval_ms = 10000, /* what a killed training loses at most */
    warmup_max = 500,  /* steps; diffusers' default. The API has no parameter: a tenth of all, if that is less */
    memory_a_byte = 3, /* a byte of weights in the files takes at least this much: fp32 and packed copies */
};

enum stage { STAGE_JOB, STAGE_BASE, STAGE_DATA, STAGE_RUN }; /* what an error is blamed on */

struct run {
    const struct trainer_options *options;
    enum stage stage;
    struct arena arena;
    struct job job;
    struct job_plan plan;
    struct event_log events;
    struct pool *pool;
    struct base_model *base;
    struct pictures *pictures;
    struct batches *batches;
    struct learner learners[LEARNER_COUNT];
    struct stepper *stepper;
    struct publisher publisher;
    struct state state;
    int64_t started_ms, saved_ms, reported_ms; /* monotonic */
    double seconds_before;                     /* trained in earlier runs */
    unsigned first_step;                       /* of this run */
    size_t item_at_fault;
};

static bool stopped(const struct run *run)
{
    return *run->options->stop != 0;
}

static struct error phase(struct run *run, const char *name)
{
    return event_text(&run->events, "phase", "phase", name);
}

/* ---- preparing ---- */

/* For the plan of a step, when the weights are there. */
static uint64_t memory_for_steps(const struct run *run)
{
    uint64_t most = run->options->memory_bytes, weights = model_weight_bytes(run->base->model);
    if (most)
        return most > weights ? most - weights : 1;
    return base_model_free_memory();
}

static struct error open_base(struct run *run)
{
    unsigned threads = run->options->threads ? run->options->threads : run->job.threads;
    run->stage = STAGE_BASE;
    TRY(base_model_check_memory(run->job.base_path, true, run->options->memory_bytes));
    TRY(kernels_pool_create(threads, run->options->kernels, &run->pool));
    TRY(base_model_open(run->job.base_path, run->pool, &run->base));
    if (run->base->info->xl != run->job.xl)
        return error_make(ERR_INVALID, "%s trains on %s, the base model is %s", run->job.type,
                          run->job.xl ? "SDXL" : "SD 1.5", run->base->info->xl ? "SDXL" : "not");
    return OK;
}

/* The API's rates are scaled to the base's size and kept below what it bears. */
static double scaled_rate(const struct run *run, double rate, bool *capped)
{
    const struct base_hints *hints = &run->base->hints;
    double scaled = rate * hints->learning_rate_scale;
    *capped = hints->learning_rate_max > 0 && scaled > hints->learning_rate_max;
    return *capped ? hints->learning_rate_max : scaled;
}

static struct error create_learner(struct run *run, enum learner_role role, double rate, unsigned steps)
{
    const struct job_parameters *parameters = &run->job.parameters;
    struct parameter_options options = {
        .targets = run->base->hints.wide_targets ? TARGETS_WIDE : TARGETS_ATTENTION,
        .unet = role == LEARNER_UNET,
        .text = role == LEARNER_TEXT,
        .rank = parameters->rank,
        .alpha = (float)parameters->rank,
    };
    bool capped, warms_up = parameters->rate_kind == RATE_CONSTANT_WITH_WARMUP;
    unsigned tenth = (steps + 9) / 10, warmup = tenth < warmup_max ? tenth : warmup_max;
    struct rate_schedule rates = {
        .kind = parameters->rate_kind,
        .base = scaled_rate(run, rate, &capped),
        .warmup = warms_up ? warmup : 0,
        .total = steps,
        .cycles = 1,
        .power = 1,
    };
    TRY(learner_init(&run->learners[role], run->base->model, &options, &rates, run->job.seed));
    run->publisher.learners[role] = run->state.learners[role] = &run->learners[role];
    if (capped)
        TRY(publish_warning(&run->publisher, "the learning rate %g is %g times that of this base model: %g is used",
                            rate, rate * run->base->hints.learning_rate_scale / rates.base, rates.base));
    return OK;
}

static struct error create_learners(struct run *run)
{
    unsigned text_steps = run->plan.text_steps;
    TRY(create_learner(run, LEARNER_UNET, run->job.parameters.learning_rate, run->plan.steps - text_steps));
    if (text_steps)
        TRY(create_learner(run, LEARNER_TEXT, run->job.parameters.text_learning_rate, text_steps));
    return OK;
}

static struct error load_pictures(struct run *run)
{
    run->stage = STAGE_DATA;
    TRY(pictures_load(run->base, run->options->folder, &run->job, &run->options->io, run->options->stop, &run->pictures,
                      &run->item_at_fault));
    run->stage = STAGE_RUN;
    return OK;
}

/* With the base as it is, before anything is learned. */
static struct error make_class_pictures(struct run *run)
{
    const struct trainer_options *options = run->options;
    if (!*run->job.parameters.class_prompt || !(run->job.parameters.prior_weight > 0))
        return OK;
    for (size_t wanted = pictures_class_wanted(run->pictures); run->pictures->class_count < wanted;) {
        char text[64];
        if (stopped(run))
            return error_make(ERR_CANCELED, "making the class pictures was interrupted");
        TRY(pictures_add_class(run->pictures, options->folder, &run->job, &options->io, options->stop));
        snprintf(text, sizeof text, "class picture %zu of %zu", run->pictures->class_count, wanted);
        TRY(event_text(&run->events, "log", "text", text));
    }
    return OK;
}

static struct error make_plan(struct run *run)
{
    const struct job_parameters *parameters = &run->job.parameters;
    CLEANUP_FREE size_t *buckets = malloc(run->pictures->count * sizeof *buckets);
    if (!buckets)
        return error_make(ERR_INTERNAL, "not enough memory for a plan");
    for (size_t i = 0; i < run->pictures->count; i++)
        buckets[i] = run->pictures->items[i].bucket;
    TRY(batches_create(buckets, run->pictures->count, parameters->repeats, parameters->batch_size, run->job.seed,
                       &run->batches));
    return job_plan_make(&run->job, batches_count(run->batches), &run->plan);
}

static struct error warn_of_unused(struct run *run)
{
    const struct job_parameters *parameters = &run->job.parameters;
    if (parameters->text_rate_given && !run->job.xl && !run->plan.text_steps)
        TRY(publish_warning(&run->publisher, "learningRateTextEncoder is not used: the text encoder trains when "
                                             "numTextTrainSteps or textEncoderTrainingRatio gives it steps"));
    if (parameters->epochs && parameters->validation_frequency)
        TRY(publish_warning(&run->publisher,
                            "validationFrequency is not used: nbEpochs decides when samples are made"));
    return OK;
}

static struct error load_state(struct run *run)
{
    run->state.losses_max = run->plan.steps;
    run->state.fingerprint = run->job.fingerprint;
    run->state.losses = calloc(run->plan.steps, sizeof(float));
    if (!run->state.losses)
        return error_make(ERR_INTERNAL, "not enough memory for the losses of %u steps", run->plan.steps);
    TRY(state_load(run->options->folder, &run->state));
    run->seconds_before = run->state.seconds;
    run->first_step = run->state.step;
    if (run->state.step) {
        char text[64];
        snprintf(text, sizeof text, "resumed after step %u", run->state.step);
        return event_text(&run->events, "log", "text", text);
    }
    return OK;
}

static struct error announce_plan(struct run *run)
{
    struct json_writer *json = event_begin(&run->events, "plan");
    json_put_int(json, "steps", run->plan.steps);
    json_put_int(json, "stepsPerEpoch", run->plan.steps_per_checkpoint);
    json_put_int(json, "epochs", run->plan.checkpoints);
    return event_end(&run->events);
}

static struct error create_stepper(struct run *run)
{
    struct stepper_parts parts = {
        .base = run->base,
        .pictures = run->pictures,
        .batches = run->batches,
        .job = &run->job,
        .plan = &run->plan,
        .memory_max = memory_for_steps(run),
        .learners = {run->state.learners[LEARNER_UNET], run->state.learners[LEARNER_TEXT]},
    };
    return stepper_create(&parts, &run->stepper);
}

static struct error prepare(struct run *run)
{
    TRY(phase(run, "preparing"));
    TRY(open_base(run));
    run->publisher = (struct publisher){.folder = run->options->folder,
                                        .software = run->options->software,
                                        .job = &run->job,
                                        .plan = &run->plan,
                                        .base = run->base,
                                        .io = &run->options->io,
                                        .events = &run->events,
                                        .stop = run->options->stop};
    TRY(load_pictures(run));
    TRY(make_plan(run));
    TRY(announce_plan(run));
    TRY(warn_of_unused(run));
    TRY(make_class_pictures(run));
    TRY(create_learners(run));
    TRY(load_state(run));
    return create_stepper(run);
}

/* ---- training ---- */

static double seconds_now(const struct run *run)
{
    return run->seconds_before + (double)(clock_monotonic_ms() - run->started_ms) / 1000;
}

static struct error save_state(struct run *run)
{
    char path[64];
    run->state.seconds = seconds_now(run);
    TRY(state_save(run->options->folder, &run->state, path));
    run->saved_ms = clock_monotonic_ms();
    struct json_writer *json = event_begin(&run->events, "state");
    json_put_int(json, "step", run->state.step);
    json_put_string(json, "path", path);
    return event_end(&run->events);
}

static struct error report(struct run *run, double loss)
{
    unsigned step = run->state.step, index;
    int64_t now = clock_monotonic_ms();
    if (now - run->reported_ms < progress_interval_ms && step < run->plan.steps)
        return OK;
    run->reported_ms = now;
    enum learner_role role = stepper_role(&run->plan, step - 1, &index);
    double step_ms = (double)(now - run->started_ms) / (step - run->first_step);
    struct json_writer *json = event_begin(&run->events, "progress");
    json_put_int(json, "step", step);
    json_put_int(json, "steps", run->plan.steps);
    json_put_int(json, "epoch", (step - 1) / run->plan.steps_per_checkpoint + 1);
    json_put_number(json, "loss", loss);
    json_put_number(json, "lr", rate_at(&run->learners[role].rates, index));
    json_put_int(json, "remainingMs", (int64_t)(step_ms * (run->plan.steps - step)));
    return event_end(&run->events);
}

/* From here on the UNet sees captions as the trained text encoder reads them. */
static struct error leave_text_phase(struct run *run)
{
    struct learner *text_only[LEARNER_COUNT] = {NULL, run->state.learners[LEARNER_TEXT]};
    TRY(learners_merge(run->base, text_only));
    TRY(pictures_encode_captions(run->pictures, &run->job));
    return model_merge(run->base->model, NULL, 0);
}

/* Weights, samples and a state at the end of an epoch. The state comes first: a run killed among the others makes up
 * for them. */
static struct error finish_epoch(struct run *run, bool fresh)
{
    unsigned step = run->state.step, per_epoch = run->plan.steps_per_checkpoint;
    if (!step || (step % per_epoch && step < run->plan.steps))
        return OK;
    if (fresh)
        TRY(save_state(run));
    TRY(publish_checkpoint(&run->publisher, (step + per_epoch - 1) / per_epoch, step));
    return step < run->plan.steps ? phase(run, "training") : OK;
}

/* Once a run, when the first step has planned its memory. */
static struct error report_memory(struct run *run)
{
    char text[160];
    struct publisher *publisher = &run->publisher;
    publisher->weight_bytes = model_weight_bytes(run->base->model);
    publisher->step_bytes = stepper_bytes(run->stepper, &publisher->recomputes);
    if (run->state.step != run->first_step + 1)
        return OK;
    snprintf(text, sizeof text, "memory: %llu MB of weights, %llu MB for a step%s",
             (unsigned long long)publisher->weight_bytes >> 20, (unsigned long long)publisher->step_bytes >> 20,
             publisher->recomputes ? ", activations are recomputed block by block" : "");
    return event_text(&run->events, "log", "text", text);
}

static struct error train_one(struct run *run)
{
    double loss;
    unsigned interval = run->options->state_interval_ms ? run->options->state_interval_ms : state_interval_ms;
    TRY(stepper_step(run->stepper, run->state.step, &loss));
    run->state.losses[run->state.step++] = (float)loss;
    TRY(report_memory(run));
    if (run->state.step == run->plan.text_steps)
        TRY(leave_text_phase(run));
    TRY(report(run, loss));
    TRY(finish_epoch(run, true));
    return clock_monotonic_ms() - run->saved_ms >= interval ? save_state(run) : OK;
}

static struct error train(struct run *run)
{
    run->started_ms = run->saved_ms = clock_monotonic_ms();
    TRY(phase(run, "training"));
    if (run->plan.text_steps && run->state.step >= run->plan.text_steps)
        TRY(leave_text_phase(run));
    TRY(finish_epoch(run, false));
    while (run->state.step < run->plan.steps) {
        if (stopped(run))
            return error_make(ERR_CANCELED, "the training was stopped after step %u", run->state.step);
        TRY(train_one(run));
    }
    return OK;
}

static struct error finish(struct run *run)
{
    char path[path_bytes_max];
    TRY(phase(run, "finalizing"));
    TRY(publish_result(&run->publisher, run->state.step, run->state.losses, seconds_now(run)));
    event_begin(&run->events, "done");
    TRY(event_end(&run->events));
    snprintf(path, sizeof path, "%s/state", run->options->folder);
    return fs_remove_tree(path);
}

static struct error run_job(struct run *run)
{
    TRY(job_read(&run->arena, run->options->folder, &run->job));
    TRY(prepare(run));
    TRY(train(run));
    return finish(run);
}

/* ---- the end ---- */

struct blame {
    const char *reason, *hint;
};

static struct blame blame_for(const struct run *run, struct error error)
{
    static const struct blame disk = {"disk", "Free some disk space and start the training again: it goes on from its "
                                              "last state."};
    static const struct blame memory = {"memory", "Use a smaller base model, a smaller batchSize or rank, or a machine "
                                                  "with more memory."};
    static const struct blame base = {"base", "Check the base model's folder: it must be complete, in diffusers "
                                              "layout, and fit the model type."};
    static const struct blame data = {"data", "Replace or delete this training image, then start the training again."};
    static const struct blame job = {"data", "Change the training's parameters and start it again."};
    static const struct blame internal = {"internal", "Start the training again; it goes on from its last state. If it "
                                                      "fails again, report this with the file trainer.log."};
    if (error.code == ERR_NO_SPACE)
        return disk;
    if (strstr(error.text, "memory"))
        return memory;
    if (run->stage == STAGE_BASE)
        return base;
    if (run->stage == STAGE_DATA)
        return data;
    if (error.code == ERR_IO)
        return disk;
    return error.code == ERR_INVALID || run->stage == STAGE_JOB ? job : internal;
}

static struct error failed_event(void *context, struct error error)
{
    struct run *run = context;
    struct blame blame = blame_for(run, error);
    struct json_writer *json = event_begin(&run->events, "failed");
    const struct job_item *item = run->item_at_fault < run->job.item_count ? &run->job.items[run->item_at_fault] : NULL;
    json_put_string(json, "error", error.text);
    json_put_string(json, "hint", blame.hint);
    json_put_string(json, "reason", blame.reason);
    if (item && item->source_id)
        json_put_string(json, "sourceId", item->source_id);
    return event_end(&run->events);
}

static struct error canceled_event(void *context)
{
    struct run *run = context;
    if (run->stepper && run->state.step > run->first_step)
        TRY(save_state(run));
    event_begin(&run->events, "canceled");
    return event_end(&run->events);
}

static void release(struct run *run)
{
    stepper_destroy(run->stepper);
    for (int role = 0; role < LEARNER_COUNT; role++)
        learner_finish(&run->learners[role]);
    batches_destroy(run->batches);
    pictures_destroy(run->pictures);
    publisher_finish(&run->publisher);
    base_model_destroy(run->base);
    pool_destroy(run->pool);
    free(run->state.losses);
    event_log_close(&run->events);
    arena_finish(&run->arena);
}

static enum trainer_exit run_locked(struct run *run, struct error *error)
{
    char path[path_bytes_max];
    snprintf(path, sizeof path, "%s/events.ndjson", run->options->folder);
    *error = event_log_open(path, &run->events);
    if (error->code)
        return TRAINER_FAILED;
    snprintf(path, sizeof path, "%s/out/result.json", run->options->folder);
    if (!fs_exists(path)) {
        *error = run_job(run);
        return run_conclude(&(struct run_end){run, canceled_event, failed_event}, &run->arena, error);
    }
    if (!run->events.done) { /* killed between the two */
        event_begin(&run->events, "done");
        *error = event_end(&run->events);
    }
    return error->code ? TRAINER_FAILED : TRAINER_DONE;
}

enum trainer_exit trainer_run(const struct trainer_options *options, struct error *error)
{
    CLEANUP_FD int lock = -1;
    struct run run = {.options = options, .item_at_fault = SIZE_MAX, .events.fd = -1};
    *error = folder_lock(options->folder, &lock);
    if (error->code)
        return TRAINER_FAILED;
    arena_init(&run.arena, job_arena_max);
    enum trainer_exit outcome = run_locked(&run, error);
    release(&run);
    return outcome;
}
