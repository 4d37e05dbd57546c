#include "engine/pretrain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "engine/event_log.h"
#include "engine/kernels.h"
#include "engine/parameters.h"
#include "engine/pretrain_subject.h"
#include "engine/run_end.h"
#include "engine/safetensors.h"
#include "engine/weights_file.h"

enum {
    path_bytes_max = 4096,
    job_arena_max = 1 << 30, /* job.json of 64 MB as a tree */
    progress_interval_ms = 1000,
    state_interval_ms = 60000,
    row_numbers = 2 + SUBJECT_NUMBERS,
    curve_bytes_max = 16 << 20,
};

/* A row of the curve. */
struct row {
    float step, loss; /* loss: mean of the steps since the row before */
    float numbers[SUBJECT_NUMBERS];
};

struct run {
    struct pretrain common;
    struct arena arena;
    struct event_log events;
    float *first_moment, *second_moment; /* [parameters->count] */
    float *losses;                       /* [steps] */
    struct row *rows;                    /* [row_count] */
    size_t row_count;
    int64_t started_ms, saved_ms, reported_ms;
    unsigned first_step; /* of this run */
};

static struct error phase(struct run *run, const char *name)
{
    return event_text(&run->events, "phase", "phase", name);
}

/* ---- state ---- */

static void state_path(const struct run *run, char path[path_bytes_max])
{
    snprintf(path, path_bytes_max, "%s/state/state.safetensors", run->common.options->folder);
}

struct vector {
    const char *name;
    float *values;
    size_t count;
};

enum { vector_count = 6 };

static void list_vectors(const struct run *run, struct vector vectors[vector_count])
{
    size_t count = run->common.parameters->count;
    vectors[0] = (struct vector){"values", run->common.parameters->values, count};
    vectors[1] = (struct vector){"first_moment", run->first_moment, count};
    vectors[2] = (struct vector){"second_moment", run->second_moment, count};
    vectors[3] = (struct vector){"average", run->common.average, count};
    vectors[4] = (struct vector){"losses", run->losses, run->common.step};
    vectors[5] = (struct vector){"rows", (float *)run->rows, run->row_count * row_numbers};
}

static struct error save_state(struct run *run)
{
    char path[path_bytes_max], step[16], steps[16];
    struct vector vectors[vector_count];
    struct tensor tensors[vector_count];
    list_vectors(run, vectors);
    for (size_t i = 0; i < vector_count; i++)
        tensors[i] = (struct tensor){.name = vectors[i].name,
                                     .type = TENSOR_F32,
                                     .dimensions = 1,
                                     .shape = {vectors[i].count},
                                     .count = vectors[i].count,
                                     .bytes = vectors[i].count * sizeof(float),
                                     .data = vectors[i].values};
    snprintf(step, sizeof step, "%u", run->common.step);
    snprintf(steps, sizeof steps, "%u", run->common.job.steps);
    const struct tensor_note notes[] = {{"step", step}, {"steps", steps}, {"job", run->common.job.fingerprint}};
    snprintf(path, sizeof path, "%s/state", run->common.options->folder);
    TRY(fs_make_dirs(path));
    state_path(run, path);
    TRY(safetensors_write(path, tensors, vector_count, notes, sizeof notes / sizeof *notes));
    run->saved_ms = clock_monotonic_ms();
    struct json_writer *json = event_begin(&run->events, "state");
    json_put_int(json, "step", run->common.step);
    return event_end(&run->events);
}

static struct error read_vectors(const struct safetensors *file, struct run *run)
{
    struct vector vectors[vector_count];
    list_vectors(run, vectors);
    for (size_t i = 0; i < vector_count; i++) {
        const struct tensor *tensor = safetensors_find(file, vectors[i].name);
        if (!tensor || tensor->count != vectors[i].count || tensor->type != TENSOR_F32)
            return error_make(ERR_CORRUPT, "the state's %s does not fit this training", vectors[i].name);
        TRY(tensor_read(tensor, vectors[i].values));
    }
    return OK;
}

