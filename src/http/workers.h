/* A fixed pool of threads over one bounded queue, in order of arrival. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct workers;

/* Embedded in what is to be done; owned by the caller until run was called. */
struct task {
    struct task *next;
    void (*run)(struct task *task, int worker);
};

struct error workers_create(int count, int queue_max, struct workers **workers) __attribute__((warn_unused_result));
/* False, and nothing queued, when queue_max tasks wait already (unless must is set) or the pool is stopping. */
bool workers_push(struct workers *workers, struct task *task, bool must);
/* Runs what is queued, refuses what comes later, and returns when no task is left. Once. */
void workers_stop(struct workers *workers);
/* After workers_stop. NULL is fine. */
void workers_destroy(struct workers *workers);
