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
#include "engine/pretrain_data.h"
#include "engine/safetensors.h"
#include "engine/weights_file.h"

enum {
    path_bytes_max = 4096,
    job_arena_max = 1 << 30, /* job.json of 64 MB as a tree */
    progress_interval_ms = 1000,
    state_interval_ms = 60000,
    probe_batch_max = 16,
    probe_timestep = 990, /* hardly anything but noise: what is drawn there comes from the words */
    row_numbers = 5,
    curve_bytes_max = 16 << 20,
};

/* A row of the curve. */
struct row {
    float step, loss; /* loss: mean of the steps since the row before */
    float right, none, wrong;
};

struct run {
    const struct trainer_options *options;
    struct arena arena;
    struct pretrain_job job;
    struct event_log events;
    struct pool *pool;
    struct base_model *base;
    struct parameters *parameters;
    float *first_moment, *second_moment, *average; /* [parameters->count] */
    struct pretrain_data *data;
    struct pretrain_batch batch, probe;
    struct training *training;
    unsigned step;
    float *losses;    /* [steps] */
    struct row *rows; /* [row_count] */
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
    snprintf(path, path_bytes_max, "%s/state/state.safetensors", run->options->folder);
}

struct vector {
    const char *name;
    float *values;
    size_t count;
};

enum { vector_count = 6 };

static void list_vectors(const struct run *run, struct vector vectors[vector_count])
{
    size_t count = run->parameters->count;
    vectors[0] = (struct vector){"values", run->parameters->values, count};
    vectors[1] = (struct vector){"first_moment", run->first_moment, count};
    vectors[2] = (struct vector){"second_moment", run->second_moment, count};
    vectors[3] = (struct vector){"average", run->average, count};
    vectors[4] = (struct vector){"losses", run->losses, run->step};
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
    snprintf(step, sizeof step, "%u", run->step);
    snprintf(steps, sizeof steps, "%u", run->job.steps);
    const struct tensor_note notes[] = {{"step", step}, {"steps", steps}, {"job", run->job.fingerprint}};
    snprintf(path, sizeof path, "%s/state", run->options->folder);
    TRY(fs_make_dirs(path));
    state_path(run, path);
    TRY(safetensors_write(path, tensors, vector_count, notes, sizeof notes / sizeof *notes));
    run->saved_ms = clock_monotonic_ms();
    struct json_writer *json = event_begin(&run->events, "state");
    json_put_int(json, "step", run->step);
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
    const struct pretrain_job *job = &run->job;
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
    run->step = run->first_step = step;
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
    snprintf(text, sizeof text, "resumed after step %u", run->step);
    return event_text(&run->events, "log", "text", text);
}

/* ---- preparing ---- */

static struct error open_base(struct run *run)
{
    unsigned threads = run->options->threads ? run->options->threads : run->job.threads;
    const struct parameter_options options = {.targets = TARGETS_FULL, .unet = true, .text = true};
    TRY(pool_create(threads, &run->pool));
    TRY(base_model_open_fresh(run->job.base_path, run->job.seed, run->pool, &run->base));
    if (run->base->info->xl)
        return error_make(ERR_INVALID, "only models of one text encoder can be trained from nothing");
    return parameters_create(run->base->model, &options, &run->parameters);
}

static struct error allocate(struct run *run)
{
    size_t count = run->parameters->count;
    run->first_moment = calloc(count, sizeof(float));
    run->second_moment = calloc(count, sizeof(float));
    run->average = calloc(count, sizeof(float));
    run->losses = calloc(run->job.steps, sizeof(float));
    run->rows = calloc(run->job.steps + 1u, sizeof *run->rows);
    if (!run->first_moment || !run->second_moment || !run->average || !run->losses || !run->rows)
        return error_make(ERR_INTERNAL, "not enough memory for the optimizer");
    memcpy(run->average, run->parameters->values, count * sizeof(float));
    return OK;
}

static size_t probe_batch(const struct pretrain_job *job)
{
    return job->probe_pictures < probe_batch_max ? job->probe_pictures : probe_batch_max;
}

static struct error prepare(struct run *run)
{
    const struct trainer_options *options = run->options;
    TRY(phase(run, "preparing"));
    TRY(pretrain_job_read(&run->arena, options->folder, &run->job));
    TRY(open_base(run));
    TRY(allocate(run));
    TRY(load_state(run));
    TRY(pretrain_data_load(run->base, options->folder, &run->job, &options->io, options->stop, &run->data));
    TRY(pretrain_batch_init(run->data, run->job.batch_size, &run->batch));
    TRY(pretrain_batch_init(run->data, probe_batch(&run->job), &run->probe));
    const struct training_shape shape = {.batch = run->job.batch_size,
                                         .height = run->base->info->sample_size,
                                         .width = run->base->info->sample_size,
                                         .tokens = run->data->tokens};
    return training_create(run->base->model, run->parameters, &shape, &run->training);
}

/* ---- the curve ---- */

