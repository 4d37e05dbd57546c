#include "domain/model_copy.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "domain/access.h"
#include "domain/asset_copy.h"
#include "domain/dataset.h"
#include "domain/description.h"
#include "domain/example.h"
#include "domain/model_index.h"
#include "domain/tag.h"
#include "domain/training_pair.h"
#include "domain/training_record.h"

/* Assets. */

static struct error read_asset(struct db_tx *tx, struct arena *arena, const char *id, struct asset *asset, bool *found)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT " ASSET_COLUMNS " FROM asset a WHERE a.id = ?1 AND a.deleted_at = 0",
                 DB_BIND(db_t(id))));
    TRY(db_next(rows, found));
    if (*found)
        asset_read(arena, rows, 0, asset);
    for (bool row = *found; row;)
        TRY(db_next(rows, &row));
    return OK;
}

struct error asset_clone(struct db_tx *tx, struct asset_cloning *cloning, const char *id)
{
    struct arena *arena = cloning->map.arena;
    struct asset asset;
    bool found;
    if (asset_map_find(&cloning->map, id))
        return OK;
    TRY(read_asset(tx, arena, id, &asset, &found));
    if (!found) {
        asset_map_put(&cloning->map, id, NULL);
        return OK;
    }
    if (asset.model_id && !strcmp(asset.model_id, cloning->from_model_id))
        asset.model_id = cloning->model_id;
    asset.dataset_model_id = cloning->model_id;
    asset.author_id = cloning->author_id ? cloning->author_id : asset.author_id;
    TRY(asset_copy_insert(tx, arena, cloning->project_id, cloning->now_ms, &asset));
    asset_map_put(&cloning->map, id, asset.id);
    return OK;
}

static struct error clone_all(struct db_tx *tx, struct asset_cloning *cloning, const struct json *ids)
{
    JSON_EACH (id, ids) {
        TRY(asset_clone(tx, cloning, id->text));
    }
    return OK;
}

static struct error clone_samples(struct db_tx *tx, struct asset_cloning *cloning, const char *epochs)
{
    const struct json *root;
    if (!epochs)
        return OK;
    TRY(json_parse(cloning->map.arena, epochs, strlen(epochs), &root));
    JSON_EACH (epoch, root) {
        TRY(clone_all(tx, cloning, json_get(epoch, "assetIds")));
    }
    return OK;
}

/* The model. */

struct copy_work {
    struct arena *arena;
    const struct caller *caller;
    const char *id;
    const struct model_copy_options *options;
    struct model *copy;
    struct plan_refusal *refusal;
};

/* A trained LoRA names itself in its concepts: the copy names itself then, and a new one nothing. */
static struct error own_concepts(struct arena *arena, const struct model *source, const char *copy_id, bool as_trained,
                                 const char **concepts)
{
    const struct json *root;
    struct buf out;
    size_t count = 0;
    *concepts = NULL;
    if (!source->concepts)
        return OK;
    TRY(json_parse(arena, source->concepts, strlen(source->concepts), &root));
    buf_init(&out, 1 << 20);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '[');
    JSON_EACH (concept, root) {
        const char *id = json_string(concept, "modelId", "");
        const bool itself = !strcmp(id, source->id);
        if (itself && !as_trained)
            continue;
        json_open(&writer, NULL, '{');
        json_put_string(&writer, "modelId", itself ? copy_id : id);
        json_put_number(&writer, "scale", json_number(concept, "scale", 0));
        if (json_get(concept, "modelEpoch"))
            json_put_string(&writer, "modelEpoch", json_string(concept, "modelEpoch", ""));
        json_close(&writer, '}');
        count++;
    }
    json_close(&writer, ']');
    if (count && !buf_error(&out).code)
        *concepts = arena_copy(arena, out.data, out.len);
    buf_finish(&out);
    return OK;
}

