#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/kernels_table.h"

/* About 10 us: the gap between two kernels of a training step is shorter, and a longer wait is worth a sleep. */
#define SPIN_ROUNDS 2000

struct worker {
    struct pool *pool;
    pthread_t thread;
    unsigned index;
    float *scratch;
};

struct pool {
    const struct kernel_table *kernels;
    unsigned threads;
    struct worker *workers; /* [threads]; the first is the caller's and has no thread of its own */

    void (*task)(void *context, size_t chunk, float *scratch);
    void *context;
    size_t chunks;
    atomic_uint round;   /* changes when there is work, or the end */
    atomic_uint running; /* workers that have not finished this round */
    bool ending;

    pthread_mutex_t lock; /* only for sleeping */
    pthread_cond_t work, done;
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void run_share(struct pool *pool, const struct worker *worker)
{
    size_t first = pool->chunks * worker->index / pool->threads;
    size_t end = pool->chunks * (worker->index + 1) / pool->threads;
    for (size_t chunk = first; chunk < end; chunk++)
        pool->task(pool->context, chunk, worker->scratch);
}

static void wait_for_round(struct pool *pool, unsigned seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&pool->round, memory_order_acquire) != seen)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&pool->round, memory_order_acquire) == seen)
        pthread_cond_wait(&pool->work, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    for (unsigned seen = 0;; seen++) {
        wait_for_round(pool, seen);
        if (pool->ending)
            return NULL;
        run_share(pool, worker);
        if (atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void begin_round(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add_explicit(&pool->round, 1, memory_order_release);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_for_workers(struct pool *pool)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&pool->running, memory_order_acquire) == 0)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&pool->running, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run(struct pool *pool, size_t chunks, void (*task)(void *context, size_t chunk, float *scratch),
              void *context)
{
    if (pool->threads == 1 || chunks <= 1) {
        for (size_t chunk = 0; chunk < chunks; chunk++)
            task(context, chunk, pool->workers[0].scratch);
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->chunks = chunks;
    atomic_store_explicit(&pool->running, pool->threads - 1, memory_order_relaxed);
    begin_round(pool);
    run_share(pool, &pool->workers[0]);
    wait_for_workers(pool);
}

static unsigned cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : (unsigned)count;
}

static struct error start_worker(struct pool *pool, unsigned index)
{
    struct worker *worker = &pool->workers[index];
    worker->pool = pool;
    worker->index = index;
    worker->scratch = aligned_alloc(64, POOL_SCRATCH_FLOATS * sizeof(float));
    if (!worker->scratch)
        return error_make(ERR_INTERNAL, "not enough memory for a compute thread");
    if (index > 0 && pthread_create(&worker->thread, NULL, work, worker) != 0) {
        free(worker->scratch);
        return error_make(ERR_INTERNAL, "cannot start compute thread %u: use fewer threads", index);
    }
    pool->threads = index + 1;
    return OK;
}

struct error pool_create(unsigned threads, struct pool **out)
{
    if (threads == 0)
        threads = cores();
    if (threads > POOL_THREADS_MAX)
        threads = POOL_THREADS_MAX;
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return error_make(ERR_INTERNAL, "not enough memory for the compute threads");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->kernels = kernels_best();
    pool->workers = calloc(threads, sizeof *pool->workers);
    struct error error = pool->workers ? OK : error_make(ERR_INTERNAL, "not enough memory for the compute threads");
    for (unsigned i = 0; i < threads && !error.code; i++)
        error = start_worker(pool, i);
    if (error.code) {
        pool_destroy(pool);
        return error;
    }
    *out = pool;
    return OK;
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    if (pool->threads > 1) {
        pool->ending = true;
        begin_round(pool);
    }
    for (unsigned i = 0; pool->workers && i < pool->threads; i++) {
        if (i > 0)
            pthread_join(pool->workers[i].thread, NULL);
        free(pool->workers[i].scratch);
    }
    free(pool->workers);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

unsigned pool_threads(const struct pool *pool)
{
    return pool->threads;
}

const struct kernel_table *pool_kernels(const struct pool *pool)
{
    return pool->kernels;
}

void pool_set_kernels(struct pool *pool, const struct kernel_table *table)
{
    pool->kernels = table;
}
