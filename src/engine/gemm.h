/* One product on one thread, for kernels that are made of several. */
#pragma once

#include "engine/tile.h"

/* Rows of one block: with PASS_DEPTH, a block of A takes 192 KiB, less than half of a second-level cache. */
#define GEMM_ROWS_MAX 192
#define GEMM_COLUMNS 128 /* of B packed together: its rows are read in runs that prefetchers follow */
/* A packed block of A and one of B. */
#define GEMM_SCRATCH_FLOATS ((GEMM_ROWS_MAX + GEMM_COLUMNS) * PASS_DEPTH)

void KERNEL(gemm_serial)(const struct gemm *product, float *scratch);
