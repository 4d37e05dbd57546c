/* The assets that belong to a model: its training images, samples, examples and thumbnail, and all that was generated
 * with it or uploaded into its data set. And who else needs them. */
#pragma once

#include "domain/asset_map.h"
#include "domain/model.h"

enum { model_images_delete_max = 100 /* ids in one request */ };

/* The given assets of the model are deleted: they leave its data set, pairs, examples, samples and thumbnail. One that
 * another model needs stays there and only leaves this one. All or none: ERR_NOT_FOUND names the first that is not the
 * model's; ERR_INVALID while it trains. */
struct error model_images_delete(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                 const char *model_id, const char *const *asset_ids, size_t count)
    __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs. */

/* SQL about an asset a: it belongs to the model ?1; another model than ?1 names it; one names it or generated it; it is
 * in a collection. */
#define ASSET_OF_MODEL                                                                                                 \
    "a.id IN (SELECT asset_id FROM training_image WHERE model_id = ?1 "                                                \
    "UNION SELECT asset_id FROM model_example WHERE model_id = ?1 "                                                    \
    "UNION SELECT thumbnail_asset_id FROM model WHERE id = ?1 AND thumbnail_asset_id IS NOT NULL "                     \
    "UNION SELECT id FROM asset WHERE model_id = ?1 "                                                                  \
    "UNION SELECT id FROM asset WHERE dataset_model_id = ?1)"
#define ASSET_NAMED_ELSEWHERE                                                                                          \
    "(EXISTS (SELECT 1 FROM training_image t WHERE t.asset_id = a.id AND t.model_id <> ?1) "                           \
    "OR EXISTS (SELECT 1 FROM model_example e WHERE e.asset_id = a.id AND e.model_id <> ?1) "                          \
    "OR EXISTS (SELECT 1 FROM model o WHERE o.thumbnail_asset_id = a.id AND o.id <> ?1))"
#define ASSET_NEEDED_ELSEWHERE                                                                                         \
    "(" ASSET_NAMED_ELSEWHERE                                                                                          \
    " OR EXISTS (SELECT 1 FROM model m WHERE m.id = a.model_id AND m.id <> ?1 AND m.deleted_at = 0))"
#define ASSET_COLLECTED "EXISTS (SELECT 1 FROM collection_asset c WHERE c.asset_id = a.id)"

/* Wherever the model names an asset of the map, it names what stands for it. */
struct error model_assets_change(struct db_tx *tx, const struct asset_map *map, const char *model_id)
    __attribute__((warn_unused_result));
