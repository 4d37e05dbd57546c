/* The record of the training that made a model's weights: its job, as JSON that goes with them. A copy that was made
 * as trained has no job of its own and keeps the text instead. */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "store/db.h"

/* {"jobId","jobType","status","createdAt","endedAt","statusHistory","metadata"}; NULL when the model has none. */
struct error training_record_find(struct db_tx *tx, struct arena *arena, const char *model_id, const char **record)
    __attribute__((warn_unused_result));
