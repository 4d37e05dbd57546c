#include "domain/job.h"

#include <string.h>

#include "base/clock.h"
#include "domain/access.h"
#include "domain/page.h"

#define JOB_COLUMNS                                                                                                    \
    "id, project_id, author_id, model_id, type, status, status_history, progress, metadata, input, attempts, "         \
    "event_offset, cancel_requested, queued_at, started_at, ended_at, created_at, updated_at"

static void read_job(struct arena *arena, struct db_rows *rows, struct job *job)
{
    *job = (struct job){
        .id = db_text(arena, rows, 0),
        .project_id = db_text(arena, rows, 1),
        .author_id = db_text(arena, rows, 2),
        .model_id = db_text(arena, rows, 3),
        .type = db_text(arena, rows, 4),
        .status = db_text(arena, rows, 5),
        .status_history = db_text(arena, rows, 6),
        .progress = db_real(rows, 7),
        .metadata = db_text(arena, rows, 8),
        .input = db_text(arena, rows, 9),
        .attempts = db_int(rows, 10),
        .event_offset = db_int(rows, 11),
        .cancel_requested = db_int(rows, 12),
        .queued_at = db_int(rows, 13),
        .started_at = db_int(rows, 14),
        .ended_at = db_int(rows, 15),
        .created_at = db_int(rows, 16),
        .updated_at = db_int(rows, 17),
    };
}

static struct error not_found(const char *id)
{
    return error_make(ERR_NOT_FOUND, "Job %.64s not found", id);
}

struct error job_find(struct db_tx *tx, struct arena *arena, const char *id, struct job *job)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT " JOB_COLUMNS " FROM job WHERE id = ?1", DB_BIND(db_t(id))));
    TRY(db_next(rows, &row));
    if (!row)
        return not_found(id);
    read_job(arena, rows, job);
    return OK;
}

struct error job_check_readable(const struct caller *caller, const struct job *job)
{
    const struct access_thing thing = {job->project_id, "private", false};
    return access_check(caller, ACCESS_READ, &thing, "Job", job->id);
}

struct error job_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                     struct job *job)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(domain->db, &tx));
    TRY(job_find(tx, arena, id, job));
    return job_check_readable(caller, job);
}

/* A job for each id; its id is NULL where there is none. */
struct error job_list_ids(struct db_tx *tx, struct arena *arena, const char *const *ids, size_t count, struct job *jobs)
{
    for (size_t at = 0; at < count; at += db_in_max) {
        const size_t some = count - at < db_in_max ? count - at : db_in_max;
        struct db_rows *rows;
        TRY(db_query_in(tx, &rows, "SELECT " JOB_COLUMNS " FROM job WHERE id IN (" DB_IN ")", ids + at, some));
        for (bool row;;) {
            struct job job;
            TRY(db_next(rows, &row));
            if (!row)
                break;
            read_job(arena, rows, &job);
            for (size_t i = at; i < at + some; i++)
                if (!strcmp(ids[i], job.id))
                    jobs[i] = job;
        }
    }
    return OK;
}

/* Pages: newest first. One range for each type that was asked for; ?5 is the project, ?6 a status, ?7 a type, ?8 an
 * author. */

#define RANGE(condition)                                                                                               \
    "SELECT created_at, id FROM job WHERE project_id = ?5" condition " AND (?8 IS NULL OR author_id = ?8) "            \
    "AND (created_at, id) < (?1, ?2) AND created_at >= ?3 ORDER BY created_at DESC, id DESC LIMIT ?4"
#define BY_AUTHOR                                                                                                      \
    "SELECT created_at, id FROM job WHERE project_id = ?5 AND author_id = ?8 AND (created_at, id) < (?1, ?2) "         \
    "AND created_at >= ?3 ORDER BY created_at DESC, id DESC LIMIT ?4"

static const char *const range_statements[] = {
    RANGE(""), RANGE(" AND status = ?6"), RANGE(" AND type = ?7"), RANGE(" AND type = ?7 AND status = ?6"), BY_AUTHOR,
};

