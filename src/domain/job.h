/* Jobs: work that outlives its request. A row is the truth; what runs is found again from it after a crash. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "domain/domain.h"
#include "store/db.h"

enum {
    job_page_max = 200,
    job_queue_max = 10000, /* waiting, all projects */
    job_types_max = 40,
    job_running_max = 128,      /* at a time; the scheduler's slots are fewer */
    job_history_max = 200,      /* changes of status; a job makes about 8 */
    job_metadata_max = 2 << 20, /* bytes of JSON */
};

/* The type of jobs that make pictures. Those that train name their model's family, those that pack are downloads. */
#define job_type_generation "inference"

struct job {
    const char *id, *project_id, *author_id;
    const char *model_id; /* NULL when none */
    const char *type, *status;
    const char *status_history; /* JSON array of {"date","status"} */
    double progress;
    const char *metadata; /* JSON object as on the wire */
    const char *input;    /* JSON object: what to run */
    int64_t attempts, event_offset, cancel_requested;
    int64_t queued_at, started_at, ended_at, created_at, updated_at;
};

/* ERR_NOT_FOUND "Job ... not found", also for other projects' jobs. */
struct error job_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                     struct job *job) __attribute__((warn_unused_result));

struct job_filter {
    const char *status; /* NULL for all */
    const char *const *types;
    size_t type_count;     /* 0 for all */
    const char *author_id; /* NULL for all */
    int page_size;         /* 1 to job_page_max */
    const char *token;     /* of the page before; NULL or "" for the first */
};
struct job_page {
    struct job *jobs;
    size_t count;
    const char *next_token; /* NULL on the last page */
};
/* Newest first. */
struct error job_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                      const struct job_filter *filter, struct job_page *page) __attribute__((warn_unused_result));

/* For the test that looks at query plans: every statement that lists are made of, until NULL. */
const char *job_list_statement(size_t index);
/* One that makes pictures: a queued one is canceled at once, a running one is asked to end (the scheduler sees to it).
 * ERR_INVALID for the others, as in the real service (a training is canceled through its model), and when it has ended.
 */
struct error job_cancel(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                        struct job *job) __attribute__((warn_unused_result));

/* ERR_NOT_FOUND when it is another project's. */
struct error job_check_readable(const struct caller *caller, const struct job *job) __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs. */

/* Any project's. */
struct error job_find(struct db_tx *tx, struct arena *arena, const char *id, struct job *job)
    __attribute__((warn_unused_result));
/* A job for each id, any project's; its id is NULL where there is none. jobs is zeroed. */
struct error job_list_ids(struct db_tx *tx, struct arena *arena, const char *const *ids, size_t count, struct job *jobs)
    __attribute__((warn_unused_result));
/* Status becomes the first entry of the history. */
struct error job_insert(struct db_tx *tx, struct arena *arena, const struct job *job)
    __attribute__((warn_unused_result));
/* Writes status (with history when it changed), progress, metadata, attempts, event_offset and the times. */
struct error job_update(struct db_tx *tx, struct arena *arena, struct job *job, const char *status, int64_t now_ms)
    __attribute__((warn_unused_result));
bool job_status_is_final(const char *status);
/* The first `limit` jobs that wait, in queue order. */
struct error job_list_queued(struct db_tx *tx, struct arena *arena, int64_t limit, struct job **jobs, size_t *count)
    __attribute__((warn_unused_result));
/* Those that were taken from the queue and are not done. */
struct error job_list_running(struct db_tx *tx, struct arena *arena, struct job **jobs, size_t *count)
    __attribute__((warn_unused_result));
/* How many wait, of all projects. */
struct error job_count_queued(struct db_tx *tx, int64_t *count) __attribute__((warn_unused_result));
/* Tells every queued training's model its place, after the queue moved. */
struct error job_renumber_queue(struct db_tx *tx, int64_t now_ms) __attribute__((warn_unused_result));

/* A JSON object with members set or replaced: values are JSON texts, NULL removes. */
struct json_change {
    const char *key, *value;
};
const char *json_object_with(struct arena *arena, const char *object, const struct json_change *changes, size_t count);
