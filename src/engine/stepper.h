/* One optimizer step of a training after the other: which pictures, which noise, forward, backward, update. Step s
 * draws everything from (seed, s) and the trained values alone. */
#pragma once

#include "base/error.h"
#include "engine/job_folder.h"
#include "engine/optimizer.h"
#include "engine/pictures.h"

enum learner_role { LEARNER_UNET, LEARNER_TEXT, LEARNER_COUNT };

struct stepper;

/* What is pointed to must outlive the stepper. learners[LEARNER_TEXT] is NULL when the plan trains no text. */
struct stepper_parts {
    struct base_model *base;
    struct pictures *pictures;
    struct batches *batches;
    const struct job *job;
    const struct job_plan *plan;
    struct learner *learners[LEARNER_COUNT];
    uint64_t memory_max; /* bytes for a step's plan; 0: no limit */
};

struct error stepper_create(const struct stepper_parts *parts, struct stepper **out)
    __attribute__((warn_unused_result));
void stepper_destroy(struct stepper *stepper);
/* Step 0, 1, ... *loss is the batch's before the update. ERR_INVALID when it is no number any more. */
struct error stepper_step(struct stepper *stepper, unsigned step, double *loss) __attribute__((warn_unused_result));
/* The largest plan so far, and whether it recomputes activations. */
size_t stepper_bytes(const struct stepper *stepper, bool *recomputes);
/* The learner of a step and its own count of steps before it. */
enum learner_role stepper_role(const struct job_plan *plan, unsigned step, unsigned *index);
