/* The training images of a model: assets in the order in which they were added. */
#pragma once

#include "domain/asset.h"
#include "domain/model.h"
#include "domain/plan.h"

enum { dataset_add_max = 10 }; /* asset ids in one request */

struct training_image {
    const char *id; /* of the asset */
    const char *name, *description, *automatic_captioning;
    int64_t created_at;
};

/* All of them in order, at most training_images_max. */
struct error dataset_list(struct db_tx *tx, struct arena *arena, const char *model_id, struct training_image **images,
                          size_t *count) __attribute__((warn_unused_result));

/* The same for many models at once: each gets all its images. */
struct error dataset_list_many(struct db_tx *tx, struct arena *arena, struct model *models, size_t count)
    __attribute__((warn_unused_result));

/* Adds existing assets, all or none. ERR_INVALID: over dataset_add_max ids, one that is a training image already, or
 * a model that is training; ERR_PLAN_LIMIT, with refusal: over the team's limit or training_images_max; ERR_NOT_FOUND:
 * an unknown model or asset. */
struct error dataset_add_assets(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                const char *model_id, const char *const *asset_ids, size_t count,
                                struct training_image *added, struct plan_refusal *refusal)
    __attribute__((warn_unused_result));
/* Makes an asset of the picture and adds it. Ask dataset_check_room first: it is cheap and a picture is not. */
struct error dataset_add_picture(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                 const char *model_id, const struct picture *picture, struct training_image *added,
                                 struct plan_refusal *refusal) __attribute__((warn_unused_result));
struct error dataset_check_room(const struct domain *domain, struct arena *arena, const struct caller *caller,
                                const char *model_id, size_t more, struct plan_refusal *refusal)
    __attribute__((warn_unused_result));

/* Puts an asset, or one made of the picture (asset_id is NULL), in the place of a training image, in its pairs too. */
struct error dataset_replace(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *training_image_id, const char *asset_id,
                             const struct picture *picture, struct training_image *replaced)
    __attribute__((warn_unused_result));
/* Drops the pairs that use it; the asset stays. */
struct error dataset_remove(const struct domain *domain, struct arena *arena, const struct caller *caller,
                            const char *model_id, const char *training_image_id) __attribute__((warn_unused_result));

/* Brings what models' rows keep of this asset up to date. */
struct error dataset_asset_changed(struct db_tx *tx, struct arena *arena, const char *asset_id)
    __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs: who changed the rows of a data set says so once, at the end. */
struct error dataset_changed(struct db_tx *tx, struct arena *arena, const char *model_id)
    __attribute__((warn_unused_result));
/* An asset that is no training image of the model yet. */
struct error dataset_insert(struct db_tx *tx, const struct model *model, const char *asset_id, int64_t position,
                            int64_t now_ms) __attribute__((warn_unused_result));
