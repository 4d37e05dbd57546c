/* The engine's threads. Work is cut into chunks whose number and borders depend on the shapes alone, never on the
 * number of threads, so that the same input gives the same bytes on any machine. Idle threads spin for some
 * microseconds and then sleep: another process on the same cores is not slowed down. */
#pragma once

#include <stddef.h>

#include "base/error.h"

struct pool;
struct kernel_table;

/* Each thread owns scratch memory of this size, aligned to 64 bytes and undefined at the start of a chunk. */
#define POOL_SCRATCH_FLOATS ((size_t)512 * 1024)

#define POOL_THREADS_MAX 256 /* beyond any machine a small model can feed */

/* threads: 0 for one a core this process may run on. ERR_INTERNAL when threads or memory cannot be had. The fastest
 * kernels of this CPU are chosen; see kernels_choose. The caller of pool_run is the first of the threads. */
struct error pool_create(unsigned threads, struct pool **out);
void pool_destroy(struct pool *pool);
unsigned pool_threads(const struct pool *pool);

/* Runs task for every chunk in [0, chunks) and returns when all are done. A task must not call pool_run of the same
 * pool. One caller at a time. */
void pool_run(struct pool *pool, size_t chunks, void (*task)(void *context, size_t chunk, float *scratch),
              void *context);

const struct kernel_table *pool_kernels(const struct pool *pool);
void pool_set_kernels(struct pool *pool, const struct kernel_table *table);
