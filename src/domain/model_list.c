#include "domain/model_list.h"

#include <string.h>

#include "domain/access.h"
#include "domain/dataset.h"
#include "domain/page.h"

/* Ranges. Each shape is what one range has in common; with an order and a direction it is one statement, served by the
 * index of the same prefix (migration 2). ?1 ?2 is where the page starts, ?3 the last value that still matters, ?4 the
 * number of rows, and from ?5 on come the values of the shape. */

#define IN_ORDER(id, table, where, column, less, more, direction)                                                      \
    "SELECT " column ", " id " FROM " table " WHERE " where " AND (" column ", " id ") " less " (?1, ?2) AND " column  \
    " " more " ?3 ORDER BY " column " " direction ", " id " " direction " LIMIT ?4"
#define BOTH_WAYS(id, table, where, column)                                                                            \
    {                                                                                                                  \
        IN_ORDER(id, table, where, column, "<", ">=", "DESC"), IN_ORDER(id, table, where, column, ">", "<=", "ASC")    \
    }
#define STATEMENTS(id, table, where)                                                                                   \
    {                                                                                                                  \
        [MODEL_BY_CREATED] = BOTH_WAYS(id, table, where, "created_at"),                                                \
        [MODEL_BY_UPDATED] = BOTH_WAYS(id, table, where, "updated_at"),                                                \
        [MODEL_BY_SCORE] = BOTH_WAYS(id, table, where, "score"),                                                       \
    }
#define MODELS(where) STATEMENTS("id", "model", where)
#define LABELS(where) STATEMENTS("model_id", "model_label", where)

#define ALIVE " AND deleted_at = 0"
#define DELETED " AND deleted_at > 0"
#define PUBLIC "privacy = 'public'" ALIVE
/* And one of up to model_labels_max other labels, for tags and collections at once. */
#define ALSO                                                                                                           \
    " AND EXISTS (SELECT 1 FROM model_label also WHERE also.model_id = model_label.model_id AND also.label IN "        \
    "(?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27))"

enum shape {
    OWN,
    OWN_STATUS,
    OWN_DELETED,
    OWN_LABEL_STATUS,
    OWN_LABEL_DELETED,
    ANY,
    TYPE_STATUS,
    LABEL,
    LABEL_TYPE_STATUS,
    LABEL_ALSO,
    LABEL_TYPE_STATUS_ALSO,
    shapes
};

static const char *const statements[shapes][model_orders][2] = {
    [OWN] = MODELS("project_id = ?5" ALIVE),
    [OWN_STATUS] = MODELS("project_id = ?5 AND status = ?6" ALIVE),
    [OWN_DELETED] = MODELS("project_id = ?5" DELETED),
    [OWN_LABEL_STATUS] = LABELS("project_id = ?5 AND label = ?6 AND status = ?7" ALIVE),
    [OWN_LABEL_DELETED] = LABELS("project_id = ?5 AND label = ?6" DELETED),
    [ANY] = MODELS(PUBLIC),
    [TYPE_STATUS] = MODELS("type = ?5 AND status = ?6 AND " PUBLIC),
    [LABEL] = LABELS("label = ?5 AND " PUBLIC),
    [LABEL_TYPE_STATUS] = LABELS("label = ?5 AND type = ?6 AND status = ?7 AND " PUBLIC),
    [LABEL_ALSO] = LABELS("label = ?5 AND ?6 IS NULL AND ?7 IS NULL AND " PUBLIC ALSO),
    [LABEL_TYPE_STATUS_ALSO] = LABELS("label = ?5 AND type = ?6 AND status = ?7 AND " PUBLIC ALSO),
};

const char *model_list_statement(size_t index)
{
    const size_t per_shape = model_orders * 2;
    return index < shapes * per_shape ? statements[index / per_shape][index % per_shape / 2][index % 2] : NULL;
}

static const char *const list_names[model_orders][2] = {
    [MODEL_BY_CREATED] = {"models created down", "models created up"},
    [MODEL_BY_UPDATED] = {"models updated down", "models updated up"},
    [MODEL_BY_SCORE] = {"models score down", "models score up"},
};

static const char *const any_status[] = {"trained", "new", "training", "failed", "training-canceled", "copying"};

struct names {
    const char *const *list;
    size_t count;
};

/* A page in the making. */
struct walk {
    struct page_walk page;
    struct db_tx *tx;
    struct arena *arena;
    const struct model_filter *filter;
    struct names labels, also; /* also: of the other kind, one of which must be there as well */
    struct names types, statuses;
};

