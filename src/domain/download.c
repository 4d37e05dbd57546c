#include "domain/download.h"

#include <string.h>

#include "base/clock.h"
#include "domain/composition.h"
#include "domain/download_parts.h"
#include "domain/model_index.h"
#include "domain/url.h"

enum { files_max = 2048 };

static const char nothing[] = "The model has nothing to download: train it first";

static struct error list_weights(struct db_tx *tx, struct arena *arena, struct download_part *part)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows,
                 "SELECT name, epoch, blob_sha256, size FROM model_file WHERE model_id = ?1 AND kind = 'weights' "
                 "ORDER BY name LIMIT ?2",
                 DB_BIND(db_t(part->model.id), db_i(files_max))));
    part->files = arena_array(arena, files_max, sizeof *part->files);
    for (part->count = 0; part->count < files_max; part->count++) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        part->files[part->count] = (struct weights){db_text(arena, rows, 0), db_text(arena, rows, 1),
                                                    db_text(arena, rows, 2), db_int(rows, 3)};
    }
    return OK;
}

/* The file of an epoch; "" or NULL is the end of the training. */
static const struct weights *find_weights(const struct download_part *part, const char *epoch)
{
    for (size_t i = 0; i < part->count; i++)
        if (strcmp(part->files[i].epoch, epoch ? epoch : "") == 0)
            return &part->files[i];
    return NULL;
}

/* "000001, 000002" */
static const char *list_epochs(struct arena *arena, const struct download_part *part)
{
    const char *list = "";
    for (size_t i = 0; i < part->count && strlen(list) < 512; i++)
        if (part->files[i].epoch[0])
            list = arena_printf(arena, "%s%s%s", list, *list ? ", " : "", part->files[i].epoch);
    return list;
}

static struct error choose(struct db_tx *tx, struct arena *arena, const char *epoch, struct download_part *part)
{
    TRY(list_weights(tx, arena, part));
    part->chosen = find_weights(part, epoch);
    if (part->chosen)
        return OK;
    const char *epochs = list_epochs(arena, part);
    if (epoch && *epochs)
        return error_field("modelEpoch", "must be one of %s: the model has no %.64s", epochs, epoch);
    if (epoch)
        return error_field("modelEpoch", "is only for models with epochs: this one has no %.64s", epoch);
    if (*epochs)
        return error_make(ERR_INVALID, "The model has epochs only so far: wait for its training, or name one of %s",
                          epochs);
    return error_make(ERR_INVALID, "%s", nothing);
}

static struct error find_composition(struct db_tx *tx, struct arena *arena, struct download_contents *contents)
{
    struct composition_part *found;
    TRY(composition_parts(tx, arena, contents->model.concepts, &found, &contents->part_count));
    contents->parts = arena_array(arena, contents->part_count + 1, sizeof *contents->parts);
    for (size_t i = 0; i < contents->part_count; i++) {
        struct download_part *part = &contents->parts[i];
        *part = (struct download_part){.model = found[i].model, .scale = found[i].scale};
        if (strcmp(part->model.project_id, contents->model.project_id) != 0)
            return error_make(ERR_FORBIDDEN, "Model %s is another project's: its weights cannot be taken along",
                              part->model.id);
        const struct error error = choose(tx, arena, found[i].epoch, part);
        if (error.code == ERR_INVALID)
            return error_make(ERR_INVALID, "Concept %s cannot be taken along: %s", part->model.id, error.text);
        TRY(error);
    }
    return OK;
}

struct error download_find_parts(struct db_tx *tx, struct arena *arena, const char *epoch,
                                 struct download_contents *contents)
{
    const struct training_type *type = training_type_find(contents->model.type);
    contents->is_composition = type && type->family == FAMILY_COMPOSITION;
    if (!contents->is_composition) {
        contents->parts = ARENA_NEW(arena, struct download_part);
        contents->part_count = 1;
        contents->parts->model = contents->model;
        return choose(tx, arena, epoch, contents->parts);
    }
    if (epoch)
        return error_field("modelEpoch", "is not for compositions: their concepts have a modelEpoch each");
    if (strcmp(contents->format, "zip") != 0)
        return error_field("format", "must be zip for a composition, which has several files");
    if (strcmp(contents->model.status, "trained") != 0)
        return error_make(ERR_INVALID, "%s", nothing);
    return find_composition(tx, arena, contents);
}

struct creation {
    const struct domain *domain;
    struct arena *arena;
    const struct caller *caller;
    const char *model_id, *epoch, *format, *job_id;
    int64_t now_ms;
    struct job *job;
};

static const char *make_metadata(const struct creation *creation, const char *epoch)
{
    struct arena *arena = creation->arena;
    const struct json_change input[] = {{"modelId", json_quoted(arena, creation->model_id)},
                                        {"modelEpoch", epoch ? json_quoted(arena, epoch) : NULL},
                                        {"format", json_quoted(arena, creation->format)}};
    const struct json_change metadata = {"input", json_object_with(arena, "{}", input, 3)};
    return json_object_with(arena, "{}", &metadata, 1);
}

const char *download_output(const struct domain *domain, struct arena *arena, const struct job *job, int64_t now_ms)
{
    if (strcmp(job->type, "model-download") != 0 || strcmp(job->status, "success") != 0)
        return NULL;
    const char *url = url_sign(domain, arena, "downloads", job->id, now_ms);
    const struct json_change output = {"downloadUrl", json_quoted(arena, url)};
    return json_object_with(arena, "{}", &output, 1);
}

static struct error create_work(struct db_tx *tx, void *context)
{
    const struct creation *creation = context;
    struct arena *arena = creation->arena;
    struct download_contents contents = {.format = creation->format};
    TRY(model_find_owned(tx, arena, creation->caller, creation->model_id, &contents.model));
    const struct model model = contents.model;
    const char *epoch = creation->epoch && creation->epoch[0] ? creation->epoch : model.epoch;
    TRY(download_find_parts(tx, arena, epoch, &contents));
    struct job job = {
        .id = creation->job_id,
        .project_id = model.project_id,
        .author_id = creation->caller->key_id,
        .model_id = model.id,
        .type = "model-download",
        .status = "queued",
        .metadata = make_metadata(creation, epoch),
        .input = "{}",
        .queued_at = creation->now_ms,
        .started_at = creation->now_ms,
        .created_at = creation->now_ms,
    };
    TRY(db_execute(tx, NULL, "UPDATE model SET download_count = download_count + 1 WHERE id = ?1",
                   DB_BIND(db_t(model.id))));
    TRY(model_index_score(tx, model.id));
    TRY(job_insert(tx, arena, &job));
    TRY(job_find(tx, arena, job.id, creation->job));
    creation->job->progress = 1;
    return job_update(tx, arena, creation->job, "success", creation->now_ms);
}

struct error download_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *epoch, const char *format, struct job *job)
{
    char id[id_size];
    struct creation creation = {domain,         arena, caller, model_id, epoch, format, id_make(id, "job_"),
                                clock_now_ms(), job};
    return db_write(domain->db, create_work, &creation);
}
