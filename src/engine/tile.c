#include "engine/tile.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Registers decide: FULL_VECS x FULL_ROWS accumulators fill 12 of 16 (or 24 of 32) of them. Narrow strips use half the
 * vectors and more rows. */
#define FULL_VECS (LANES == 4 ? 4 : 2)
#define HALF_VECS (FULL_VECS / 2)
#define FULL_ROWS (LANES == 4 ? 3 : LANES == 8 ? 6 : 12)
#define HALF_ROWS (LANES == 4 ? 6 : 12)
#define ROWS_MAX 12

/* Vector j of a strip's columns in row k of its panels. */
static ALWAYS_INLINE vec load_b(const float *b, size_t panel_stride, size_t j)
{
    size_t column = j * LANES;
    return VEC_LOAD(b + (column / PANEL) * panel_stride + column % PANEL);
}

static ALWAYS_INLINE void tile_start(const size_t rows, const size_t vecs, const struct strip *strip, float *const *c,
                                     size_t column, const float *bias, vec acc[ROWS_MAX][FULL_VECS])
{
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < vecs; j++) {
            acc[i][j] = VEC_BROADCAST(0.0f);
            if (strip->load)
                acc[i][j] = VEC_LOAD(c[i] + column + j * LANES);
            if (strip->load && strip->beta != 1.0f)
                acc[i][j] *= VEC_BROADCAST(strip->beta);
            if (bias)
                acc[i][j] += VEC_LOAD(bias + j * LANES);
        }
    }
}

static ALWAYS_INLINE void tile_store(const size_t rows, const size_t vecs, float *const *c, size_t column,
                                     vec acc[ROWS_MAX][FULL_VECS])
{
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < vecs; j++)
            VEC_STORE(c[i] + column + j * LANES, acc[i][j]);
    }
}

/* C[rows, vecs * LANES] += A B, A as pointers to rows. */
static ALWAYS_INLINE void tile_rows(const size_t rows, const size_t vecs, const struct strip *strip, size_t row,
                                    float *const *c, size_t column, const float *bias)
{
    vec acc[ROWS_MAX][FULL_VECS];
    tile_start(rows, vecs, strip, c, column, bias, acc);
    const float *b = strip->b;
    const size_t panel_stride = strip->panel_stride, length = strip->length;
    for (size_t s = 0; s < strip->segments; s++) {
        const float *const *a = strip->a + s * strip->a_stride + row;
        const float *p[ROWS_MAX];
        size_t outside = 0;
#pragma GCC unroll 12
        for (size_t i = 0; i < rows; i++) {
            p[i] = a[i] + strip->first;
            outside += a[i] == strip->zeros;
        }
        if (outside == rows) {
            b += length * PANEL;
            continue;
        }
        for (size_t k = 0; k < length; k++, b += PANEL) {
            vec right[FULL_VECS];
#pragma GCC unroll 4
            for (size_t j = 0; j < vecs; j++)
                right[j] = load_b(b, panel_stride, j);
#pragma GCC unroll 12
            for (size_t i = 0; i < rows; i++) {
                vec left = VEC_BROADCAST(p[i][k]);
#pragma GCC unroll 4
                for (size_t j = 0; j < vecs; j++)
                    acc[i][j] = VEC_FMA(left, right[j], acc[i][j]);
            }
        }
    }
    tile_store(rows, vecs, c, column, acc);
}

