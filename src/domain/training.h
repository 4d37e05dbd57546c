/* Trainings: from a model and its images to a job in the queue, and from a finished run to a trained model. */
#pragma once

#include "domain/job.h"
#include "domain/model.h"
#include "domain/plan.h"

/* Which base models the embedded engine has: directories in diffusers layout, absolute; NULL when not configured. */
struct training_settings {
    const char *base_sd15, *base_sdxl;
    const char *jobs_dir; /* job folders are made in here */
    int threads;          /* of a trainer; 0 for all cores */
};

struct training_type;
/* The directory of the base model that models of this type, of family SD15 or SDXL, are made for. ERR_INVALID when none
 * is configured. */
struct error training_base(const struct training_settings *settings, const struct training_type *type,
                           const char **base) __attribute__((warn_unused_result));

struct training_quote {
    double cost, discount; /* creative units: nothing on one's own machine */
};

/* Checks everything that training_launch would but the team's limits; changes nothing. images_count replaces the real
 * count unless < 0, and half of it the count of pairs. */
struct error training_quote(const struct domain *domain, const struct training_settings *settings, struct arena *arena,
                            const struct caller *caller, const char *model_id, const struct json *parameters,
                            int64_t images_count, struct training_quote *quote) __attribute__((warn_unused_result));
/* Queues it: the job's row and the model's state in one write. parameters is a JSON object or NULL. A composition has
 * nothing to train: its job is a success at once. ERR_PLAN_LIMIT, with refusal, over a limit of the team's or of the
 * queue. */
struct error training_launch(const struct domain *domain, const struct training_settings *settings, struct arena *arena,
                             const struct caller *caller, const char *model_id, const struct json *parameters,
                             struct job *job, struct model *model, struct plan_refusal *refusal)
    __attribute__((warn_unused_result));
/* A queued training is canceled at once; a running one is asked to end (the scheduler sees to it). ERR_INVALID when
 * the model is not training. */
struct error training_cancel(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, struct model *model) __attribute__((warn_unused_result));
/* The same in a transaction of the caller's, who pokes the scheduler afterwards. */
struct error training_stop(struct db_tx *tx, struct arena *arena, const struct model *model, int64_t now_ms)
    __attribute__((warn_unused_result));
