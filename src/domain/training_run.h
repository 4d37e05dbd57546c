/* Inside the room: what a training's job does to its model; the rest of a run is in run.h. */
#pragma once

#include "domain/run.h"
#include "domain/training_parameters.h"

struct error training_prepare(const struct domain *domain, const struct training_settings *settings,
                              const struct job *job, const bool *stop) __attribute__((warn_unused_result));
/* A composition has nothing to run: its job, just inserted, is a success in the same write. */
struct error training_compose(struct db_tx *tx, struct arena *arena, struct job *job, const struct training_type *type,
                              int64_t now_ms) __attribute__((warn_unused_result));
