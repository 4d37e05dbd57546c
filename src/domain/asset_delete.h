/* Deleting assets: they leave every data set, pair, example, thumbnail and epoch first, so that nothing names what is
 * gone. */
#pragma once

#include "domain/asset.h"

enum { asset_delete_max = 100 /* ids in one request */ };

/* All or none: ERR_NOT_FOUND or ERR_FORBIDDEN for one that is not the caller's, ERR_INVALID for one that a model which
 * trains now uses. */
struct error asset_delete(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const char *const *asset_ids, size_t count) __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs: one that no model names any more. Its children, collections and tags let
 * it go; a purge frees the row. */
struct error asset_bury(struct db_tx *tx, struct arena *arena, const struct asset *asset, int64_t now_ms)
    __attribute__((warn_unused_result));
