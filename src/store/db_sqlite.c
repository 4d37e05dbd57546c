/* SQLite as a server's database: WAL, synchronous=FULL, a connection for each reader and one for the writer's thread.
 *
 * The writer takes every request that waits (up to db_batch_max) into one transaction, each inside its own savepoint,
 * commits once, and only then lets the callers go: sixteen waiting callers share one fdatasync. */
#include "store/db.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "migrations.h" /* generated: built_in_migrations */

enum {
    application_id = 0x4d415154, /* "MAQT" */
    busy_timeout_ms = 10000,     /* another process (maquette keys) holds the lock for one short transaction */
    readers_default = 16,
    statement_slots = 1024, /* twice db_statements_max, so that probing stays short */
    cache_kib = 2048,      /* a reader's page cache; the operating system's cache does the rest */
};

struct statement {
    struct db_rows rows;
    sqlite3_stmt *handle;
    const char *sql;
    bool busy;
    struct statement *next_busy;
};

struct connection {
    struct db_tx tx;
    sqlite3 *handle;
    struct statement *cache[statement_slots];
    size_t cached;
    struct statement *busy; /* those in use by the transaction under way */
    int64_t changed;
    struct connection *next_free;
};

struct request {
    struct error (*work)(struct db_tx *tx, void *context);
    void *context;
    struct error error;
    char text[512], field[128]; /* the error's, since it changes threads */
    sem_t done;
    struct request *next;
};

struct sqlite_db {
    struct db db;
    struct db_options options;
    char *path;
    pthread_mutex_t readers_lock;
    pthread_cond_t reader_free;
    struct connection *free_readers;
    int readers_open;

    atomic_uint_fast64_t generation; /* 1 + commits */
    pthread_t writer_thread;
    struct connection *writer;
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_filled;
    struct request *queue, **queue_tail;
    bool stopping;
};

static struct error sqlite_error(struct connection *connection, const char *what)
{
    static const struct {
        int result;
        enum error_code code;
    } meanings[] = {
        {SQLITE_FULL, ERR_NO_SPACE},   {SQLITE_BUSY, ERR_UNAVAILABLE}, {SQLITE_IOERR, ERR_IO},
        {SQLITE_CORRUPT, ERR_CORRUPT}, {SQLITE_NOTADB, ERR_CORRUPT},   {SQLITE_CANTOPEN, ERR_IO},
        {SQLITE_READONLY, ERR_IO},     {SQLITE_PERM, ERR_IO},
    };
    int result = sqlite3_extended_errcode(connection->handle);
    enum error_code code = ERR_INTERNAL;
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++)
        if ((result & 0xff) == meanings[i].result)
            code = meanings[i].code;
    return error_make(code, "database: cannot %s: %s (%d)", what, sqlite3_errmsg(connection->handle), result);
}

static struct error run_script(struct connection *connection, const char *sql, const char *what)
{
    if (sqlite3_exec(connection->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        return sqlite_error(connection, what);
    return OK;
}

static void connection_destroy(struct connection *connection)
{
    if (!connection)
        return;
    for (size_t i = 0; i < statement_slots; i++) {
        if (connection->cache[i])
            sqlite3_finalize(connection->cache[i]->handle);
        free(connection->cache[i]);
    }
    sqlite3_close(connection->handle);
    free(connection);
}

static struct error connection_setup(struct connection *connection, const char *path)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    if (sqlite3_open_v2(path, &connection->handle, flags, NULL) != SQLITE_OK)
        return connection->handle ? sqlite_error(connection, "open") : error_make(ERR_INTERNAL, "out of memory");
    sqlite3_busy_timeout(connection->handle, busy_timeout_ms); /* before anything that may meet a lock */
    sqlite3_db_config(connection->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    char pragmas[256];
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-%d;"
             "PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864",
             cache_kib);
    return run_script(connection, pragmas, "open");
}

static struct error connection_create(struct connection **made, struct sqlite_db *db)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return error_make(ERR_INTERNAL, "out of memory");
    connection->tx.db = &db->db;
    struct error error = connection_setup(connection, db->path);
    if (error.code)
        connection_destroy(connection);
    else
        *made = connection;
    return error;
}

/* Statements. */

static struct error statement_prepare(struct connection *connection, struct statement **made, const char *sql)
{
    struct statement *statement = calloc(1, sizeof *statement);
    if (!statement)
        return error_make(ERR_INTERNAL, "out of memory");
    statement->rows.tx = &connection->tx;
    statement->sql = sql;
    if (sqlite3_prepare_v3(connection->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement->handle, NULL) !=
        SQLITE_OK) {
        free(statement);
        return sqlite_error(connection, "prepare");
    }
    *made = statement;
    return OK;
}

