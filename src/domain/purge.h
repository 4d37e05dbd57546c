/* Frees the rows of what was deleted long enough ago; the collector then frees the bytes that no row names any more.
 *
 * With a model go its data set, files, jobs and their folders, and the assets that were generated with it or uploaded
 * into its data set. What another model still needs stays, and from then on lives with that one; what is
 * in a collection stays too. A crash at any point
 * leaves a deleted model that the next round finishes. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "domain/domain.h"

enum {
    purge_models_max = 1000, /* in a round */
    purge_assets_max = 200,  /* in one write, so that other writers wait a few milliseconds at most */
};

struct purge {
    int64_t age_ms;       /* deleted at least this long ago */
    const char *jobs_dir; /* where job folders are; NULL: there are none */
    const bool *stop;     /* looked at between writes; may be NULL */
};
struct purged {
    int64_t models, assets;
};
/* One round. What fails is left for the next one, and the last error is returned after all else was done. */
struct error purge_run(const struct domain *domain, const struct purge *purge, struct purged *purged)
    __attribute__((warn_unused_result));
