#include "domain/model.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "domain/access.h"
#include "domain/composition.h"
#include "domain/dataset.h"
#include "domain/model_index.h"
#include "domain/training_pair.h"
#include "domain/training_parameters.h"

static struct error read_preview(struct arena *arena, const char *text, struct model *model)
{
    const struct json *preview;
    if (!strcmp(text, "[]"))
        return OK;
    TRY(json_parse(arena, text, strlen(text), &preview));
    model->images = arena_array(arena, preview->count + 1, sizeof *model->images);
    JSON_EACH (image, preview) {
        model->images[model->image_count++] = (struct training_image){
            .id = json_string(image, "id", ""),
            .name = json_string(image, "name", ""),
            .description = json_string(image, "description", ""),
            .automatic_captioning = json_string(image, "automaticCaptioning", ""),
            .created_at = json_int(image, "createdAt", 0),
        };
    }
    return OK;
}

struct error model_read(struct arena *arena, struct db_rows *rows, struct model *model)
{
    int column = 0;
    *model = (struct model){0};
    const char **const texts[] = {&model->id,
                                  &model->project_id,
                                  &model->author_id,
                                  &model->name,
                                  &model->short_description,
                                  &model->type,
                                  &model->status,
                                  &model->privacy,
                                  &model->source,
                                  &model->base_model_id,
                                  &model->class_slug,
                                  &model->parent_model_id,
                                  &model->epoch,
                                  &model->prompt_embedding,
                                  &model->negative_prompt_embedding,
                                  &model->thumbnail_asset_id,
                                  &model->capabilities,
                                  &model->tags,
                                  &model->collection_ids,
                                  &model->example_asset_ids,
                                  &model->concepts,
                                  &model->parameters,
                                  &model->training_progress,
                                  &model->training_stats,
                                  &model->epochs};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        *texts[i] = db_text(arena, rows, column++);
    model->training_image_count = db_int(rows, column++);
    const char *preview = db_text(arena, rows, column++), *pairs = db_text(arena, rows, column++);
    model->parameters_are_next = db_int(rows, column++) != 0;
    model->created_at = db_int(rows, column++);
    model->updated_at = db_int(rows, column++);
    model->deleted_at = db_int(rows, column);
    TRY(training_pairs_read(arena, pairs, &model->pairs, &model->pair_count));
    return read_preview(arena, preview, model);
}

struct error model_read_data(struct db_tx *tx, struct arena *arena, struct model *model)
{
    if (model->pair_count == model_preview_images)
        TRY(training_pairs_list(tx, arena, model->id, training_pairs_max, &model->pairs, &model->pair_count));
    if (model->training_image_count <= model_preview_images)
        return OK;
    return dataset_list(tx, arena, model->id, &model->images, &model->image_count);
}

struct error model_find(struct db_tx *tx, struct arena *arena, const char *id, struct model *model)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT " MODEL_COLUMNS " FROM model WHERE id = ?1 AND deleted_at = 0", DB_BIND(db_t(id))));
    TRY(db_next(rows, &row));
    if (!row)
        return error_make(ERR_NOT_FOUND, "Model %.64s not found", id);
    TRY(model_read(arena, rows, model));
    return db_next(rows, &row); /* ends the rows, so that the statement serves the next look-up */
}

static struct error find_for(enum access_action action, struct db_tx *tx, struct arena *arena,
                             const struct caller *caller, const char *id, struct model *model)
{
    TRY(model_find(tx, arena, id, model));
    struct access_thing thing = {model->project_id, model->privacy, model->deleted_at != 0};
    return access_check(caller, action, &thing, "Model", id);
}

struct error model_find_readable(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                                 struct model *model)
{
    return find_for(ACCESS_READ, tx, arena, caller, id, model);
}

struct error model_find_owned(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                              struct model *model)
{
    return find_for(ACCESS_CHANGE, tx, arena, caller, id, model);
}

bool model_is_training(const struct model *model)
{
    return !strcmp(model->status, "training");
}

struct error model_find_idle(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                             struct model *model)
{
    TRY(model_find_owned(tx, arena, caller, id, model));
    if (model_is_training(model))
        return error_make(ERR_INVALID, "Model is already training");
    return OK;
}

struct error model_find_whole(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                              struct model *model)
{
    TRY(model_find_readable(tx, arena, caller, id, model));
    return model_read_data(tx, arena, model);
}

