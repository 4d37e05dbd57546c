/* Pairs of training images: what edit types learn to turn into what. */
#pragma once

#include "domain/model.h"

enum { training_pairs_max = 1000 /* of one model */ };

struct training_pair {
    const char *source_id, *target_id; /* training images of the model */
    const char *instruction;           /* may be "" */
};

/* Puts these in the place of all that the model has. ERR_INVALID names the first id that is no training image of the
 * model, "[3].sourceId ...", or says that the model is training. */
struct error training_pairs_replace(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                    const char *model_id, const struct training_pair *pairs, size_t count)
    __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs. */

/* In order, at most limit. */
struct error training_pairs_list(struct db_tx *tx, struct arena *arena, const char *model_id, size_t limit,
                                 struct training_pair **pairs, size_t *count) __attribute__((warn_unused_result));
struct error training_pair_insert(struct db_tx *tx, const struct model *model, size_t position,
                                  const struct training_pair *pair) __attribute__((warn_unused_result));
/* Brings what the model's row keeps of its pairs up to date. dataset_changed does it too. */
struct error training_pairs_changed(struct db_tx *tx, struct arena *arena, const char *model_id)
    __attribute__((warn_unused_result));
/* Of text that training_pairs_changed wrote. */
struct error training_pairs_read(struct arena *arena, const char *text, struct training_pair **pairs, size_t *count)
    __attribute__((warn_unused_result));
