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
    const char *concepts;     /* the types of models that may be its concepts, ", " between them; NULL: none may */
};

const struct training_type *training_type_find(const char *model_type); /* NULL when unknown */
bool training_type_wants_pairs(const struct training_type *type);       /* edit types */

struct training_data {
    int64_t images, pairs, concepts;
    bool has_class; /* the model has a class, which then says what the images show */
};

/* The family's bounds alone, for parameters that are kept for later. ERR_INVALID naming parameters.X. What the family
 * does not have is not looked at. asked is a JSON object or NULL. */
struct error training_parameters_check(const struct training_type *type, const struct json *asked)
    __attribute__((warn_unused_result));

/* ERR_INVALID naming parameters.X for a value out of bounds, or saying what data is missing. resolved is a JSON object:
 * what was asked, without secrets, unknown names and what the family does not have, and the family's defaults for the
 * rest; seed is drawn when absent. asked is a JSON object or NULL. */
struct error training_parameters_resolve(struct arena *arena, const struct training_type *type,
                                         const struct training_data *data, const struct json *asked,
                                         const char **resolved) __attribute__((warn_unused_result));

/* "prompts" of a job.json: samplePrompts and validationPrompt that are not empty, each an object with the training's
 * seed; 0 leaves size, steps and guidance to the base model. */
void training_prompts_put(struct json_writer *writer, const struct json *parameters);
