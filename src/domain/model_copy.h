/* Copies of models. Nothing is copied but rows: a copy's assets are rows of their own that name the same stored bytes,
 * so that whatever is changed or deleted on one side leaves the other alone. */
#pragma once

#include "domain/asset_map.h"
#include "domain/model.h"
#include "domain/plan.h"

struct model_copy_options {
    bool as_trained; /* with weights, epochs, samples, figures and record of its training; else the copy is new */
    bool examples;
};
/* A private model of the caller's project with its own data set, in one write: it is there as a whole or not at all.
 * ERR_NOT_FOUND or ERR_FORBIDDEN by access.h; ERR_INVALID: as_trained of a model that is not trained; ERR_PLAN_LIMIT:
 * more training images than the caller's team may have in a model. */
struct error model_copy(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                        const struct model_copy_options *options, struct model *copy, struct plan_refusal *refusal)
    __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs. A row of its own for a model's use of an asset, once for each asset: the
 * map tells which. What is deleted gets none: it leaves. */
struct asset_cloning {
    struct asset_map map;
    const char *project_id;
    const char *author_id;                /* NULL: as the original's */
    const char *from_model_id, *model_id; /* what the first generated, the second did */
    int64_t now_ms;
};
struct error asset_clone(struct db_tx *tx, struct asset_cloning *cloning, const char *id)
    __attribute__((warn_unused_result));