static struct error take(struct walk *walk, enum shape shape, const struct db_value *own, size_t own_count)
{
    const struct model_filter *filter = walk->filter;
    return page_walk_take(&walk->page, statements[shape][filter->order][filter->ascending], own, own_count);
}

static struct error take_own(struct walk *walk, const char *project_id)
{
    const char *status = walk->filter->status;
    const struct db_value project = db_t(project_id);
    bool deleted = status && !strcmp(status, "deleted");
    if (!walk->labels.count && !status)
        return take(walk, OWN, DB_BIND(project));
    if (!walk->labels.count && deleted)
        return take(walk, OWN_DELETED, DB_BIND(project));
    if (!walk->labels.count)
        return take(walk, OWN_STATUS, DB_BIND(project, db_t(status)));
    for (size_t i = 0; i < walk->labels.count; i++) {
        const struct db_value label = db_t(walk->labels.list[i]);
        if (deleted)
            TRY(take(walk, OWN_LABEL_DELETED, DB_BIND(project, label)));
        for (size_t s = 0; s < walk->statuses.count && !deleted; s++)
            TRY(take(walk, OWN_LABEL_STATUS, DB_BIND(project, label, db_t(walk->statuses.list[s]))));
    }
    return OK;
}

static struct error take_label(struct walk *walk, const char *label, const char *type, const char *status)
{
    struct db_value own[3 + model_labels_max] = {db_t(label), db_t(type), db_t(status)};
    if (!walk->also.count)
        return take(walk, type ? LABEL_TYPE_STATUS : LABEL, own, type ? 3 : 1);
    for (size_t i = 0; i < model_labels_max; i++)
        own[3 + i] = db_t(i < walk->also.count ? walk->also.list[i] : NULL);
    return take(walk, type ? LABEL_TYPE_STATUS_ALSO : LABEL_ALSO, own, 3 + model_labels_max);
}

/* Each label, or all models when there is none, with this type and status; NULL for any of both. */
static struct error take_kind(struct walk *walk, const char *type, const char *status)
{
    if (!walk->labels.count && type)
        return take(walk, TYPE_STATUS, DB_BIND(db_t(type), db_t(status)));
    if (!walk->labels.count)
        return take(walk, ANY, DB_NO_BIND);
    for (size_t i = 0; i < walk->labels.count; i++)
        TRY(take_label(walk, walk->labels.list[i], type, status));
    return OK;
}

/* The types that public models have, one seek each, for a status without types. */
static struct error list_types(struct walk *walk, struct names *types)
{
    enum { types_max = 100 };
    const char **list = arena_array(walk->arena, types_max, sizeof *list);
    const char *last = "";
    *types = (struct names){list, 0};
    while (types->count < types_max) {
        struct db_rows *rows;
        bool row;
        TRY(db_query(walk->tx, &rows,
                     "SELECT type FROM model WHERE type > ?1 AND privacy = 'public' AND deleted_at = 0 "
                     "ORDER BY type LIMIT 1",
                     DB_BIND(db_t(last))));
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        list[types->count++] = last = db_text(walk->arena, rows, 0);
        TRY(db_next(rows, &row));
    }
    return error_make(ERR_INTERNAL, "public models have more than %d types", types_max);
}

static struct error take_public(struct walk *walk)
{
    if (!walk->types.count && !walk->filter->status)
        return take_kind(walk, NULL, NULL);
    if (!walk->types.count)
        TRY(list_types(walk, &walk->types));
    for (size_t s = 0; s < walk->statuses.count; s++)
        for (size_t t = 0; t < walk->types.count; t++)
            TRY(take_kind(walk, walk->types.list[t], walk->statuses.list[s]));
    return OK;
}

static struct names labels_of(struct arena *arena, const char *kind, const char *const *names, size_t count)
{
    const char **labels = arena_array(arena, count + 1, sizeof *labels);
    for (size_t i = 0; i < count; i++)
        labels[i] = arena_printf(arena, "%s:%s", kind, names[i]);
    return (struct names){labels, count};
}

/* How many models carry one of the labels, as far as that matters: at most label_count_max for each. */
static struct error count_labels(struct walk *walk, const struct names *labels, int64_t *count)
{
    enum { label_count_max = 300 };
    *count = 0;
    for (size_t i = 0; i < labels->count; i++) {
        struct db_rows *rows;
        bool row;
        TRY(db_query(walk->tx, &rows,
                     "SELECT count(*) FROM (SELECT 1 FROM model_label WHERE label = ?1 AND privacy = 'public' "
                     "AND deleted_at = 0 LIMIT ?2) AS some",
                     DB_BIND(db_t(labels->list[i]), db_i(label_count_max))));
        TRY(db_next(rows, &row));
        *count += db_int(rows, 0);
        TRY(db_next(rows, &row));
    }
    return OK;
}