static unsigned note_number(const struct safetensors *file, const char *key)
{
    return (unsigned)strtoul(json_string(file->metadata, key, "0"), NULL, 10);
}

/* The number of steps may be changed as long as the steps already taken would have been the same. */
static struct error read_state(const struct safetensors *file, struct run *run)
{
    const struct pretrain_job *job = &run->common.job;
    unsigned step = note_number(file, "step"), steps = note_number(file, "steps");
    unsigned fewer = steps < job->steps ? steps : job->steps;
    const struct tensor *rows = safetensors_find(file, "rows");
    if (strcmp(json_string(file->metadata, "job", ""), job->fingerprint) != 0)
        return error_make(ERR_INVALID, "the state belongs to another job.json: remove the folder state to begin anew");
    if (steps != job->steps && step + job->decay_steps > fewer)
        return error_make(ERR_INVALID, "steps was %u and can no more be changed: at step %u the learning rate falls",
                          steps, step);
    if (step > job->steps || !rows || rows->count % row_numbers || rows->count / row_numbers > job->steps + 1u)
        return error_make(ERR_CORRUPT, "the state does not fit this training");
    run->common.step = run->first_step = step;
    run->row_count = rows->count / row_numbers;
    return read_vectors(file, run);
}

static struct error load_state(struct run *run)
{
    char path[path_bytes_max], text[64];
    struct safetensors *file;
    state_path(run, path);
    if (!fs_exists(path))
        return OK;
    TRY(safetensors_open(path, &file));
    struct error error = read_state(file, run);
    safetensors_close(file);
    TRY(error);
    snprintf(text, sizeof text, "resumed after step %u", run->common.step);
    return event_text(&run->events, "log", "text", text);
}

/* ---- preparing ---- */

static struct error open_base(struct run *run)
{
    struct pretrain *common = &run->common;
    unsigned threads = common->options->threads ? common->options->threads : common->job.threads;
    TRY(kernels_pool_create(threads, common->options->kernels, &common->pool));
    TRY(base_model_open_fresh(common->job.base_path, common->job.seed, common->pool, &common->base));
    const struct model_info *info = common->base->info;
    if (info->xl)
        return error_make(ERR_INVALID, "only models of one text encoder can be trained from nothing");
    TRY(pretrain_data_init(&common->data, &common->job, info->sample_size * info->vae_factor));
    return parameters_create(common->base->model, &common->subject->parameters, &common->parameters);
}

static struct error allocate(struct run *run)
{
    size_t count = run->common.parameters->count;
    run->first_moment = calloc(count, sizeof(float));
    run->second_moment = calloc(count, sizeof(float));
    run->common.average = calloc(count, sizeof(float));
    run->losses = calloc(run->common.job.steps, sizeof(float));
    run->rows = calloc(run->common.job.steps + 1u, sizeof *run->rows);
    if (!run->first_moment || !run->second_moment || !run->common.average || !run->losses || !run->rows)
        return error_make(ERR_INTERNAL, "not enough memory for the optimizer");
    memcpy(run->common.average, run->common.parameters->values, count * sizeof(float));
    return OK;
}

static struct error choose_subject(struct run *run)
{
    static const struct subject *const subjects[] = {&denoiser_subject, &vae_subject};
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        if (!strcmp(run->common.job.type, subjects[i]->type))
            run->common.subject = subjects[i];
    }
    return run->common.subject
               ? OK
               : error_make(ERR_INVALID, "job.json: type must be sd-1_5-base or vae, not %.40s", run->common.job.type);
}

static struct error prepare(struct run *run)
{
    TRY(phase(run, "preparing"));
    TRY(pretrain_job_read(&run->arena, run->common.options->folder, &run->common.job));
    TRY(choose_subject(run));
    TRY(open_base(run));
    TRY(allocate(run));
    TRY(load_state(run));
    return run->common.subject->load(&run->common);
}

/* ---- the curve ---- */

/* The averaged weights; those in training come back at the next step. */
static struct error measure(struct run *run, struct row *row)
{
    struct parameters *parameters = run->common.parameters;
    float *own = parameters->values;
    parameters->values = run->common.average;
    parameters_publish(run->common.base->model, parameters);
    parameters->values = own;
    return run->common.subject->measure(&run->common, row->numbers);
}

