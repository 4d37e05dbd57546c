#include "domain/model_transfer.h"

#include <string.h>

#include "base/clock.h"
#include "domain/asset.h"
#include "domain/model_assets.h"
#include "domain/model_copy.h"
#include "domain/model_index.h"
#include "domain/tag.h"
#include "domain/team.h"

struct transfer_work {
    struct arena *arena;
    const struct caller *caller;
    const char *id;
    const struct model_transfer_options *options;
    struct model *model;
    int64_t now_ms;
};

static struct error check_destination(struct db_tx *tx, const struct transfer_work *work)
{
    const struct model_transfer_options *options = work->options;
    const char *team_id;
    bool accepts;
    TRY(project_find_team(tx, work->arena, options->project_id, &team_id));
    if (options->team_id && strcmp(options->team_id, team_id) != 0)
        return error_field("destinationTeamId", "is not the team of project %.64s", options->project_id);
    if (!strcmp(options->project_id, work->model->project_id))
        return error_field("destinationProjectId", "is the project that has the model already");
    TRY(team_accepts(tx, team_id, work->caller->team_id, &accepts));
    if (!accepts)
        return error_make(ERR_FORBIDDEN,
                          "Team %.64s takes no models of your team so far: who runs this server can allow it with "
                          "maquette teams accept",
                          team_id);
    return OK;
}

/* Assets: each goes itself, or a copy of it does. */

struct belonging {
    struct asset asset;
    bool needed_elsewhere;
};

static struct error list_belongings(struct db_tx *tx, const struct transfer_work *work, struct belonging **belongings,
                                    size_t *count)
{
    struct db_rows *rows;
    size_t room = 64;
    *count = 0;
    *belongings = arena_array(work->arena, room, sizeof **belongings);
    TRY(db_query(tx, &rows,
                 "SELECT " ASSET_NEEDED_ELSEWHERE " OR " ASSET_COLLECTED ", " ASSET_COLUMNS
                 " FROM asset a WHERE a.project_id = ?2 AND a.deleted_at = 0 AND " ASSET_OF_MODEL,
                 DB_BIND(db_t(work->id), db_t(work->model->project_id))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        if (*count == room) {
            struct belonging *more = arena_array(work->arena, 2 * room, sizeof *more);
            memcpy(more, *belongings, room * sizeof *more);
            *belongings = more;
            room *= 2;
        }
        (*belongings)[*count].needed_elsewhere = db_int(rows, 0);
        asset_read(work->arena, rows, 1, &(*belongings)[(*count)++].asset);
    }
}

static struct error move_asset(struct db_tx *tx, const struct transfer_work *work, const struct asset *asset)
{
    struct tag_item item = {TAG_ASSET, asset->id, asset->project_id, asset->tags};
    TRY(tag_unindex(tx, work->arena, &item));
    item.project_id = work->options->project_id;
    TRY(tag_index(tx, work->arena, &item));
    return db_execute(tx, NULL, "UPDATE asset SET project_id = ?2 WHERE id = ?1",
                      DB_BIND(db_t(asset->id), db_t(item.project_id)));
}

static struct error move_assets(struct db_tx *tx, const struct transfer_work *work, struct asset_cloning *cloning)
{
    struct belonging *belongings;
    size_t count;
    TRY(list_belongings(tx, work, &belongings, &count));
    for (size_t i = 0; i < count; i++) {
        const struct asset *asset = &belongings[i].asset;
        TRY(belongings[i].needed_elsewhere ? asset_clone(tx, cloning, asset->id) : move_asset(tx, work, asset));
    }
    return OK;
}

/* What stays behind is not of this model any more: it lives with one that needs it. */
static struct error leave_behind(struct db_tx *tx, const struct asset_map *map, const char *model_id)
{
    for (size_t i = 0; i < map->capacity; i++) {
        const char *id = map->places[i].from;
        if (!id)
            continue;
        TRY(db_execute(tx, NULL, "UPDATE asset SET model_id = NULL WHERE id = ?1 AND model_id = ?2",
                       DB_BIND(db_t(id), db_t(model_id))));
        TRY(db_execute(tx, NULL,
                       "UPDATE asset SET dataset_model_id = (SELECT min(t.model_id) FROM training_image t "
                       "WHERE t.asset_id = ?1) WHERE id = ?1 AND dataset_model_id = ?2",
                       DB_BIND(db_t(id), db_t(model_id))));
    }
    return OK;
}

/* What a job says of assets follows them. */
static struct error rewrite_jobs(struct db_tx *tx, const struct asset_map *map, const char *model_id)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT id, metadata FROM job WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        const char *id = db_text(map->arena, rows, 0), *metadata = db_text(map->arena, rows, 1);
        TRY(db_execute(tx, NULL, "UPDATE job SET metadata = ?2 WHERE id = ?1",
                       DB_BIND(db_t(id), db_t(asset_map_text(map, metadata)))));
    }
}

static struct error move_rows(struct db_tx *tx, const struct transfer_work *work)
{
    static const char *const statements[] = {
        "UPDATE training_image SET project_id = ?2 WHERE model_id = ?1",
        "UPDATE training_pair SET project_id = ?2 WHERE model_id = ?1",
        "UPDATE model_file SET project_id = ?2 WHERE model_id = ?1",
        "UPDATE job SET project_id = ?2 WHERE model_id = ?1",
    };
    const char *project_id = work->options->project_id;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        TRY(db_execute(tx, NULL, statements[i], DB_BIND(db_t(work->id), db_t(project_id))));
    return db_execute(tx, NULL,
                      "UPDATE model SET project_id = ?2, collection_ids = '[]', updated_at = ?3 WHERE id = ?1",
                      DB_BIND(db_t(work->id), db_t(project_id), db_i(work->now_ms)));
}

static struct error move_tags(struct db_tx *tx, const struct transfer_work *work)
{
    const struct model *model = work->model;
    struct tag_item item = {TAG_MODEL, model->id, model->project_id, model->tags};
    TRY(tag_unindex(tx, work->arena, &item));
    item.project_id = work->options->project_id;
    TRY(tag_index(tx, work->arena, &item));
    return model_index_labels(tx, work->arena, model->id);
}

static struct error read_result(struct db_tx *tx, const struct transfer_work *work)
{
    TRY(model_find(tx, work->arena, work->id, work->model));
    return model_read_data(tx, work->arena, work->model);
}

static struct error transfer_model(struct db_tx *tx, void *context)
{
    const struct transfer_work *work = context;
    struct asset_cloning cloning = {
        .map = {.arena = work->arena},
        .project_id = work->options->project_id,
        .from_model_id = work->id,
        .model_id = work->id,
        .now_ms = work->now_ms,
    };
    TRY(model_find_idle(tx, work->arena, work->caller, work->id, work->model));
    TRY(check_destination(tx, work));
    TRY(move_assets(tx, work, &cloning));
    TRY(model_assets_change(tx, &cloning.map, work->id));
    TRY(leave_behind(tx, &cloning.map, work->id));
    if (cloning.map.count)
        TRY(rewrite_jobs(tx, &cloning.map, work->id));
    TRY(move_rows(tx, work));
    TRY(move_tags(tx, work));
    return read_result(tx, work);
}

struct error model_transfer(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *id, const struct model_transfer_options *options, struct model *model)
{
    return db_write(domain->db, transfer_model,
                    &(struct transfer_work){arena, caller, id, options, model, clock_now_ms()});
}
