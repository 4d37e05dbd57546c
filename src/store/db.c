/* The face of every driver: hands calls over and does once what would be the same in each. */
#include "store/db.h"

void db_close(struct db *db)
{
    if (db)
        db->driver->close(db);
}

struct error db_write(struct db *db, struct error (*work)(struct db_tx *tx, void *context), void *context)
{
    return db->driver->write(db, work, context);
}

uint64_t db_generation(const struct db *db)
{
    return db->driver->generation(db);
}

struct error db_read_begin(struct db *db, struct db_tx **tx)
{
    *tx = NULL;
    return db->driver->read_begin(db, tx);
}

void db_read_end(struct db_tx *tx)
{
    if (tx)
        tx->db->driver->read_end(tx);
}

struct error db_query(struct db_tx *tx, struct db_rows **rows, const char *sql, const struct db_value *values,
                      size_t value_count)
{
    return tx->db->driver->query(tx, rows, sql, values, value_count);
}

struct error db_next(struct db_rows *rows, bool *row)
{
    return rows->tx->db->driver->next(rows, row);
}

struct error db_execute(struct db_tx *tx, int64_t *changed, const char *sql, const struct db_value *values,
                        size_t value_count)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, sql, values, value_count));
    for (bool row = true; row;)
        TRY(db_next(rows, &row));
    if (changed)
        *changed = tx->db->driver->changed(tx);
    return OK;
}

struct error db_query_in(struct db_tx *tx, struct db_rows **rows, const char *sql, const char *const *texts,
                         size_t count)
{
    struct db_value values[db_in_max];
    if (count > db_in_max)
        return error_make(ERR_INTERNAL, "%zu values for one IN, at most %d", count, db_in_max);
    for (size_t i = 0; i < db_in_max; i++)
        values[i] = db_t(i < count ? texts[i] : NULL);
    return db_query(tx, rows, sql, values, db_in_max);
}

char *db_text(struct arena *arena, struct db_rows *rows, int column)
{
    size_t size;
    const char *text = rows->tx->db->driver->text(rows, column, &size);
    return text ? arena_copy(arena, text, size) : NULL;
}

int64_t db_int(struct db_rows *rows, int column)
{
    return rows->tx->db->driver->integer(rows, column);
}

double db_real(struct db_rows *rows, int column)
{
    return rows->tx->db->driver->real(rows, column);
}
