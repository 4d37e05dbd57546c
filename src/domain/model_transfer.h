/* A model changes its owner, with all that belongs to it, in one write. */
#pragma once

#include "domain/model.h"

struct model_transfer_options {
    const char *project_id;
    const char *team_id; /* of that project; NULL: whatever it is */
};
/* Everything goes: training images, pairs, samples, epochs, weights, examples, thumbnail, description, tags and jobs.
 * An asset that another model of the old project needs, or that is in a collection, stays there, and the model takes
 * one of its own that names the same bytes. The model leaves the collections it was in. Afterwards it is not found by
 * its old owner.
 *
 * ERR_NOT_FOUND: the model or the project. ERR_FORBIDDEN: the project's team is another one and has not accepted the
 * caller's (team.h). ERR_INVALID: it trains, it is there already, or the team is not the project's. */
struct error model_transfer(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *id, const struct model_transfer_options *options, struct model *model)
    __attribute__((warn_unused_result));
