/* Inside the room: a job that runs in a folder, whatever its kind. What its runner says in events.ndjson is taken into
 * the job's row here; what a kind of job does besides, to models and assets, is behind struct run_kind. */
#pragma once

#include "domain/training.h"

enum {
    run_files_max = 32,       /* pictures and checkpoints taken in with one write */
    run_read_bytes = 1 << 20, /* of events at a time; a longer line is skipped */
    run_text_size = 1024,
};

enum run_outcome { RUN_GOES_ON, RUN_DONE, RUN_FAILED, RUN_CANCELED };

/* A picture (is_sample) or a checkpoint, whose bytes are in the blob store already. */
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

/* One change of a job, for the kind's part in it. */
struct run_work {
    struct arena *arena;
    const char *job_id;
    int64_t now_ms;
    const struct run_kind *kind;
    const struct run_batch *batch; /* of run_apply */
    const char *text, *hint;       /* of a failure */
    const char *output;            /* of a success: result.json */
    const void *result;            /* of a success: what collect found */
};

/* The steps that differ; NULL where a kind has nothing to do. begin, take, progress and end are part of the write that
 * changes the job's row. */
struct run_kind {
    const char *noun, *runner;    /* "training", "trainer": for messages */
    const char *input_hint;       /* when what goes into the folder is at fault */
    const char *death_hint;       /* when the runner died too often */
    const char *const *leftovers; /* what is freed at the end, below the folder; then NULL */
    /* Makes the job folder: under a temporary name, renamed when whole. *stop ends it early with ERR_CANCELED. */
    struct error (*prepare)(const struct domain *domain, const struct training_settings *settings,
                            const struct job *job, const bool *stop);
    struct error (*begin)(struct db_tx *tx, const struct run_work *work, struct job *job);
    /* The batch's files; may change the job's metadata, which is written afterwards. */
    struct error (*take)(struct db_tx *tx, const struct run_work *work, struct job *job);
    struct error (*progress)(struct db_tx *tx, const struct run_work *work, const struct job *job);
    /* Before the write of a success: what is left in the folder. */
    struct error (*collect)(const struct domain *domain, struct arena *arena, const char *dir, const struct job *job,
                            const void **result);
    struct error (*end)(struct db_tx *tx, const struct run_work *work, struct job *job, const char *status);
};

extern const struct run_kind training_kind, generation_kind;
const struct run_kind *run_kind_of(const struct job *job);

/* JOBS_DIR/JOB_ID */
char *run_folder(struct arena *arena, const struct training_settings *settings, const char *job_id);
/* Lets fill make the folder under another name, and places it whole. */
struct run_filling {
    const struct domain *domain;
    const struct training_settings *settings;
    const struct job *job;
    const bool *stop;
    struct error (*fill)(const struct run_filling *filling, struct arena *arena, const char *dir);
};
struct error run_place_folder(const struct run_filling *filling) __attribute__((warn_unused_result));

/* Whole lines from offset on; stores the files that they name. */
struct error run_read(const struct domain *domain, struct arena *arena, const char *dir, int64_t offset,
                      struct run_batch *batch) __attribute__((warn_unused_result));
/* One write: offset, progress, status, and what the kind takes. Exactly once, whatever crashes. */
struct error run_apply(const struct domain *domain, struct arena *arena, const struct job *job,
                       const struct run_batch *batch) __attribute__((warn_unused_result));

/* The job leaves the queue. */
struct error run_begin(const struct domain *domain, struct arena *arena, const struct job *job)
    __attribute__((warn_unused_result));
struct error run_count_attempt(const struct domain *domain, struct arena *arena, const char *job_id)
    __attribute__((warn_unused_result));

/* The three ends, each one write. */
struct error run_succeed(const struct domain *domain, struct arena *arena, const char *dir, const struct job *job)
    __attribute__((warn_unused_result));
struct error run_fail(const struct domain *domain, struct arena *arena, const struct job *job, const char *text,
                      const char *hint) __attribute__((warn_unused_result));
struct error run_cancel(const struct domain *domain, struct arena *arena, const struct job *job)
    __attribute__((warn_unused_result));
/* Frees what only a resume needs; keeps job.json, events.ndjson, trainer.log and result.json. */
struct error run_tidy(struct arena *arena, const char *dir, const struct job *job) __attribute__((warn_unused_result));

/* For kinds: the picture as an asset that the job made, in no row yet, with all but model_id and inference_id. */
struct asset;
void run_asset_init(struct asset *asset, const struct run_work *work, const struct job *job,
                    const struct run_file *file);
/* The metadata's assetIds with one more. */
struct error run_add_asset_id(struct arena *arena, struct job *job, const char *asset_id)
    __attribute__((warn_unused_result));
