#include "domain/training_run.h"

#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "blob/blob.h"
#include "domain/asset.h"
#include "domain/model_index.h"

static struct error write_progress(struct db_tx *tx, const struct run_work *work, const struct job *job)
{
    const bool warms_up = strcmp(job->status, "warming-up") == 0;
    const char *stage = warms_up ? "starting-train" : "running-train";
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
static struct error insert_sample(struct db_tx *tx, const struct run_work *work, const struct job *job,
                                  const struct run_file *file, const char **asset_id)
{
    char inference_id[id_size];
    struct asset asset;
    run_asset_init(&asset, work, job, file);
    asset.model_id = job->model_id;
    asset.inference_id = id_make(inference_id, "inf_");
    asset.generation = sample_generation(work->arena, job, file);
    *asset_id = asset.id;
    return asset_insert(tx, &asset);
}

static struct error insert_file(struct db_tx *tx, const struct run_work *work, const struct job *job,
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

static struct error training_take(struct db_tx *tx, const struct run_work *work, struct job *job)
{
    const char *epochs;
    TRY(read_epochs(tx, work->arena, job->model_id, &epochs));
    for (size_t i = 0; i < work->batch->file_count; i++) {
        const struct run_file *file = &work->batch->files[i];
        const char *asset_id = NULL;
        if (file->is_sample) {
            TRY(insert_sample(tx, work, job, file, &asset_id));
            TRY(run_add_asset_id(work->arena, job, asset_id));
        }
        TRY(insert_file(tx, work, job, file));
        epochs = extend_epochs(work->arena, epochs, file->epoch, asset_id);
    }
    return db_execute(tx, NULL, "UPDATE model SET epochs = ?2 WHERE id = ?1",
                      DB_BIND(db_t(job->model_id), db_t(epochs)));
}

/* What an earlier training of the model left is forgotten. */
static struct error training_begin(struct db_tx *tx, const struct run_work *work, struct job *job)
{
    TRY(db_execute(tx, NULL, "UPDATE model SET epochs = NULL, epoch = NULL, weights_sha256 = NULL WHERE id = ?1",
                   DB_BIND(db_t(job->model_id))));
    TRY(db_execute(tx, NULL, "DELETE FROM model_file WHERE model_id = ?1", DB_BIND(db_t(job->model_id))));
    return write_progress(tx, work, job);
}

/* Ends. */

static struct error end_model(struct db_tx *tx, const struct run_work *work, const struct job *job, const char *status)
{
    TRY(db_execute(tx, NULL, "UPDATE model SET status = ?2, training_progress = '{}', updated_at = ?3 WHERE id = ?1",
                   DB_BIND(db_t(job->model_id), db_t(status), db_i(work->now_ms))));
    return model_index_score(tx, job->model_id);
}

static const char *training_stats(const struct run_work *work, const struct job *job)
{
    char began[clock_iso_size], ended[clock_iso_size];
    return arena_printf(
        work->arena, "{\"startedAt\":\"%s\",\"endedAt\":\"%s\",\"queueDuration\":%.3f,\"trainDuration\":%.3f}",
        clock_format_iso(began, job->started_at), clock_format_iso(ended, work->now_ms),
        (double)(job->started_at - job->queued_at) / 1000, (double)(work->now_ms - job->started_at) / 1000);
}

/* What a success leaves. */
struct training_result {
    const struct training_type *type;
    struct run_file weights;
};

static struct error training_collect(const struct domain *domain, struct arena *arena, const char *dir,
                                     const struct job *job, const void **collected)
{
    struct training_result *result = ARENA_NEW(arena, struct training_result);
    const struct json *input;
    CLEANUP_FD int fd = open(arena_printf(arena, "%s/out/model.safetensors", dir), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_make(ERR_CORRUPT, "the trainer ended well but left no weights");
    TRY(json_parse(arena, job->input, strlen(job->input), &input));
    result->type = training_type_find(json_string(input, "type", ""));
    if (!result->type)
        return error_make(ERR_CORRUPT, "the job names no model type");
    result->weights = (struct run_file){.epoch = "", .name = "model.safetensors"};
    *collected = result;
    return blob_put_fd(domain->blobs, fd, result->weights.sha256, &result->weights.size);
}

static struct error store_result(struct db_tx *tx, const struct run_work *work, const struct job *job)
{
    const struct training_result *result = work->result;
    const char *concepts = NULL;
    TRY(insert_file(tx, work, job, &result->weights));
    if (result->type->is_concept)
        concepts = arena_printf(work->arena, "[{\"modelId\":\"%s\",\"scale\":0.8}]", job->model_id);
    return db_execute(tx, NULL,
                      "UPDATE model SET weights_sha256 = ?2, capabilities = ?3, concepts = ?4, training_stats = ?5 "
                      "WHERE id = ?1",
                      DB_BIND(db_t(job->model_id), db_t(result->weights.sha256), db_t(result->type->capabilities),
                              db_t(concepts), db_t(training_stats(work, job))));
}

static struct error training_end(struct db_tx *tx, const struct run_work *work, struct job *job, const char *status)
{
    if (strcmp(status, "failure") == 0)
        return end_model(tx, work, job, "failed");
    if (strcmp(status, "canceled") == 0)
        return end_model(tx, work, job, "training-canceled");
    TRY(store_result(tx, work, job));
    return end_model(tx, work, job, "trained");
}

struct error training_compose(struct db_tx *tx, struct arena *arena, struct job *job, const struct training_type *type,
                              int64_t now_ms)
{
    const struct run_work work = {.arena = arena, .job_id = job->id, .now_ms = now_ms};
    job->progress = 1;
    job->started_at = now_ms;
    TRY(job_update(tx, arena, job, "success", now_ms));
    TRY(db_execute(tx, NULL, "UPDATE model SET capabilities = ?2, training_stats = ?3 WHERE id = ?1",
                   DB_BIND(db_t(job->model_id), db_t(type->capabilities), db_t(training_stats(&work, job)))));
    return end_model(tx, &work, job, "trained");
}

static const char *const leftovers[] = {
    "state", "dataset", "class", "out/epochs", "out/samples", "out/model.safetensors", NULL,
};

const struct run_kind training_kind = {
    .noun = "training",
    .runner = "trainer",
    .input_hint = "Replace or delete the training image and start the training again.",
    .death_hint = "Read trainer.log in the job folder. A trainer that is killed often needs more memory: lower "
                  "batchSize or rank, or run fewer trainings at a time.",
    .leftovers = leftovers,
    .prepare = training_prepare,
    .begin = training_begin,
    .take = training_take,
    .progress = write_progress,
    .collect = training_collect,
    .end = training_end,
};