/* Walk the rarer kind and look up the other. */
static struct error choose_labels(struct walk *walk)
{
    const struct model_filter *filter = walk->filter;
    struct names tags = labels_of(walk->arena, "tag", filter->tags, filter->tag_count);
    struct names collections = labels_of(walk->arena, "collection", filter->collection_ids, filter->collection_count);
    int64_t tagged = 0, collected = 0;
    if (tags.count && collections.count) {
        TRY(count_labels(walk, &tags, &tagged));
        TRY(count_labels(walk, &collections, &collected));
    }
    bool by_tags = !collections.count || (tags.count && tagged < collected);
    walk->labels = by_tags ? tags : collections;
    walk->also = by_tags ? collections : tags;
    return OK;
}

static struct error find_page(struct walk *walk, const struct caller *caller, const struct page_bounds *bounds)
{
    const struct model_filter *filter = walk->filter;
    walk->types = (struct names){filter->types, filter->type_count};
    walk->statuses = (struct names){any_status, sizeof any_status / sizeof any_status[0]};
    if (filter->status)
        walk->statuses = (struct names){&filter->status, 1};
    TRY(page_walk_start(&walk->page, walk->tx, walk->arena, bounds));
    TRY(choose_labels(walk));
    return filter->public ? take_public(walk) : take_own(walk, caller->project_id);
}

/* Rows by ids. */

static struct error read_some(struct db_tx *tx, struct arena *arena, const char *const *ids, size_t count,
                              struct model *models)
{
    struct db_rows *rows;
    TRY(db_query_in(tx, &rows, "SELECT " MODEL_COLUMNS " FROM model WHERE id IN (" DB_IN ")", ids, count));
    for (bool row;;) {
        struct model model;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        TRY(model_read(arena, rows, &model));
        for (size_t i = 0; i < count; i++) {
            if (!strcmp(ids[i], model.id))
                models[i] = model;
        }
    }
}

/* A model for each id; its id is NULL where there is none. */
static struct error read_by_ids(struct db_tx *tx, struct arena *arena, const char *const *ids, size_t count,
                                struct model *models)
{
    for (size_t at = 0; at < count; at += db_in_max)
        TRY(read_some(tx, arena, ids + at, count - at < db_in_max ? count - at : db_in_max, models + at));
    return OK;
}

struct error model_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                        const struct model_filter *filter, struct model_page *page)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    const struct page_bounds bounds = {
        .token = filter->token,
        .list = list_names[filter->order][filter->ascending],
        .ascending = filter->ascending,
        .after = filter->after,
        .before = filter->before,
        .page_size = filter->page_size,
    };
    const char **ids;
    TRY(db_read_begin(domain->db, &tx));
    struct walk walk = {.tx = tx, .arena = arena, .filter = filter};
    TRY(find_page(&walk, caller, &bounds));
    *page = (struct model_page){0};
    page->next_token = page_walk_end(&walk.page, &ids, &page->count);
    page->models = arena_array(arena, page->count + 1, sizeof *page->models);
    return read_by_ids(tx, arena, ids, page->count, page->models);
}

static bool asked_before(const char *const *ids, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (!strcmp(ids[i], ids[index]))
            return true;
    return false;
}

static struct error load_images(struct db_tx *tx, struct arena *arena, struct model *models, size_t count)
{
    int64_t images = 0;
    for (size_t i = 0; i < count; i++)
        images += models[i].training_image_count;
    if (images > model_bulk_images_max)
        return error_field("allTrainingImages", "would make %lld training images, at most %d: ask for fewer models",
                           (long long)images, model_bulk_images_max);
    return dataset_list_many(tx, arena, models, count);
}

struct error model_get_bulk(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *const *ids, size_t count, bool all_images, struct model **models,
                            size_t *model_count)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct model *found = arena_array(arena, count + 1, sizeof *found);
    *models = found;
    *model_count = 0;
    TRY(db_read_begin(domain->db, &tx));
    TRY(read_by_ids(tx, arena, ids, count, found));
    for (size_t i = 0; i < count; i++) {
        if (!found[i].id || asked_before(ids, i))
            continue;
        struct access_thing thing = {found[i].project_id, found[i].privacy, found[i].deleted_at != 0};
        if (access_decide(caller, ACCESS_READ, &thing) == ACCESS_GRANTED)
            found[(*model_count)++] = found[i];
    }
    return all_images ? load_images(tx, arena, found, *model_count) : OK;
}
