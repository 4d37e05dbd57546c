#include "domain/purge.h"

#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/fs.h"
#include "domain/model_assets.h"
#include "domain/tag.h"

enum { arena_bytes_max = 16 << 20 };

struct round {
    const struct domain *domain;
    const struct purge *purge;
    struct purged *purged;
    int64_t deleted_before;
};

static bool must_stop(const struct round *round)
{
    return round->purge->stop && __atomic_load_n(round->purge->stop, __ATOMIC_RELAXED);
}

/* Assets. */

struct assets_work {
    struct arena *arena;
    const char *sql; /* gives id, project_id and tags of at most ?3 assets */
    struct db_value first, second;
    int64_t count;
};

static struct error purge_assets(struct db_tx *tx, void *context)
{
    struct assets_work *work = context;
    struct tag_item items[purge_assets_max];
    struct db_rows *rows;
    work->count = 0;
    TRY(db_query(tx, &rows, work->sql, DB_BIND(work->first, work->second, db_i(purge_assets_max))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            break;
        items[work->count++] = (struct tag_item){TAG_ASSET, db_text(work->arena, rows, 0),
                                                 db_text(work->arena, rows, 1), db_text(work->arena, rows, 2)};
    }
    for (int64_t i = 0; i < work->count; i++) {
        TRY(tag_unindex(tx, work->arena, &items[i]));
        TRY(db_execute(tx, NULL, "DELETE FROM asset WHERE id = ?1", DB_BIND(db_t(items[i].id))));
    }
    return OK;
}

/* One write after the other until nothing is left, each with an arena of its own. */
static struct error purge_all_assets(const struct round *round, const char *sql, struct db_value first,
                                     struct db_value second)
{
    struct assets_work work = {.sql = sql, .first = first, .second = second, .count = purge_assets_max};
    while (work.count == purge_assets_max && !must_stop(round)) {
        struct arena arena;
        arena_init(&arena, arena_bytes_max);
        work.arena = &arena;
        struct error error = db_write(round->domain->db, purge_assets, &work);
        arena_finish(&arena);
        TRY(error);
        round->purged->assets += work.count;
    }
    return OK;
}

static struct error purge_deleted_assets(const struct round *round)
{
    return purge_all_assets(round,
                            "SELECT a.id, a.project_id, a.tags FROM asset a WHERE a.deleted_at > 0 "
                            "AND a.deleted_at < ?2 AND NOT " ASSET_NAMED_ELSEWHERE " LIMIT ?3",
                            db_t(""), db_i(round->deleted_before));
}

/* Models. */

struct dead_model {
    int64_t deleted_at;
    const char *id, *project_id;
};

static struct error next_model(const struct round *round, struct arena *arena, const struct dead_model *after,
                               struct dead_model *model)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    bool row;
    *model = (struct dead_model){0};
    TRY(db_read_begin(round->domain->db, &tx));
    TRY(db_query(tx, &rows,
                 "SELECT m.deleted_at, m.id, m.project_id FROM model m WHERE m.deleted_at > 0 AND m.deleted_at < ?1 "
                 "AND (m.deleted_at, m.id) > (?2, ?3) AND NOT EXISTS (SELECT 1 FROM job j WHERE j.model_id = m.id "
                 "AND j.status IN ('pending', 'queued', 'warming-up', 'in-progress', 'finalizing')) "
                 "ORDER BY m.deleted_at, m.id LIMIT 1",
                 DB_BIND(db_i(round->deleted_before), db_i(after->deleted_at), db_t(after->id ? after->id : ""))));
    TRY(db_next(rows, &row));
    if (row)
        *model = (struct dead_model){db_int(rows, 0), db_text(arena, rows, 1), db_text(arena, rows, 2)};
    return OK;
}

