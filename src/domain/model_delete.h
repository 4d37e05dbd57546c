/* The end of a model, and its way back. A deleted model is listed under the status "deleted" and found nowhere else,
 * until a purge frees it (purge.h). */
#pragma once

#include "domain/model.h"

/* A training of it is canceled: poke the scheduler afterwards. */
struct error model_delete(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id)
    __attribute__((warn_unused_result));

/* Back to the status it had, without its tags and collections. ERR_INVALID when it is not deleted; ERR_GONE when that
 * was so long ago that a purge may be under way (domain.purge_age_ms). */
struct error model_restore(const struct domain *domain, struct arena *arena, const struct caller *caller,
                           const char *id, struct model *model) __attribute__((warn_unused_result));
