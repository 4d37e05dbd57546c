#include "domain/job.h"

#include <string.h>

#include "base/clock.h"
#include "domain/access.h"
#include "domain/id_list.h"
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

struct error job_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                     struct job *job)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(domain->db, &tx));
    TRY(job_find(tx, arena, id, job));
    struct access_thing thing = {job->project_id, "private", false};
    return access_check(caller, ACCESS_READ, &thing, "Job", id);
}

/* Pages: newest first. */

static const char list_name[] = "jobs";

#define PAGE_SQL(condition)                                                                                            \
    "SELECT " JOB_COLUMNS " FROM job WHERE project_id = ?1 AND (created_at, id) < (?2, ?3)" condition                  \
    " ORDER BY created_at DESC, id DESC LIMIT ?4"
#define OF_STATUS " AND status = ?5"
#define OF_TYPES " AND ?6 LIKE '%,' || type || ',%'"

static const char *page_sql(const struct job_filter *filter)
{
    if (filter->type_count)
        return filter->status ? PAGE_SQL(OF_STATUS OF_TYPES) : PAGE_SQL(OF_TYPES " AND ?5 IS NULL");
    return filter->status ? PAGE_SQL(OF_STATUS) : PAGE_SQL("");
}

/* ",custom,upload,": each type between commas. */
static const char *join_types(struct arena *arena, const struct job_filter *filter)
{
    const char *joined = ",";
    for (size_t i = 0; i < filter->type_count && i < job_types_max; i++)
        joined = arena_printf(arena, "%s%s,", joined, filter->types[i]);
    return joined;
}

struct error job_list(const struct domain *domain, struct arena *arena, const struct caller *caller,
                      const struct job_filter *filter, struct job_page *page)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    struct page_key from;
    TRY(page_start(arena, filter->token, list_name, false, &from));
    const struct db_value values[] = {
        db_t(caller->project_id),    db_i(from.value),     db_t(from.id),
        db_i(filter->page_size + 1), db_t(filter->status), db_t(join_types(arena, filter))};
    TRY(db_read_begin(domain->db, &tx));
    TRY(db_query(tx, &rows, page_sql(filter), values, filter->type_count ? 6 : filter->status ? 5 : 4));
    *page = (struct job_page){.jobs = arena_array(arena, (size_t)filter->page_size, sizeof *page->jobs)};
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        if (page->count == (size_t)filter->page_size)
            break;
        read_job(arena, rows, &page->jobs[page->count++]);
    }
    const struct job *last = &page->jobs[page->count - 1];
    page->next_token = page_token(arena, list_name, &(struct page_key){last->created_at, last->id});
    return OK;
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

struct error job_list_ids(struct db_tx *tx, struct arena *arena, const char *project_id, const char *const *ids,
                          size_t id_count, struct job **jobs, size_t *count)
{
    struct db_value values[id_list_max + 1];
    struct db_rows *rows;
    id_list_bind(values, ids, id_count);
    values[id_list_max] = db_t(project_id);
    TRY(db_query(tx, &rows, "SELECT " JOB_COLUMNS " FROM job WHERE id IN (" ID_LIST ") AND project_id = " ID_LIST_NEXT,
                 values, id_list_max + 1));
    return read_all(arena, rows, id_list_max, jobs, count);
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

struct error job_renumber_queue(struct db_tx *tx, int64_t now_ms)
{
    return db_execute(tx, NULL,
                      "UPDATE model SET training_progress = '{\"stage\":\"queued-for-train\",\"progress\":0,"
                      "\"position\":' || CAST(q.position AS TEXT) || ',\"updatedAt\":' || CAST(?1 AS TEXT) || '}' "
                      "FROM (SELECT model_id, ROW_NUMBER() OVER (ORDER BY queued_at, id) AS position FROM job "
                      "WHERE status IN ('pending', 'queued')) AS q WHERE model.id = q.model_id",
                      DB_BIND(db_i(now_ms)));
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
