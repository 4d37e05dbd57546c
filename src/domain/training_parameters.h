/* What a training can be told, by family of models: defaults, bounds and the data that it needs. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

enum training_family {
    FAMILY_NONE, /* not trainable: hosted models */
    FAMILY_SD15,
    FAMILY_SDXL,
    FAMILY_FLUX,
    FAMILY_KONTEXT,     /* Flux.1 on pairs */
    FAMILY_MUSUBI,      /* FLUX.2, Qwen Image, Z-Image */
    FAMILY_MUSUBI_EDIT, /* the same on pairs */
    FAMILY_VOICE,
    FAMILY_COMPOSITION, /* concepts, no images */
};

struct training_type {
    const char *model_type;
    enum training_family family;
    bool embedded;            /* the embedded engine trains it */
    const char *job_type;     /* NULL when not trainable */
    const char *capabilities; /* of a trained model, JSON array */
    bool is_concept;          /* a trained model lists itself among its concepts */
};

const struct training_type *training_type_find(const char *model_type); /* NULL when unknown */

struct training_data {
    int64_t images, pairs, concepts;
};

/* ERR_INVALID naming parameters.X for a value out of bounds, or saying what data is missing. resolved is a JSON object:
 * what was asked, without secrets and unknown names, and the family's defaults for the rest; seed is drawn when absent.
 * asked is a JSON object or NULL. */
struct error training_parameters_resolve(struct arena *arena, const struct training_type *type,
                                         const struct training_data *data, const struct json *asked,
                                         const char **resolved) __attribute__((warn_unused_result));