/* The parameters of a copy that is new are those of its first training. */
static struct error insert_copy(struct db_tx *tx, const struct model *source, const struct model *copy)
{
    return db_execute(tx, NULL,
                      "INSERT INTO model (id, project_id, author_id, name, short_description, type, base_model_id, "
                      "class_slug, status, source, parent_model_id, prompt_embedding, negative_prompt_embedding, "
                      "capabilities, tags, concepts, parameters, parameters_are_next, created_at, updated_at) "
                      "SELECT ?2, ?3, ?4, name, "
                      "short_description, type, base_model_id, class_slug, ?5, source, id, prompt_embedding, "
                      "negative_prompt_embedding, capabilities, tags, ?6, parameters, CASE WHEN ?5 = 'new' AND "
                      "parameters <> '{}' THEN 1 ELSE parameters_are_next END, ?7, ?7 FROM model WHERE id = ?1",
                      DB_BIND(db_t(source->id), db_t(copy->id), db_t(copy->project_id), db_t(copy->author_id),
                              db_t(copy->status), db_t(copy->concepts), db_i(copy->created_at)));
}

static struct error copy_images(struct db_tx *tx, struct asset_cloning *cloning, const struct model *source,
                                const struct model *copy)
{
    struct training_image *images;
    size_t count;
    TRY(dataset_list(tx, cloning->map.arena, source->id, &images, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(asset_clone(tx, cloning, images[i].id));
        const char *asset_id = asset_map_get(&cloning->map, images[i].id);
        if (asset_id)
            TRY(dataset_insert(tx, copy, asset_id, (int64_t)i, cloning->now_ms));
    }
    return OK;
}

static struct error copy_pairs(struct db_tx *tx, const struct asset_cloning *cloning, const struct model *source,
                               const struct model *copy)
{
    struct training_pair *pairs;
    size_t count;
    TRY(training_pairs_list(tx, cloning->map.arena, source->id, training_pairs_max, &pairs, &count));
    for (size_t i = 0; i < count; i++) {
        const char *from = asset_map_get(&cloning->map, pairs[i].source_id);
        const char *to = asset_map_get(&cloning->map, pairs[i].target_id);
        if (from && to)
            TRY(training_pair_insert(tx, copy, i, &(struct training_pair){from, to, pairs[i].instruction}));
    }
    return dataset_changed(tx, cloning->map.arena, copy->id);
}

static struct error copy_examples(struct db_tx *tx, struct asset_cloning *cloning, const struct model *source,
                                  const struct model *copy)
{
    const char **ids;
    size_t count, kept = 0;
    TRY(example_ids(tx, cloning->map.arena, source->id, &ids, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(asset_clone(tx, cloning, ids[i]));
        ids[kept] = asset_map_get(&cloning->map, ids[i]);
        kept += ids[kept] != NULL;
    }
    return example_store(tx, cloning->map.arena, copy->id, ids, kept);
}

/* What pictures stand for the model: thumbnail and examples. */
static struct error copy_pictures(struct db_tx *tx, struct asset_cloning *cloning, const struct model *source,
                                  const struct model *copy, bool with_examples)
{
    if (source->thumbnail_asset_id)
        TRY(asset_clone(tx, cloning, source->thumbnail_asset_id));
    if (with_examples)
        TRY(copy_examples(tx, cloning, source, copy));
    return db_execute(tx, NULL, "UPDATE model SET thumbnail_asset_id = ?2 WHERE id = ?1",
                      DB_BIND(db_t(copy->id), db_t(asset_map_get(&cloning->map, source->thumbnail_asset_id))));
}

static struct error copy_training(struct db_tx *tx, struct asset_cloning *cloning, const struct model *source,
                                  const struct model *copy)
{
    const char *record;
    TRY(clone_samples(tx, cloning, source->epochs));
    TRY(training_record_find(tx, cloning->map.arena, source->id, &record));
    TRY(db_execute(tx, NULL,
                   "INSERT INTO model_file (model_id, project_id, kind, name, epoch, blob_sha256, size, created_at) "
                   "SELECT ?2, ?3, kind, name, epoch, blob_sha256, size, ?4 FROM model_file WHERE model_id = ?1",
                   DB_BIND(db_t(source->id), db_t(copy->id), db_t(copy->project_id), db_i(cloning->now_ms))));
    return db_execute(tx, NULL,
                      "UPDATE model SET epoch = ?2, epochs = ?3, training_stats = ?4, training_record = ?5, "
                      "weights_sha256 = (SELECT weights_sha256 FROM model s WHERE s.id = ?6) WHERE id = ?1",
                      DB_BIND(db_t(copy->id), db_t(source->epoch),
                              db_t(asset_map_epochs(&cloning->map, source->epochs)), db_t(source->training_stats),
                              db_t(asset_map_text(&cloning->map, record)), db_t(source->id)));
}

/* Who may not change the source may not have its weights either. */
static struct error find_source(struct db_tx *tx, const struct copy_work *work, struct model *source)
{
    const bool as_trained = work->options->as_trained;
    TRY(model_find_readable(tx, work->arena, work->caller, work->id, source));
    if (!as_trained)
        return OK;
    TRY(model_find_owned(tx, work->arena, work->caller, work->id, source));
    if (strcmp(source->status, "trained") != 0)
        return error_field("copyAsTrained", "needs a trained model: the status of this one is %s", source->status);
    return OK;
}

static struct error finish_copy(struct db_tx *tx, const struct asset_cloning *cloning, const struct model *source,
                                const struct model *copy)
{
    TRY(db_execute(tx, NULL, "UPDATE model SET parameters = ?2 WHERE id = ?1",
                   DB_BIND(db_t(copy->id), db_t(asset_map_text(&cloning->map, source->parameters)))));
    TRY(db_execute(tx, NULL, "UPDATE model SET copy_count = copy_count + 1 WHERE id = ?1", DB_BIND(db_t(source->id))));
    TRY(model_index_score(tx, source->id));
    TRY(model_index_score(tx, copy->id));
    TRY(model_index_labels(tx, cloning->map.arena, copy->id));
    return tag_index(tx, cloning->map.arena, &(struct tag_item){TAG_MODEL, copy->id, copy->project_id, source->tags});
}

static struct error copy_model(struct db_tx *tx, void *context)
{
    const struct copy_work *work = context;
    const struct model_copy_options *options = work->options;
    struct model source, *copy = work->copy;
    TRY(find_source(tx, work, &source));
    TRY(plan_check_images(tx, work->caller->team_id, 0, (size_t)source.training_image_count, work->refusal));
    struct asset_cloning cloning = {
        .map = {.arena = work->arena},
        .project_id = copy->project_id,
        .author_id = copy->author_id,
        .from_model_id = source.id,
        .model_id = copy->id,
        .now_ms = copy->created_at,
    };
    TRY(own_concepts(work->arena, &source, copy->id, options->as_trained, &copy->concepts));
    TRY(insert_copy(tx, &source, copy));
    TRY(copy_images(tx, &cloning, &source, copy));
    TRY(copy_pairs(tx, &cloning, &source, copy));
    TRY(copy_pictures(tx, &cloning, &source, copy, options->examples));
    if (options->as_trained)
        TRY(copy_training(tx, &cloning, &source, copy));
    TRY(description_copy(tx, &cloning.map, source.id, copy->id));
    TRY(finish_copy(tx, &cloning, &source, copy));
    return model_find_whole(tx, work->arena, work->caller, copy->id, copy);
}

struct error model_copy(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                        const struct model_copy_options *options, struct model *copy, struct plan_refusal *refusal)
{
    char copy_id[id_size];
    *copy = (struct model){
        .id = arena_strdup(arena, id_make(copy_id, "model_")),
        .project_id = caller->project_id,
        .author_id = caller->key_id,
        .status = options->as_trained ? "trained" : "new",
        .created_at = clock_now_ms(),
    };
    return db_write(domain->db, copy_model, &(struct copy_work){arena, caller, id, options, copy, refusal});
}
