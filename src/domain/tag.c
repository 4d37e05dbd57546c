#include "domain/tag.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "domain/asset.h"
#include "domain/model.h"
#include "domain/model_index.h"
#include "domain/page.h"

/* The index and the counts. */

static struct error count_up(struct db_tx *tx, const struct tag_item *item, const char *name, int64_t now_ms)
{
    return db_execute(tx, NULL,
                      "INSERT INTO tag (project_id, name, item_count, created_at, updated_at) "
                      "VALUES (?1, ?2, 1, ?3, ?3) ON CONFLICT (project_id, name) DO UPDATE SET "
                      "item_count = tag.item_count + 1, updated_at = excluded.updated_at",
                      DB_BIND(db_t(item->project_id), db_t(name), db_i(now_ms)));
}

static struct error count_down(struct db_tx *tx, const struct tag_item *item, const char *name, int64_t now_ms)
{
    TRY(db_execute(tx, NULL,
                   "UPDATE tag SET item_count = item_count - 1, updated_at = ?3 WHERE project_id = ?1 AND name = ?2",
                   DB_BIND(db_t(item->project_id), db_t(name), db_i(now_ms))));
    return db_execute(tx, NULL, "DELETE FROM tag WHERE project_id = ?1 AND name = ?2 AND item_count = 0",
                      DB_BIND(db_t(item->project_id), db_t(name)));
}

/* Models are indexed from their row, by model_index_labels. */
static struct error index_one(struct db_tx *tx, const struct tag_item *item, const char *name, int64_t now_ms)
{
    if (item->kind == TAG_ASSET)
        TRY(db_execute(tx, NULL, "INSERT INTO asset_tag (asset_id, name) VALUES (?1, ?2)",
                       DB_BIND(db_t(item->id), db_t(name))));
    return count_up(tx, item, name, now_ms);
}

/* An asset that was deleted is not counted any more when it is purged. */
static struct error unindex_one(struct db_tx *tx, const struct tag_item *item, const char *name, int64_t now_ms)
{
    int64_t changed = 1;
    if (item->kind == TAG_ASSET)
        TRY(db_execute(tx, &changed, "DELETE FROM asset_tag WHERE asset_id = ?1 AND name = ?2",
                       DB_BIND(db_t(item->id), db_t(name))));
    return changed ? count_down(tx, item, name, now_ms) : OK;
}

static struct error for_each_tag(struct db_tx *tx, struct arena *arena, const struct tag_item *item,
                                 struct error (*visit)(struct db_tx *tx, const struct tag_item *item, const char *name,
                                                       int64_t now_ms))
{
    const char **names;
    size_t count;
    int64_t now_ms = clock_now_ms();
    TRY(json_to_strings(arena, item->tags, &names, &count));
    for (size_t i = 0; i < count; i++)
        TRY(visit(tx, item, names[i], now_ms));
    return OK;
}

struct error tag_index(struct db_tx *tx, struct arena *arena, const struct tag_item *item)
{
    return for_each_tag(tx, arena, item, index_one);
}

struct error tag_unindex(struct db_tx *tx, struct arena *arena, const struct tag_item *item)
{
    return for_each_tag(tx, arena, item, unindex_one);
}

/* Changes. */

struct names {
    const char **list;
    size_t count;
};

static bool holds(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (!strcmp(names->list[i], name))
            return true;
    return false;
}

static void append(struct names *names, const char *name)
{
    names->list[names->count++] = name;
}

static void take_out(struct names *names, const char *name)
{
    size_t kept = 0;
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i], name) != 0)
            names->list[kept++] = names->list[i];
    names->count = kept;
}

