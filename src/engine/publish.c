#include "engine/publish.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "engine/lora_file.h"

enum { path_bytes_max = 4096, name_bytes_max = 64, result_bytes_max = 16 << 20, history_max = 200, final_steps = 32 };

void publisher_finish(struct publisher *publisher)
{
    for (size_t i = 0; i < publisher->warning_count; i++)
        free(publisher->warnings[i]);
    publisher->warning_count = 0;
}

struct error publish_warning(struct publisher *publisher, const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    if (size < 0)
        return error_make(ERR_INTERNAL, "not enough memory for a warning");
    struct error error = event_text(publisher->events, "warning", "text", text);
    if (publisher->warning_count < WARNINGS_MAX)
        publisher->warnings[publisher->warning_count++] = text;
    else
        free(text);
    return error;
}

static struct error file_path(const struct publisher *publisher, const char *name, char path[path_bytes_max])
{
    if (snprintf(path, path_bytes_max, "%s/%s", publisher->folder, name) >= path_bytes_max)
        return error_make(ERR_INVALID, "the job folder's path is too long");
    return OK;
}

static struct error make_folder(const struct publisher *publisher, const char *name)
{
    char path[path_bytes_max];
    TRY(file_path(publisher, name, path));
    return fs_make_dirs(path);
}

static struct error hash_file(const char *path, char hex[sha256_hex_size], size_t *size)
{
    enum { block = 1 << 16 };
    CLEANUP_FREE char *bytes = malloc(block);
    CLEANUP_FILE FILE *file = fopen(path, "re");
    uint8_t digest[sha256_size];
    if (!bytes || !file)
        return error_errno("read %s", path);
    struct sha256 *hash = sha256_create();
    *size = 0;
    for (size_t got; (got = fread(bytes, 1, block, file)) > 0; *size += got)
        sha256_update(hash, bytes, got);
    sha256_final(hash, digest);
    sha256_destroy(hash);
    sha256_hex(digest, hex);
    return ferror(file) ? error_errno("read %s", path) : OK;
}

/* ---- weights ---- */

static struct error write_weights(const struct publisher *publisher, const char *path, unsigned epoch, unsigned step)
{
    static const char *const predictions[] = {"epsilon", "v", "sample"};
    const struct job_parameters *parameters = &publisher->job->parameters;
    const struct parameters *sets[LEARNER_COUNT];
    size_t count = 0;
    for (int role = 0; role < LEARNER_COUNT; role++) {
        if (publisher->learners[role])
            sets[count++] = publisher->learners[role]->parameters;
    }
    const struct learner *text = publisher->learners[LEARNER_TEXT];
    assert(publisher->learners[LEARNER_UNET]);
    struct lora_facts facts = {
        .title = publisher->job->name,
        .trigger = parameters->concept_prompt,
        .software = publisher->software,
        .xl = publisher->base->info->xl,
        .prediction_type = predictions[publisher->base->schedule.prediction],
        .seed = publisher->job->seed,
        .epoch = epoch,
        .epochs = publisher->plan->checkpoints,
        .steps = step,
        .steps_max = publisher->plan->steps,
        .pictures = (unsigned)publisher->job->item_count,
        .batch = parameters->batch_size,
        .learning_rate = publisher->learners[LEARNER_UNET]->rates.base,
        .text_learning_rate = text ? text->rates.base : 0,
        .rate_schedule = parameters->rate_name,
        .resolution = publisher->base->info->sample_size * publisher->base->info->vae_factor,
    };
    return lora_write(path, sets, count, &facts, parameters->lora_format);
}

static struct error publish_weights(struct publisher *publisher, unsigned epoch, unsigned step)
{
    char path[path_bytes_max], name[name_bytes_max], hex[sha256_hex_size];
    size_t size;
    TRY(make_folder(publisher, "out/epochs"));
    snprintf(name, sizeof name, "out/epochs/%06u.safetensors", epoch);
    TRY(file_path(publisher, name, path));
    TRY(write_weights(publisher, path, epoch, step));
    TRY(hash_file(path, hex, &size));
    struct json_writer *json = event_begin(publisher->events, "checkpoint");
    json_put_int(json, "epoch", epoch);
    json_put_int(json, "step", step);
    json_put_string(json, "path", name);
    json_put_string(json, "sha256", hex);
    return event_end(publisher->events);
}

/* ---- samples ---- */