const char *job_list_statement(size_t index)
{
    return index < sizeof range_statements / sizeof *range_statements ? range_statements[index] : NULL;
}

static struct error take_range(struct page_walk *walk, const struct caller *caller, const struct job_filter *filter,
                               const char *type)
{
    const bool by_author = filter->author_id && !type && !filter->status;
    const size_t index = by_author ? 4 : (size_t)(filter->status != NULL) + 2 * (size_t)(type != NULL);
    return page_walk_take(walk, range_statements[index],
                          DB_BIND(db_t(caller->project_id), db_t(filter->status), db_t(type), db_t(filter->author_id)));
}

struct error job_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                      const struct job_filter *filter, struct job_page *page)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    const struct page_bounds bounds = {.token = filter->token, .list = "jobs", .page_size = filter->page_size};
    struct page_walk walk;
    const char **ids;
    TRY(db_read_begin(domain->db, &tx));
    TRY(page_walk_start(&walk, tx, arena, &bounds));
    if (!filter->type_count)
        TRY(take_range(&walk, caller, filter, NULL));
    for (size_t i = 0; i < filter->type_count; i++)
        TRY(take_range(&walk, caller, filter, filter->types[i]));
    page->next_token = page_walk_end(&walk, &ids, &page->count);
    page->jobs = arena_array(arena, page->count + 1, sizeof *page->jobs);
    return job_list_ids(tx, arena, ids, page->count, page->jobs);
}

/* Changes. */

bool job_status_is_final(const char *status)
{
    return !strcmp(status, "success") || !strcmp(status, "failure") || !strcmp(status, "canceled");
}

/* The array with one more entry. A history that is full keeps its beginning and says no more. */
static const char *extend_history(struct arena *arena, const char *history, const char *status, int64_t now_ms)
{
    char date[clock_iso_size];
    const size_t length = strlen(history);
    if (length > (size_t)job_history_max * 64)
        return history;
    return arena_printf(arena, "%.*s%s{\"date\":\"%s\",\"status\":\"%s\"}]", (int)length - 1, history,
                        length > 2 ? "," : "", clock_format_iso(date, now_ms), status);
}

struct error job_insert(struct db_tx *tx, struct arena *arena, const struct job *job)
{
    const char *history = extend_history(arena, "[]", job->status, job->created_at);
    return db_execute(tx, NULL,
                      "INSERT INTO job (id, project_id, author_id, model_id, type, status, status_history, progress, "
                      "metadata, input, queued_at, started_at, ended_at, created_at, updated_at) VALUES "
                      "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?14)",
                      DB_BIND(db_t(job->id), db_t(job->project_id), db_t(job->author_id), db_t(job->model_id),
                              db_t(job->type), db_t(job->status), db_t(history), db_r(job->progress),
                              db_t(job->metadata), db_t(job->input), db_i(job->queued_at), db_i(job->started_at),
                              db_i(job->ended_at), db_i(job->created_at)));
}

struct error job_update(struct db_tx *tx, struct arena *arena, struct job *job, const char *status, int64_t now_ms)
{
    if (strcmp(job->status, status) != 0) {
        job->status_history = extend_history(arena, job->status_history, status, now_ms);
        job->status = status;
    }
    if (job_status_is_final(status) && !job->ended_at)
        job->ended_at = now_ms;
    job->updated_at = now_ms;
    return db_execute(tx, NULL,
                      "UPDATE job SET status = ?2, status_history = ?3, progress = ?4, metadata = ?5, attempts = ?6, "
                      "event_offset = ?7, started_at = ?8, ended_at = ?9, updated_at = ?10 WHERE id = ?1",
                      DB_BIND(db_t(job->id), db_t(status), db_t(job->status_history), db_r(job->progress),
                              db_t(job->metadata), db_i(job->attempts), db_i(job->event_offset), db_i(job->started_at),
                              db_i(job->ended_at), db_i(now_ms)));
}

static struct error read_all(struct arena *arena, struct db_rows *rows, size_t limit, struct job **jobs, size_t *count)
{
    *jobs = arena_array(arena, limit, sizeof **jobs);
    for (*count = 0; *count < limit; (*count)++) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        read_job(arena, rows, &(*jobs)[*count]);
    }
    return OK;
}

