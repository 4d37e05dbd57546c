/* How normalizations are cut into chunks: by shape alone. */
#pragma once

#include "engine/kernels.h"

#define GROUP_NORM_PIXELS 64 /* of a chunk: 64 x 256 channels take 64 KiB */
#define LAYER_NORM_ROWS 16   /* of a chunk at least */

static inline size_t group_norm_blocks(const struct group_norm *norm)
{
    return (norm->pixels + GROUP_NORM_PIXELS - 1) / GROUP_NORM_PIXELS;
}

static inline size_t layer_norm_chunk_rows(size_t rows)
{
    size_t each = (rows + REDUCE_CHUNKS_MAX - 1) / REDUCE_CHUNKS_MAX;
    return each < LAYER_NORM_ROWS ? LAYER_NORM_ROWS : each;
}

static inline size_t layer_norm_chunks(size_t rows)
{
    return (rows + layer_norm_chunk_rows(rows) - 1) / layer_norm_chunk_rows(rows);
}
