/* Lists of assets: pages in either order with any filter, and assets by their ids. A page is read as those of models
 * are (domain/page.h). */
#pragma once

#include "domain/asset.h"

enum {
    asset_page_max = 100,
    asset_bulk_max = 200, /* ids in one get-bulk */
    asset_tags_max = 20,  /* in one filter */
};

/* Zero is: the caller's own assets, newest first. What is NULL or 0 does not filter. */
struct asset_filter {
    bool public; /* of any project instead, what public models show */
    const char *author_id, *collection_id;
    const char *inference_id, *model_id; /* that made it */
    const char *parent_id, *root_parent_id;
    const char *const *types, *const *tags; /* any of these */
    size_t type_count, tag_count;
    bool by_update, ascending;
    int64_t after, before; /* exclusive, of the column that the list is ordered by */
    int page_size;         /* 1 to asset_page_max */
    const char *token;     /* of the page before; NULL or "" for the first */
};
struct asset_page {
    struct asset *assets;
    size_t count;
    const char *next_token; /* NULL on the last page */
};
struct error asset_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                        const struct asset_filter *filter, struct asset_page *page) __attribute__((warn_unused_result));

/* Those of the ids that the caller may read, in the order of the ids, each once. */
struct error asset_get_bulk(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *const *ids, size_t id_count, struct asset **assets, size_t *count)
    __attribute__((warn_unused_result));
/* The same in a transaction of the caller's. */
struct error asset_list_ids(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *const *ids,
                            size_t id_count, struct asset **assets, size_t *count) __attribute__((warn_unused_result));

/* For the test that looks at query plans: every statement that lists are made of, until NULL. */
const char *asset_list_statement(size_t index);