struct error learners_merge(struct base_model *base, struct learner *const learners[LEARNER_COUNT])
{
    struct lora_delta *deltas = NULL;
    size_t count = 0, total = 0;
    for (int role = 0; role < LEARNER_COUNT; role++)
        total += learners[role] ? learners[role]->parameters->table_count / 2 : 0;
    deltas = malloc((total + 1) * sizeof *deltas);
    if (!deltas)
        return error_make(ERR_INTERNAL, "not enough memory to merge the LoRA");
    for (int role = 0; role < LEARNER_COUNT; role++) {
        if (!learners[role])
            continue;
        lora_deltas(learners[role]->parameters, 1, deltas + count);
        count += learners[role]->parameters->table_count / 2;
    }
    struct error error = model_merge(base->model, deltas, count);
    free(deltas);
    return error;
}

static struct picture_request sample_request(const struct publisher *publisher, size_t index)
{
    const struct job_prompt *prompt = &publisher->job->prompts[index];
    return (struct picture_request){.prompt = prompt->text,
                                    .negative = prompt->negative,
                                    .seed = prompt->seed,
                                    .width = prompt->width,
                                    .height = prompt->height,
                                    .steps = prompt->steps,
                                    .guidance = prompt->guidance,
                                    .sampler = prompt->sampler};
}

/* All that it takes to make the sample again. */
static void put_sample(const struct publisher *publisher, struct json_writer *json, unsigned epoch, size_t index,
                       const char *name, const struct picture_request *request)
{
    char weights[name_bytes_max];
    const char *slash = strrchr(publisher->job->base_path, '/');
    snprintf(weights, sizeof weights, "out/epochs/%06u.safetensors", epoch);
    json_put_int(json, "epoch", epoch);
    json_put_int(json, "promptIndex", (int64_t)index);
    json_put_string(json, "path", name);
    json_put_string(json, "prompt", request->prompt);
    json_put_string(json, "negativePrompt", request->negative);
    json_put_int(json, "seed", (int64_t)request->seed);
    json_put_int(json, "steps", request->steps);
    json_put_number(json, "guidance", request->guidance);
    json_put_string(json, "scheduler", sampler_scheduler_name(request->sampler));
    json_put_int(json, "width", (int64_t)request->width);
    json_put_int(json, "height", (int64_t)request->height);
    json_put_string(json, "base", slash ? slash + 1 : publisher->job->base_path);
    json_put_string(json, "lora", weights);
}

static struct error publish_sample(struct publisher *publisher, unsigned epoch, unsigned step, size_t index)
{
    char path[path_bytes_max], name[name_bytes_max];
    CLEANUP_FREE uint8_t *rgb = NULL;
    struct picture_request request = sample_request(publisher, index);
    snprintf(name, sizeof name, "out/samples/%06u", epoch);
    TRY(make_folder(publisher, name));
    snprintf(name, sizeof name, "out/samples/%06u/%02zu.png", epoch, index);
    TRY(file_path(publisher, name, path));
    TRY(picture_resolve(publisher->base, &request));
    TRY(picture_render(publisher->base, &request, NULL, publisher->stop, &rgb));
    TRY(publisher->io->save_png(publisher->io->context, path, rgb, request.width, request.height));
    struct json_writer *json = event_begin(publisher->events, "sample");
    json_put_int(json, "step", step);
    put_sample(publisher, json, epoch, index, name, &request);
    return event_end(publisher->events);
}

/* A picture that cannot be made is a warning, a full disk or a cancel is not. */
static struct error publish_samples(struct publisher *publisher, unsigned epoch, unsigned step, size_t first)
{
    for (size_t i = first; i < publisher->job->prompt_count; i++) {
        struct error error = publish_sample(publisher, epoch, step, i);
        if (error.code == ERR_CANCELED || error.code == ERR_NO_SPACE)
            return error;
        if (error.code)
            TRY(publish_warning(publisher, "sample %zu of epoch %u was not made: %s", i, epoch, error.text));
    }
    return OK;
}

struct error publish_checkpoint(struct publisher *publisher, unsigned epoch, unsigned step)
{
    const struct event_log *events = publisher->events;
    size_t done = epoch < events->checkpoints ? SIZE_MAX : epoch == events->checkpoints ? events->samples : 0;
    if (epoch > events->checkpoints) {
        TRY(event_text(publisher->events, "phase", "phase", "saving"));
        TRY(publish_weights(publisher, epoch, step));
    }
    if (done >= publisher->job->prompt_count)
        return OK;
    TRY(event_text(publisher->events, "phase", "phase", "sampling"));
    TRY(learners_merge(publisher->base, publisher->learners));
    struct error error = publish_samples(publisher, epoch, step, done);
    TRY(model_merge(publisher->base->model, NULL, 0));
    return error;
}

/* ---- the result ---- */

static void put_history(struct json_writer *json, unsigned steps, const float *losses)
{
    unsigned points = steps < history_max ? steps : history_max;
    json_open(json, "lossHistory", '[');
    for (unsigned i = 0; i < points; i++) { /* means of equal stretches */
        unsigned first = (unsigned)((uint64_t)steps * i / points), end = (unsigned)((uint64_t)steps * (i + 1) / points);
        double sum = 0;
        for (unsigned at = first; at < end; at++)
            sum += losses[at];
        json_open(json, NULL, '[');
        json_put_int(json, NULL, end);
        json_put_number(json, NULL, sum / (end - first));
        json_close(json, ']');
    }
    json_close(json, ']');
}

