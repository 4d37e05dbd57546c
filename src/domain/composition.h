/* Concepts: the LoRAs that a model applies, each with a scale. A composition is a model that is made of nothing else.
 */
#pragma once

#include "domain/model.h"
#include "domain/training_parameters.h"

enum {
    composition_depth_max = 4,   /* compositions of compositions */
    composition_parts_max = 256, /* LoRAs in one, all levels together */
};

/* concepts is a JSON array of {modelId, scale, modelEpoch?}. self_id is the model's own id, NULL before it has one.
 * ERR_INVALID: a model that is unknown, of another family or not trained; an epoch that it does not have; a scale out
 * of the family's bounds; a model twice, or inside itself. */
struct error composition_check(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *self_id,
                               const struct training_type *type, const char *concepts)
    __attribute__((warn_unused_result));

/* The models alone, for concepts that a field of another name holds; not what is inside of compositions. */
struct error composition_check_list(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                    const char *self_id, const struct training_type *type, const char *field,
                                    const char *concepts) __attribute__((warn_unused_result));

struct composition_part {
    struct model model; /* of a LoRA */
    const char *epoch;  /* NULL: the end of its training */
    double scale;       /* of all levels together */
};
/* All LoRAs below the concepts of a model (NULL: none), whosever they are, in their order. */
struct error composition_parts(struct db_tx *tx, struct arena *arena, const char *concepts,
                               struct composition_part **parts, size_t *count) __attribute__((warn_unused_result));
