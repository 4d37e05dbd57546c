#include "domain/dataset.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "domain/model_index.h"
#include "domain/training_pair.h"

static struct training_image image_of(const struct asset *asset, int64_t added_at)
{
    return (struct training_image){asset->id, asset->name, asset->description, asset->automatic_captioning, added_at};
}

static struct training_image read_image(struct arena *arena, struct db_rows *rows)
{
    return (struct training_image){
        .id = db_text(arena, rows, 0),
        .name = db_text(arena, rows, 1),
        .description = db_text(arena, rows, 2),
        .automatic_captioning = db_text(arena, rows, 3),
        .created_at = db_int(rows, 4),
    };
}

static struct error read_images(struct db_tx *tx, struct arena *arena, const char *model_id, int64_t limit,
                                struct training_image *images, size_t *count)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows,
                 "SELECT a.id, a.name, a.description, a.automatic_captioning, t.created_at FROM training_image t "
                 "JOIN asset a ON a.id = t.asset_id WHERE t.model_id = ?1 ORDER BY t.position LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i(limit))));
    *count = 0;
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        images[(*count)++] = read_image(arena, rows);
    }
}

struct error dataset_list(struct db_tx *tx, struct arena *arena, const char *model_id, struct training_image **images,
                          size_t *count)
{
    *images = arena_array(arena, training_images_max, sizeof **images);
    return read_images(tx, arena, model_id, training_images_max, *images, count);
}

static struct error list_some(struct db_tx *tx, struct arena *arena, struct model *models, size_t count)
{
    const char *ids[db_in_max];
    struct db_rows *rows;
    for (size_t i = 0; i < count; i++)
        ids[i] = models[i].id;
    TRY(db_query_in(tx, &rows,
                    "SELECT a.id, a.name, a.description, a.automatic_captioning, t.created_at, t.model_id "
                    "FROM training_image t JOIN asset a ON a.id = t.asset_id WHERE t.model_id IN (" DB_IN ") "
                    "ORDER BY t.model_id, t.position",
                    ids, count));
    struct model *model = NULL;
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        const char *model_id = db_text(arena, rows, 5);
        for (size_t i = 0; i < count && (!model || strcmp(model->id, model_id) != 0); i++)
            model = &models[i];
        model->images[model->image_count++] = read_image(arena, rows);
    }
}

struct error dataset_list_many(struct db_tx *tx, struct arena *arena, struct model *models, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        models[i].images = arena_array(arena, (size_t)models[i].training_image_count + 1, sizeof *models[i].images);
        models[i].image_count = 0;
    }
    for (size_t at = 0; at < count; at += db_in_max)
        TRY(list_some(tx, arena, models + at, count - at < db_in_max ? count - at : db_in_max));
    return OK;
}

/* What a model's row keeps of its images, so that a page of models is one query. */
static struct error write_preview(struct db_tx *tx, struct arena *arena, const char *model_id)
{
    enum { preview_bytes_max = 1 << 20 };
    struct training_image images[model_preview_images];
    struct buf text;
    size_t count;
    TRY(read_images(tx, arena, model_id, model_preview_images, images, &count));
    buf_init(&text, preview_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(&writer, NULL, '{');
        json_put_string(&writer, "id", images[i].id);
        json_put_string(&writer, "name", images[i].name);
        json_put_string(&writer, "description", images[i].description);
        json_put_string(&writer, "automaticCaptioning", images[i].automatic_captioning);
        json_put_int(&writer, "createdAt", images[i].created_at);
        json_close(&writer, '}');
    }
    json_close(&writer, ']');
    struct error error = buf_error(&text);
    if (!error.code)
        error = db_execute(tx, NULL, "UPDATE model SET training_image_preview = ?2 WHERE id = ?1",
                           DB_BIND(db_t(model_id), db_t(text.data)));
    buf_finish(&text);
    return error;
}

