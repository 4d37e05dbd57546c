#include "domain/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "domain/asset.h"

enum { result_bytes_max = 1 << 20, folder_arena_bytes = 96 << 20 };

const struct run_kind *run_kind_of(const struct job *job)
{
    return strcmp(job->type, job_type_generation) == 0 ? &generation_kind : &training_kind;
}

/* The folder. */

char *run_folder(struct arena *arena, const struct training_settings *settings, const char *job_id)
{
    return arena_printf(arena, "%s/%s", settings->jobs_dir, job_id);
}

struct error run_place_folder(const struct run_filling *filling)
{
    struct arena arena;
    arena_init(&arena, folder_arena_bytes);
    const char *dir = run_folder(&arena, filling->settings, filling->job->id);
    const char *making = arena_printf(&arena, "%s.new", dir);
    struct error error = fs_remove_tree(making);
    if (!error.code)
        error = fs_make_dirs(making);
    if (!error.code)
        error = filling->fill(filling, &arena, making);
    if (!error.code && rename(making, dir) != 0)
        error = error_errno("cannot place the job folder");
    if (!error.code)
        error = fs_sync_dir(filling->settings->jobs_dir);
    if (error.code) {
        const struct error leftover = fs_remove_tree(making);
        (void)leftover; /* the next attempt removes it first */
    }
    arena_finish(&arena);
    return error;
}

/* The job's row. */

/* A status never goes back: a runner that is started again prepares again. */
static int status_rank(const char *status)
{
    static const char *const order[] = {"pending", "queued", "warming-up", "in-progress", "finalizing"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(order[i], status))
            return i;
    return 5;
}

static struct run_work work_on(struct arena *arena, const struct job *job)
{
    return (struct run_work){.arena = arena, .job_id = job->id, .now_ms = clock_now_ms(), .kind = run_kind_of(job)};
}

static struct error apply_work(struct db_tx *tx, void *context)
{
    const struct run_work *work = context;
    const struct run_batch *batch = work->batch;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    job.event_offset = batch->offset;
    if (batch->progress > job.progress)
        job.progress = batch->progress;
    const char *status = batch->status;
    if (!status && batch->progress >= 0)
        status = "in-progress";
    if (!status || status_rank(status) < status_rank(job.status))
        status = job.status;
    if (batch->file_count)
        TRY(work->kind->take(tx, work, &job));
    TRY(job_update(tx, work->arena, &job, status, work->now_ms));
    return work->kind->progress ? work->kind->progress(tx, work, &job) : OK;
}

struct error run_apply(const struct domain *domain, struct arena *arena, const struct job *job,
                       const struct run_batch *batch)
{
    struct run_work work = work_on(arena, job);
    work.batch = batch;
    return db_write(domain->db, apply_work, &work);
}

static struct error begin_work(struct db_tx *tx, void *context)
{
    const struct run_work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (strcmp(job.status, "queued") != 0 && strcmp(job.status, "pending") != 0)
        return OK;
    job.started_at = work->now_ms;
    TRY(job_update(tx, work->arena, &job, "warming-up", work->now_ms));
    if (work->kind->begin)
        TRY(work->kind->begin(tx, work, &job));
    return job_renumber_queue(tx, work->now_ms);
}

struct error run_begin(const struct domain *domain, struct arena *arena, const struct job *job)
{
    struct run_work work = work_on(arena, job);
    return db_write(domain->db, begin_work, &work);
}

static struct error attempt_work(struct db_tx *tx, void *context)
{
    const char *job_id = context;
    return db_execute(tx, NULL, "UPDATE job SET attempts = attempts + 1 WHERE id = ?1", DB_BIND(db_t(job_id)));
}

struct error run_count_attempt(const struct domain *domain, struct arena *arena, const char *job_id)
{
    return db_write(domain->db, attempt_work, arena_strdup(arena, job_id));
}

/* Ends. */