/* Lists are filtered by names joined with commas, so that none may have one. */
static struct error check_name(struct arena *arena, const char *field, size_t index, const char *name)
{
    const char *path = arena_printf(arena, "%s[%zu]", field, index);
    size_t length = strlen(name);
    if (!length)
        return error_field(path, "must not be empty");
    if (strchr(name, ','))
        return error_field(path, "must not have a comma: lists are filtered by names joined with commas");
    if (name[0] == ' ' || name[length - 1] == ' ')
        return error_field(path, "must not begin or end with a space");
    for (const char *at = name; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return error_field(path, "must not have control characters");
    return OK;
}

static struct error check_request(struct arena *arena, const struct tag_change *change)
{
    const struct names removed = {(const char **)change->remove, change->remove_count};
    for (size_t i = 0; i < change->remove_count; i++)
        TRY(check_name(arena, "delete", i, change->remove[i]));
    for (size_t i = 0; i < change->add_count; i++) {
        TRY(check_name(arena, "add", i, change->add[i]));
        if (holds(&removed, change->add[i]))
            return error_field(arena_printf(arena, "add[%zu]", i), "is in delete too: say which");
    }
    return OK;
}

/* From the item's tags to those after the change, and what that changed. */
static struct error apply(struct arena *arena, const struct tag_change *change, struct names *tags, struct names *added,
                          struct names *deleted)
{
    for (size_t i = 0; i < change->remove_count; i++) {
        const char *name = change->remove[i];
        if (change->strict && !holds(tags, name) && !holds(deleted, name))
            return error_field(arena_printf(arena, "delete[%zu]", i), "is no tag of it: %.128s", name);
        if (holds(tags, name))
            append(deleted, name);
        take_out(tags, name);
    }
    for (size_t i = 0; i < change->add_count; i++) {
        const char *name = change->add[i];
        if (change->strict && holds(tags, name) && !holds(added, name))
            return error_field(arena_printf(arena, "add[%zu]", i), "is a tag of it already: %.128s", name);
        if (holds(tags, name))
            continue;
        append(tags, name);
        append(added, name);
    }
    if (tags->count > tags_max)
        return error_field("add", "would make %zu tags: %d are possible", tags->count, tags_max);
    return OK;
}

struct update_work {
    struct arena *arena;
    const struct caller *caller;
    enum tag_kind kind;
    const char *id;
    const struct tag_change *change;
    struct tags_changed *changed;
};

static struct error find_item(struct db_tx *tx, const struct update_work *work, struct tag_item *item)
{
    struct model model;
    struct asset asset;
    if (work->kind == TAG_MODEL) {
        TRY(model_find_owned(tx, work->arena, work->caller, work->id, &model));
        *item = (struct tag_item){TAG_MODEL, model.id, model.project_id, model.tags};
    } else {
        TRY(asset_find_owned(tx, work->arena, work->caller, work->id, &asset));
        *item = (struct tag_item){TAG_ASSET, asset.id, asset.project_id, asset.tags};
    }
    return OK;
}

static struct error write_item(struct db_tx *tx, const struct tag_item *item, const char *tags, int64_t now_ms)
{
    return db_execute(tx, NULL,
                      item->kind == TAG_MODEL ? "UPDATE model SET tags = ?2, updated_at = ?3 WHERE id = ?1"
                                              : "UPDATE asset SET tags = ?2, updated_at = ?3 WHERE id = ?1",
                      DB_BIND(db_t(item->id), db_t(tags), db_i(now_ms)));
}

static struct names room_for(struct arena *arena, size_t count)
{
    return (struct names){arena_array(arena, count + 1, sizeof(char *)), 0};
}

static struct error update_tags(struct db_tx *tx, void *context)
{
    const struct update_work *work = context;
    const struct tag_change *change = work->change;
    struct arena *arena = work->arena;
    struct tag_item item;
    const char **old;
    size_t old_count;
    int64_t now_ms = clock_now_ms();
    TRY(find_item(tx, work, &item));
    TRY(json_to_strings(arena, item.tags, &old, &old_count));
    struct names tags = room_for(arena, old_count + change->add_count);
    struct names added = room_for(arena, change->add_count), deleted = room_for(arena, change->remove_count);
    for (size_t i = 0; i < old_count; i++)
        append(&tags, old[i]);
    TRY(apply(arena, change, &tags, &added, &deleted));
    *work->changed = (struct tags_changed){added.list, deleted.list, added.count, deleted.count};
    if (!added.count && !deleted.count)
        return OK;
    for (size_t i = 0; i < deleted.count; i++)
        TRY(unindex_one(tx, &item, deleted.list[i], now_ms));
    for (size_t i = 0; i < added.count; i++)
        TRY(index_one(tx, &item, added.list[i], now_ms));
    TRY(write_item(tx, &item, json_from_strings(arena, tags.list, tags.count), now_ms));
    return work->kind == TAG_MODEL ? model_index_labels(tx, arena, item.id) : OK;
}

struct error tag_update(const struct domain *domain, struct arena *arena, const struct caller *caller,
                        enum tag_kind kind, const char *id, const struct tag_change *change,
                        struct tags_changed *changed)
{
    struct update_work work = {arena, caller, kind, id, change, changed};
    TRY(check_request(arena, change));
    return db_write(domain->db, update_tags, &work);
}

/* Pages follow the names. */

static const char list_name[] = "tags";

static void read_tag(struct arena *arena, struct db_rows *rows, struct tag *tag)
{
    *tag = (struct tag){
        .name = db_text(arena, rows, 0),
        .project_id = db_text(arena, rows, 1),
        .item_count = db_int(rows, 2),
        .created_at = db_int(rows, 3),
        .updated_at = db_int(rows, 4),
    };
}

struct error tag_list(const struct domain *domain, struct arena *arena, const struct caller *caller, int page_size,
                      const char *token, struct tag_page *page)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    struct page_key from; /* names are in the place of ids; there is no number */
    TRY(page_start(arena, token, list_name, true, &from));
    const char *after = token && *token ? from.id : "";
    TRY(db_read_begin(domain->db, &tx));
    TRY(db_query(tx, &rows,
                 "SELECT name, project_id, item_count, created_at, updated_at FROM tag "
                 "WHERE project_id = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
                 DB_BIND(db_t(caller->project_id), db_t(after), db_i(page_size + 1))));
    *page = (struct tag_page){.tags = arena_array(arena, (size_t)page_size, sizeof *page->tags)};
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        if (page->count == (size_t)page_size)
            break;
        read_tag(arena, rows, &page->tags[page->count++]);
    }
    page->next_token = page_token(arena, list_name, &(struct page_key){0, page->tags[page->count - 1].name});
    return OK;
}
