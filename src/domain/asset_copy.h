/* Copies of assets: rows of their own that name the same bytes. */
#pragma once

#include "domain/asset.h"

/* target_project_id NULL is the caller's project. The copy belongs to no model and no collection. ERR_NOT_FOUND for an
 * asset that the caller cannot read or a project that there is not, ERR_FORBIDDEN for a project of another team. */
struct error asset_copy(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                        const char *target_project_id, struct asset *copy) __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs: the asset becomes a copy of itself in that project, and is written. Whose
 * model's it is stays as the caller set it. */
struct error asset_copy_insert(struct db_tx *tx, struct arena *arena, const char *project_id, int64_t now_ms,
                               struct asset *asset) __attribute__((warn_unused_result));
