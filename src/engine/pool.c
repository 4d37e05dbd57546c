#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/kernels_table.h"

/* About 10 us: the gap between two kernels of a training step is shorter, and a longer wait is worth a sleep. */
#define SPIN_ROUNDS 2000

/* A worker's share of a round is a run of chunks, so that the same rows stay in the same core's cache from kernel to
 * kernel. Who is done with his own takes from the others': a thread that another process keeps from running holds up
 * at most the chunk it has begun. Which thread does a chunk changes no result. */
struct worker {
    struct pool *pool;
    pthread_t thread;
    unsigned index;
    float *scratch;
    atomic_ullong share; /* round << 32 | chunks of the share that nobody has begun */
};

struct pool {
    const struct kernel_table *kernels;
    unsigned threads;
    struct worker *workers; /* [threads]; the first is the caller's and has no thread of its own */

    void (*task)(void *context, size_t chunk, float *scratch);
    void *context;
    size_t chunks;
    atomic_uint round;  /* changes when there is work, or the end */
    atomic_size_t done; /* chunks of this round */
    atomic_bool ending;

    pthread_mutex_t lock; /* only for sleeping */
    pthread_cond_t work, all_done;
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static size_t share_end(const struct pool *pool, unsigned index)
{
    return pool->chunks * (index + 1) / pool->threads;
}

/* False when nothing is left, or the round is over. The round cannot end while a chunk taken is not done. */
static bool take_chunk(struct pool *pool, unsigned owner, unsigned round, size_t *chunk)
{
    atomic_ullong *share = &pool->workers[owner].share;
    unsigned long long seen = atomic_load_explicit(share, memory_order_acquire);
    while (seen >> 32 == round && (uint32_t)seen > 0) {
        if (!atomic_compare_exchange_weak_explicit(share, &seen, seen - 1, memory_order_acquire, memory_order_acquire))
            continue;
        *chunk = share_end(pool, owner) - (uint32_t)seen;
        return true;
    }
    return false;
}

static void run_chunks(struct pool *pool, const struct worker *worker, unsigned round)
{
    size_t done = 0, chunks = 0, chunk;
    for (unsigned i = 0; i < pool->threads; i++) {
        while (take_chunk(pool, (worker->index + i) % pool->threads, round, &chunk)) {
            pool->task(pool->context, chunk, worker->scratch);
            chunks = pool->chunks;
            done++;
        }
    }
    if (done && atomic_fetch_add_explicit(&pool->done, done, memory_order_acq_rel) + done == chunks) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->all_done);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* The round after the one seen last, or a later one. */
static unsigned wait_for_round(struct pool *pool, unsigned seen)
{
    unsigned round = seen;
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        round = atomic_load_explicit(&pool->round, memory_order_acquire);
        if (round != seen)
            return round;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    while ((round = atomic_load_explicit(&pool->round, memory_order_acquire)) == seen)
        pthread_cond_wait(&pool->work, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return round;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    for (unsigned round = 0;;) {
        round = wait_for_round(pool, round);
        if (atomic_load_explicit(&pool->ending, memory_order_acquire))
            return NULL;
        run_chunks(pool, worker, round);
    }
}

static void begin_round(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add_explicit(&pool->round, 1, memory_order_release);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

/* The one who does the last chunk signals after it has counted it and under the lock: once that is seen here, it may
 * still hold the lock, and nothing else of the pool. */
static void wait_for_chunks(struct pool *pool)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&pool->done, memory_order_acquire) == pool->chunks)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&pool->done, memory_order_acquire) != pool->chunks)
        pthread_cond_wait(&pool->all_done, &pool->lock);
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
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    unsigned round = atomic_load_explicit(&pool->round, memory_order_relaxed) + 1;
    for (unsigned i = 0; i < pool->threads; i++) {
        unsigned long long share = share_end(pool, i) - chunks * i / pool->threads;
        atomic_store_explicit(&pool->workers[i].share, (unsigned long long)round << 32 | share, memory_order_release);
    }
    begin_round(pool);
    run_chunks(pool, &pool->workers[0], round);
    wait_for_chunks(pool);
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
    pthread_cond_init(&pool->all_done, NULL);
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
        atomic_store_explicit(&pool->ending, true, memory_order_release);
        begin_round(pool);
    }
    for (unsigned i = 0; pool->workers && i < pool->threads; i++) {
        if (i > 0)
            pthread_join(pool->workers[i].thread, NULL);
        free(pool->workers[i].scratch);
    }
    free(pool->workers);
    pthread_cond_destroy(&pool->all_done);
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
