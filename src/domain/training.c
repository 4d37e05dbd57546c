#include "domain/training.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "domain/composition.h"
#include "domain/dataset.h"
#include "domain/training_run.h"

enum { retry_queue_s = 60 };

struct error training_base(const struct training_settings *settings, const struct training_type *type,
                           const char **base)
{
    *base = type->family == FAMILY_SDXL ? settings->base_sdxl : settings->base_sd15;
    if (!*base)
        return error_make(ERR_INVALID, "No base model is configured for type %s: start the server with --base DIR",
                          type->model_type);
    return OK;
}

/* Everything that must hold before a training starts, found out in one snapshot. */
struct plan {
    const struct training_type *type;
    struct training_data data;
    const char *parameters; /* resolved, JSON */
    const char *base;       /* directory; NULL for a composition */
};

static struct error count_pairs(struct db_tx *tx, const char *model_id, int64_t *count)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT COUNT(*) FROM training_pair WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    TRY(db_next(rows, &row));
    *count = row ? db_int(rows, 0) : 0;
    return OK;
}

static struct error count_data(struct db_tx *tx, struct arena *arena, const struct model *model,
                               struct training_data *data)
{
    const struct json *concepts = NULL;
    data->images = model->training_image_count;
    if (model->concepts)
        TRY(json_parse(arena, model->concepts, strlen(model->concepts), &concepts));
    data->concepts = concepts ? (int64_t)concepts->count : 0;
    data->has_class = model->class_slug != NULL;
    return count_pairs(tx, model->id, &data->pairs);
}

/* What the model stored for its next training, under what this request says. */
static const struct json *merge(struct arena *arena, const char *stored, const struct json *asked)
{
    struct json_change changes[64];
    size_t count = 0;
    JSON_EACH (member, asked) {
        struct buf text;
        if (count == sizeof changes / sizeof *changes || member->kind == JSON_NULL)
            continue;
        buf_init(&text, 1 << 20);
        json_put_tree(&(struct json_writer){.out = &text}, NULL, member);
        changes[count++] = (struct json_change){member->key, arena_copy(arena, text.data, text.len)};
        buf_finish(&text);
    }
    const char *merged = json_object_with(arena, stored, changes, count);
    const struct json *root;
    return json_parse(arena, merged, strlen(merged), &root).code ? asked : root;
}

static struct error check_sources(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                  const char *parameters)
{
    const struct json *root;
    size_t index = 0;
    TRY(json_parse(arena, parameters, strlen(parameters), &root));
    JSON_EACH (id, json_get(root, "sampleSourceImages")) {
        struct asset asset;
        const struct error error = asset_find_readable(tx, arena, caller, id->text, &asset);
        if (error.code == ERR_NOT_FOUND)
            return error_field(arena_printf(arena, "parameters.sampleSourceImages[%zu]", index),
                               "must be the id of an asset");
        TRY(error);
        index++;
    }
    return OK;
}

static struct error find_base(const struct training_settings *settings, const struct training_type *type,
                              const char **base)
{
    if (!type->embedded)
        return error_make(ERR_INVALID,
                          "No trainer is configured for models of type %s: the embedded engine trains sd-1_5-lora and "
                          "sd-xl-lora, create the model with one of these",
                          type->model_type);
    return training_base(settings, type, base);
}

/* A model may carry parameters for its next training. Those of the last one are not asked for again, except by a copy
 * that was never trained itself. */
static struct error make_plan(struct db_tx *tx, const struct training_settings *settings, struct arena *arena,
                              const struct caller *caller, const struct model *model, const struct json *asked,
                              int64_t images_count, struct plan *plan)
{
    *plan = (struct plan){.type = training_type_find(model->type), .parameters = "{}"};
    if (!plan->type)
        return error_make(ERR_INVALID, "Models of type %.64s cannot be trained", model->type);
    TRY(count_data(tx, arena, model, &plan->data));
    if (images_count >= 0) {
        plan->data.images = images_count;
        plan->data.pairs = images_count / 2;
    }
    const bool is_next = model->parameters_are_next || strcmp(model->status, "new") == 0;
    const char *stored = is_next ? model->parameters : "{}";
    TRY(training_parameters_resolve(arena, plan->type, &plan->data, merge(arena, stored, asked), &plan->parameters));
    TRY(check_sources(tx, arena, caller, plan->parameters));
    if (plan->type->family == FAMILY_COMPOSITION)
        return composition_check(tx, arena, caller, model->id, plan->type, model->concepts);
    return find_base(settings, plan->type, &plan->base);
}

