/* Pictures of a prompt, drawn by a base model with LoRAs: from a request to a job in the queue. */
#pragma once

#include "domain/job.h"
#include "domain/plan.h"
#include "domain/training.h"

enum {
    generation_samples_max = 8, /* pictures in one request */
    generation_samples_default = 4,
    generation_side_multiple = 8,
};

static const double generation_strength_default = 0.75;

/* Texts are NULL when not given. */
struct generation_request {
    const char *model_id;    /* "sd-1_5", "sd-xl", or a trained LoRA or composition that the caller may read */
    const char *model_epoch; /* of the model; else the one that it names itself */
    const char *prompt;      /* never NULL */
    const char *negative_prompt;
    const char *concepts,
        *loras;            /* JSON arrays of {modelId, scale, modelEpoch?}: instead of the model's; besides them */
    const char *scheduler; /* the API's name */
    const char *seed;      /* decimal digits; drawn when NULL; that of the first picture, the next one's is one more */
    int samples;
    int width, height, steps; /* 0: the base's own */
    double guidance;          /* negative: the base's own */
    bool hide;                /* the pictures are not listed */
    const char *image;        /* an asset to begin on that the caller may read; NULL: none */
    double strength;          /* how much of it is changed, above 0 and at most 1 */
};

/* Everything that generation_launch would check; changes nothing. ERR_NOT_FOUND: no such model; ERR_INVALID names the
 * field at fault. */
struct error generation_check(const struct domain *domain, const struct training_settings *settings,
                              struct arena *arena, const struct caller *caller,
                              const struct generation_request *request) __attribute__((warn_unused_result));
/* Queues it. ERR_PLAN_LIMIT, with refusal, when too many jobs wait. */
struct error generation_launch(const struct domain *domain, const struct training_settings *settings,
                               struct arena *arena, const struct caller *caller,
                               const struct generation_request *request, struct job *job, struct plan_refusal *refusal)
    __attribute__((warn_unused_result));