static struct error write_curve(const struct run *run)
{
    char path[path_bytes_max];
    struct buf text;
    buf_init(&text, curve_bytes_max);
    buf_printf(&text, "step,samples,loss,%s,rate\n", run->common.subject->columns);
    for (size_t i = 0; i < run->row_count; i++) {
        const struct row *row = &run->rows[i];
        unsigned step = (unsigned)row->step;
        buf_printf(&text, "%u,%zu,%.4f", step, (size_t)step * run->common.job.batch_size, (double)row->loss);
        for (int k = 0; k < SUBJECT_NUMBERS; k++)
            buf_printf(&text, ",%.4f", (double)row->numbers[k]);
        buf_printf(&text, ",%.3e\n", pretrain_rate(&run->common.job, step - 1));
    }
    snprintf(path, sizeof path, "%s/out/curve.csv", run->common.options->folder);
    struct error error = buf_error(&text);
    if (!error.code)
        error = fs_write_atomic(path, text.data, text.len);
    buf_finish(&text);
    return error;
}

struct error pretrain_write_weights(const struct pretrain *run, const char *part, const char *file,
                                    enum component component, const float *values)
{
    char path[path_bytes_max];
    snprintf(path, sizeof path, "%s/out/%s", run->options->folder, part);
    TRY(fs_make_dirs(path));
    snprintf(path, sizeof path, "%s/out/%s/%s", run->options->folder, part, file);
    return weights_file_write(path, run->parameters, component, values);
}

/* The curve and the averaged weights so far. */
static struct error publish(struct run *run)
{
    char path[path_bytes_max];
    snprintf(path, sizeof path, "%s/out", run->common.options->folder);
    TRY(fs_make_dirs(path));
    TRY(run->common.subject->publish(&run->common));
    return write_curve(run);
}

static struct error add_row(struct run *run)
{
    struct row *row = &run->rows[run->row_count];
    unsigned from = run->row_count ? (unsigned)row[-1].step : 0;
    double sum = 0;
    for (unsigned i = from; i < run->common.step; i++)
        sum += (double)run->losses[i];
    *row = (struct row){.step = (float)run->common.step, .loss = (float)(sum / (run->common.step - from))};
    TRY(measure(run, row));
    run->row_count++;
    TRY(publish(run));
    struct json_writer *json = event_begin(&run->events, "checkpoint");
    json_put_int(json, "step", run->common.step);
    json_put_number(json, "loss", (double)row->loss);
    json_open(json, "numbers", '[');
    for (int k = 0; k < SUBJECT_NUMBERS; k++)
        json_put_number(json, NULL, (double)row->numbers[k]);
    json_close(json, ']');
    TRY(event_end(&run->events));
    return save_state(run);
}

/* ---- training ---- */

/* averages catch up quickly at first: min(average_decay, (step + 1) / (step + 10)) */
static double update(struct run *run)
{
    const struct pretrain_job *job = &run->common.job;
    struct parameters *parameters = run->common.parameters;
    double norm = sqrt(sum_of_squares(run->common.pool, parameters->count, parameters->gradients));
    double factor = job->gradient_norm_max / (norm + 1e-6);
    const struct adamw adamw = {
        .rate = (float)pretrain_rate(job, run->common.step),
        .beta1 = (float)job->beta1,
        .beta2 = (float)job->beta2,
        .epsilon = 1e-8f,
        .decay = (float)job->weight_decay,
        .gradient_scale = factor < 1 ? (float)factor : 1,
        .step = run->common.step + 1,
    };
    adamw_update(run->common.pool, &adamw, parameters->count, parameters->values, parameters->gradients,
                 run->first_moment, run->second_moment);
    double keep = fmin(job->average_decay, (run->common.step + 1.0) / (run->common.step + 10.0));
    add_scaled(run->common.pool, parameters->count, (float)keep, run->common.average, (float)(1 - keep),
               parameters->values, run->common.average);
    memset(parameters->gradients, 0, parameters->count * sizeof(float));
    return norm;
}

