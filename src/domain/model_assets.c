#include "domain/model_assets.h"

#include <string.h>

#include "base/clock.h"
#include "domain/asset_delete.h"
#include "domain/dataset.h"
#include "domain/description.h"
#include "domain/example.h"

static struct error leave_data(struct db_tx *tx, const char *model_id, const char *asset_id)
{
    TRY(db_execute(tx, NULL, "DELETE FROM training_pair WHERE model_id = ?1 AND (source_id = ?2 OR target_id = ?2)",
                   DB_BIND(db_t(model_id), db_t(asset_id))));
    TRY(db_execute(tx, NULL, "DELETE FROM training_image WHERE model_id = ?1 AND asset_id = ?2",
                   DB_BIND(db_t(model_id), db_t(asset_id))));
    return db_execute(tx, NULL,
                      "DELETE FROM model_file WHERE model_id = ?1 AND kind = 'sample' AND blob_sha256 = "
                      "(SELECT blob_sha256 FROM asset WHERE id = ?2 AND model_id = ?1)",
                      DB_BIND(db_t(model_id), db_t(asset_id)));
}

static struct error replace_in_data(struct db_tx *tx, const char *model_id, const struct asset_map_entry *entry)
{
    TRY(db_execute(tx, NULL, "UPDATE training_pair SET source_id = ?3 WHERE model_id = ?1 AND source_id = ?2",
                   DB_BIND(db_t(model_id), db_t(entry->from), db_t(entry->to))));
    TRY(db_execute(tx, NULL, "UPDATE training_pair SET target_id = ?3 WHERE model_id = ?1 AND target_id = ?2",
                   DB_BIND(db_t(model_id), db_t(entry->from), db_t(entry->to))));
    return db_execute(tx, NULL, "UPDATE training_image SET asset_id = ?3 WHERE model_id = ?1 AND asset_id = ?2",
                      DB_BIND(db_t(model_id), db_t(entry->from), db_t(entry->to)));
}

/* What the model's own row names. */
static struct error change_row(struct db_tx *tx, const struct asset_map *map, const char *model_id)
{
    struct model model;
    TRY(model_find(tx, map->arena, model_id, &model));
    return db_execute(tx, NULL, "UPDATE model SET thumbnail_asset_id = ?2, epochs = ?3, parameters = ?4 WHERE id = ?1",
                      DB_BIND(db_t(model_id), db_t(asset_map_get(map, model.thumbnail_asset_id)),
                              db_t(asset_map_epochs(map, model.epochs)), db_t(asset_map_text(map, model.parameters))));
}

struct error model_assets_change(struct db_tx *tx, const struct asset_map *map, const char *model_id)
{
    if (!map->count)
        return OK;
    for (size_t i = 0; i < map->capacity; i++) {
        const struct asset_map_entry *entry = &map->places[i];
        if (entry->from)
            TRY(entry->to ? replace_in_data(tx, model_id, entry) : leave_data(tx, model_id, entry->from));
    }
    TRY(change_row(tx, map, model_id));
    TRY(example_change(tx, map, model_id));
    TRY(description_change(tx, map, model_id));
    return dataset_changed(tx, map->arena, model_id);
}

/* Deletion. */

struct delete_work {
    struct arena *arena;
    const struct caller *caller;
    const char *model_id;
    const char *const *asset_ids;
    size_t count;
};

struct standing {
    struct asset asset;
    bool of_model, needed_elsewhere;
};

static struct error read_standing(struct db_tx *tx, const struct delete_work *work, const char *asset_id,
                                  struct standing *standing)
{
    struct db_rows *rows;
    *standing = (struct standing){0};
    TRY(db_query(tx, &rows,
                 "SELECT " ASSET_NEEDED_ELSEWHERE ", " ASSET_COLUMNS
                 " FROM asset a WHERE a.id = ?2 AND a.project_id = ?3 AND a.deleted_at = 0 AND " ASSET_OF_MODEL,
                 DB_BIND(db_t(work->model_id), db_t(asset_id), db_t(work->caller->project_id))));
    TRY(db_next(rows, &standing->of_model));
    if (!standing->of_model)
        return OK;
    standing->needed_elsewhere = db_int(rows, 0);
    asset_read(work->arena, rows, 1, &standing->asset);
    for (bool row = true; row;)
        TRY(db_next(rows, &row));
    return OK;
}

static struct error delete_images(struct db_tx *tx, void *context)
{
    const struct delete_work *work = context;
    struct asset_map map = {.arena = work->arena};
    struct standing *standings = arena_array(work->arena, work->count, sizeof *standings);
    struct model model;
    int64_t now_ms = clock_now_ms();
    TRY(model_find_idle(tx, work->arena, work->caller, work->model_id, &model));
    for (size_t i = 0; i < work->count; i++) {
        TRY(read_standing(tx, work, work->asset_ids[i], &standings[i]));
        if (!standings[i].of_model)
            return error_make(ERR_NOT_FOUND, "Asset %.64s is no image of model %.64s", work->asset_ids[i], model.id);
        asset_map_put(&map, work->asset_ids[i], NULL);
    }
    TRY(model_assets_change(tx, &map, model.id));
    for (size_t i = 0; i < work->count; i++)
        if (!standings[i].needed_elsewhere)
            TRY(asset_bury(tx, work->arena, &standings[i].asset, now_ms));
    return OK;
}

struct error model_images_delete(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                 const char *model_id, const char *const *asset_ids, size_t count)
{
    struct delete_work work = {arena, caller, model_id, asset_ids, count};
    return db_write(domain->db, delete_images, &work);
}
