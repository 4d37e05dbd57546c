#include "domain/training_run.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/asset.h"
#include "domain/model_index.h"
#include "domain/training_parameters.h"

enum { result_bytes_max = 1 << 20 };

struct work {
    struct arena *arena;
    const char *job_id;
    int64_t now_ms;
    const struct run_batch *batch;
    const struct run_file *weights;   /* of a success */
    const char *output;               /* of a success, JSON */
    const char *text, *hint;          /* of a failure */
    const struct training_type *type; /* of a success */
};

/* A status never goes back: a trainer that is started again prepares again. */
static int status_rank(const char *status)
{
    static const char *const order[] = {"pending", "queued", "warming-up", "in-progress", "finalizing"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(order[i], status))
            return i;
    return 5;
}

static struct error write_progress(struct db_tx *tx, const struct work *work, const struct job *job)
{
    const char *stage = status_rank(job->status) < 3 ? "starting-train" : "running-train";
    const char *remaining = "";
    if (work->batch && work->batch->remaining_ms >= 0)
        remaining = arena_printf(work->arena, ",\"remainingTimeMs\":%lld", (long long)work->batch->remaining_ms);
    const char *progress =
        arena_printf(work->arena, "{\"stage\":\"%s\",\"progress\":%.4f,\"startedAt\":%lld,\"updatedAt\":%lld%s}", stage,
                     job->progress, (long long)job->started_at, (long long)work->now_ms, remaining);
    return db_execute(tx, NULL, "UPDATE model SET training_progress = ?2 WHERE id = ?1",
                      DB_BIND(db_t(job->model_id), db_t(progress)));
}

static void put_epoch(struct json_writer *writer, const char *epoch, const struct json *old, const char *asset_id)
{
    json_open(writer, NULL, '{');
    json_put_string(writer, "epoch", epoch);
    json_open(writer, "assetIds", '[');
    JSON_EACH (id, json_get(old, "assetIds")) {
        json_put_string(writer, NULL, id->text);
    }
    if (asset_id)
        json_put_string(writer, NULL, asset_id);
    json_close(writer, ']');
    json_close(writer, '}');
}

/* [{"epoch":"000001","assetIds":["asset_..."]}] with one more asset, or one more epoch. */
static const char *extend_epochs(struct arena *arena, const char *epochs, const char *epoch, const char *asset_id)
{
    const struct json *root = NULL;
    struct buf text;
    bool found = false;
    if (epochs && json_parse(arena, epochs, strlen(epochs), &root).code)
        root = NULL;
    buf_init(&text, 4 << 20);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '[');
    JSON_EACH (item, root) {
        const char *name = json_string(item, "epoch", "");
        const bool here = strcmp(name, epoch) == 0;
        put_epoch(&writer, name, item, here ? asset_id : NULL);
        found |= here;
    }
    if (!found)
        put_epoch(&writer, epoch, NULL, asset_id);
    json_close(&writer, ']');
    const char *copy = arena_copy(arena, text.data, text.len);
    buf_finish(&text);
    return copy;
}

/* What the event said, and the kind of model that it was asked of. */
static const char *sample_generation(struct arena *arena, const struct job *job, const struct run_file *file)
{
    const struct json *input;
    if (!file->generation || json_parse(arena, job->input, strlen(job->input), &input).code)
        return file->generation;
    const char *type = json_string(input, "type", NULL);
    const struct json_change change = {"modelType", type ? json_quoted(arena, type) : NULL};
    return json_object_with(arena, file->generation, &change, 1);
}

/* A sample is an inference of its own: one prompt, one seed, one picture. */
static struct error insert_sample(struct db_tx *tx, const struct work *work, const struct job *job,
                                  const struct run_file *file, const char **asset_id)
{
    char id[id_size], inference_id[id_size];
    *asset_id = arena_strdup(work->arena, id_make(id, "asset_"));
    const struct asset asset = {
        .id = *asset_id,
        .project_id = job->project_id,
        .author_id = job->author_id,
        .sha256 = file->sha256,
        .name = arena_printf(work->arena, "%s", file->name),
        .description = file->prompt,
        .automatic_captioning = "",
        .mime_type = "image/png",
        .type = "inference-txt2img",
        .source = "inference-txt",
        .kind = "image",
        .model_id = job->model_id,
        .inference_id = id_make(inference_id, "inf_"),
        .job_id = job->id,
        .generation = sample_generation(work->arena, job, file),
        .size = file->size,
        .width = file->width,
        .height = file->height,
        .created_at = work->now_ms,
        .updated_at = work->now_ms,
    };
    return asset_insert(tx, &asset);
}

