/* What a training hands out: JOBDIR/out with weights, sample pictures and, last of all, result.json. Every file is
 * whole or not there. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/event_log.h"
#include "engine/stepper.h"

enum { WARNINGS_MAX = 32 };

struct publisher {
    const char *folder, *software; /* software: "maquette 1.2.3" */
    const struct job *job;
    const struct job_plan *plan;
    struct base_model *base;
    struct learner *learners[LEARNER_COUNT];
    const struct picture_io *io;
    struct event_log *events;
    const volatile sig_atomic_t *stop;
    uint64_t weight_bytes, step_bytes; /* memory, for the record */
    bool recomputes;
    char *warnings[WARNINGS_MAX]; /* malloc'd */
    size_t warning_count;
};

void publisher_finish(struct publisher *publisher);
/* Tells the readers of the events, and result.json. Beyond WARNINGS_MAX only the events have it. */
__attribute__((format(printf, 2, 3), warn_unused_result)) struct error publish_warning(struct publisher *publisher,
                                                                                       const char *format, ...);
/* The weights and then the samples after `step` steps, which are checkpoint `epoch` (1, 2, ...). Those that the events
 * already have are not made again; a sample that cannot be made is a warning. */
struct error publish_checkpoint(struct publisher *publisher, unsigned epoch, unsigned step)
    __attribute__((warn_unused_result));
/* model.safetensors and result.json. losses[steps]. */
struct error publish_result(struct publisher *publisher, unsigned steps, const float *losses, double seconds)
    __attribute__((warn_unused_result));

/* The LoRAs of both learners take effect in the base model's weights, or none does. */
struct error learners_merge(struct base_model *base, struct learner *const learners[LEARNER_COUNT])
    __attribute__((warn_unused_result));