struct error training_quote(const struct domain *domain, const struct training_settings *settings, struct arena *arena,
                            const struct caller *caller, const char *model_id, const struct json *parameters,
                            int64_t images_count, struct training_quote *quote)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct model model;
    struct plan plan;
    *quote = (struct training_quote){0};
    TRY(db_read_begin(domain->db, &tx));
    TRY(model_find_idle(tx, arena, caller, model_id, &model));
    return make_plan(tx, settings, arena, caller, &model, parameters, images_count, &plan);
}

struct launch {
    const struct training_settings *settings;
    struct arena *arena;
    const struct caller *caller;
    const char *model_id;
    const struct json *asked;
    const char *job_id;
    int64_t now_ms;
    struct job *job;
    struct model *model;
    struct plan_refusal *refusal;
};

static void fill_job(const struct launch *launch, const struct plan *plan)
{
    struct arena *arena = launch->arena;
    const struct model *model = launch->model;
    const struct json_change input[] = {
        {"modelId", json_quoted(arena, model->id)},
        {"type", json_quoted(arena, model->type)},
        {"trainingImagesNumber", arena_printf(arena, "%lld", (long long)plan->data.images)},
        {"parameters", plan->parameters},
    };
    const char *shown = json_object_with(arena, "{}", input, sizeof input / sizeof *input);
    const struct json_change base = {"base", plan->base ? json_quoted(arena, plan->base) : NULL};
    *launch->job = (struct job){
        .id = launch->job_id,
        .project_id = model->project_id,
        .author_id = launch->caller->key_id,
        .model_id = model->id,
        .type = plan->type->job_type,
        .status = "queued",
        .metadata = json_object_with(arena, "{}", &(struct json_change){"input", shown}, 1),
        .input = json_object_with(arena, shown, &base, 1),
        .queued_at = launch->now_ms,
        .created_at = launch->now_ms,
        .updated_at = launch->now_ms,
    };
}

/* A training names a model that has no name yet. */
static const char *make_name(const struct launch *launch, const struct plan *plan)
{
    char date[clock_iso_size];
    if (launch->model->name[0])
        return launch->model->name;
    clock_format_iso(date, launch->now_ms);
    return arena_printf(launch->arena, "%.32s %.10s", plan->type->model_type, date);
}

static const char *make_description(const struct launch *launch, const struct plan *plan)
{
    if (launch->model->short_description[0])
        return launch->model->short_description;
    const bool composed = plan->type->family == FAMILY_COMPOSITION;
    const long long count = composed ? plan->data.concepts : plan->data.images;
    return arena_printf(launch->arena, "%s %lld %s%s", composed ? "Composed of" : "Trained on", count,
                        composed ? "model" : "image", count == 1 ? "" : "s");
}

static struct error check_queue(struct db_tx *tx, int64_t *waiting, struct plan_refusal *refusal)
{
    TRY(job_count_queued(tx, waiting));
    if (*waiting < job_queue_max)
        return OK;
    *refusal = (struct plan_refusal){"parallel-training", "server", job_queue_max, *waiting, 0, retry_queue_s};
    return error_make(ERR_PLAN_LIMIT, "%d jobs wait already: try again later", job_queue_max);
}

static struct error queue(struct db_tx *tx, const struct launch *launch, int64_t place)
{
    const char *progress = arena_printf(
        launch->arena, "{\"stage\":\"queued-for-train\",\"progress\":0,\"position\":%lld,\"updatedAt\":%lld}",
        (long long)place, (long long)launch->now_ms);
    return db_execute(
        tx, NULL, "UPDATE model SET status = 'training', training_progress = ?2, training_stats = NULL WHERE id = ?1",
        DB_BIND(db_t(launch->model_id), db_t(progress)));
}

