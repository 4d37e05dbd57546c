/* Models: their rows, their states and who may change what when. JSON columns are kept as text. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"
#include "store/db.h"

enum { model_preview_images = 3 /* training images, and pairs of them, in a list row */ };

struct training_image;
struct training_pair;

struct model {
    const char *id, *project_id, *author_id;
    const char *name, *short_description; /* "" until training names it */
    const char *type, *status, *privacy, *source;
    const char *base_model_id, *class_slug, *parent_model_id, *epoch;     /* these may be NULL */
    const char *prompt_embedding, *negative_prompt_embedding;             /* NULL */
    const char *thumbnail_asset_id;                                       /* NULL */
    const char *capabilities, *tags, *collection_ids, *example_asset_ids; /* JSON arrays of strings */
    const char *concepts;                                                 /* JSON array, or NULL */
    const char *parameters, *training_progress;                           /* JSON objects, "{}" when empty */
    bool parameters_are_next;            /* stored for the next training; else those of the last one, all of them */
    const char *training_stats, *epochs; /* JSON object, JSON array; or NULL */
    int64_t training_image_count;
    struct training_image *images; /* the first model_preview_images, or all after model_get */
    size_t image_count;
    struct training_pair *pairs; /* as images */
    size_t pair_count;
    int64_t created_at, updated_at;
    int64_t deleted_at; /* 0 while it is not */
};

struct model_new {
    const char *type; /* NULL for flux.1-lora */
    const char *name, *short_description, *base_model_id, *class_slug;
    const char *collection_ids; /* JSON array */
    const char *concepts;       /* JSON array */
};
struct error model_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const struct model_new *values, struct model *model) __attribute__((warn_unused_result));

/* One that the caller may read, with all training images and pairs. */
struct error model_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                       struct model *model) __attribute__((warn_unused_result));

/* The row alone, in a transaction. ERR_NOT_FOUND "Model ID not found" when it is not there or hidden from the caller,
 * ERR_FORBIDDEN when it can be read but not changed; access.h has the rule. */
struct error model_find_readable(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                                 struct model *model) __attribute__((warn_unused_result));
struct error model_find_owned(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                              struct model *model) __attribute__((warn_unused_result));
/* As model_find_owned; ERR_INVALID "Model is already training" while it is. */
struct error model_find_idle(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                             struct model *model) __attribute__((warn_unused_result));
/* Anyone's, for work of the server itself. */
struct error model_find(struct db_tx *tx, struct arena *arena, const char *id, struct model *model)
    __attribute__((warn_unused_result));
/* As model_get, in a transaction: an answer to a change shows what that change made, not what others made after it. */
struct error model_find_whole(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                              struct model *model) __attribute__((warn_unused_result));
/* All training images and pairs of a model that was found: its row keeps the first ones. */
struct error model_read_data(struct db_tx *tx, struct arena *arena, struct model *model)
    __attribute__((warn_unused_result));
bool model_is_training(const struct model *model);
bool model_has_epoch(struct arena *arena, const struct model *model, const char *epoch);

/* For other queries that give models: columns in this order, from the first on. */
#define MODEL_COLUMNS                                                                                                  \
    "id, project_id, author_id, name, short_description, type, status, privacy, source, base_model_id, class_slug, "   \
    "parent_model_id, epoch, prompt_embedding, negative_prompt_embedding, thumbnail_asset_id, capabilities, tags, "    \
    "collection_ids, example_asset_ids, concepts, parameters, training_progress, training_stats, epochs, "             \
    "training_image_count, training_image_preview, training_pair_preview, parameters_are_next, created_at, "           \
    "updated_at, deleted_at"
struct error model_read(struct arena *arena, struct db_rows *rows, struct model *model)
    __attribute__((warn_unused_result));

enum model_set {
    MODEL_SET_NAME = 1 << 0,
    MODEL_SET_SHORT_DESCRIPTION = 1 << 1,
    MODEL_SET_TYPE = 1 << 2,
    MODEL_SET_CLASS_SLUG = 1 << 3,
    MODEL_SET_CONCEPTS = 1 << 4,
    MODEL_SET_EPOCH = 1 << 5,
    MODEL_SET_PROMPT_EMBEDDING = 1 << 6,
    MODEL_SET_NEGATIVE_PROMPT_EMBEDDING = 1 << 7,
    MODEL_SET_PARAMETERS = 1 << 8,
    MODEL_SET_THUMBNAIL = 1 << 9,
    MODEL_SET_PRIVACY = 1 << 10,
};
/* set says which members count; NULL among those empties the column. ERR_INVALID: a type once the model is no longer
 * new; an epoch it does not have; concepts that composition_check refuses; parameters out of the family's bounds, or
 * while it trains. ERR_NOT_FOUND: a thumbnail that is no asset of the project. */
struct model_change {
    unsigned set; /* enum model_set */
    const char *name, *short_description, *type, *class_slug, *concepts, *epoch;
    const char *prompt_embedding, *negative_prompt_embedding, *parameters, *thumbnail_asset_id, *privacy;
};
struct error model_update(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                          const struct model_change *change, struct model *model) __attribute__((warn_unused_result));
