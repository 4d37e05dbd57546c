/* The examples of a model: assets in an order of the owner's choice. A model's row keeps their ids too, for lists. */
#pragma once

#include "domain/asset.h"
#include "domain/asset_map.h"
#include "domain/job.h"

enum { examples_max = 150 };

struct example {
    struct asset asset;
    const struct job *job; /* that made the asset; NULL: none, or another project's */
};
struct example_list {
    const char *model_id;
    struct example *examples;
    size_t count;
};

struct error example_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const char *model_id, struct example_list *list) __attribute__((warn_unused_result));
/* The ids become all of the examples, in this order. Nothing changes when one is refused: ERR_INVALID for one that is
 * there twice, ERR_NOT_FOUND for one that is no asset of the caller's project. */
struct error example_replace(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *const *asset_ids, size_t count,
                             struct example_list *list) __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs. */

/* Rows and the model's own list. Ids are known to be assets, each once. */
struct error example_store(struct db_tx *tx, struct arena *arena, const char *model_id, const char *const *asset_ids,
                           size_t count) __attribute__((warn_unused_result));
/* In order, at most examples_max. */
struct error example_ids(struct db_tx *tx, struct arena *arena, const char *model_id, const char ***asset_ids,
                         size_t *count) __attribute__((warn_unused_result));
/* What stands for the examples takes their place; those that leave are gone. */
struct error example_change(struct db_tx *tx, const struct asset_map *map, const char *model_id)
    __attribute__((warn_unused_result));
