/* Decides what to do next with the trainings, and does it. The decision is one pure function of (state, now); a thread
 * reads the state from the database and the executor, and carries out the answer. After a crash the state is read again
 * and the same function goes on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "domain/domain.h"
#include "domain/training.h"
#include "exec/exec.h"

enum {
    schedule_restarts_max = 3,  /* of a trainer that died, besides its first start */
    schedule_grace_ms = 1200,   /* between asking a trainer to end and ending it: canceled within 2 s */
    schedule_linger_ms = 10000, /* a trainer that said it is done and does not end */
};

/* One job, in queue order. */
struct schedule_job {
    bool queued;      /* waits for a slot */
    bool preparing;   /* its folder is being made */
    bool prepared;    /* its folder is whole */
    bool running;     /* its process lives */
    bool has_outcome; /* it said done, failed or canceled, or left a result */
    bool failed;      /* it cannot be prepared or started */
    bool cancel_requested;
    int attempts;          /* starts so far */
    int64_t not_before;    /* of the next start */
    int64_t stop_asked_at; /* 0: not asked */
    int64_t outcome_at;    /* when has_outcome was first seen */
};

enum schedule_action {
    SCHEDULE_WAIT,
    SCHEDULE_PREPARE, /* takes a slot */
    SCHEDULE_START,
    SCHEDULE_ASK_TO_END,
    SCHEDULE_END,
    SCHEDULE_SETTLE,  /* take in what it left: success, failure or canceled */
    SCHEDULE_GIVE_UP, /* it died too often */
};

void schedule_decide(const struct schedule_job *jobs, size_t count, int slots, int64_t now_ms,
                     enum schedule_action *actions);

struct scheduler;

struct scheduler_options {
    const struct domain *domain;
    struct training_settings settings;                      /* texts must outlive the scheduler */
    struct executor *executor;                              /* outlives the scheduler */
    int slots;                                              /* trainings at a time, 1 to 64 */
    void (*failed)(const char *job_id, struct error error); /* for the log; job_id may be NULL */
};

/* Adopts what still runs, then begins. */
struct error scheduler_create(struct scheduler **scheduler, const struct scheduler_options *options)
    __attribute__((warn_unused_result));
/* Leaves running trainers alone. NULL is fine. */
void scheduler_destroy(struct scheduler *scheduler);
/* Look now rather than at the next tick: after a launch or a cancel. */
void scheduler_poke(struct scheduler *scheduler);
const struct training_settings *scheduler_settings(const struct scheduler *scheduler);
