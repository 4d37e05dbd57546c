#include "domain/training_pair.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "domain/dataset.h"

struct error training_pairs_list(struct db_tx *tx, struct arena *arena, const char *model_id, size_t limit,
                                 struct training_pair **pairs, size_t *count)
{
    struct db_rows *rows;
    *pairs = arena_array(arena, limit, sizeof **pairs);
    TRY(db_query(tx, &rows,
                 "SELECT source_id, target_id, instruction FROM training_pair WHERE model_id = ?1 "
                 "ORDER BY position LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i((int64_t)limit))));
    for (*count = 0;; (*count)++) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        (*pairs)[*count] =
            (struct training_pair){db_text(arena, rows, 0), db_text(arena, rows, 1), db_text(arena, rows, 2)};
    }
}

struct error training_pair_insert(struct db_tx *tx, const struct model *model, size_t position,
                                  const struct training_pair *pair)
{
    return db_execute(tx, NULL,
                      "INSERT INTO training_pair (model_id, project_id, position, source_id, target_id, instruction) "
                      "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                      DB_BIND(db_t(model->id), db_t(model->project_id), db_i((int64_t)position), db_t(pair->source_id),
                              db_t(pair->target_id), db_t(pair->instruction)));
}

/* The first ones, so that a page of models is one query. */
struct error training_pairs_changed(struct db_tx *tx, struct arena *arena, const char *model_id)
{
    enum { preview_bytes_max = 1 << 20 };
    struct training_pair *pairs;
    struct buf text;
    size_t count;
    TRY(training_pairs_list(tx, arena, model_id, model_preview_images, &pairs, &count));
    buf_init(&text, preview_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(&writer, NULL, '{');
        json_put_string(&writer, "sourceId", pairs[i].source_id);
        json_put_string(&writer, "targetId", pairs[i].target_id);
        json_put_string(&writer, "instruction", pairs[i].instruction);
        json_close(&writer, '}');
    }
    json_close(&writer, ']');
    struct error error = buf_error(&text);
    if (!error.code)
        error = db_execute(tx, NULL, "UPDATE model SET training_pair_preview = ?2 WHERE id = ?1",
                           DB_BIND(db_t(model_id), db_t(text.data)));
    buf_finish(&text);
    return error;
}

struct error training_pairs_read(struct arena *arena, const char *text, struct training_pair **pairs, size_t *count)
{
    const struct json *list;
    if (!strcmp(text, "[]"))
        return OK;
    TRY(json_parse(arena, text, strlen(text), &list));
    *pairs = arena_array(arena, list->count + 1, sizeof **pairs);
    JSON_EACH (pair, list) {
        (*pairs)[(*count)++] = (struct training_pair){
            json_string(pair, "sourceId", ""), json_string(pair, "targetId", ""), json_string(pair, "instruction", "")};
    }
    return OK;
}

struct work {
    struct arena *arena;
    const struct caller *caller;
    const char *model_id;
    const struct training_pair *pairs;
    size_t count;
};

struct members {
    const char **ids; /* sorted */
    size_t count;
};

static int compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static struct error list_members(struct db_tx *tx, struct arena *arena, const char *model_id, struct members *members)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT asset_id FROM training_image WHERE model_id = ?1 LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i(training_images_max))));
    *members = (struct members){.ids = arena_array(arena, training_images_max, sizeof *members->ids)};
    for (bool row = true; row;) {
        TRY(db_next(rows, &row));
        if (row)
            members->ids[members->count++] = db_text(arena, rows, 0);
    }
    qsort(members->ids, members->count, sizeof *members->ids, compare);
    return OK;
}

static struct error check_side(struct arena *arena, const struct members *members, size_t index, const char *name,
                               const char *id)
{
    if (bsearch(&id, members->ids, members->count, sizeof *members->ids, compare))
        return OK;
    return error_field(arena_printf(arena, "[%zu].%s", index, name), "%.64s is not a training image of this model", id);
}

static struct error replace_pairs(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct model model;
    struct members members;
    TRY(model_find_idle(tx, work->arena, work->caller, work->model_id, &model));
    TRY(list_members(tx, work->arena, model.id, &members));
    TRY(db_execute(tx, NULL, "DELETE FROM training_pair WHERE model_id = ?1", DB_BIND(db_t(model.id))));
    for (size_t i = 0; i < work->count; i++) {
        TRY(check_side(work->arena, &members, i, "sourceId", work->pairs[i].source_id));
        TRY(check_side(work->arena, &members, i, "targetId", work->pairs[i].target_id));
        TRY(training_pair_insert(tx, &model, i, &work->pairs[i]));
    }
    return dataset_changed(tx, work->arena, model.id);
}

struct error training_pairs_replace(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                    const char *model_id, const struct training_pair *pairs, size_t count)
{
    struct work work = {arena, caller, model_id, pairs, count};
    return db_write(domain->db, replace_pairs, &work);
}
