#include "engine/generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "engine/event_log.h"
#include "engine/generation_folder.h"
#include "engine/kernels.h"
#include "engine/run_end.h"

enum {
    path_bytes_max = 4096,
    name_bytes_max = 64,
    job_arena_max = 32 << 20,
    result_bytes_max = 1 << 20,
    progress_interval_ms = 250,
};

enum stage { STAGE_JOB, STAGE_BASE, STAGE_LORA, STAGE_IMAGE, STAGE_DRAW }; /* what an error is blamed on */

struct run {
    const struct trainer_options *options;
    enum stage stage;
    struct arena arena;
    struct generation_job job;
    struct event_log events;
    struct pool *pool;
    struct base_model *base;
    struct picture_start start;      /* rgb is the run's own; NULL: none */
    size_t drawn, first;             /* pictures that are done; that were when this run began to draw */
    int64_t started_ms, reported_ms; /* monotonic */
    struct error report;             /* of the last progress event */
};

static struct error file_path(const struct run *run, const char *name, char path[path_bytes_max])
{
    if (snprintf(path, path_bytes_max, "%s/%s", run->options->folder, name) >= path_bytes_max)
        return error_make(ERR_INVALID, "the job folder's path is too long");
    return OK;
}

/* ---- preparing ---- */

static struct error warn_of_skipped(struct run *run)
{
    for (size_t i = 0; i < run->job.lora_count; i++) {
        char text[256];
        if (!run->job.loras[i].skipped)
            continue;
        snprintf(text, sizeof text, "LoRA %zu: %zu tensors belong to no layer of this base model", i + 1,
                 run->job.loras[i].skipped);
        TRY(event_text(&run->events, "warning", "text", text));
    }
    return OK;
}

static struct error open_base(struct run *run)
{
    const struct trainer_options *options = run->options;
    run->stage = STAGE_BASE;
    TRY(base_model_check_memory(run->job.base_path, false, options->memory_bytes));
    TRY(kernels_pool_create(options->threads ? options->threads : run->job.threads, options->kernels, &run->pool));
    TRY(base_model_open(run->job.base_path, run->pool, &run->base));
    if (run->base->info->xl != run->job.xl)
        return error_make(ERR_INVALID, "%s needs an %s base model, this one is not", run->job.xl ? "sd-xl" : "sd-1_5",
                          run->job.xl ? "SDXL" : "SD 1.5");
    return OK;
}

static struct error load_image(struct run *run)
{
    const struct picture_io *io = &run->options->io;
    uint8_t *rgb;
    if (!run->job.image)
        return OK;
    run->stage = STAGE_IMAGE;
    TRY(io->load_rgb(io->context, run->job.image, &rgb, &run->start.width, &run->start.height));
    run->start.rgb = rgb;
    run->start.strength = run->job.strength;
    return OK;
}

static struct error prepare(struct run *run)
{
    TRY(event_text(&run->events, "phase", "phase", "preparing"));
    TRY(open_base(run));
    run->stage = STAGE_LORA;
    TRY(lora_merge(run->base->model, run->job.loras, run->job.lora_count));
    TRY(warn_of_skipped(run));
    TRY(load_image(run));
    run->stage = STAGE_DRAW;
    return OK;
}

/* ---- drawing ---- */

/* What was asked of picture number index, with the base's own values where nothing was. */
static struct error resolve(const struct run *run, size_t index, struct picture_request *request)
{
    const struct generation_job *job = &run->job;
    *request = (struct picture_request){
        .prompt = job->prompt,
        .negative = job->negative,
        .seed = job->seeds[index],
        .width = job->width,
        .height = job->height,
        .steps = job->steps,
        .guidance = job->has_guidance && job->guidance < 1 ? 1 : job->guidance, /* below 1: as without any */
        .sampler = job->sampler,
        .start = run->start.rgb ? &run->start : NULL,
    };
    return picture_resolve(run->base, request);
}

static void on_step(void *context, unsigned step, unsigned steps)
{
    struct run *run = context;
    const int64_t now = clock_monotonic_ms();
    if (now - run->reported_ms < progress_interval_ms || run->report.code)
        return;
    run->reported_ms = now;
    const size_t done = run->drawn * steps + step, all = run->job.picture_count * steps;
    const double step_ms = (double)(now - run->started_ms) / (double)(done - run->first * steps);
    struct json_writer *json = event_begin(&run->events, "progress");
    json_put_int(json, "step", (int64_t)done);
    json_put_int(json, "steps", (int64_t)all);
    json_put_int(json, "remainingMs", (int64_t)(step_ms * (double)(all - done)));
    run->report = event_end(&run->events);
}

static struct error draw(struct run *run, struct picture_request *request, const char *path)
{
    CLEANUP_FREE uint8_t *rgb = NULL;
    const struct picture_io *io = &run->options->io;
    request->on_step = on_step;
    request->on_step_context = run;
    TRY(picture_render(run->base, request, NULL, run->options->stop, &rgb));
    TRY(run->report);
    return io->save_png(io->context, path, rgb, request->width, request->height);
}