/* Before their rows: a folder without a row would never be found again. */
static struct error remove_folders(const struct round *round, struct arena *arena, const char *model_id)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    const char *jobs_dir = round->purge->jobs_dir;
    if (!jobs_dir)
        return OK;
    TRY(db_read_begin(round->domain->db, &tx));
    TRY(db_query(tx, &rows, "SELECT id FROM job WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        const char *id = db_text(arena, rows, 0);
        TRY(fs_remove_tree(arena_printf(arena, "%s/%s", jobs_dir, id)));
        TRY(fs_remove_tree(arena_printf(arena, "%s/%s.new", jobs_dir, id)));
    }
}

static struct error run_all(struct db_tx *tx, const char *const *statements, size_t count, const char *model_id)
{
    for (size_t i = 0; i < count; i++)
        TRY(db_execute(tx, NULL, statements[i], DB_BIND(db_t(model_id))));
    return OK;
}

/* Its own assets can go only when it names them no more. */
static struct error empty_model(struct db_tx *tx, void *context)
{
    static const char *const statements[] = {
        "DELETE FROM training_pair WHERE model_id = ?1",
        "DELETE FROM training_image WHERE model_id = ?1",
        "DELETE FROM model_file WHERE model_id = ?1",
        "DELETE FROM job WHERE model_id = ?1",
        ("UPDATE model SET training_image_count = 0, training_image_preview = '[]', training_pair_preview = '[]', "
         "thumbnail_asset_id = NULL, example_asset_ids = '[]', epochs = NULL, weights_sha256 = NULL WHERE id = ?1"),
    };
    const struct dead_model *model = context;
    int64_t deleted;
    TRY(db_execute(tx, &deleted, "UPDATE model SET status = status WHERE id = ?1 AND deleted_at = ?2",
                   DB_BIND(db_t(model->id), db_i(model->deleted_at))));
    if (!deleted)
        return error_make(ERR_CANCELED, "model %s was restored while it was to be purged", model->id);
    return run_all(tx, statements, sizeof statements / sizeof *statements, model->id);
}

static struct error forget_model(struct db_tx *tx, void *context)
{
    static const char *const statements[] = {
        "UPDATE asset SET dataset_model_id = (SELECT min(t.model_id) FROM training_image t WHERE "
        "t.asset_id = asset.id) WHERE dataset_model_id = ?1",
        "DELETE FROM model WHERE id = ?1 AND deleted_at > 0",
    };
    const struct dead_model *model = context;
    return run_all(tx, statements, sizeof statements / sizeof *statements, model->id);
}

static struct error purge_model(const struct round *round, struct arena *arena, struct dead_model *model)
{
    TRY(remove_folders(round, arena, model->id));
    TRY(db_write(round->domain->db, empty_model, model));
    TRY(purge_all_assets(round,
                         "SELECT a.id, a.project_id, a.tags FROM asset a WHERE a.project_id = ?2 "
                         "AND " ASSET_OF_MODEL " AND NOT (" ASSET_NEEDED_ELSEWHERE " OR " ASSET_COLLECTED ") LIMIT ?3",
                         db_t(model->id), db_t(model->project_id)));
    if (must_stop(round))
        return OK;
    TRY(db_write(round->domain->db, forget_model, model));
    round->purged->models++;
    return OK;
}

static struct error purge_models(const struct round *round)
{
    char after_id[id_size] = "";
    struct dead_model after = {0, after_id, NULL};
    struct error last = OK;
    for (int i = 0; i < purge_models_max && !must_stop(round); i++) {
        struct arena arena;
        struct dead_model model;
        arena_init(&arena, arena_bytes_max);
        struct error error = next_model(round, &arena, &after, &model);
        const bool found = !error.code && model.id;
        if (found) {
            error = purge_model(round, &arena, &model);
            after.deleted_at = model.deleted_at;
            memcpy(after_id, model.id, strnlen(model.id, id_size - 1) + 1);
        }
        arena_finish(&arena);
        if (error.code)
            last = error;
        if (!found)
            break;
    }
    return last;
}

struct error purge_run(const struct domain *domain, const struct purge *purge, struct purged *purged)
{
    *purged = (struct purged){0};
    const struct round round = {domain, purge, purged, clock_now_ms() - purge->age_ms};
    const struct error models = purge_models(&round), assets = purge_deleted_assets(&round);
    return assets.code ? assets : models;
}
