/* SQL transport: short snapshots to read in, and one writer that commits what has queued up together.
 *
 * SQL is text with ?1 ?2 ... placeholders in the dialect that SQLite (3.35) and PostgreSQL share: INSERT ... ON
 * CONFLICT, RETURNING, keyset pages; texts, 64-bit integers and doubles only; truth as 0 and 1; times as UTC
 * milliseconds; JSON and hashes as text. A driver is a struct db_driver; db_sqlite.c is the first. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

struct db;      /* one database; thread-safe */
struct db_tx;   /* a snapshot or a write in progress; one thread at a time */
struct db_rows; /* a result being walked; ends when exhausted or with its db_tx */

enum db_type { DB_NULL, DB_TEXT, DB_INT, DB_REAL };

struct db_value {
    enum db_type type;
    const char *text; /* borrowed until the call returns */
    int64_t integer;
    double real;
};

static inline struct db_value db_t(const char *text) /* NULL binds SQL NULL */
{
    return (struct db_value){.type = text ? DB_TEXT : DB_NULL, .text = text};
}

static inline struct db_value db_i(int64_t integer)
{
    return (struct db_value){.type = DB_INT, .integer = integer};
}

static inline struct db_value db_r(double real)
{
    return (struct db_value){.type = DB_REAL, .real = real};
}

/* The last two arguments of db_query and db_execute: DB_BIND(db_t(id), db_i(now)) or DB_NO_BIND. */
#define DB_BIND(...)                                                                                                   \
    (const struct db_value[]){__VA_ARGS__}, sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value)
#define DB_NO_BIND NULL, 0

struct db_migration {
    int number; /* 1, 2, 3 ... without gaps */
    const char *name;
    const char *sql;
};

enum { db_readers_max = 64, db_statements_max = 512, db_batch_max = 256 };

struct db_options {
    const char *path;                      /* of the database file; made when absent */
    int readers;                           /* connections for snapshots, 1 to db_readers_max; 0 for 16 */
    const struct db_migration *migrations; /* NULL for the ones built in */
    size_t migration_count;
    /* Called on the writer before each commit. An error fails the whole batch as a failing disk would. For tests. */
    struct error (*before_commit)(void *context);
    void *before_commit_context;
};

/* Opens or makes the database and brings it up to date. ERR_CORRUPT when the file is something else;
 * ERR_UNAVAILABLE when it was written by a newer program. *db is the caller's, to be given to db_close. */
struct error db_open_sqlite(struct db **db, const struct db_options *options) __attribute__((warn_unused_result));
void db_close(struct db *db); /* no call may be under way */

/* Runs work in a write transaction, shared with other writers that are waiting, and returns once it is durable. When
 * work fails its own changes are undone and its error is returned; the others' stand. Work runs on another thread while
 * the caller waits, so it may use the caller's memory; it must not wait for anything, or call db_write; a driver may
 * run it more than once. */
struct error db_write(struct db *db, struct error (*work)(struct db_tx *tx, void *context), void *context)
    __attribute__((warn_unused_result));

/* A number that is another after every commit, for caches: what was read after it was asked for is current as long as
 * it stays the same. 0 from a driver that cannot tell, since others write too: then nothing may be cached. */
uint64_t db_generation(const struct db *db);

/* A consistent view for reading. Keep it short: end it before waiting for anything. At most one a thread. */
struct error db_read_begin(struct db *db, struct db_tx **tx) __attribute__((warn_unused_result));
void db_read_end(struct db_tx *tx); /* NULL is fine */

static inline void cleanup_db_read(struct db_tx **tx)
{
    db_read_end(*tx);
}
#define CLEANUP_DB_READ __attribute__((cleanup(cleanup_db_read))) /* struct db_tx *, NULL when none */

/* sql must be a string that lives as long as the program: prepared statements are kept by its address and text. */
struct error db_query(struct db_tx *tx, struct db_rows **rows, const char *sql, const struct db_value *values,
                      size_t value_count) __attribute__((warn_unused_result));
struct error db_next(struct db_rows *rows, bool *row) __attribute__((warn_unused_result));
/* Runs to the end. changed may be NULL: rows inserted, updated or deleted. */
struct error db_execute(struct db_tx *tx, int64_t *changed, const char *sql, const struct db_value *values,
                        size_t value_count) __attribute__((warn_unused_result));

/* "?1, ?2, ... ?100" for a column IN (...) of up to db_in_max texts; db_query_in leaves the rest NULL. */
enum { db_in_max = 100 };
#define DB_IN_TEN(tens)                                                                                                \
    "?" tens "0, ?" tens "1, ?" tens "2, ?" tens "3, ?" tens "4, ?" tens "5, ?" tens "6, ?" tens "7, ?" tens           \
    "8, ?" tens "9, "
#define DB_IN                                                                                                          \
    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, " DB_IN_TEN("1") DB_IN_TEN("2") DB_IN_TEN("3") DB_IN_TEN("4") DB_IN_TEN("5")  \
        DB_IN_TEN("6") DB_IN_TEN("7") DB_IN_TEN("8") DB_IN_TEN("9") "?100"
struct error db_query_in(struct db_tx *tx, struct db_rows **rows, const char *sql, const char *const *texts,
                         size_t count) __attribute__((warn_unused_result));

/* Of the current row; columns count from 0. */
char *db_text(struct arena *arena, struct db_rows *rows, int column); /* a copy; NULL for SQL NULL */
int64_t db_int(struct db_rows *rows, int column);                     /* 0 for SQL NULL */
double db_real(struct db_rows *rows, int column);                     /* 0 for SQL NULL */

/* The rest is for drivers. Each entry does what the function of its name says. */
struct db_driver {
    void (*close)(struct db *db);
    struct error (*write)(struct db *db, struct error (*work)(struct db_tx *tx, void *context), void *context);
    uint64_t (*generation)(const struct db *db);
    struct error (*read_begin)(struct db *db, struct db_tx **tx);
    void (*read_end)(struct db_tx *tx);
    struct error (*query)(struct db_tx *tx, struct db_rows **rows, const char *sql, const struct db_value *values,
                          size_t value_count);
    struct error (*next)(struct db_rows *rows, bool *row);
    int64_t (*changed)(struct db_tx *tx);                                /* by the last statement that ran to its end */
    const char *(*text)(struct db_rows *rows, int column, size_t *size); /* borrowed until the next row */
    int64_t (*integer)(struct db_rows *rows, int column);
    double (*real)(struct db_rows *rows, int column);
};

struct db {
    const struct db_driver *driver;
};

struct db_tx {
    struct db *db;
};

struct db_rows {
    struct db_tx *tx;
};
