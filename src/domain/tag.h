/* Tags: names on models and assets. An item's row holds its tags in the order in which they were added and is the
 * truth; asset_tag and model_label (model_index.h) index them for the filters of lists, and tag counts what carries
 * each name in a project. */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"
#include "store/db.h"

enum {
    tags_max = 100,           /* of one item */
    tag_characters_max = 128, /* the contract's */
    tag_page_max = 100,
};

enum tag_kind { TAG_MODEL, TAG_ASSET };

struct tag_change {
    const char *const *add, *const *remove;
    size_t add_count, remove_count;
    bool strict; /* refuse to add what is there or to remove what is not; else that is passed over */
};
struct tags_changed { /* what really changed, in the order of the request */
    const char **added, **deleted;
    size_t added_count, deleted_count;
};
/* All or nothing. ERR_INVALID: a name that is empty, has a comma, a control character or spaces around it; one that is
 * to be added and removed; over tags_max; what strict refuses. ERR_NOT_FOUND for the item. */
struct error tag_update(const struct domain *domain, struct arena *arena, const struct caller *caller,
                        enum tag_kind kind, const char *id, const struct tag_change *change,
                        struct tags_changed *changed) __attribute__((warn_unused_result));

struct tag {
    const char *name, *project_id;
    int64_t item_count; /* models and assets that carry it */
    int64_t created_at, updated_at;
};
struct tag_page {
    struct tag *tags;
    size_t count;
    const char *next_token; /* NULL on the last page */
};
/* The project's tags that something carries, by name. page_size is 1 to tag_page_max. */
struct error tag_list(const struct domain *domain, struct arena *arena, const struct caller *caller, int page_size,
                      const char *token, struct tag_page *page) __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs: what copies, moves or deletes an item calls these. Both count; assets are
 * indexed here, models by model_index_labels. */
struct tag_item {
    enum tag_kind kind;
    const char *id, *project_id;
    const char *tags; /* JSON array, of the item's row */
};
struct error tag_index(struct db_tx *tx, struct arena *arena, const struct tag_item *item)
    __attribute__((warn_unused_result)); /* an item that is new in its project */
struct error tag_unindex(struct db_tx *tx, struct arena *arena, const struct tag_item *item)
    __attribute__((warn_unused_result)); /* one that leaves it, or is deleted; the row keeps its tags */