static struct error launch_work(struct db_tx *tx, void *context)
{
    const struct launch *launch = context;
    struct arena *arena = launch->arena;
    struct plan plan = {0};
    int64_t waiting;
    TRY(model_find_idle(tx, arena, launch->caller, launch->model_id, launch->model));
    TRY(make_plan(tx, launch->settings, arena, launch->caller, launch->model, launch->asked, -1, &plan));
    TRY(plan_check_training(tx, launch->caller->team_id, launch->now_ms, launch->refusal));
    TRY(check_queue(tx, &waiting, launch->refusal));
    fill_job(launch, &plan);
    TRY(job_insert(tx, arena, launch->job));
    TRY(job_find(tx, arena, launch->job_id, launch->job));
    TRY(db_execute(tx, NULL,
                   "UPDATE model SET name = ?2, short_description = ?3, parameters = ?4, "
                   "parameters_are_next = 0, updated_at = ?5 WHERE id = ?1",
                   DB_BIND(db_t(launch->model_id), db_t(make_name(launch, &plan)),
                           db_t(make_description(launch, &plan)), db_t(plan.parameters), db_i(launch->now_ms))));
    if (plan.type->family == FAMILY_COMPOSITION)
        TRY(training_compose(tx, arena, launch->job, plan.type, launch->now_ms));
    else
        TRY(queue(tx, launch, waiting + 1));
    return model_find_whole(tx, arena, launch->caller, launch->model_id, launch->model);
}

struct error training_launch(const struct domain *domain, const struct training_settings *settings, struct arena *arena,
                             const struct caller *caller, const char *model_id, const struct json *parameters,
                             struct job *job, struct model *model, struct plan_refusal *refusal)
{
    char id[id_size];
    struct launch launch = {settings,       arena, caller, model_id, parameters, id_make(id, "job_"),
                            clock_now_ms(), job,   model,  refusal};
    return db_write(domain->db, launch_work, &launch);
}

struct cancel {
    struct arena *arena;
    const struct caller *caller;
    const char *model_id;
    int64_t now_ms;
    struct model *model;
};

static struct error find_live_job(struct db_tx *tx, struct arena *arena, const char *model_id, struct job *job)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows,
                 "SELECT id FROM job WHERE model_id = ?1 AND status IN ('pending', 'queued', 'warming-up', "
                 "'in-progress', 'finalizing') AND type <> ?2 ORDER BY created_at DESC LIMIT 1",
                 DB_BIND(db_t(model_id), db_t(job_type_generation))));
    TRY(db_next(rows, &row));
    if (!row)
        return error_make(ERR_INVALID, "Model is not training");
    const char *id = db_text(arena, rows, 0);
    while (row)
        TRY(db_next(rows, &row));
    return job_find(tx, arena, id, job);
}

struct error training_stop(struct db_tx *tx, struct arena *arena, const struct model *model, int64_t now_ms)
{
    struct job job;
    if (!model_is_training(model))
        return error_make(ERR_INVALID, "Model is not training");
    TRY(find_live_job(tx, arena, model->id, &job));
    if (strcmp(job.status, "queued") != 0 && strcmp(job.status, "pending") != 0)
        return db_execute(tx, NULL, "UPDATE job SET cancel_requested = 1 WHERE id = ?1", DB_BIND(db_t(job.id)));
    TRY(job_update(tx, arena, &job, "canceled", now_ms));
    TRY(db_execute(tx, NULL,
                   "UPDATE model SET status = 'training-canceled', training_progress = '{}', updated_at = ?2 "
                   "WHERE id = ?1",
                   DB_BIND(db_t(model->id), db_i(now_ms))));
    return job_renumber_queue(tx, now_ms);
}

static struct error cancel_work(struct db_tx *tx, void *context)
{
    const struct cancel *cancel = context;
    TRY(model_find_owned(tx, cancel->arena, cancel->caller, cancel->model_id, cancel->model));
    TRY(training_stop(tx, cancel->arena, cancel->model, cancel->now_ms));
    return model_find_whole(tx, cancel->arena, cancel->caller, cancel->model_id, cancel->model);
}

struct error training_cancel(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, struct model *model)
{
    struct cancel cancel = {arena, caller, model_id, clock_now_ms(), model};
    return db_write(domain->db, cancel_work, &cancel);
}
