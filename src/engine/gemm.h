/* One product on one thread, for kernels that are made of several. */
#pragma once

#include "engine/tile.h"

#define GEMM_ROWS_MAX 384 /* of one block: with PASS_DEPTH, a packed block of A fits a second-level cache */
/* A packed block of A and a strip of packed B. */
#define GEMM_SCRATCH_FLOATS ((GEMM_ROWS_MAX + 32) * PASS_DEPTH)

void KERNEL(gemm_serial)(const struct gemm *product, float *scratch);
