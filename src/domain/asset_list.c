#include "domain/asset_list.h"

#include <string.h>

#include "domain/access.h"
#include "domain/page.h"

/* Ranges: ?5 is the project, ?6 an author, ?7 a model, ?8 an inference, ?9 a parent, ?10 a root, ?11 a type,
 * ?12 a collection, ?13 a tag. A shape is driven by the index of one of them (migrations 3 and 4), the others are
 * looked at row by row; `|| ''` keeps the planner from other indices. */

#define OTHERS                                                                                                         \
    " AND a.deleted_at = 0 AND (?6 IS NULL OR a.author_id = ?6) AND (?7 IS NULL OR a.model_id = ?7) "                  \
    "AND (?8 IS NULL OR a.inference_id = ?8) AND (?9 IS NULL OR a.parent_id = ?9) "                                    \
    "AND (?10 IS NULL OR a.root_parent_id = ?10) AND (?11 IS NULL OR a.type = ?11) "                                   \
    "AND (?12 IS NULL OR EXISTS (SELECT 1 FROM collection_asset k WHERE k.collection_id = ?12 AND k.asset_id = "       \
    "a.id)) "                                                                                                          \
    "AND (?13 IS NULL OR EXISTS (SELECT 1 FROM asset_tag h WHERE h.asset_id = a.id AND h.name = ?13))"
#define IN_ORDER(table, where, column, id, less, more, direction)                                                      \
    "SELECT DISTINCT " column ", " id " FROM " table " WHERE " where OTHERS " AND (" column ", " id ") " less          \
    " (?1, ?2) AND " column " " more " ?3 ORDER BY " column " " direction ", " id " " direction " LIMIT ?4"
#define BOTH_WAYS(table, where, column, id)                                                                            \
    {                                                                                                                  \
        IN_ORDER(table, where, column, id, "<", ">=", "DESC"), IN_ORDER(table, where, column, id, ">", "<=", "ASC")    \
    }
#define ORDERS(table, where, prefix, id)                                                                               \
    {                                                                                                                  \
        BOTH_WAYS(table, where, prefix ".created_at", id), BOTH_WAYS(table, where, prefix ".updated_at", id)           \
    }
#define ASSETS(where) ORDERS("asset a", where, "a", "a.id")
#define MINE " AND a.project_id || '' = ?5"

/* One asset may be shown by many models. */
#define SHOWN "shown_asset s JOIN asset a ON a.id = s.asset_id"
/* Those with a rare tag are gathered and sorted: CROSS keeps the order of the tables. */
#define TAGGED "asset_tag g CROSS JOIN shown_asset s CROSS JOIN asset a"

enum shape {
    OWN,
    OF_AUTHOR,
    OF_TYPE,
    OF_MODEL,
    OF_INFERENCE,
    OF_PARENT,
    OF_ROOT,
    OF_COLLECTION,
    OF_SHOWN,
    OF_RARE_TAG,
    shapes
};

static const char *const statements[shapes][2][2] = {
    [OWN] = ASSETS("a.project_id = ?5"),
    [OF_AUTHOR] = ASSETS("a.project_id = ?5 AND a.author_id = ?6"),
    [OF_TYPE] = ASSETS("a.project_id = ?5 AND a.type = ?11"),
    [OF_MODEL] = ASSETS("a.model_id = ?7" MINE),
    [OF_INFERENCE] = ASSETS("a.inference_id = ?8" MINE),
    [OF_PARENT] = ASSETS("a.parent_id = ?9" MINE),
    [OF_ROOT] = ASSETS("a.root_parent_id = ?10" MINE),
    [OF_COLLECTION] =
        ORDERS("collection_asset c JOIN asset a ON a.id = c.asset_id", "c.collection_id = ?12" MINE, "c", "c.asset_id"),
    [OF_SHOWN] = ORDERS(SHOWN, "?5 IS NOT NULL", "s", "s.asset_id"),
    [OF_RARE_TAG] = ORDERS(TAGGED, "?5 IS NOT NULL AND g.name = ?13 AND s.asset_id = g.asset_id AND a.id = g.asset_id",
                           "s", "s.asset_id"),
};

const char *asset_list_statement(size_t index)
{
    return index < shapes * 4 ? statements[index / 4][index % 4 / 2][index % 2] : NULL;
}

static const char *const list_names[2][2] = {{"assets created down", "assets created up"},
                                             {"assets updated down", "assets updated up"}};

