#include "domain/description.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "domain/access.h"
#include "domain/asset_list.h"

enum { mention_id_max = 128 }; /* bytes of an id */

/* The ids of one kind, each once, in the order of the text. */
struct mentions {
    const char *opening; /* "{asset:" */
    const char *ids[description_mentions_max];
    size_t count;
};

static bool is_known(const struct mentions *mentions, const char *id)
{
    for (size_t i = 0; i < mentions->count; i++)
        if (!strcmp(mentions->ids[i], id))
            return true;
    return false;
}

/* false when there are too many. An opening without a proper id and its closing brace is plain text. */
static bool find_mentions(struct arena *arena, const char *text, struct mentions *mentions)
{
    static const char id_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const size_t opening_length = strlen(mentions->opening);
    for (const char *at = text; (at = strstr(at, mentions->opening));) {
        at += opening_length;
        const size_t length = strspn(at, id_characters);
        if (!length || length > mention_id_max || at[length] != '}')
            continue;
        const char *id = arena_copy(arena, at, length);
        if (is_known(mentions, id))
            continue;
        if (mentions->count == description_mentions_max)
            return false;
        mentions->ids[mentions->count++] = id;
    }
    return true;
}

static struct error find_all(struct arena *arena, const char *text, struct mentions *assets, struct mentions *models)
{
    *assets = (struct mentions){.opening = "{asset:"};
    *models = (struct mentions){.opening = "{model:"};
    if (!find_mentions(arena, text, assets) || !find_mentions(arena, text, models) ||
        assets->count + models->count > description_mentions_max)
        return error_field("description", "must mention at most %d different assets and models",
                           description_mentions_max);
    return OK;
}

static struct error read_value(struct db_tx *tx, struct arena *arena, const char *model_id, const char **value)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT value FROM model_description WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    TRY(db_next(rows, &row));
    *value = row ? db_text(arena, rows, 0) : "";
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

/* As much of the models as a mention shows, of at most db_in_max. */
static struct error read_models(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                const char *const *ids, size_t id_count, struct model *models, size_t *count)
{
    struct db_rows *rows;
    TRY(db_query_in(tx, &rows,
                    "SELECT id, project_id, author_id, name, short_description, type, privacy FROM model "
                    "WHERE id IN (" DB_IN ") AND deleted_at = 0",
                    ids, id_count));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        const struct model model = {
            .id = db_text(arena, rows, 0),
            .project_id = db_text(arena, rows, 1),
            .author_id = db_text(arena, rows, 2),
            .name = db_text(arena, rows, 3),
            .short_description = db_text(arena, rows, 4),
            .type = db_text(arena, rows, 5),
            .privacy = db_text(arena, rows, 6),
        };
        const struct access_thing thing = {model.project_id, model.privacy, false};
        if (access_decide(caller, ACCESS_READ, &thing) == ACCESS_GRANTED)
            models[(*count)++] = model;
    }
}

static struct error resolve_models(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                   const struct mentions *mentions, struct description *description)
{
    struct model *found = arena_array(arena, mentions->count + 1, sizeof *found);
    size_t count = 0;
    for (size_t at = 0; at < mentions->count; at += db_in_max) {
        const size_t some = mentions->count - at < db_in_max ? mentions->count - at : db_in_max;
        TRY(read_models(tx, arena, caller, mentions->ids + at, some, found, &count));
    }
    description->models = arena_array(arena, mentions->count + 1, sizeof *found);
    for (size_t i = 0; i < mentions->count; i++)
        for (size_t at = 0; at < count; at++)
            if (!strcmp(found[at].id, mentions->ids[i]))
                description->models[description->model_count++] = found[at];
    return OK;
}

static struct error resolve(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                            struct description *description)
{
    struct mentions assets, models;
    TRY(find_all(arena, description->value, &assets, &models));
    TRY(asset_list_ids(tx, arena, caller, assets.ids, assets.count, &description->assets, &description->asset_count));
    return resolve_models(tx, arena, caller, &models, description);
}

struct error description_get(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, struct description *description)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct model model;
    *description = (struct description){0};
    TRY(db_read_begin(domain->db, &tx));
    TRY(model_find_readable(tx, arena, caller, model_id, &model));
    TRY(read_value(tx, arena, model_id, &description->value));
    return resolve(tx, arena, caller, description);
}

struct put_work {
    struct arena *arena;
    const struct caller *caller;
    const char *model_id, *value;
    struct description *description;
};

static struct error store_value(struct db_tx *tx, const struct put_work *work)
{
    if (!work->value)
        return db_execute(tx, NULL, "DELETE FROM model_description WHERE model_id = ?1", DB_BIND(db_t(work->model_id)));
    return db_execute(tx, NULL,
                      "INSERT INTO model_description (model_id, value) VALUES (?1, ?2) "
                      "ON CONFLICT (model_id) DO UPDATE SET value = excluded.value",
                      DB_BIND(db_t(work->model_id), db_t(work->value)));
}

static struct error put_description(struct db_tx *tx, void *context)
{
    const struct put_work *work = context;
    struct model model;
    *work->description = (struct description){.value = work->value ? work->value : ""};
    TRY(model_find_owned(tx, work->arena, work->caller, work->model_id, &model));
    TRY(resolve(tx, work->arena, work->caller, work->description));
    TRY(store_value(tx, work));
    return db_execute(tx, NULL, "UPDATE model SET updated_at = ?2 WHERE id = ?1",
                      DB_BIND(db_t(work->model_id), db_i(clock_now_ms())));
}

struct error description_put(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *value, struct description *description)
{
    struct put_work work = {arena, caller, model_id, value, description};
    return db_write(domain->db, put_description, &work);
}

struct error description_copy(struct db_tx *tx, const struct asset_map *map, const char *from_model_id,
                              const char *model_id)
{
    const char *value;
    TRY(read_value(tx, map->arena, from_model_id, &value));
    if (!value[0])
        return OK;
    return db_execute(tx, NULL, "INSERT INTO model_description (model_id, value) VALUES (?1, ?2)",
                      DB_BIND(db_t(model_id), db_t(asset_map_text(map, value))));
}

struct error description_change(struct db_tx *tx, const struct asset_map *map, const char *model_id)
{
    const char *value;
    TRY(read_value(tx, map->arena, model_id, &value));
    return db_execute(tx, NULL, "UPDATE model_description SET value = ?2 WHERE model_id = ?1",
                      DB_BIND(db_t(model_id), db_t(asset_map_text(map, value))));
}