struct error dataset_changed(struct db_tx *tx, struct arena *arena, const char *model_id)
{
    TRY(db_execute(tx, NULL,
                   "UPDATE model SET updated_at = ?2, "
                   "training_image_count = (SELECT count(*) FROM training_image WHERE model_id = ?1) WHERE id = ?1",
                   DB_BIND(db_t(model_id), db_i(clock_now_ms()))));
    TRY(model_index_score(tx, model_id));
    TRY(model_index_shown(tx, model_id));
    TRY(training_pairs_changed(tx, arena, model_id));
    return write_preview(tx, arena, model_id);
}

struct error dataset_asset_changed(struct db_tx *tx, struct arena *arena, const char *asset_id)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT model_id FROM training_image WHERE asset_id = ?1", DB_BIND(db_t(asset_id))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        TRY(write_preview(tx, arena, db_text(arena, rows, 0)));
    }
}

/* All changes run as one of these in the writer. */
struct work {
    struct arena *arena;
    const struct caller *caller;
    const char *model_id;
    const char *training_image_id; /* to replace or remove */
    const char *const *asset_ids;
    size_t count;
    const struct asset *made; /* to be inserted first, when it comes with its picture */
    struct training_image *images;
    struct plan_refusal *refusal;
};

static struct error is_member(struct db_tx *tx, const char *model_id, const char *asset_id, bool *member,
                              int64_t *position)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT position FROM training_image WHERE model_id = ?1 AND asset_id = ?2",
                 DB_BIND(db_t(model_id), db_t(asset_id))));
    TRY(db_next(rows, member));
    *position = *member ? db_int(rows, 0) : 0;
    return OK;
}

struct error dataset_insert(struct db_tx *tx, const struct model *model, const char *asset_id, int64_t position,
                            int64_t now_ms)
{
    return db_execute(
        tx, NULL,
        "INSERT INTO training_image (model_id, asset_id, project_id, position, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        DB_BIND(db_t(model->id), db_t(asset_id), db_t(model->project_id), db_i(position), db_i(now_ms)));
}

static struct error insert_member(struct db_tx *tx, const struct work *work, const char *asset_id, int64_t position,
                                  struct training_image *added)
{
    struct asset asset;
    bool member;
    int64_t ignored, now_ms = clock_now_ms();
    if (work->made)
        TRY(asset_insert(tx, work->made));
    TRY(asset_find_owned(tx, work->arena, work->caller, asset_id, &asset));
    TRY(is_member(tx, work->model_id, asset_id, &member, &ignored));
    if (member)
        return error_make(ERR_INVALID, "The provided assetId is already a training image of this model");
    if (strcmp(asset.kind, "image") != 0)
        return error_make(ERR_INVALID, "Asset %.64s is of kind %s: training images are images", asset_id, asset.kind);
    *added = image_of(&asset, now_ms);
    return dataset_insert(tx, &(struct model){.id = work->model_id, .project_id = asset.project_id}, asset.id, position,
                          now_ms);
}

static struct error next_position(struct db_tx *tx, const char *model_id, int64_t *position)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT coalesce(max(position), -1) + 1 FROM training_image WHERE model_id = ?1",
                 DB_BIND(db_t(model_id))));
    TRY(db_next(rows, &row));
    *position = db_int(rows, 0);
    return OK;
}

static struct error add_images(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct model model;
    int64_t position;
    TRY(model_find_idle(tx, work->arena, work->caller, work->model_id, &model));
    TRY(plan_check_images(tx, work->caller->team_id, model.training_image_count, work->count, work->refusal));
    TRY(next_position(tx, work->model_id, &position));
    for (size_t i = 0; i < work->count; i++)
        TRY(insert_member(tx, work, work->asset_ids[i], position + (int64_t)i, &work->images[i]));
    return dataset_changed(tx, work->arena, work->model_id);
}

struct error dataset_add_assets(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                const char *model_id, const char *const *asset_ids, size_t count,
                                struct training_image *added, struct plan_refusal *refusal)
{
    if (count > dataset_add_max)
        return error_make(ERR_INVALID, "Too many assetIds provided in a single request");
    struct work work = {arena, caller, model_id, NULL, asset_ids, count, NULL, added, refusal};
    return db_write(domain->db, add_images, &work);
}