/* The same with A packed. */
static ALWAYS_INLINE void tile_packed(const size_t rows, const size_t vecs, const struct strip *strip, size_t row,
                                      float *const *c, size_t column, const float *bias)
{
    vec acc[ROWS_MAX][FULL_VECS];
    tile_start(rows, vecs, strip, c, column, bias, acc);
    const size_t panel_stride = strip->panel_stride, length = strip->length, step = strip->packed_step;
    for (size_t s = 0; s < strip->segments; s++) {
        const float *a = strip->packed + strip->offsets[s] + row, *b = strip->b + strip->terms[s] * PANEL;
        for (size_t k = 0; k < length; k++, b += PANEL, a += step) {
            vec right[FULL_VECS];
#pragma GCC unroll 4
            for (size_t j = 0; j < vecs; j++)
                right[j] = load_b(b, panel_stride, j);
#pragma GCC unroll 12
            for (size_t i = 0; i < rows; i++) {
                vec left = VEC_BROADCAST(a[i]);
#pragma GCC unroll 4
                for (size_t j = 0; j < vecs; j++)
                    acc[i][j] = VEC_FMA(left, right[j], acc[i][j]);
            }
        }
    }
    tile_store(rows, vecs, c, column, acc);
}

#define TILE_CASE(rows)                                                                                                \
    case rows:                                                                                                         \
        if (strip->a)                                                                                                  \
            tile_rows(rows, vecs, strip, row, c, column, bias);                                                        \
        else                                                                                                           \
            tile_packed(rows, vecs, strip, row, c, column, bias);                                                      \
        break;

static ALWAYS_INLINE void tile(size_t rows, const size_t vecs, const size_t rows_max, const struct strip *strip,
                               size_t row, float *const *c, size_t column, const float *bias)
{
    switch (rows > rows_max ? 0 : rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
    }
    if (rows_max >= 6)
        switch (rows) {
            TILE_CASE(4)
            TILE_CASE(5)
            TILE_CASE(6)
        }
    if (rows_max >= 12)
        switch (rows) {
            TILE_CASE(7)
            TILE_CASE(8)
            TILE_CASE(9)
            TILE_CASE(10)
            TILE_CASE(11)
            TILE_CASE(12)
        }
}

static void tile_full(size_t rows, const struct strip *strip, size_t row, float *const *c, size_t column,
                      const float *bias)
{
    tile(rows, FULL_VECS, FULL_ROWS, strip, row, c, column, bias);
}

static void tile_half(size_t rows, const struct strip *strip, size_t row, float *const *c, size_t column,
                      const float *bias)
{
    tile(rows, HALF_VECS, HALF_ROWS, strip, row, c, column, bias);
}

/* Columns that do not fill the vectors go through a padded copy. */
static void tile_edge(bool half, size_t rows, const struct strip *strip, size_t row, const float *bias)
{
    float copy[ROWS_MAX][STRIP_COLUMNS] = {{0}}, padded_bias[STRIP_COLUMNS] = {0};
    float *c[ROWS_MAX];
    for (size_t i = 0; i < rows; i++) {
        c[i] = copy[i];
        if (strip->load)
            memcpy(copy[i], strip->c[row + i] + strip->column, strip->columns * sizeof(float));
    }
    if (bias)
        memcpy(padded_bias, bias, strip->columns * sizeof(float));
    (half ? tile_half : tile_full)(rows, strip, row, c, 0, bias ? padded_bias : NULL);
    for (size_t i = 0; i < rows; i++)
        memcpy(strip->c[row + i] + strip->column, copy[i], strip->columns * sizeof(float));
}

#if LANES == 16
void strip_run_avx2(const struct strip *strip);
#endif

void KERNEL(strip_run)(const struct strip *strip)
{
#if LANES == 16 /* eight columns would fill half of a vector */
    if (strip->columns <= LANES / 2) {
        strip_run_avx2(strip);
        return;
    }
#endif
    bool half = strip->columns <= HALF_VECS * LANES;
    bool edge = strip->columns != (half ? HALF_VECS : FULL_VECS) * LANES;
    size_t rows_max = half ? HALF_ROWS : FULL_ROWS;
    size_t tiles = (strip->rows + rows_max - 1) / rows_max;
    for (size_t t = 0, row = 0; t < tiles; t++) {
        size_t rows = (strip->rows - row + tiles - t - 1) / (tiles - t);
        if (edge)
            tile_edge(half, rows, strip, row, strip->bias);
        else
            (half ? tile_half : tile_full)(rows, strip, row, strip->c + row, strip->column, strip->bias);
        row += rows;
    }
}
