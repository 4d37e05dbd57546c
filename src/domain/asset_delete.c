#include "domain/asset_delete.h"

#include <string.h>

#include "base/clock.h"
#include "domain/asset_map.h"
#include "domain/model_assets.h"
#include "domain/tag.h"

struct error asset_bury(struct db_tx *tx, struct arena *arena, const struct asset *asset, int64_t now_ms)
{
    TRY(tag_unindex(tx, arena, &(struct tag_item){TAG_ASSET, asset->id, asset->project_id, asset->tags}));
    TRY(db_execute(tx, NULL, "DELETE FROM collection_asset WHERE asset_id = ?1", DB_BIND(db_t(asset->id))));
    TRY(db_execute(tx, NULL, "UPDATE asset SET parent_id = NULL WHERE parent_id = ?1", DB_BIND(db_t(asset->id))));
    TRY(db_execute(tx, NULL, "UPDATE asset SET root_parent_id = NULL WHERE root_parent_id = ?1",
                   DB_BIND(db_t(asset->id))));
    return db_execute(tx, NULL, "UPDATE asset SET deleted_at = ?2, updated_at = ?2 WHERE id = ?1",
                      DB_BIND(db_t(asset->id), db_i(now_ms)));
}

struct user {
    const char *id;
    bool trains;
};
struct users {
    struct user *list;
    size_t count, room;
};

static void put_user(struct arena *arena, struct users *users, const char *id, bool trains)
{
    for (size_t i = 0; i < users->count; i++)
        if (!strcmp(users->list[i].id, id))
            return;
    if (users->count == users->room) {
        struct user *more = arena_array(arena, users->room = 2 * users->room + 16, sizeof *more);
        if (users->count)
            memcpy(more, users->list, users->count * sizeof *more);
        users->list = more;
    }
    users->list[users->count++] = (struct user){id, trains};
}

/* The models that name the asset in one place or another. */
static struct error find_users(struct db_tx *tx, struct arena *arena, const char *asset_id, struct users *users)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows,
                 "SELECT m.id, m.status FROM model m WHERE m.id IN "
                 "(SELECT model_id FROM training_image WHERE asset_id = ?1 "
                 "UNION SELECT model_id FROM model_example WHERE asset_id = ?1 "
                 "UNION SELECT id FROM model WHERE thumbnail_asset_id = ?1 "
                 "UNION SELECT model_id FROM asset WHERE id = ?1 AND model_id IS NOT NULL)",
                 DB_BIND(db_t(asset_id))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        put_user(arena, users, db_text(arena, rows, 0), !strcmp(db_text(arena, rows, 1), "training"));
    }
}

struct work {
    struct arena *arena;
    const struct caller *caller;
    const char *const *asset_ids;
    size_t count;
};

static struct error check_users(const struct users *users)
{
    for (size_t i = 0; i < users->count; i++)
        if (users->list[i].trains)
            return error_field("assetIds",
                               "must not be used by model %.64s while it trains: cancel the training or wait",
                               users->list[i].id);
    return OK;
}

static struct error delete_assets(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct asset_map map = {.arena = work->arena};
    struct asset *assets = arena_array(work->arena, work->count, sizeof *assets);
    struct users users = {0};
    const int64_t now_ms = clock_now_ms();
    size_t count = 0;
    for (size_t i = 0; i < work->count; i++) {
        if (asset_map_find(&map, work->asset_ids[i]))
            continue;
        TRY(asset_find_owned(tx, work->arena, work->caller, work->asset_ids[i], &assets[count]));
        TRY(find_users(tx, work->arena, work->asset_ids[i], &users));
        asset_map_put(&map, work->asset_ids[i], NULL);
        count++;
    }
    TRY(check_users(&users));
    for (size_t i = 0; i < users.count; i++)
        TRY(model_assets_change(tx, &map, users.list[i].id));
    for (size_t i = 0; i < count; i++)
        TRY(asset_bury(tx, work->arena, &assets[i], now_ms));
    return OK;
}

struct error asset_delete(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const char *const *asset_ids, size_t count)
{
    struct work work = {arena, caller, asset_ids, count};
    return db_write(domain->db, delete_assets, &work);
}
