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
