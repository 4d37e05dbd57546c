#include "domain/model_index.h"

#include <string.h>

#include "base/json.h"

static struct error insert_label(struct db_tx *tx, const char *model_id, const char *label)
{
    return db_execute(tx, NULL,
                      "INSERT INTO model_label (model_id, label, project_id, privacy, type, status, deleted_at, "
                      "created_at, updated_at, score) SELECT id, ?2, project_id, privacy, type, status, deleted_at, "
                      "created_at, updated_at, score FROM model WHERE id = ?1 ON CONFLICT DO NOTHING",
                      DB_BIND(db_t(model_id), db_t(label)));
}

static struct error insert_labels(struct db_tx *tx, struct arena *arena, const char *model_id, const char *kind,
                                  const char *names)
{
    const struct json *array;
    if (!strcmp(names, "[]"))
        return OK;
    TRY(json_parse(arena, names, strlen(names), &array));
    JSON_EACH (name, array) {
        TRY(insert_label(tx, model_id, arena_printf(arena, "%s:%s", kind, name->text ? name->text : "")));
    }
    return OK;
}

struct error model_index_labels(struct db_tx *tx, struct arena *arena, const char *model_id)
{
    struct db_rows *rows;
    bool row;
    TRY(db_execute(tx, NULL, "DELETE FROM model_label WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    TRY(db_query(tx, &rows, "SELECT tags, collection_ids FROM model WHERE id = ?1", DB_BIND(db_t(model_id))));
    TRY(db_next(rows, &row));
    if (!row)
        return OK;
    const char *tags = db_text(arena, rows, 0), *collection_ids = db_text(arena, rows, 1);
    TRY(db_next(rows, &row));
    TRY(insert_labels(tx, arena, model_id, "tag", tags));
    return insert_labels(tx, arena, model_id, "collection", collection_ids);
}

int64_t model_score(const struct model_worth *worth)
{
    enum { day_s = 24 * 60 * 60, doublings_max = 20 };
    int64_t score = worth->created_at / 1000, doublings = 0;
    for (int64_t uses = 1 + worth->uses; uses > 1 && doublings < doublings_max; uses /= 2)
        doublings++;
    score += worth->trained ? 30 * day_s : 0;
    score += worth->has_examples ? 14 * day_s : 0;
    score += worth->has_picture ? 7 * day_s : 0;
    return score + 7 * day_s * doublings;
}

struct error model_index_score(struct db_tx *tx, const char *model_id)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows,
                 "SELECT created_at, CASE WHEN status = 'trained' THEN 1 ELSE 0 END, "
                 "CASE WHEN example_asset_ids <> '[]' THEN 1 ELSE 0 END, "
                 "CASE WHEN thumbnail_asset_id IS NOT NULL OR training_image_count > 0 THEN 1 ELSE 0 END, "
                 "copy_count + download_count FROM model WHERE id = ?1",
                 DB_BIND(db_t(model_id))));
    TRY(db_next(rows, &row));
    if (!row)
        return OK;
    struct model_worth worth = {db_int(rows, 0), db_int(rows, 1), db_int(rows, 2), db_int(rows, 3), db_int(rows, 4)};
    TRY(db_next(rows, &row));
    return db_execute(tx, NULL, "UPDATE model SET score = ?2 WHERE id = ?1 AND score <> ?2",
                      DB_BIND(db_t(model_id), db_i(model_score(&worth))));
}

struct error model_index_shown(struct db_tx *tx, const char *model_id)
{
    TRY(db_execute(tx, NULL, "DELETE FROM shown_asset WHERE model_id = ?1", DB_BIND(db_t(model_id))));
    return db_execute(tx, NULL,
                      "INSERT INTO shown_asset (model_id, asset_id, created_at, updated_at) "
                      "SELECT m.id, a.id, a.created_at, a.updated_at FROM model m JOIN asset a ON a.id IN "
                      "(SELECT asset_id FROM training_image WHERE model_id = ?1 "
                      "UNION SELECT asset_id FROM model_example WHERE model_id = ?1 "
                      "UNION SELECT thumbnail_asset_id FROM model WHERE id = ?1) "
                      "WHERE m.id = ?1 AND m.privacy = 'public' AND m.deleted_at = 0 AND a.deleted_at = 0",
                      DB_BIND(db_t(model_id)));
}
