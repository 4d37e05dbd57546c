#include "domain/example.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "domain/model.h"
#include "domain/model_index.h"

/* Each job is read once, whatever it made. What another project's job did is told to that project only. */
static struct error read_jobs(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                              struct example_list *list)
{
    const char *ids[examples_max];
    struct job *jobs = arena_array(arena, examples_max, sizeof *jobs);
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const char *id = list->examples[i].asset.job_id;
        size_t at = 0;
        while (id && at < count && strcmp(ids[at], id) != 0)
            at++;
        if (!id)
            continue;
        ids[at] = id;
        count += at == count;
        list->examples[i].job = &jobs[at];
    }
    TRY(job_list_ids(tx, arena, ids, count, jobs));
    for (size_t i = 0; i < list->count; i++) {
        const struct job *job = list->examples[i].job;
        if (!job || !job->id || job_check_readable(caller, job).code)
            list->examples[i].job = NULL;
    }
    return OK;
}

static struct error read_list(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *model_id,
                              struct example_list *list)
{
    struct db_rows *rows;
    *list = (struct example_list){arena_strdup(arena, model_id),
                                  arena_array(arena, examples_max, sizeof *list->examples), 0};
    TRY(db_query(tx, &rows,
                 "SELECT " ASSET_COLUMNS " FROM model_example e JOIN asset a ON a.id = e.asset_id "
                 "WHERE e.model_id = ?1 AND a.deleted_at = 0 ORDER BY e.position LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i(examples_max))));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return read_jobs(tx, arena, caller, list);
        asset_read(arena, rows, 0, &list->examples[list->count++].asset);
    }
}

struct error example_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const char *model_id, struct example_list *list)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct model model;
    TRY(db_read_begin(domain->db, &tx));
    TRY(model_find_readable(tx, arena, caller, model_id, &model));
    return read_list(tx, arena, caller, model_id, list);
}

struct error example_store(struct db_tx *tx, struct arena *arena, const char *model_id, const char *const *asset_ids,
                           size_t count)
{
    TRY(db_execute(tx, NULL, "DELETE FROM model_example WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    for (size_t i = 0; i < count; i++)
        TRY(db_execute(tx, NULL, "INSERT INTO model_example (model_id, asset_id, position) VALUES (?1, ?2, ?3)",
                       DB_BIND(db_t(model_id), db_t(asset_ids[i]), db_i((int64_t)i))));
    TRY(db_execute(tx, NULL, "UPDATE model SET example_asset_ids = ?2, updated_at = ?3 WHERE id = ?1",
                   DB_BIND(db_t(model_id), db_t(json_from_strings(arena, asset_ids, count)), db_i(clock_now_ms()))));
    TRY(model_index_shown(tx, model_id));
    return model_index_score(tx, model_id);
}

struct error example_ids(struct db_tx *tx, struct arena *arena, const char *model_id, const char ***asset_ids,
                         size_t *count)
{
    struct db_rows *rows;
    *asset_ids = arena_array(arena, examples_max, sizeof **asset_ids);
    TRY(db_query(tx, &rows, "SELECT asset_id FROM model_example WHERE model_id = ?1 ORDER BY position LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i(examples_max))));
    for (*count = 0;;) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        (*asset_ids)[(*count)++] = db_text(arena, rows, 0);
    }
}

struct error example_change(struct db_tx *tx, const struct asset_map *map, const char *model_id)
{
    const char **ids;
    size_t count, kept = 0;
    bool changed = false;
    TRY(example_ids(tx, map->arena, model_id, &ids, &count));
    for (size_t i = 0; i < count; i++) {
        changed |= asset_map_find(map, ids[i]) != NULL;
        ids[kept] = asset_map_get(map, ids[i]);
        kept += ids[kept] != NULL;
    }
    return changed ? example_store(tx, map->arena, model_id, ids, kept) : OK;
}

struct replace_work {
    struct arena *arena;
    const struct caller *caller;
    const char *model_id;
    const char *const *asset_ids;
    size_t count;
    struct example_list *list;
};

static struct error check_ids(struct db_tx *tx, const struct replace_work *work)
{
    struct asset asset;
    for (size_t i = 0; i < work->count; i++) {
        for (size_t other = 0; other < i; other++)
            if (!strcmp(work->asset_ids[i], work->asset_ids[other]))
                return error_field(arena_printf(work->arena, "assetIds[%zu]", i), "is the same as assetIds[%zu]",
                                   other);
        TRY(asset_find_owned(tx, work->arena, work->caller, work->asset_ids[i], &asset));
    }
    return OK;
}

static struct error replace_examples(struct db_tx *tx, void *context)
{
    const struct replace_work *work = context;
    struct model model;
    TRY(model_find_owned(tx, work->arena, work->caller, work->model_id, &model));
    TRY(check_ids(tx, work));
    TRY(example_store(tx, work->arena, work->model_id, work->asset_ids, work->count));
    return read_list(tx, work->arena, work->caller, work->model_id, work->list);
}

struct error example_replace(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *const *asset_ids, size_t count,
                             struct example_list *list)
{
    struct replace_work work = {arena, caller, model_id, asset_ids, count, list};
    return db_write(domain->db, replace_examples, &work);
}