struct error model_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                       struct model *model)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(domain->db, &tx));
    return model_find_whole(tx, arena, caller, id, model);
}

/* Creation. */

/* As live rows carry them. */
static const char *capabilities_of(const char *type)
{
    const struct training_type *known = training_type_find(type);
    return known ? known->capabilities : "[]";
}

struct insert_work {
    struct arena *arena;
    const struct caller *caller;
    const struct model *model;
};

static struct error insert_model(struct db_tx *tx, void *context)
{
    const struct insert_work *work = context;
    const struct model *model = work->model;
    if (model->concepts)
        TRY(composition_check(tx, work->arena, work->caller, NULL, training_type_find(model->type), model->concepts));
    const int64_t score = model_score(&(struct model_worth){.created_at = model->created_at});
    TRY(db_execute(tx, NULL,
                   "INSERT INTO model (id, project_id, author_id, name, short_description, type, status, "
                   "base_model_id, class_slug, capabilities, collection_ids, concepts, created_at, updated_at, "
                   "score) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                   DB_BIND(db_t(model->id), db_t(model->project_id), db_t(model->author_id), db_t(model->name),
                           db_t(model->short_description), db_t(model->type), db_t(model->status),
                           db_t(model->base_model_id), db_t(model->class_slug), db_t(model->capabilities),
                           db_t(model->collection_ids), db_t(model->concepts), db_i(model->created_at),
                           db_i(model->updated_at), db_i(score))));
    return strcmp(model->collection_ids, "[]") ? model_index_labels(tx, work->arena, model->id) : OK;
}

struct error model_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const struct model_new *values, struct model *model)
{
    char id[id_size];
    int64_t now_ms = clock_now_ms();
    const char *type = values->type ? values->type : "flux.1-lora";
    if (training_type_find(type)->family == FAMILY_COMPOSITION && !values->concepts)
        return error_field("concepts", "is required for models of type %s", type);
    *model = (struct model){
        .id = arena_strdup(arena, id_make(id, "model_")),
        .project_id = caller->project_id,
        .author_id = caller->key_id,
        .name = values->name ? values->name : "",
        .short_description = values->short_description ? values->short_description : "",
        .type = type,
        .status = "new",
        .privacy = "private",
        .source = "scenario",
        .base_model_id = values->base_model_id,
        .class_slug = values->class_slug,
        .capabilities = capabilities_of(type),
        .tags = "[]",
        .collection_ids = values->collection_ids ? values->collection_ids : "[]",
        .example_asset_ids = "[]",
        .concepts = values->concepts,
        .parameters = "{}",
        .training_progress = "{}",
        .created_at = now_ms,
        .updated_at = now_ms,
    };
    return db_write(domain->db, insert_model, &(struct insert_work){arena, caller, model});
}

/* Changes. */

struct update_work {
    struct arena *arena;
    const struct caller *caller;
    const char *id;
    const struct model_change *change;
    struct model *model;
};

bool model_has_epoch(struct arena *arena, const struct model *model, const char *epoch)
{
    const struct json *epochs;
    if (!model->epochs || json_parse(arena, model->epochs, strlen(model->epochs), &epochs).code)
        return false;
    JSON_EACH (item, epochs) {
        if (!strcmp(json_string(item, "epoch", ""), epoch))
            return true;
    }
    return false;
}

/* Concepts and parameters follow rules of the type that the model will have. */
static struct error check_by_type(struct db_tx *tx, const struct update_work *work)
{
    const struct model_change *change = work->change;
    const struct model *model = work->model;
    const struct training_type *type = training_type_find(change->set & MODEL_SET_TYPE ? change->type : model->type);
    const char *concepts = change->set & MODEL_SET_CONCEPTS ? change->concepts : model->concepts;
    const struct json *parameters;
    if (!type)
        return OK;
    if (change->set & MODEL_SET_CONCEPTS && !concepts && type->family == FAMILY_COMPOSITION)
        return error_field("concepts", "must have at least 1 item");
    if (change->set & (MODEL_SET_CONCEPTS | MODEL_SET_TYPE) && concepts)
        TRY(composition_check(tx, work->arena, work->caller, model->id, type, concepts));
    if (!(change->set & MODEL_SET_PARAMETERS) || !change->parameters)
        return OK;
    TRY(json_parse(work->arena, change->parameters, strlen(change->parameters), &parameters));
    return training_parameters_check(type, parameters);
}