static struct error fail_work(struct db_tx *tx, void *context)
{
    const struct run_work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    const struct json_change changes[] = {{"error", json_quoted(work->arena, work->text)},
                                          {"hint", json_quoted(work->arena, work->hint)}};
    job.metadata = json_object_with(work->arena, job.metadata, changes, 2);
    TRY(job_update(tx, work->arena, &job, "failure", work->now_ms));
    TRY(job_renumber_queue(tx, work->now_ms));
    return work->kind->end(tx, work, &job, "failure");
}

struct error run_fail(const struct domain *domain, struct arena *arena, const struct job *job, const char *text,
                      const char *hint)
{
    struct run_work work = work_on(arena, job);
    work.text = text;
    work.hint = hint;
    return db_write(domain->db, fail_work, &work);
}

static struct error cancel_work(struct db_tx *tx, void *context)
{
    const struct run_work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    TRY(job_update(tx, work->arena, &job, "canceled", work->now_ms));
    return work->kind->end(tx, work, &job, "canceled");
}

struct error run_cancel(const struct domain *domain, struct arena *arena, const struct job *job)
{
    struct run_work work = work_on(arena, job);
    return db_write(domain->db, cancel_work, &work);
}

static struct error succeed_work(struct db_tx *tx, void *context)
{
    const struct run_work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    const struct json_change change = {"output", work->output};
    job.metadata = json_object_with(work->arena, job.metadata, &change, 1);
    job.progress = 1;
    TRY(job_update(tx, work->arena, &job, "success", work->now_ms));
    return work->kind->end(tx, work, &job, "success");
}

static struct error read_output(struct arena *arena, const char *dir, const char **output)
{
    char *text;
    size_t size;
    const struct json *root;
    TRY(fs_read(arena, arena_printf(arena, "%s/out/result.json", dir), result_bytes_max, &text, &size));
    TRY(json_parse(arena, text, size, &root));
    if (root->kind != JSON_OBJECT)
        return error_make(ERR_INVALID, "result.json is no object");
    *output = text;
    return OK;
}

struct error run_succeed(const struct domain *domain, struct arena *arena, const char *dir, const struct job *job)
{
    struct run_work work = work_on(arena, job);
    if (work.kind->collect)
        TRY(work.kind->collect(domain, arena, dir, job, &work.result));
    TRY(read_output(arena, dir, &work.output));
    return db_write(domain->db, succeed_work, &work);
}

struct error run_tidy(struct arena *arena, const char *dir, const struct job *job)
{
    for (const char *const *part = run_kind_of(job)->leftovers; *part; part++)
        TRY(fs_remove_tree(arena_printf(arena, "%s/%s", dir, *part)));
    return OK;
}

/* Pictures. */

void run_asset_init(struct asset *asset, const struct run_work *work, const struct job *job,
                    const struct run_file *file)
{
    char id[id_size];
    *asset = (struct asset){
        .id = arena_strdup(work->arena, id_make(id, "asset_")),
        .project_id = job->project_id,
        .author_id = job->author_id,
        .sha256 = file->sha256,
        .name = file->name,
        .description = file->prompt,
        .automatic_captioning = "",
        .mime_type = "image/png",
        .type = "inference-txt2img",
        .source = "inference-txt",
        .kind = "image",
        .job_id = job->id,
        .generation = file->generation,
        .size = file->size,
        .width = file->width,
        .height = file->height,
        .created_at = work->now_ms,
        .updated_at = work->now_ms,
    };
}

struct error run_add_asset_id(struct arena *arena, struct job *job, const char *asset_id)
{
    const struct json *metadata;
    const char *list = "";
    TRY(json_parse(arena, job->metadata, strlen(job->metadata), &metadata));
    JSON_EACH (id, json_get(metadata, "assetIds")) {
        list = arena_printf(arena, "%s%s,", list, json_quoted(arena, id->text));
    }
    const struct json_change change = {"assetIds", arena_printf(arena, "[%s\"%s\"]", list, asset_id)};
    job->metadata = json_object_with(arena, job->metadata, &change, 1);
    return OK;
}
