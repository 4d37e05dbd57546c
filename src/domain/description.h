/* The description of a model: Markdown that may mention assets and models as {asset:ID} and {model:ID}. */
#pragma once

#include "domain/asset.h"
#include "domain/asset_map.h"
#include "domain/model.h"

enum { description_mentions_max = 200 /* different assets and models in one text */ };

struct description {
    const char *value; /* "" when there is none */
    /* What is mentioned and the caller may see: each once, in the order of first mention. */
    struct asset *assets;
    struct model *models;
    size_t asset_count, model_count;
};

struct error description_get(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, struct description *description) __attribute__((warn_unused_result));
/* value NULL deletes it. ERR_INVALID over description_mentions_max. */
struct error description_put(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *value, struct description *description)
    __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs: what stands for the mentioned assets is mentioned instead. */
struct error description_copy(struct db_tx *tx, const struct asset_map *map, const char *from_model_id,
                              const char *model_id) __attribute__((warn_unused_result)); /* to one that has none */
struct error description_change(struct db_tx *tx, const struct asset_map *map, const char *model_id)
    __attribute__((warn_unused_result));