struct error job_list_queued(struct db_tx *tx, struct arena *arena, int64_t limit, struct job **jobs, size_t *count)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows,
                 "SELECT " JOB_COLUMNS
                 " FROM job WHERE status IN ('pending', 'queued') ORDER BY queued_at, id LIMIT ?1",
                 DB_BIND(db_i(limit))));
    return read_all(arena, rows, (size_t)limit, jobs, count);
}

struct error job_list_running(struct db_tx *tx, struct arena *arena, struct job **jobs, size_t *count)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows,
                 "SELECT " JOB_COLUMNS " FROM job WHERE status IN ('warming-up', 'in-progress', 'finalizing') "
                 "ORDER BY queued_at, id LIMIT ?1",
                 DB_BIND(db_i(job_running_max))));
    return read_all(arena, rows, job_running_max, jobs, count);
}

struct error job_count_queued(struct db_tx *tx, int64_t *count)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT COUNT(*) FROM job WHERE status IN ('pending', 'queued')", NULL, 0));
    TRY(db_next(rows, &row));
    *count = row ? db_int(rows, 0) : 0;
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

struct error job_renumber_queue(struct db_tx *tx, int64_t now_ms)
{
    return db_execute(tx, NULL,
                      "UPDATE model SET training_progress = '{\"stage\":\"queued-for-train\",\"progress\":0,"
                      "\"position\":' || CAST(q.position AS TEXT) || ',\"updatedAt\":' || CAST(?1 AS TEXT) || '}' "
                      "FROM (SELECT model_id, type, ROW_NUMBER() OVER (ORDER BY queued_at, id) AS position FROM job "
                      "WHERE status IN ('pending', 'queued')) AS q WHERE model.id = q.model_id AND q.type <> ?2",
                      DB_BIND(db_i(now_ms), db_t(job_type_generation)));
}

/* Canceling. */

struct cancel {
    struct arena *arena;
    const struct caller *caller;
    const char *id;
    struct job *job;
};

static struct error cancel_work(struct db_tx *tx, void *context)
{
    const struct cancel *cancel = context;
    struct job *job = cancel->job;
    const int64_t now_ms = clock_now_ms();
    TRY(job_find(tx, cancel->arena, cancel->id, job));
    TRY(job_check_readable(cancel->caller, job));
    if (strcmp(job->type, job_type_generation) != 0)
        return error_make(ERR_INVALID, "Cannot cancel this type of job");
    if (job_status_is_final(job->status))
        return error_make(ERR_INVALID, "Job has ended already: its status is %s", job->status);
    if (strcmp(job->status, "queued") != 0 && strcmp(job->status, "pending") != 0)
        return db_execute(tx, NULL, "UPDATE job SET cancel_requested = 1 WHERE id = ?1", DB_BIND(db_t(job->id)));
    TRY(job_update(tx, cancel->arena, job, "canceled", now_ms));
    return job_renumber_queue(tx, now_ms);
}

struct error job_cancel(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                        struct job *job)
{
    return db_write(domain->db, cancel_work, &(struct cancel){arena, caller, id, job});
}

static bool is_changed(const char *key, const struct json_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(changes[i].key, key) == 0)
            return true;
    return false;
}

const char *json_object_with(struct arena *arena, const char *object, const struct json_change *changes, size_t count)
{
    struct buf text;
    const struct json *root = NULL;
    if (json_parse(arena, object, strlen(object), &root).code)
        root = NULL;
    buf_init(&text, job_metadata_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    JSON_EACH (member, root) {
        if (!is_changed(member->key, changes, count))
            json_put_tree(&writer, member->key, member);
    }
    for (size_t i = 0; i < count; i++)
        if (changes[i].value)
            json_put_raw(&writer, changes[i].key, changes[i].value);
    json_close(&writer, '}');
    const char *result = buf_error(&text).code ? object : arena_copy(arena, text.data, text.len);
    buf_finish(&text);
    return result;
}