static struct error insert_file(struct db_tx *tx, const struct work *work, const struct job *job,
                                const struct run_file *file)
{
    TRY(blob_row_insert(tx, file->sha256, file->size, work->now_ms));
    return db_execute(tx, NULL,
                      "INSERT INTO model_file (model_id, project_id, kind, name, epoch, blob_sha256, size, created_at) "
                      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (model_id, name) DO UPDATE SET "
                      "blob_sha256 = excluded.blob_sha256, size = excluded.size, created_at = excluded.created_at",
                      DB_BIND(db_t(job->model_id), db_t(job->project_id), db_t(file->is_sample ? "sample" : "weights"),
                              db_t(file->name), db_t(file->epoch), db_t(file->sha256), db_i(file->size),
                              db_i(work->now_ms)));
}

static struct error read_epochs(struct db_tx *tx, struct arena *arena, const char *model_id, const char **epochs)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT epochs FROM model WHERE id = ?1", DB_BIND(db_t(model_id))));
    TRY(db_next(rows, &row));
    *epochs = row ? db_text(arena, rows, 0) : NULL;
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

static struct error insert_files(struct db_tx *tx, const struct work *work, struct job *job)
{
    const char *epochs;
    const char *assets = NULL;
    TRY(read_epochs(tx, work->arena, job->model_id, &epochs));
    for (size_t i = 0; i < work->batch->file_count; i++) {
        const struct run_file *file = &work->batch->files[i];
        const char *asset_id = NULL;
        if (file->is_sample) {
            TRY(insert_sample(tx, work, job, file, &asset_id));
            assets = arena_printf(work->arena, "%s%s\"%s\"", assets ? assets : "", assets ? "," : "", asset_id);
        }
        TRY(insert_file(tx, work, job, file));
        epochs = extend_epochs(work->arena, epochs, file->epoch, asset_id);
    }
    if (assets) {
        const struct json *metadata;
        const char *old = "";
        TRY(json_parse(work->arena, job->metadata, strlen(job->metadata), &metadata));
        JSON_EACH (asset, json_get(metadata, "assetIds")) {
            old = arena_printf(work->arena, "%s%s,", old, json_quoted(work->arena, asset->text));
        }
        const struct json_change change = {"assetIds", arena_printf(work->arena, "[%s%s]", old, assets)};
        job->metadata = json_object_with(work->arena, job->metadata, &change, 1);
    }
    return db_execute(tx, NULL, "UPDATE model SET epochs = ?2 WHERE id = ?1",
                      DB_BIND(db_t(job->model_id), db_t(epochs)));
}

static struct error apply_work(struct db_tx *tx, void *context)
{
    const struct work *work = context;
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
        TRY(insert_files(tx, work, &job));
    TRY(job_update(tx, work->arena, &job, status, work->now_ms));
    return write_progress(tx, work, &job);
}

struct error run_apply(const struct domain *domain, struct arena *arena, const char *job_id,
                       const struct run_batch *batch)
{
    struct work work = {.arena = arena, .job_id = job_id, .now_ms = clock_now_ms(), .batch = batch};
    return db_write(domain->db, apply_work, &work);
}

static struct error begin_work(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (strcmp(job.status, "queued") != 0 && strcmp(job.status, "pending") != 0)
        return OK;
    job.started_at = work->now_ms;
    TRY(job_update(tx, work->arena, &job, "warming-up", work->now_ms));
    TRY(db_execute(tx, NULL, "UPDATE model SET epochs = NULL, epoch = NULL, weights_sha256 = NULL WHERE id = ?1",
                   DB_BIND(db_t(job.model_id))));
    TRY(db_execute(tx, NULL, "DELETE FROM model_file WHERE model_id = ?1", DB_BIND(db_t(job.model_id))));
    TRY(write_progress(tx, work, &job));
    return job_renumber_queue(tx, work->now_ms);
}

struct error run_begin(const struct domain *domain, struct arena *arena, const char *job_id)
{
    struct work work = {.arena = arena, .job_id = job_id, .now_ms = clock_now_ms()};
    return db_write(domain->db, begin_work, &work);
}

static struct error attempt_work(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    return db_execute(tx, NULL, "UPDATE job SET attempts = attempts + 1 WHERE id = ?1", DB_BIND(db_t(work->job_id)));
}

struct error run_count_attempt(const struct domain *domain, struct arena *arena, const char *job_id)
{
    struct work work = {.arena = arena, .job_id = job_id};
    return db_write(domain->db, attempt_work, &work);
}

/* Ends. */

static struct error end_model(struct db_tx *tx, const struct work *work, const struct job *job, const char *status)
{
    TRY(db_execute(tx, NULL, "UPDATE model SET status = ?2, training_progress = '{}', updated_at = ?3 WHERE id = ?1",
                   DB_BIND(db_t(job->model_id), db_t(status), db_i(work->now_ms))));
    return model_index_score(tx, job->model_id);
}