/* All that it takes to make the picture again, beside the LoRAs. */
static struct error announce(struct run *run, size_t index, const char *name, const struct picture_request *request)
{
    const struct generation_job *job = &run->job;
    struct json_writer *json = event_begin(&run->events, "sample");
    json_put_int(json, "promptIndex", (int64_t)index);
    json_put_string(json, "path", name);
    json_put_string(json, "prompt", request->prompt);
    json_put_string(json, "negativePrompt", request->negative);
    json_put_int(json, "seed", (int64_t)request->seed);
    json_put_int(json, "steps", request->steps);
    json_put_number(json, "guidance", job->has_guidance ? job->guidance : request->guidance);
    json_put_string(json, "scheduler", sampler_scheduler_name(request->sampler));
    json_put_int(json, "width", (int64_t)request->width);
    json_put_int(json, "height", (int64_t)request->height);
    if (request->start)
        json_put_number(json, "strength", request->start->strength);
    return event_end(&run->events);
}

/* A run that was killed between the two announces the picture that is there. */
static struct error make_picture(struct run *run, size_t index)
{
    char name[name_bytes_max], path[path_bytes_max];
    struct picture_request request;
    snprintf(name, sizeof name, "out/samples/%02zu.png", index);
    TRY(file_path(run, name, path));
    TRY(resolve(run, index, &request));
    if (!fs_exists(path))
        TRY(draw(run, &request, path));
    TRY(announce(run, index, name, &request));
    run->drawn = index + 1;
    return OK;
}

static struct error draw_all(struct run *run)
{
    char path[path_bytes_max];
    TRY(file_path(run, "out/samples", path));
    TRY(fs_make_dirs(path));
    TRY(event_text(&run->events, "phase", "phase", "drawing"));
    run->first = run->drawn = run->events.samples;
    run->started_ms = clock_monotonic_ms();
    for (size_t i = run->first; i < run->job.picture_count; i++) {
        if (*run->options->stop)
            return error_make(ERR_CANCELED, "stopped before picture %zu", i + 1);
        TRY(make_picture(run, i));
    }
    return OK;
}

static struct error write_result(struct run *run)
{
    char path[path_bytes_max];
    struct buf text;
    TRY(file_path(run, "out/result.json", path));
    buf_init(&text, result_bytes_max);
    struct json_writer json = {.out = &text};
    json_open(&json, NULL, '{');
    json_open(&json, "files", '[');
    for (size_t i = 0; i < run->job.picture_count; i++) {
        char name[name_bytes_max];
        snprintf(name, sizeof name, "out/samples/%02zu.png", i);
        json_put_string(&json, NULL, name);
    }
    json_close(&json, ']');
    json_put_string(&json, "generator", run->options->software);
    json_close(&json, '}');
    buf_putc(&text, '\n');
    struct error error = buf_error(&text);
    if (!error.code)
        error = fs_write_atomic(path, text.data, text.len);
    buf_finish(&text);
    return error;
}

static struct error say(struct run *run, const char *event)
{
    event_begin(&run->events, event);
    return event_end(&run->events);
}

static struct error run_job(struct run *run)
{
    TRY(generation_read(&run->arena, run->options->folder, &run->job));
    TRY(prepare(run));
    TRY(draw_all(run));
    TRY(event_text(&run->events, "phase", "phase", "finalizing"));
    TRY(write_result(run));
    return say(run, "done");
}

/* ---- the end ---- */

static const char *hint_for(const struct run *run, struct error error)
{
    if (error.code == ERR_NO_SPACE)
        return "Free some disk space and start the generation again.";
    if (strstr(error.text, "memory"))
        return "Ask for smaller pictures, or use a smaller base model or a machine with more memory.";
    switch (run->stage) {
    case STAGE_BASE:
        return "Check the base model's folder: it must be complete, in diffusers layout, and of the model's family.";
    case STAGE_LORA:
        return "Leave the LoRA out, or train it again on this base model.";
    case STAGE_IMAGE:
        return "Send another image to begin on.";
    case STAGE_JOB:
    case STAGE_DRAW:
        break;
    }
    return error.code == ERR_INVALID ? "Change what was asked for and start the generation again."
                                     : "Start the generation again. If it fails again, report this with trainer.log.";
}

static struct error failed_event(void *context, struct error error)
{
    struct run *run = context;
    struct json_writer *json = event_begin(&run->events, "failed");
    json_put_string(json, "error", error.text);
    json_put_string(json, "hint", hint_for(run, error));
    return event_end(&run->events);
}

static struct error canceled_event(void *run)
{
    return say(run, "canceled");
}

static enum trainer_exit run_locked(struct run *run, struct error *error)
{
    char path[path_bytes_max];
    *error = file_path(run, "events.ndjson", path);
    if (!error->code)
        *error = event_log_open(path, &run->events);
    if (error->code)
        return TRAINER_FAILED;
    *error = file_path(run, "out/result.json", path);
    if (error->code)
        return TRAINER_FAILED;
    if (!fs_exists(path))
        *error = run_job(run);
    else if (!run->events.done) /* killed between the two */
        *error = say(run, "done");
    return run_conclude(&(struct run_end){run, canceled_event, failed_event}, &run->arena, error);
}

enum trainer_exit generator_run(const struct trainer_options *options, struct error *error)
{
    CLEANUP_FD int lock = -1;
    struct run run = {.options = options, .events.fd = -1};
    *error = folder_lock(options->folder, &lock);
    if (error->code)
        return TRAINER_FAILED;
    arena_init(&run.arena, job_arena_max);
    const enum trainer_exit outcome = run_locked(&run, error);
    free((void *)run.start.rgb);
    base_model_destroy(run.base);
    pool_destroy(run.pool);
    event_log_close(&run.events);
    arena_finish(&run.arena);
    return outcome;
}