static struct error train_one(struct run *run)
{
    double loss;
    TRY(run->common.subject->step(&run->common, &loss));
    double norm = update(run);
    if (!isfinite(loss) || !isfinite(norm))
        return error_make(ERR_INVALID, "the loss is no number any more at step %u: lower learningRate",
                          run->common.step + 1);
    run->losses[run->common.step++] = (float)loss;
    return OK;
}

static struct error report(struct run *run)
{
    const unsigned window = 100;
    int64_t now = clock_monotonic_ms();
    if (now - run->reported_ms < progress_interval_ms && run->common.step < run->common.job.steps)
        return OK;
    run->reported_ms = now;
    double sum = 0, step_ms = (double)(now - run->started_ms) / (run->common.step - run->first_step);
    unsigned first = run->common.step > window ? run->common.step - window : 0;
    for (unsigned i = first; i < run->common.step; i++)
        sum += (double)run->losses[i];
    struct json_writer *json = event_begin(&run->events, "progress");
    json_put_int(json, "step", run->common.step);
    json_put_int(json, "steps", run->common.job.steps);
    json_put_number(json, "loss", sum / (run->common.step - first));
    json_put_number(json, "lr", pretrain_rate(&run->common.job, run->common.step - 1));
    json_put_int(json, "stepMs", (int64_t)step_ms);
    json_put_int(json, "remainingMs", (int64_t)(step_ms * (run->common.job.steps - run->common.step)));
    return event_end(&run->events);
}

static struct error train(struct run *run)
{
    unsigned interval =
        run->common.options->state_interval_ms ? run->common.options->state_interval_ms : state_interval_ms;
    run->started_ms = run->saved_ms = clock_monotonic_ms();
    TRY(phase(run, "training"));
    while (run->common.step < run->common.job.steps) {
        if (*run->common.options->stop)
            return error_make(ERR_CANCELED, "the training was stopped after step %u", run->common.step);
        TRY(train_one(run));
        TRY(report(run));
        if (run->common.step % run->common.job.report_steps == 0 || run->common.step == run->common.job.steps)
            TRY(add_row(run));
        if (clock_monotonic_ms() - run->saved_ms >= interval)
            TRY(save_state(run));
    }
    TRY(publish(run));
    event_begin(&run->events, "done");
    return event_end(&run->events);
}

static struct error canceled_event(void *context)
{
    struct run *run = context;
    if (run->common.step > run->first_step)
        TRY(save_state(run));
    event_begin(&run->events, "canceled");
    return event_end(&run->events);
}

static struct error failed_event(void *context, struct error error)
{
    struct run *run = context;
    return event_text(&run->events, "failed", "error", error.text);
}

static void release(struct run *run)
{
    if (run->common.subject)
        run->common.subject->unload(&run->common);
    pretrain_data_finish(&run->common.data);
    parameters_destroy(run->common.parameters);
    base_model_destroy(run->common.base);
    pool_destroy(run->common.pool);
    free(run->first_moment);
    free(run->second_moment);
    free(run->common.average);
    free(run->losses);
    free(run->rows);
    event_log_close(&run->events);
    arena_finish(&run->arena);
}

enum trainer_exit pretrain_run(const struct trainer_options *options, struct error *error)
{
    char path[path_bytes_max];
    struct run run = {.common.options = options, .events.fd = -1};
    CLEANUP_FD int lock = -1;
    *error = folder_lock(options->folder, &lock);
    if (error->code)
        return TRAINER_FAILED;
    arena_init(&run.arena, job_arena_max);
    snprintf(path, sizeof path, "%s/events.ndjson", options->folder);
    *error = event_log_open(path, &run.events);
    if (!error->code)
        *error = prepare(&run);
    if (!error->code)
        *error = train(&run);
    const struct run_end end = {&run, canceled_event, failed_event};
    enum trainer_exit outcome = run.events.fd >= 0 ? run_conclude(&end, &run.arena, error) : TRAINER_FAILED;
    release(&run);
    return outcome;
}