/* The slot that holds sql and is idle, or an empty one. The same sql may be cached twice, when it was nested. */
static struct statement **cache_slot(struct connection *connection, const char *sql)
{
    size_t at = ((uintptr_t)sql >> 3) * 0x9e3779b97f4a7c15ULL >> 40;
    for (;; at++) {
        struct statement **slot = &connection->cache[at % statement_slots];
        if (!*slot || ((*slot)->sql == sql && !(*slot)->busy))
            return slot;
    }
}

static struct error statement_take(struct connection *connection, struct statement **taken, const char *sql)
{
    struct statement **slot = cache_slot(connection, sql);
    if (!*slot) {
        if (connection->cached == db_statements_max)
            return error_make(ERR_INTERNAL, "more than %d different SQL statements", db_statements_max);
        TRY(statement_prepare(connection, slot, sql));
        connection->cached++;
    }
    assert(*slot);
    (*slot)->busy = true;
    (*slot)->next_busy = connection->busy;
    connection->busy = *slot;
    *taken = *slot;
    return OK;
}

static void statement_release(struct statement *statement)
{
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    statement->busy = false;
}

static void release_all(struct connection *connection)
{
    for (struct statement *at = connection->busy; at; at = at->next_busy)
        if (at->busy)
            statement_release(at);
    connection->busy = NULL;
}

static int bind_value(sqlite3_stmt *handle, int index, const struct db_value *value)
{
    switch (value->type) {
    case DB_NULL:
        return sqlite3_bind_null(handle, index);
    case DB_TEXT:
        return sqlite3_bind_text(handle, index, value->text, -1, SQLITE_TRANSIENT);
    case DB_INT:
        return sqlite3_bind_int64(handle, index, value->integer);
    case DB_REAL:
        return sqlite3_bind_double(handle, index, value->real);
    }
    return SQLITE_MISUSE;
}

static struct error sqlite_query(struct db_tx *tx, struct db_rows **rows, const char *sql,
                                 const struct db_value *values, size_t value_count)
{
    struct connection *connection = (struct connection *)tx;
    struct statement *statement = NULL;
    TRY(statement_take(connection, &statement, sql));
    for (size_t i = 0; i < value_count; i++)
        if (bind_value(statement->handle, (int)i + 1, &values[i]) != SQLITE_OK)
            return sqlite_error(connection, "bind");
    *rows = &statement->rows;
    return OK;
}

static void unlink_busy(struct connection *connection, struct statement *statement)
{
    struct statement **at = &connection->busy;
    while (*at && *at != statement)
        at = &(*at)->next_busy;
    if (*at)
        *at = statement->next_busy;
}

static struct error sqlite_next(struct db_rows *rows, bool *row)
{
    struct statement *statement = (struct statement *)rows;
    struct connection *connection = (struct connection *)rows->tx;
    int result = sqlite3_step(statement->handle);
    *row = result == SQLITE_ROW;
    if (result == SQLITE_ROW)
        return OK;
    struct error error = result == SQLITE_DONE ? OK : sqlite_error(connection, "run a statement");
    connection->changed = sqlite3_changes64(connection->handle);
    statement_release(statement);
    unlink_busy(connection, statement);
    return error;
}

static int64_t sqlite_changed(struct db_tx *tx)
{
    return ((struct connection *)tx)->changed;
}

static const char *sqlite_text(struct db_rows *rows, int column, size_t *size)
{
    sqlite3_stmt *handle = ((struct statement *)rows)->handle;
    const char *text = (const char *)sqlite3_column_text(handle, column);
    *size = (size_t)sqlite3_column_bytes(handle, column);
    return text;
}

static int64_t sqlite_integer(struct db_rows *rows, int column)
{
    return sqlite3_column_int64(((struct statement *)rows)->handle, column);
}

static double sqlite_real(struct db_rows *rows, int column)
{
    return sqlite3_column_double(((struct statement *)rows)->handle, column);
}

/* BEGIN, COMMIT and the like; the result of a write is not counted as changed rows. */
static struct error run(struct connection *connection, const char *sql)
{
    return db_execute(&connection->tx, NULL, sql, DB_NO_BIND);
}

/* Reading. */

static struct connection *reader_take(struct sqlite_db *db)
{
    SCOPED_LOCK(&db->readers_lock);
    while (!db->free_readers && db->readers_open == db->options.readers)
        pthread_cond_wait(&db->reader_free, &db->readers_lock);
    struct connection *connection = db->free_readers;
    if (connection)
        db->free_readers = connection->next_free;
    else
        db->readers_open++; /* the caller opens it outside the lock */
    return connection;
}

static void reader_give(struct sqlite_db *db, struct connection *connection)
{
    SCOPED_LOCK(&db->readers_lock);
    if (connection) {
        connection->next_free = db->free_readers;
        db->free_readers = connection;
    } else {
        db->readers_open--;
    }
    pthread_cond_signal(&db->reader_free);
}