/* The rarest filter drives. */
static enum shape choose_shape(const struct asset_filter *filter)
{
    return filter->public           ? OF_SHOWN
           : filter->inference_id   ? OF_INFERENCE
           : filter->parent_id      ? OF_PARENT
           : filter->root_parent_id ? OF_ROOT
           : filter->collection_id  ? OF_COLLECTION
           : filter->model_id       ? OF_MODEL
           : filter->type_count     ? OF_TYPE
           : filter->author_id      ? OF_AUTHOR
                                    : OWN;
}

static struct error is_rare(struct db_tx *tx, const char *tag, bool *rare)
{
    enum { rare_max = 2000 }; /* assets: more are met soon enough by walking what is shown, up to 100,000 */
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT count(*) FROM (SELECT 1 FROM asset_tag WHERE name = ?1 LIMIT ?2) AS some",
                 DB_BIND(db_t(tag), db_i(rare_max + 1))));
    TRY(db_next(rows, &row));
    *rare = db_int(rows, 0) <= rare_max;
    return db_next(rows, &row);
}

static struct error take(struct page_walk *walk, const struct caller *caller, const struct asset_filter *filter,
                         const char *type, const char *tag)
{
    enum shape shape = choose_shape(filter);
    bool rare = false;
    if (tag)
        TRY(is_rare(walk->tx, tag, &rare));
    if (rare)
        shape = OF_RARE_TAG;
    return page_walk_take(walk, statements[shape][filter->by_update][filter->ascending],
                          DB_BIND(db_t(caller->project_id), db_t(filter->author_id), db_t(filter->model_id),
                                  db_t(filter->inference_id), db_t(filter->parent_id), db_t(filter->root_parent_id),
                                  db_t(type), db_t(filter->collection_id), db_t(tag)));
}

/* A range for each type and each tag. */
static struct error take_all(struct page_walk *walk, const struct caller *caller, const struct asset_filter *filter)
{
    const size_t types = filter->type_count ? filter->type_count : 1, tags = filter->tag_count ? filter->tag_count : 1;
    for (size_t type = 0; type < types; type++)
        for (size_t tag = 0; tag < tags; tag++)
            TRY(take(walk, caller, filter, filter->type_count ? filter->types[type] : NULL,
                     filter->tag_count ? filter->tags[tag] : NULL));
    return OK;
}

struct error asset_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                        const struct asset_filter *filter, struct asset_page *page)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    const struct page_bounds bounds = {
        .token = filter->token,
        .list = list_names[filter->by_update][filter->ascending],
        .ascending = filter->ascending,
        .after = filter->after,
        .before = filter->before,
        .page_size = filter->page_size,
    };
    struct page_walk walk;
    const char **ids;
    size_t count;
    TRY(db_read_begin(domain->db, &tx));
    TRY(page_walk_start(&walk, tx, arena, &bounds));
    TRY(take_all(&walk, caller, filter));
    page->next_token = page_walk_end(&walk, &ids, &count);
    return asset_list_ids(tx, arena, caller, ids, count, &page->assets, &page->count);
}

/* By ids. */

static bool asked_before(const char *const *ids, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (!strcmp(ids[i], ids[index]))
            return true;
    return false;
}

/* An asset for each of at most db_in_max ids; its id stays NULL where there is none. */
static struct error read_some(struct db_tx *tx, struct arena *arena, const char *const *ids, size_t count,
                              struct asset *assets)
{
    struct db_rows *rows;
    TRY(db_query_in(tx, &rows, "SELECT " ASSET_COLUMNS " FROM asset a WHERE a.id IN (" DB_IN ") AND a.deleted_at = 0",
                    ids, count));
    for (bool row;;) {
        struct asset asset;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        asset_read(arena, rows, 0, &asset);
        for (size_t i = 0; i < count; i++)
            if (!strcmp(ids[i], asset.id))
                assets[i] = asset;
    }
}

struct error asset_list_ids(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *const *ids,
                            size_t id_count, struct asset **assets, size_t *count)
{
    struct asset *found = arena_array(arena, id_count + 1, sizeof *found);
    for (size_t at = 0; at < id_count; at += db_in_max)
        TRY(read_some(tx, arena, ids + at, id_count - at < db_in_max ? id_count - at : db_in_max, found + at));
    *assets = found;
    *count = 0;
    for (size_t i = 0; i < id_count; i++) {
        if (!found[i].id || asked_before(ids, i))
            continue;
        const struct access_thing thing = {found[i].project_id, found[i].privacy, false};
        if (access_decide(caller, ACCESS_READ, &thing) == ACCESS_GRANTED)
            found[(*count)++] = found[i];
    }
    return OK;
}

struct error asset_get_bulk(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *const *ids, size_t id_count, struct asset **assets, size_t *count)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(domain->db, &tx));
    return asset_list_ids(tx, arena, caller, ids, id_count, assets, count);
}