static struct unet_input input_of(const struct run *run, const struct pretrain_batch *batch)
{
    const struct model_info *info = run->base->info;
    return (struct unet_input){.batch = batch->size,
                               .height = info->sample_size,
                               .width = info->sample_size,
                               .tokens = run->data->tokens,
                               .sample = batch->noisy,
                               .timesteps = batch->timesteps,
                               .ids = batch->ids};
}

/* Mean squared error of the probe's pictures with the weights that are in the model. Whole batches only: a few pictures
 * more than asked for. */
static struct error probe_loss(struct run *run, int shift, float *prediction, float *context, float *loss)
{
    const struct pretrain_data *data = run->data;
    size_t batch = run->probe.size, batches = (run->job.probe_pictures + batch - 1) / batch;
    float losses[probe_batch_max];
    double sum = 0;
    for (size_t i = 0; i < batches; i++) {
        pretrain_batch_probe(data, (unsigned)(i * batch), probe_timestep, shift, &run->probe);
        struct unet_input input = input_of(run, &run->probe);
        input.context = context;
        TRY(model_encode_text(run->base->model, batch, data->tokens, input.ids, NULL, 0, context, NULL));
        TRY(model_predict(run->base->model, &input, prediction));
        sum += mse(run->pool, batch, data->latent, prediction, run->probe.target, NULL, losses, NULL);
    }
    *loss = (float)(sum / (double)batches);
    return OK;
}

/* How well the averaged weights obey words; the weights in training come back at the next step. */
static struct error measure(struct run *run, struct row *row)
{
    size_t context_floats = run->probe.size * run->data->tokens * run->base->info->context_width;
    CLEANUP_FREE float *prediction = malloc(run->probe.size * run->data->latent * sizeof(float));
    CLEANUP_FREE float *context = malloc(context_floats * sizeof(float));
    if (!prediction || !context)
        return error_make(ERR_INTERNAL, "not enough memory for the probe");
    float *own = run->parameters->values;
    run->parameters->values = run->average;
    parameters_publish(run->base->model, run->parameters);
    run->parameters->values = own;
    TRY(probe_loss(run, 0, prediction, context, &row->right));
    TRY(probe_loss(run, -1, prediction, context, &row->none));
    return probe_loss(run, 1, prediction, context, &row->wrong);
}

static struct error write_curve(const struct run *run)
{
    char path[path_bytes_max];
    struct buf text;
    buf_init(&text, curve_bytes_max);
    buf_puts(&text, "step,samples,loss,t990_right,t990_none,t990_wrong,rate\n");
    for (size_t i = 0; i < run->row_count; i++) {
        const struct row *row = &run->rows[i];
        unsigned step = (unsigned)row->step;
        buf_printf(&text, "%u,%zu,%.4f,%.4f,%.4f,%.4f,%.3e\n", step, (size_t)step * run->job.batch_size,
                   (double)row->loss, (double)row->right, (double)row->none, (double)row->wrong,
                   pretrain_rate(&run->job, step - 1));
    }
    snprintf(path, sizeof path, "%s/out/curve.csv", run->options->folder);
    struct error error = buf_error(&text);
    if (!error.code)
        error = fs_write_atomic(path, text.data, text.len);
    buf_finish(&text);
    return error;
}

static struct error write_weights(const struct run *run, const char *part, const char *file, enum component component)
{
    char path[path_bytes_max];
    snprintf(path, sizeof path, "%s/out/%s", run->options->folder, part);
    TRY(fs_make_dirs(path));
    snprintf(path, sizeof path, "%s/out/%s/%s", run->options->folder, part, file);
    return weights_file_write(path, run->parameters, component, run->average);
}

/* The curve and the averaged weights so far. */
static struct error publish(struct run *run)
{
    TRY(write_weights(run, "unet", "diffusion_pytorch_model.safetensors", COMPONENT_UNET));
    TRY(write_weights(run, "text_encoder", "model.safetensors", COMPONENT_TEXT));
    return write_curve(run);
}

static struct error add_row(struct run *run)
{
    struct row *row = &run->rows[run->row_count];
    unsigned from = run->row_count ? (unsigned)row[-1].step : 0;
    double sum = 0;
    for (unsigned i = from; i < run->step; i++)
        sum += (double)run->losses[i];
    *row = (struct row){.step = (float)run->step, .loss = (float)(sum / (run->step - from))};
    TRY(measure(run, row));
    run->row_count++;
    TRY(publish(run));
    struct json_writer *json = event_begin(&run->events, "checkpoint");
    json_put_int(json, "step", run->step);
    json_put_number(json, "loss", (double)row->loss);
    json_put_number(json, "right", (double)row->right);
    json_put_number(json, "none", (double)row->none);
    json_put_number(json, "wrong", (double)row->wrong);
    TRY(event_end(&run->events));
    return save_state(run);
}

/* ---- training ---- */

