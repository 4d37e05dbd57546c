#include "domain/model_delete.h"

#include <string.h>

#include "base/clock.h"
#include "domain/access.h"
#include "domain/model_index.h"
#include "domain/tag.h"
#include "domain/training.h"

struct work {
    struct arena *arena;
    const struct caller *caller;
    const char *id;
    int64_t purge_age_ms;
    struct model *restored;
};

static struct error delete_model(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct model model;
    const int64_t now_ms = clock_now_ms();
    TRY(model_find_owned(tx, work->arena, work->caller, work->id, &model));
    if (model_is_training(&model))
        TRY(training_stop(tx, work->arena, &model, now_ms));
    TRY(tag_unindex(tx, work->arena, &(struct tag_item){TAG_MODEL, model.id, model.project_id, model.tags}));
    TRY(db_execute(tx, NULL, "UPDATE model SET deleted_at = ?2, updated_at = ?2 WHERE id = ?1",
                   DB_BIND(db_t(model.id), db_i(now_ms))));
    return model_index_shown(tx, model.id);
}

struct error model_delete(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id)
{
    return db_write(domain->db, delete_model, &(struct work){.arena = arena, .caller = caller, .id = id});
}

/* Deleted or not; access.h decides as if it were not. */
static struct error find_deleted(struct db_tx *tx, const struct work *work, int64_t *deleted_at)
{
    struct db_rows *rows;
    struct access_thing thing = {0};
    bool row;
    TRY(db_query(tx, &rows, "SELECT project_id, privacy, deleted_at FROM model WHERE id = ?1",
                 DB_BIND(db_t(work->id))));
    TRY(db_next(rows, &row));
    if (!row)
        return error_make(ERR_NOT_FOUND, "Model %.64s not found", work->id);
    thing.project_id = db_text(work->arena, rows, 0);
    thing.privacy = db_text(work->arena, rows, 1);
    *deleted_at = db_int(rows, 2);
    while (row)
        TRY(db_next(rows, &row));
    if (*deleted_at && strcmp(thing.project_id, work->caller->project_id) != 0)
        thing.deleted = true; /* to others it is gone, public as it may have been */
    return access_check(work->caller, ACCESS_CHANGE, &thing, "Model", work->id);
}

static struct error restore_model(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    int64_t deleted_at = 0, now_ms = clock_now_ms();
    TRY(find_deleted(tx, work, &deleted_at));
    if (!deleted_at)
        return error_make(ERR_INVALID, "Model %.64s is not deleted", work->id);
    if (deleted_at <= now_ms - work->purge_age_ms)
        return error_make(ERR_GONE, "Model %.64s was deleted too long ago to be restored", work->id);
    TRY(db_execute(tx, NULL,
                   "UPDATE model SET deleted_at = 0, tags = '[]', collection_ids = '[]', updated_at = ?2 WHERE id = ?1",
                   DB_BIND(db_t(work->id), db_i(now_ms))));
    TRY(model_index_labels(tx, work->arena, work->id));
    TRY(model_index_shown(tx, work->id));
    TRY(model_find(tx, work->arena, work->id, work->restored));
    return model_read_data(tx, work->arena, work->restored);
}

struct error model_restore(const struct domain *domain, struct arena *arena, const struct caller *caller,
                           const char *id, struct model *model)
{
    struct work work = {arena, caller, id, domain->purge_age_ms, model};
    return db_write(domain->db, restore_model, &work);
}