static struct error put_file(const struct publisher *publisher, struct json_writer *json, const char *name)
{
    char path[path_bytes_max], hex[sha256_hex_size];
    size_t size = 0;
    TRY(file_path(publisher, name, path));
    if (!fs_exists(path))
        return OK; /* a sample that failed */
    TRY(hash_file(path, hex, &size));
    json_open(json, NULL, '{');
    json_put_string(json, "path", name);
    json_put_int(json, "size", (int64_t)size);
    json_put_string(json, "sha256", hex);
    json_close(json, '}');
    return OK;
}

static struct error put_files(const struct publisher *publisher, struct json_writer *json)
{
    char name[name_bytes_max];
    json_open(json, "files", '[');
    TRY(put_file(publisher, json, "out/model.safetensors"));
    for (unsigned epoch = 1; epoch <= publisher->plan->checkpoints; epoch++) {
        snprintf(name, sizeof name, "out/epochs/%06u.safetensors", epoch);
        TRY(put_file(publisher, json, name));
        for (size_t i = 0; i < publisher->job->prompt_count; i++) {
            snprintf(name, sizeof name, "out/samples/%06u/%02zu.png", epoch, i);
            TRY(put_file(publisher, json, name));
        }
    }
    json_close(json, ']');
    return OK;
}

static struct error put_samples(const struct publisher *publisher, struct json_writer *json)
{
    char path[path_bytes_max], name[name_bytes_max];
    json_open(json, "samples", '[');
    for (unsigned epoch = 1; epoch <= publisher->plan->checkpoints; epoch++) {
        for (size_t i = 0; i < publisher->job->prompt_count; i++) {
            struct picture_request request = sample_request(publisher, i);
            snprintf(name, sizeof name, "out/samples/%06u/%02zu.png", epoch, i);
            TRY(file_path(publisher, name, path));
            if (!fs_exists(path) || picture_resolve(publisher->base, &request).code)
                continue;
            json_open(json, NULL, '{');
            put_sample(publisher, json, epoch, i, name, &request);
            json_close(json, '}');
        }
    }
    json_close(json, ']');
    return OK;
}

static double final_loss(unsigned steps, const float *losses)
{
    unsigned count = steps < final_steps ? steps : final_steps;
    double sum = 0;
    for (unsigned i = steps - count; i < steps; i++)
        sum += losses[i];
    return sum / count;
}

static struct error put_result(const struct publisher *publisher, struct json_writer *json, unsigned steps,
                               const float *losses, double seconds)
{
    const struct learner *text = publisher->learners[LEARNER_TEXT];
    json_open(json, NULL, '{');
    json_put_int(json, "steps", steps);
    json_put_number(json, "finalLoss", final_loss(steps, losses));
    put_history(json, steps, losses);
    json_put_number(json, "seconds", seconds);
    json_put_number(json, "learningRate", publisher->learners[LEARNER_UNET]->rates.base);
    if (text)
        json_put_number(json, "learningRateTextEncoder", text->rates.base);
    json_put_number(json, "learningRateScale", publisher->base->hints.learning_rate_scale);
    json_put_int(json, "weightBytes", (int64_t)publisher->weight_bytes);
    json_put_int(json, "stepBytes", (int64_t)publisher->step_bytes);
    json_put_bool(json, "activationsRecomputed", publisher->recomputes);
    TRY(put_files(publisher, json));
    TRY(put_samples(publisher, json));
    json_put_string(json, "trainer", publisher->software);
    json_open(json, "warnings", '[');
    for (size_t i = 0; i < publisher->warning_count; i++)
        json_put_string(json, NULL, publisher->warnings[i]);
    json_close(json, ']');
    json_close(json, '}');
    buf_putc(json->out, '\n');
    return buf_error(json->out);
}

struct error publish_result(struct publisher *publisher, unsigned steps, const float *losses, double seconds)
{
    char path[path_bytes_max];
    struct buf text;
    TRY(make_folder(publisher, "out"));
    TRY(file_path(publisher, "out/model.safetensors", path));
    TRY(write_weights(publisher, path, publisher->plan->checkpoints, steps));
    TRY(file_path(publisher, "out/result.json", path));
    buf_init(&text, result_bytes_max);
    struct json_writer json = {.out = &text};
    struct error error = put_result(publisher, &json, steps, losses, seconds);
    if (!error.code)
        error = fs_write_atomic(path, text.data, text.len);
    buf_finish(&text);
    return error;
}
