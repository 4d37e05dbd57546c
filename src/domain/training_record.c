#include "domain/training_record.h"

#include "base/clock.h"
#include "domain/job.h"

static const char *record_of(struct arena *arena, const struct job *job)
{
    char created[clock_iso_size], ended[clock_iso_size];
    const struct json_change members[] = {
        {"jobId", json_quoted(arena, job->id)},
        {"jobType", json_quoted(arena, job->type)},
        {"status", json_quoted(arena, job->status)},
        {"createdAt", json_quoted(arena, clock_format_iso(created, job->created_at))},
        {"endedAt", json_quoted(arena, clock_format_iso(ended, job->ended_at))},
        {"statusHistory", job->status_history},
        {"metadata", job->metadata},
    };
    return json_object_with(arena, "{}", members, sizeof members / sizeof *members);
}

/* The id of the last training that went well, and the text that a copy keeps. */
static struct error read_both(struct db_tx *tx, struct arena *arena, const char *model_id, const char **job_id,
                              const char **kept)
{
    struct db_rows *rows;
    bool row;
    *job_id = *kept = NULL;
    TRY(db_query(tx, &rows,
                 "SELECT (SELECT id FROM job WHERE model_id = ?1 AND status = 'success' AND type NOT IN "
                 "('model-download', ?2) ORDER BY created_at DESC LIMIT 1), training_record FROM model WHERE id = ?1",
                 DB_BIND(db_t(model_id), db_t(job_type_generation))));
    TRY(db_next(rows, &row));
    if (row) {
        *job_id = db_text(arena, rows, 0);
        *kept = db_text(arena, rows, 1);
    }
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

struct error training_record_find(struct db_tx *tx, struct arena *arena, const char *model_id, const char **record)
{
    struct job job;
    const char *job_id;
    TRY(read_both(tx, arena, model_id, &job_id, record));
    if (!job_id)
        return OK;
    TRY(job_find(tx, arena, job_id, &job));
    *record = record_of(arena, &job);
    return OK;
}
