#include "domain/health.h"

#include "store/db.h"

static struct error ask(struct db *db)
{
    CLEANUP_DB_READ struct db_tx *tx = NULL;
    struct db_rows *rows;
    bool row;
    TRY(db_read_begin(db, &tx));
    TRY(db_query(tx, &rows, "SELECT 1", DB_NO_BIND));
    return db_next(rows, &row);
}

struct error health_check(const struct domain *domain)
{
    return ask(domain->db).code ? error_make(ERR_UNAVAILABLE, "The database does not answer") : OK;
}

struct error health_count_jobs(const struct domain *domain, struct arena *arena, struct health_jobs *jobs,
                               size_t *count)
{
    CLEANUP_DB_READ struct db_tx *tx = NULL;
    struct db_rows *rows;
    *count = 0;
    TRY(db_read_begin(domain->db, &tx));
    TRY(db_query(tx, &rows,
                 "SELECT status, COUNT(*) FROM job WHERE status IN ('pending', 'queued', 'warming-up', 'in-progress', "
                 "'finalizing') GROUP BY status",
                 DB_NO_BIND));
    for (;;) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row || *count == health_statuses_max)
            return OK;
        jobs[(*count)++] = (struct health_jobs){db_text(arena, rows, 0), db_int(rows, 1)};
    }
}
