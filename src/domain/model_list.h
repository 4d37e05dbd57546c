/* Lists of models: pages in any order with any filter, and models by their ids.
 *
 * Every filter is a union of exact ranges of indices: one for each of the asked labels, types and states. A page is
 * what comes first in all of them together, and each range is read only as far as it can still matter, so that the cost
 * follows the size of the page and not that of the list (docs/PERFORMANCE.md has the numbers). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"
#include "domain/model.h"

enum {
    model_page_max = 500,
    model_labels_max = 20,       /* tags, or collections, in one filter */
    model_bulk_max = 500,        /* ids in one get-bulk */
    model_bulk_images_max = 5000 /* training images in its answer when all are asked for */
};

enum model_order { MODEL_BY_CREATED, MODEL_BY_UPDATED, MODEL_BY_SCORE, model_orders };

/* Zero is: the caller's own models, whatever their privacy, newest first. */
struct model_filter {
    bool public;              /* the public models of all projects instead */
    const char *status;       /* NULL for all; "deleted" for the caller's deleted ones */
    const char *const *types; /* any of these; of public models only, as tags */
    const char *const *tags;
    const char *const *collection_ids;
    size_t type_count, tag_count, collection_count; /* 0: whatever */
    enum model_order order;
    bool ascending;
    int64_t after, before; /* exclusive, of the column that the list is ordered by; 0 for none */
    int page_size;         /* 1 to model_page_max */
    const char *token;     /* of the page before; NULL or "" for the first */
};
struct model_page {
    struct model *models;
    size_t count;
    const char *next_token; /* NULL on the last page */
};
/* Own lists by update do not exist, and own ones by score need a status: no index serves them. */
struct error model_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                        const struct model_filter *filter, struct model_page *page) __attribute__((warn_unused_result));

/* Those of the ids that the caller may read, in the order of the ids, each once. With all_images each
 * has all its training images; ERR_INVALID when that makes more than model_bulk_images_max. */
struct error model_get_bulk(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *const *ids, size_t count, bool all_images, struct model **models,
                            size_t *model_count) __attribute__((warn_unused_result));

/* For the test that looks at query plans: every statement that lists are made of, until NULL. */
const char *model_list_statement(size_t index);
