/* What lists of models find them by, beside the columns of their own row: labels and a score. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "store/db.h"

/* Labels: the tags and the collections of a model, a row each. To be called in the transaction that inserted the model
 * or changed its column tags or collection_ids; all other columns that labels copy follow by themselves. */
struct error model_index_labels(struct db_tx *tx, struct arena *arena, const char *model_id)
    __attribute__((warn_unused_result));

/* The score that public lists begin with: the second in which the model was made, put forward for what makes it worth
 * a look. A number that time alone does not change, so that pages hold still:
 *
 *     created_at in seconds
 *     + 30 days when it is trained
 *     + 14 days when it has examples
 *     +  7 days when it has a picture: a thumbnail or training images
 *     +  7 days for each doubling of 1 + copies + downloads, at most 20 of them */
struct model_worth {
    int64_t created_at; /* milliseconds */
    bool trained, has_examples, has_picture;
    int64_t uses; /* copies and downloads by anyone */
};
int64_t model_score(const struct model_worth *worth);
/* To be called in the transaction that changed one of these. */
struct error model_index_score(struct db_tx *tx, const char *model_id) __attribute__((warn_unused_result));

/* The assets that a public model shows, for lists of public assets. To be called in the transaction that changed its
 * data set, examples, thumbnail or privacy, or deleted it. */
struct error model_index_shown(struct db_tx *tx, const char *model_id) __attribute__((warn_unused_result));
