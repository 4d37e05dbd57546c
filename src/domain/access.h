/* Who may do what with a thing that belongs to a project: the one rule that every lookup asks. Nothing else in the
 * program compares projects or privacies.
 *
 *                                  private   unlisted        public
 *     a key of its project         all       all             all
 *     any other key                hidden    read by id      read, found in public lists
 *     public-auth-token            hidden    hidden          read, found in public lists
 *     nobody                       hidden    hidden          hidden
 *
 * Keys are of projects, so a key of another project is a stranger even in the same team. What is deleted is hidden from
 * everyone: only its own project's list under the status "deleted" still shows it. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "domain/domain.h"

enum access_action {
    ACCESS_READ,   /* by its id, with all that it shows: a model's training images, examples and description too */
    ACCESS_LIST,   /* find it in a list of public things */
    ACCESS_CHANGE, /* everything else: change, train, download the weights, transfer, delete */
};

enum access {
    ACCESS_HIDDEN,  /* to this caller it does not exist: 404 */
    ACCESS_DENIED,  /* it can be seen, but this is for its project only: 403 */
    ACCESS_GRANTED, /* go ahead */
};

struct access_thing {
    const char *project_id;
    const char *privacy; /* "private", "unlisted" or "public" */
    bool deleted;
};

enum access access_decide(const struct caller *caller, enum access_action action, const struct access_thing *thing);

/* The same as an error: ERR_NOT_FOUND "Model ID not found" or ERR_FORBIDDEN. noun is "Model" or "Asset". */
struct error access_check(const struct caller *caller, enum access_action action, const struct access_thing *thing,
                          const char *noun, const char *id) __attribute__((warn_unused_result));
