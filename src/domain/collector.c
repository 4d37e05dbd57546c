#include "domain/collector.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "blob/blob.h"
#include "store/db.h"

/* Every column that refers to a blob; a new one is added here. */
#define UNREFERENCED                                                                                                   \
    "NOT EXISTS (SELECT 1 FROM asset WHERE asset.blob_sha256 = blob.sha256) AND "                                      \
    "NOT EXISTS (SELECT 1 FROM model_file WHERE model_file.blob_sha256 = blob.sha256) AND "                            \
    "NOT EXISTS (SELECT 1 FROM model WHERE model.weights_sha256 = blob.sha256)"

struct sweep {
    const struct domain *domain;
    int64_t age_ms;
    int64_t removed;
};

static struct error forget_rows(struct db_tx *tx, void *context)
{
    const struct sweep *sweep = context;
    return db_execute(tx, NULL, "DELETE FROM blob WHERE created_at < ?1 AND " UNREFERENCED,
                      DB_BIND(db_i(clock_now_ms() - sweep->age_ms)));
}

static struct error has_row(struct db *db, const char *sha256, bool *found)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    TRY(db_read_begin(db, &tx));
    TRY(db_query(tx, &rows, "SELECT 1 FROM blob WHERE sha256 = ?1", DB_BIND(db_t(sha256))));
    return db_next(rows, found);
}

static struct error sweep_file(void *context, const char *sha256)
{
    struct sweep *sweep = context;
    bool found, removed;
    TRY(has_row(sweep->domain->db, sha256, &found));
    if (found)
        return OK;
    TRY(sweep->domain->blobs->remove_stale(sweep->domain->blobs, sha256, sweep->age_ms, &removed));
    sweep->removed += removed;
    return OK;
}

struct error collector_run(const struct domain *domain, int64_t age_ms, int64_t *removed)
{
    struct sweep sweep = {domain, age_ms, 0};
    TRY(db_write(domain->db, forget_rows, &sweep));
    TRY(domain->blobs->walk(domain->blobs, sweep_file, &sweep));
    if (removed)
        *removed = sweep.removed;
    return OK;
}

struct collector {
    struct collector_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stop;
    bool stopping; /* set under the lock, and read without it between the writes of a purge */
};

static bool wait_for_next(struct collector *collector)
{
    enum { interval_s = 600 };
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += interval_s;
    SCOPED_LOCK(&collector->lock);
    while (!collector->stopping)
        if (pthread_cond_timedwait(&collector->stop, &collector->lock, &until) == ETIMEDOUT)
            break;
    return !collector->stopping;
}

static void run_once(const struct collector *collector)
{
    const struct collector_options *options = &collector->options;
    struct purged purged;
    struct error error =
        purge_run(options->domain,
                  &(struct purge){options->domain->purge_age_ms, options->jobs_dir, &collector->stopping}, &purged);
    if (error.code)
        options->failed(error);
    if (purged.models || purged.assets)
        options->purged(&purged);
    error = collector_run(options->domain, collector_age_ms, NULL);
    if (error.code)
        options->failed(error);
}

static void *collector_main(void *argument)
{
    struct collector *collector = argument;
    do
        run_once(collector);
    while (wait_for_next(collector));
    return NULL;
}

struct error collector_start(struct collector **started, const struct collector_options *options)
{
    struct collector *collector = calloc(1, sizeof *collector);
    if (!collector)
        return error_make(ERR_INTERNAL, "out of memory");
    collector->options = *options;
    pthread_mutex_init(&collector->lock, NULL);
    pthread_cond_init(&collector->stop, NULL);
    int result = pthread_create(&collector->thread, NULL, collector_main, collector);
    if (result) {
        free(collector);
        return error_make(ERR_INTERNAL, "cannot start the collector: %s", strerror(result));
    }
    *started = collector;
    return OK;
}

void collector_stop(struct collector *collector)
{
    if (!collector)
        return;
    pthread_mutex_lock(&collector->lock);
    __atomic_store_n(&collector->stopping, true, __ATOMIC_RELAXED);
    pthread_cond_signal(&collector->stop);
    pthread_mutex_unlock(&collector->lock);
    pthread_join(collector->thread, NULL);
    pthread_mutex_destroy(&collector->lock);
    pthread_cond_destroy(&collector->stop);
    free(collector);
}