static struct error sqlite_read_begin(struct db *face, struct db_tx **tx)
{
    struct sqlite_db *db = (struct sqlite_db *)face;
    struct connection *connection = reader_take(db);
    struct error error = connection ? OK : connection_create(&connection, db);
    if (!error.code)
        error = run(connection, "BEGIN");
    if (error.code)
        reader_give(db, connection);
    else
        *tx = &connection->tx;
    return error;
}

static void sqlite_read_end(struct db_tx *tx)
{
    struct connection *connection = (struct connection *)tx;
    release_all(connection);
    struct error error = run(connection, "COMMIT"); /* of a read: cannot fail in a way that matters to anyone */
    (void)error;
    reader_give((struct sqlite_db *)tx->db, connection);
}

/* Writing. */

static void keep_error(struct request *request, struct error error)
{
    request->error = error;
    snprintf(request->text, sizeof request->text, "%s", error.text ? error.text : "");
    request->error.text = request->text;
    if (!error.field)
        return;
    snprintf(request->field, sizeof request->field, "%s", error.field);
    request->error.field = request->field;
}

/* A failure of work undoes work alone; a failure that ended the whole transaction is returned. */
static struct error run_request(struct connection *writer, struct request *request)
{
    TRY(run(writer, "SAVEPOINT request"));
    struct error error = request->work(&writer->tx, request->context);
    release_all(writer);
    if (error.code)
        keep_error(request, error);
    if (sqlite3_get_autocommit(writer->handle)) /* a full disk or I/O error rolled everything back */
        return error.code ? error : error_make(ERR_IO, "database: the transaction was rolled back");
    if (error.code)
        TRY(run(writer, "ROLLBACK TO request"));
    return run(writer, "RELEASE request");
}

static struct error run_batch(struct sqlite_db *db, struct request *batch)
{
    TRY(run(db->writer, "BEGIN IMMEDIATE"));
    for (struct request *at = batch; at; at = at->next)
        TRY(run_request(db->writer, at));
    if (db->options.before_commit)
        TRY(db->options.before_commit(db->options.before_commit_context));
    return run(db->writer, "COMMIT");
}

static void serve_batch(struct sqlite_db *db, struct request *batch)
{
    struct error error = run_batch(db, batch);
    if (error.code) {
        release_all(db->writer);
        if (!sqlite3_get_autocommit(db->writer->handle))
            sqlite3_exec(db->writer->handle, "ROLLBACK", NULL, NULL, NULL);
    }
    atomic_fetch_add(&db->generation, 1); /* before any caller is answered */
    for (struct request *at = batch, *next; at; at = next) {
        next = at->next; /* after sem_post the request may be gone */
        if (error.code && !at->error.code)
            keep_error(at, error);
        sem_post(&at->done);
    }
}

static struct request *take_batch(struct sqlite_db *db)
{
    SCOPED_LOCK(&db->queue_lock);
    while (!db->queue && !db->stopping)
        pthread_cond_wait(&db->queue_filled, &db->queue_lock);
    struct request *batch = db->queue, *last = batch;
    for (int count = 1; last && last->next && count < db_batch_max; count++)
        last = last->next;
    if (!last)
        return NULL;
    db->queue = last->next;
    last->next = NULL;
    if (!db->queue)
        db->queue_tail = &db->queue;
    return batch;
}

static void *writer_main(void *argument)
{
    struct sqlite_db *db = argument;
    for (struct request *batch = NULL; (batch = take_batch(db));)
        serve_batch(db, batch);
    return NULL;
}

static struct error sqlite_write(struct db *face, struct error (*work)(struct db_tx *tx, void *context), void *context)
{
    struct sqlite_db *db = (struct sqlite_db *)face;
    struct request request = {.work = work, .context = context};
    sem_init(&request.done, 0, 0);
    pthread_mutex_lock(&db->queue_lock);
    *db->queue_tail = &request;
    db->queue_tail = &request.next;
    pthread_cond_signal(&db->queue_filled);
    pthread_mutex_unlock(&db->queue_lock);
    while (sem_wait(&request.done) < 0 && errno == EINTR)
        continue;
    sem_destroy(&request.done);
    return request.error.code ? error_adopt(request.error) : OK;
}

/* Only maquette keys and teams write beside the server. Keys are cached by their own rule, what teams allow is not. */
static uint64_t sqlite_generation(const struct db *face)
{
    return atomic_load(&((const struct sqlite_db *)face)->generation);
}

/* Opening. */

static struct error pragma_get(struct connection *connection, const char *sql, int64_t *value)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(&connection->tx, &rows, sql, DB_NO_BIND));
    TRY(db_next(rows, &row));
    *value = row ? db_int(rows, 0) : 0;
    release_all(connection);
    return OK;
}

