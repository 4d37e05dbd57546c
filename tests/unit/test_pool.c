/* The engine's threads: every chunk of every round runs once, whoever takes it. */
#include "unit.h"

#include <stdatomic.h>

#include "engine/pool.h"

enum { chunks_max = 64, rounds = 3000 };

struct round {
    atomic_uint visits[chunks_max];
    unsigned owner[chunks_max]; /* written by the visitor alone: a race if two took the same chunk */
};

static void visit(void *context, size_t chunk, float *scratch)
{
    struct round *round = context;
    scratch[0] = (float)chunk; /* each thread has its own */
    atomic_fetch_add(&round->visits[chunk], 1);
    round->owner[chunk] = (unsigned)chunk + 1;
    if (scratch[0] != (float)chunk)
        round->owner[chunk] = 0;
}

static void assert_once(struct round *round, size_t chunks)
{
    for (size_t i = 0; i < chunks_max; i++) {
        assert_int_equal(atomic_load(&round->visits[i]), i < chunks);
        assert_int_equal(round->owner[i], i < chunks ? i + 1 : 0);
    }
}

static void every_chunk_runs_once_in_each_of_many_short_rounds(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 5; threads++) {
        struct pool *pool;
        assert_ok(pool_create(threads, &pool));
        assert_int_equal(pool_threads(pool), threads);
        for (unsigned i = 0; i < rounds; i++) {
            struct round round = {0};
            size_t chunks = (i * 7) % (chunks_max + 1);
            pool_run(pool, chunks, visit, &round);
            assert_once(&round, chunks);
        }
        pool_destroy(pool);
    }
}

/* Chunk 0 does not end before all others have: with fixed shares the other chunks of its thread would never begin. */
static void wait_for_others(void *context, size_t chunk, float *scratch)
{
    struct round *round = context;
    visit(context, chunk, scratch);
    for (size_t i = 1; chunk == 0 && i < chunks_max; i++) {
        while (!atomic_load(&round->visits[i])) {
        }
    }
}

static void a_thread_that_is_held_up_holds_up_one_chunk_only(void **state)
{
    (void)state;
    struct pool *pool;
    struct round round = {0};
    assert_ok(pool_create(2, &pool));
    pool_run(pool, chunks_max, wait_for_others, &round);
    assert_once(&round, chunks_max);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_runs_once_in_each_of_many_short_rounds),
        cmocka_unit_test(a_thread_that_is_held_up_holds_up_one_chunk_only),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