struct error dataset_add_picture(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                 const char *model_id, const struct picture *picture, struct training_image *added,
                                 struct plan_refusal *refusal)
{
    struct asset asset;
    asset_init(&asset, arena, caller->project_id, caller->key_id, picture, "uploaded", "uploaded");
    asset.dataset_model_id = model_id;
    struct work work = {arena, caller, model_id, NULL, &asset.id, 1, &asset, added, refusal};
    return db_write(domain->db, add_images, &work);
}

struct error dataset_check_room(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                const char *model_id, size_t more, struct plan_refusal *refusal)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct model model;
    TRY(db_read_begin(domain->db, &tx));
    TRY(model_find_idle(tx, arena, caller, model_id, &model));
    return plan_check_images(tx, caller->team_id, model.training_image_count, more, refusal);
}

static struct error find_member(struct db_tx *tx, const struct work *work, int64_t *position)
{
    struct model model;
    bool member;
    TRY(model_find_idle(tx, work->arena, work->caller, work->model_id, &model));
    TRY(is_member(tx, work->model_id, work->training_image_id, &member, position));
    if (!member)
        return error_make(ERR_NOT_FOUND, "Training image %.64s not found", work->training_image_id);
    return OK;
}

static struct error drop_member(struct db_tx *tx, const struct work *work)
{
    return db_execute(tx, NULL, "DELETE FROM training_image WHERE model_id = ?1 AND asset_id = ?2",
                      DB_BIND(db_t(work->model_id), db_t(work->training_image_id)));
}

static struct error drop_pairs(struct db_tx *tx, const struct work *work)
{
    return db_execute(tx, NULL, "DELETE FROM training_pair WHERE model_id = ?1 AND (source_id = ?2 OR target_id = ?2)",
                      DB_BIND(db_t(work->model_id), db_t(work->training_image_id)));
}

/* A pair keeps its place and its instruction when a better picture comes in. */
static struct error move_pairs(struct db_tx *tx, const struct work *work)
{
    return db_execute(tx, NULL,
                      "UPDATE training_pair SET source_id = CASE source_id WHEN ?2 THEN ?3 ELSE source_id END, "
                      "target_id = CASE target_id WHEN ?2 THEN ?3 ELSE target_id END "
                      "WHERE model_id = ?1 AND (source_id = ?2 OR target_id = ?2)",
                      DB_BIND(db_t(work->model_id), db_t(work->training_image_id), db_t(work->asset_ids[0])));
}

static struct error replace_image(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    int64_t position;
    TRY(find_member(tx, work, &position));
    TRY(drop_member(tx, work));
    TRY(insert_member(tx, work, work->asset_ids[0], position, work->images));
    TRY(move_pairs(tx, work));
    return dataset_changed(tx, work->arena, work->model_id);
}

struct error dataset_replace(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *training_image_id, const char *asset_id,
                             const struct picture *picture, struct training_image *replaced)
{
    struct asset asset;
    struct work work = {arena, caller, model_id, training_image_id, &asset_id, 1, NULL, replaced, NULL};
    if (!asset_id) {
        asset_init(&asset, arena, caller->project_id, caller->key_id, picture, "uploaded", "uploaded");
        asset.dataset_model_id = model_id;
        work.asset_ids = &asset.id;
        work.made = &asset;
    }
    return db_write(domain->db, replace_image, &work);
}

static struct error remove_image(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    int64_t position;
    TRY(find_member(tx, work, &position));
    TRY(drop_member(tx, work));
    TRY(drop_pairs(tx, work));
    return dataset_changed(tx, work->arena, work->model_id);
}

struct error dataset_remove(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *model_id, const char *training_image_id)
{
    struct work work = {arena, caller, model_id, training_image_id, NULL, 0, NULL, NULL, NULL};
    return db_write(domain->db, remove_image, &work);
}