static struct error migrate_one(struct connection *writer, const struct db_migration *migration)
{
    char version[64];
    snprintf(version, sizeof version, "PRAGMA user_version=%d", migration->number);
    TRY(run_script(writer, migration->sql, migration->name));
    return run_script(writer, version, migration->name);
}

static struct error check_identity(struct connection *writer, int64_t *version, size_t migration_count)
{
    int64_t application;
    TRY(pragma_get(writer, "PRAGMA application_id", &application));
    TRY(pragma_get(writer, "PRAGMA user_version", version));
    if (application != application_id && (application || *version))
        return error_make(ERR_CORRUPT, "the database belongs to another program (application id %lld)",
                          (long long)application);
    if (*version > (int64_t)migration_count)
        return error_make(ERR_UNAVAILABLE,
                          "the database has schema %lld and this program knows up to %zu: use the newer program",
                          (long long)*version, migration_count);
    return OK;
}

/* All of them in one transaction, read again under the lock: two programs may start on a new directory at once. */
static struct error migrate(struct connection *writer, const struct db_migration *migrations, size_t count)
{
    int64_t version = 0;
    char identity[64];
    snprintf(identity, sizeof identity, "PRAGMA application_id=%d", application_id);
    TRY(run(writer, "BEGIN IMMEDIATE"));
    struct error error = check_identity(writer, &version, count);
    if (!error.code && version == 0)
        error = run_script(writer, identity, "mark the database");
    for (size_t i = (size_t)version; !error.code && i < count; i++)
        error = migrate_one(writer, &migrations[i]);
    if (!error.code)
        return run(writer, "COMMIT");
    if (!sqlite3_get_autocommit(writer->handle))
        sqlite3_exec(writer->handle, "ROLLBACK", NULL, NULL, NULL);
    return error;
}

static void sqlite_close(struct db *face)
{
    struct sqlite_db *db = (struct sqlite_db *)face;
    pthread_mutex_lock(&db->queue_lock);
    db->stopping = true;
    pthread_cond_signal(&db->queue_filled);
    pthread_mutex_unlock(&db->queue_lock);
    if (db->writer_thread)
        pthread_join(db->writer_thread, NULL);
    for (struct connection *at = db->free_readers, *next; at; at = next) {
        next = at->next_free;
        connection_destroy(at);
    }
    connection_destroy(db->writer); /* last: it folds the WAL into the file */
    pthread_mutex_destroy(&db->queue_lock);
    pthread_cond_destroy(&db->queue_filled);
    pthread_mutex_destroy(&db->readers_lock);
    pthread_cond_destroy(&db->reader_free);
    free(db->path);
    free(db);
}

static const struct db_driver sqlite_driver = {
    .close = sqlite_close,
    .write = sqlite_write,
    .generation = sqlite_generation,
    .read_begin = sqlite_read_begin,
    .read_end = sqlite_read_end,
    .query = sqlite_query,
    .next = sqlite_next,
    .changed = sqlite_changed,
    .text = sqlite_text,
    .integer = sqlite_integer,
    .real = sqlite_real,
};

static struct sqlite_db *sqlite_db_create(const struct db_options *options)
{
    struct sqlite_db *db = calloc(1, sizeof *db);
    if (!db || !(db->path = strdup(options->path))) {
        free(db);
        return NULL;
    }
    db->db.driver = &sqlite_driver;
    db->options = *options;
    if (!db->options.migrations) {
        db->options.migrations = built_in_migrations;
        db->options.migration_count = sizeof built_in_migrations / sizeof built_in_migrations[0];
    }
    if (db->options.readers < 1 || db->options.readers > db_readers_max)
        db->options.readers = readers_default;
    atomic_init(&db->generation, 1);
    db->queue_tail = &db->queue;
    pthread_mutex_init(&db->queue_lock, NULL);
    pthread_cond_init(&db->queue_filled, NULL);
    pthread_mutex_init(&db->readers_lock, NULL);
    pthread_cond_init(&db->reader_free, NULL);
    return db;
}

static struct error sqlite_start(struct sqlite_db *db)
{
    TRY(connection_create(&db->writer, db));
    TRY(migrate(db->writer, db->options.migrations, db->options.migration_count));
    int result = pthread_create(&db->writer_thread, NULL, writer_main, db);
    if (result)
        return error_make(ERR_INTERNAL, "cannot start the database writer: %s", strerror(result));
    return OK;
}

struct error db_open_sqlite(struct db **opened, const struct db_options *options)
{
    struct sqlite_db *db = sqlite_db_create(options);
    if (!db)
        return error_make(ERR_INTERNAL, "out of memory");
    struct error error = sqlite_start(db);
    if (error.code)
        sqlite_close(&db->db);
    else
        *opened = &db->db;
    return error;
}