/* averages catch up quickly at first: min(average_decay, (step + 1) / (step + 10)) */
static double update(struct run *run)
{
    const struct pretrain_job *job = &run->job;
    struct parameters *parameters = run->parameters;
    double norm = sqrt(sum_of_squares(run->pool, parameters->count, parameters->gradients));
    double factor = job->gradient_norm_max / (norm + 1e-6);
    const struct adamw adamw = {
        .rate = (float)pretrain_rate(job, run->step),
        .beta1 = (float)job->beta1,
        .beta2 = (float)job->beta2,
        .epsilon = 1e-8f,
        .decay = (float)job->weight_decay,
        .gradient_scale = factor < 1 ? (float)factor : 1,
        .step = run->step + 1,
    };
    adamw_update(run->pool, &adamw, parameters->count, parameters->values, parameters->gradients, run->first_moment,
                 run->second_moment);
    double keep = fmin(job->average_decay, (run->step + 1.0) / (run->step + 10.0));
    add_scaled(run->pool, parameters->count, (float)keep, run->average, (float)(1 - keep), parameters->values,
               run->average);
    memset(parameters->gradients, 0, parameters->count * sizeof(float));
    return norm;
}

static struct error train_one(struct run *run)
{
    double loss;
    pretrain_batch_draw(run->data, run->step, &run->batch);
    const struct unet_input input = input_of(run, &run->batch);
    TRY(training_step(run->training, &input, run->batch.target, NULL, 1, &loss, NULL));
    double norm = update(run);
    if (!isfinite(loss) || !isfinite(norm))
        return error_make(ERR_INVALID, "the loss is no number any more at step %u: lower learningRate", run->step + 1);
    run->losses[run->step++] = (float)loss;
    return OK;
}

static struct error report(struct run *run)
{
    const unsigned window = 100;
    int64_t now = clock_monotonic_ms();
    if (now - run->reported_ms < progress_interval_ms && run->step < run->job.steps)
        return OK;
    run->reported_ms = now;
    double sum = 0, step_ms = (double)(now - run->started_ms) / (run->step - run->first_step);
    unsigned first = run->step > window ? run->step - window : 0;
    for (unsigned i = first; i < run->step; i++)
        sum += (double)run->losses[i];
    struct json_writer *json = event_begin(&run->events, "progress");
    json_put_int(json, "step", run->step);
    json_put_int(json, "steps", run->job.steps);
    json_put_number(json, "loss", sum / (run->step - first));
    json_put_number(json, "lr", pretrain_rate(&run->job, run->step - 1));
    json_put_int(json, "stepMs", (int64_t)step_ms);
    json_put_int(json, "remainingMs", (int64_t)(step_ms * (run->job.steps - run->step)));
    return event_end(&run->events);
}

static struct error train(struct run *run)
{
    unsigned interval = run->options->state_interval_ms ? run->options->state_interval_ms : state_interval_ms;
    run->started_ms = run->saved_ms = clock_monotonic_ms();
    TRY(phase(run, "training"));
    while (run->step < run->job.steps) {
        if (*run->options->stop)
            return error_make(ERR_CANCELED, "the training was stopped after step %u", run->step);
        TRY(train_one(run));
        TRY(report(run));
        if (run->step % run->job.report_steps == 0 || run->step == run->job.steps)
            TRY(add_row(run));
        if (clock_monotonic_ms() - run->saved_ms >= interval)
            TRY(save_state(run));
    }
    TRY(publish(run));
    event_begin(&run->events, "done");
    return event_end(&run->events);
}

static enum trainer_exit conclude(struct run *run, struct error *error)
{
    bool canceled = error->code == ERR_CANCELED;
    if (!error->code)
        return TRAINER_DONE;
    struct error unsaved = canceled && run->step > run->first_step ? save_state(run) : OK;
    if (unsaved.code) {
        *error = unsaved;
        canceled = false;
    }
    *error = error_keep(&run->arena, *error);
    struct error unsaid = event_text(&run->events, canceled ? "canceled" : "failed", "error", error->text);
    *error = error_make(error->code, "%s%s", error->text, unsaid.code ? " (nor can events be written)" : "");
    return canceled ? TRAINER_CANCELED : TRAINER_FAILED;
}

static void release(struct run *run)
{
    training_destroy(run->training);
    pretrain_batch_finish(&run->batch);
    pretrain_batch_finish(&run->probe);
    pretrain_data_destroy(run->data);
    parameters_destroy(run->parameters);
    base_model_destroy(run->base);
    pool_destroy(run->pool);
    free(run->first_moment);
    free(run->second_moment);
    free(run->average);
    free(run->losses);
    free(run->rows);
    event_log_close(&run->events);
    arena_finish(&run->arena);
}

enum trainer_exit pretrain_run(const struct trainer_options *options, struct error *error)
{
    char path[path_bytes_max];
    struct run run = {.options = options, .events.fd = -1};
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
    enum trainer_exit outcome = run.events.fd >= 0 ? conclude(&run, error) : TRAINER_FAILED;
    release(&run);
    return outcome;
}