static struct error check_change(struct db_tx *tx, const struct update_work *work)
{
    const struct model_change *change = work->change;
    const struct model *model = work->model;
    struct asset thumbnail;
    if (change->set & MODEL_SET_TYPE && strcmp(change->type, model->type) && strcmp(model->status, "new"))
        return error_field("type", "can only be changed while the model's status is new");
    if (change->set & MODEL_SET_EPOCH && change->epoch &&
        (strcmp(model->status, "trained") || !model_has_epoch(work->arena, model, change->epoch)))
        return error_field("epoch", "must be one of the epochs of a trained model");
    if (change->set & MODEL_SET_PARAMETERS && model_is_training(model))
        return error_make(ERR_INVALID, "Model is already training");
    TRY(check_by_type(tx, work));
    if (change->set & MODEL_SET_THUMBNAIL && change->thumbnail_asset_id)
        return asset_find_owned(tx, work->arena, work->caller, change->thumbnail_asset_id, &thumbnail);
    return OK;
}

static const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

static void apply_change(const struct model_change *change, struct model *model)
{
    if (change->set & MODEL_SET_NAME)
        model->name = text_or_empty(change->name);
    if (change->set & MODEL_SET_SHORT_DESCRIPTION)
        model->short_description = text_or_empty(change->short_description);
    if (change->set & MODEL_SET_TYPE) {
        model->type = change->type;
        model->capabilities = capabilities_of(change->type);
    }
    if (change->set & MODEL_SET_CLASS_SLUG)
        model->class_slug = change->class_slug;
    if (change->set & MODEL_SET_CONCEPTS)
        model->concepts = change->concepts;
    if (change->set & MODEL_SET_EPOCH)
        model->epoch = change->epoch;
    if (change->set & MODEL_SET_PROMPT_EMBEDDING)
        model->prompt_embedding = change->prompt_embedding;
    if (change->set & MODEL_SET_NEGATIVE_PROMPT_EMBEDDING)
        model->negative_prompt_embedding = change->negative_prompt_embedding;
    if (change->set & MODEL_SET_PARAMETERS) {
        model->parameters = change->parameters ? change->parameters : "{}";
        model->parameters_are_next = true;
    }
    if (change->set & MODEL_SET_THUMBNAIL)
        model->thumbnail_asset_id = change->thumbnail_asset_id;
    if (change->set & MODEL_SET_PRIVACY)
        model->privacy = change->privacy;
}

static struct error update_model(struct db_tx *tx, void *context)
{
    struct update_work *work = context;
    struct model *model = work->model;
    TRY(model_find_owned(tx, work->arena, work->caller, work->id, model));
    TRY(check_change(tx, work));
    apply_change(work->change, model);
    model->updated_at = clock_now_ms();
    TRY(db_execute(tx, NULL,
                   "UPDATE model SET name = ?2, short_description = ?3, type = ?4, class_slug = ?5, concepts = ?6, "
                   "epoch = ?7, prompt_embedding = ?8, negative_prompt_embedding = ?9, parameters = ?10, "
                   "thumbnail_asset_id = ?11, privacy = ?12, capabilities = ?13, updated_at = ?14, "
                   "parameters_are_next = ?15 WHERE id = ?1",
                   DB_BIND(db_t(model->id), db_t(model->name), db_t(model->short_description), db_t(model->type),
                           db_t(model->class_slug), db_t(model->concepts), db_t(model->epoch),
                           db_t(model->prompt_embedding), db_t(model->negative_prompt_embedding),
                           db_t(model->parameters), db_t(model->thumbnail_asset_id), db_t(model->privacy),
                           db_t(model->capabilities), db_i(model->updated_at), db_i(model->parameters_are_next))));
    TRY(model_index_score(tx, model->id));
    if (work->change->set & (MODEL_SET_THUMBNAIL | MODEL_SET_PRIVACY))
        TRY(model_index_shown(tx, model->id));
    return model_read_data(tx, work->arena, model);
}

struct error model_update(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                          const struct model_change *change, struct model *model)
{
    return db_write(domain->db, update_model, &(struct update_work){arena, caller, id, change, model});
}