static struct error fail_work(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    const struct json_change changes[] = {{"error", json_quoted(work->arena, work->text)},
                                          {"hint", json_quoted(work->arena, work->hint)}};
    job.metadata = json_object_with(work->arena, job.metadata, changes, 2);
    TRY(job_update(tx, work->arena, &job, "failure", work->now_ms));
    TRY(job_renumber_queue(tx, work->now_ms));
    return end_model(tx, work, &job, "failed");
}

struct error run_fail(const struct domain *domain, struct arena *arena, const char *job_id, const char *text,
                      const char *hint)
{
    struct work work = {.arena = arena, .job_id = job_id, .now_ms = clock_now_ms(), .text = text, .hint = hint};
    return db_write(domain->db, fail_work, &work);
}

static struct error cancel_work(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    TRY(job_update(tx, work->arena, &job, "canceled", work->now_ms));
    return end_model(tx, work, &job, "training-canceled");
}

struct error run_cancel(const struct domain *domain, struct arena *arena, const char *job_id)
{
    struct work work = {.arena = arena, .job_id = job_id, .now_ms = clock_now_ms()};
    return db_write(domain->db, cancel_work, &work);
}

static const char *training_stats(const struct work *work, const struct job *job)
{
    char began[clock_iso_size], ended[clock_iso_size];
    return arena_printf(
        work->arena, "{\"startedAt\":\"%s\",\"endedAt\":\"%s\",\"queueDuration\":%.3f,\"trainDuration\":%.3f}",
        clock_format_iso(began, job->started_at), clock_format_iso(ended, work->now_ms),
        (double)(job->started_at - job->queued_at) / 1000, (double)(work->now_ms - job->started_at) / 1000);
}

static struct error succeed_work(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct job job;
    TRY(job_find(tx, work->arena, work->job_id, &job));
    if (job_status_is_final(job.status))
        return OK;
    const struct json_change change = {"output", work->output};
    job.metadata = json_object_with(work->arena, job.metadata, &change, 1);
    job.progress = 1;
    TRY(insert_file(tx, work, &job, work->weights));
    TRY(job_update(tx, work->arena, &job, "success", work->now_ms));
    const char *concepts = NULL;
    if (work->type->is_concept)
        concepts = arena_printf(work->arena, "[{\"modelId\":\"%s\",\"scale\":0.8}]", job.model_id);
    TRY(db_execute(tx, NULL,
                   "UPDATE model SET weights_sha256 = ?2, capabilities = ?3, concepts = ?4, training_stats = ?5 "
                   "WHERE id = ?1",
                   DB_BIND(db_t(job.model_id), db_t(work->weights->sha256), db_t(work->type->capabilities),
                           db_t(concepts), db_t(training_stats(work, &job)))));
    return end_model(tx, work, &job, "trained");
}

struct error run_compose(struct db_tx *tx, struct arena *arena, struct job *job, const struct training_type *type,
                         int64_t now_ms)
{
    const struct work work = {.arena = arena, .job_id = job->id, .now_ms = now_ms, .type = type};
    job->progress = 1;
    job->started_at = now_ms;
    TRY(job_update(tx, arena, job, "success", now_ms));
    TRY(db_execute(tx, NULL, "UPDATE model SET capabilities = ?2, training_stats = ?3 WHERE id = ?1",
                   DB_BIND(db_t(job->model_id), db_t(type->capabilities), db_t(training_stats(&work, job)))));
    return end_model(tx, &work, job, "trained");
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
    struct run_file weights = {.epoch = "", .name = "model.safetensors"};
    struct work work = {.arena = arena, .job_id = job->id, .now_ms = clock_now_ms(), .weights = &weights};
    const struct json *input;
    CLEANUP_FD int fd = open(arena_printf(arena, "%s/out/model.safetensors", dir), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_make(ERR_CORRUPT, "the trainer ended well but left no weights");
    TRY(read_output(arena, dir, &work.output));
    TRY(json_parse(arena, job->input, strlen(job->input), &input));
    work.type = training_type_find(json_string(input, "type", ""));
    if (!work.type)
        return error_make(ERR_CORRUPT, "the job names no model type");
    TRY(blob_put_fd(domain->blobs, fd, weights.sha256, &weights.size));
    return db_write(domain->db, succeed_work, &work);
}

struct error run_tidy(struct arena *arena, const char *dir)
{
    static const char *const parts[] = {"state", "dataset", "out/epochs", "out/samples"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        TRY(fs_remove_tree(arena_printf(arena, "%s/%s", dir, parts[i])));
    unlink(arena_printf(arena, "%s/out/model.safetensors", dir));
    return OK;
}
