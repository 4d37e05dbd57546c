/* Inside the room: what a trainer says in events.ndjson, taken into the rows of its job and model. */
#pragma once

#include "domain/training.h"
#include "domain/training_parameters.h"

enum {
    run_files_max = 32,       /* pictures and checkpoints taken in with one write */
    run_read_bytes = 1 << 20, /* of events at a time; a longer line is skipped */
    run_text_size = 1024,
};

enum run_outcome { RUN_GOES_ON, RUN_DONE, RUN_FAILED, RUN_CANCELED };

/* A sample picture (asset_id set) or a checkpoint, whose bytes are in the blob store already. */
struct run_file {
    const char *epoch; /* "000001" */
    const char *name;  /* path below out/ */
    char sha256[sha256_hex_size];
    int64_t size;
    bool is_sample;
    const char *prompt;
    const char *generation; /* of a sample: JSON object, what was asked of the model */
    int width, height;
};

struct run_batch {
    int64_t offset;    /* of events.ndjson after what was read */
    bool is_important; /* more than progress: write now */
    bool is_empty;
    const char *status;   /* of the job that the last phase means; NULL: no phase */
    double progress;      /* 0 to 1; negative: none */
    int64_t remaining_ms; /* negative: unknown */
    struct run_file files[run_files_max];
    size_t file_count;
    enum run_outcome outcome;
    const char *error, *hint; /* of RUN_FAILED */
    struct error skipped;     /* the last file that could not be taken in */
};

/* Whole lines from offset on; stores the files that they name. */
struct error run_read(const struct domain *domain, struct arena *arena, const char *dir, int64_t offset,
                      struct run_batch *batch) __attribute__((warn_unused_result));
/* One write: offset, progress, status, stage, assets, epochs. Exactly once, whatever crashes. */
struct error run_apply(const struct domain *domain, struct arena *arena, const char *job_id,
                       const struct run_batch *batch) __attribute__((warn_unused_result));

/* The job leaves the queue; what an earlier training of the model left is forgotten. */
struct error run_begin(const struct domain *domain, struct arena *arena, const char *job_id)
    __attribute__((warn_unused_result));
struct error run_count_attempt(const struct domain *domain, struct arena *arena, const char *job_id)
    __attribute__((warn_unused_result));

/* A composition has nothing to run: its job, just inserted, is a success in the same write. */
struct error run_compose(struct db_tx *tx, struct arena *arena, struct job *job, const struct training_type *type,
                         int64_t now_ms) __attribute__((warn_unused_result));

/* The three ends. Each is one write of job and model. */
struct error run_succeed(const struct domain *domain, struct arena *arena, const char *dir, const struct job *job)
    __attribute__((warn_unused_result));
struct error run_fail(const struct domain *domain, struct arena *arena, const char *job_id, const char *text,
                      const char *hint) __attribute__((warn_unused_result));
struct error run_cancel(const struct domain *domain, struct arena *arena, const char *job_id)
    __attribute__((warn_unused_result));
/* Frees what only a resume needs; keeps job.json, events.ndjson, trainer.log and result.json. */
struct error run_tidy(struct arena *arena, const char *dir) __attribute__((warn_unused_result));
