#include "engine/gemm.h"

struct task {
    const struct gemm *product;
    size_t row_blocks, rows; /* of one block, save the last */
    size_t column_blocks, columns;
};

typedef float four __attribute__((vector_size(16)));

static inline four load_four(const float *x)
{
    four v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* out[k][j] = alpha b[j][k] for four of each */
static inline void transpose_four(const float *b, size_t ldb, float alpha, float *out)
{
    four r0 = load_four(b), r1 = load_four(b + ldb), r2 = load_four(b + 2 * ldb), r3 = load_four(b + 3 * ldb);
    four low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    four low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    four columns[4] = {
        __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
        __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (size_t k = 0; k < 4; k++) {
        columns[k] *= alpha;
        memcpy(out + k * PANEL, &columns[k], sizeof columns[k]);
    }
}

/* A panel of B given as rows of n: b[j][k] for j < n. */
static void pack_transposed(const float *b, size_t ldb, float alpha, size_t n, size_t depth, float *out)
{
    size_t whole_n = n / 4 * 4, whole_k = depth / 4 * 4;
    for (size_t k = 0; k < whole_k; k += 4) {
        for (size_t j = 0; j < whole_n; j += 4)
            transpose_four(b + j * ldb + k, ldb, alpha, out + k * PANEL + j);
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t k = j < whole_n ? whole_k : 0; k < depth; k++)
            out[k * PANEL + j] = alpha * b[j * ldb + k];
    }
}

/* Fewer columns than a panel has; a LoRA's rank of 8 is the usual case. */
static inline void pack_part(const float *b, float alpha, size_t columns, float *to)
{
    memset(to, 0, PANEL * sizeof *to);
    if (columns == PANEL / 2) {
        const four halves[2] = {load_four(b) * alpha, load_four(b + 4) * alpha};
        memcpy(to, halves, sizeof halves);
        return;
    }
    for (size_t j = 0; j < columns; j++)
        to[j] = alpha * b[j];
}

/* Panels of B given as rows of k: out[panel][k][j] = alpha b[k][panel * PANEL + j] */
static void pack_plain(const float *b, size_t ldb, float alpha, size_t columns, size_t depth, float *out)
{
    for (size_t k = 0; k < depth; k++, b += ldb) {
        float *to = out + k * PANEL;
        size_t n = 0;
        for (; n + PANEL <= columns; n += PANEL, to += depth * PANEL) {
            for (size_t j = 0; j < PANEL; j++)
                to[j] = alpha * b[n + j];
        }
        if (n < columns)
            pack_part(b + n, alpha, columns - n, to);
    }
}

/* B[k0 .. k0 + depth, column .. column + columns] alpha as panels [depth][PANEL], padded with zeros. */
static void pack_b(const struct gemm *g, size_t k0, size_t depth, size_t column, size_t columns, float *out)
{
    if (!g->transpose_b) {
        pack_plain(g->b + k0 * g->ldb + column, g->ldb, g->alpha, columns, depth, out);
        return;
    }
    for (size_t n = 0; n < columns; n += PANEL, out += depth * PANEL) {
        size_t count = columns - n < PANEL ? columns - n : PANEL;
        if (count < PANEL)
            memset(out, 0, depth * PANEL * sizeof(float));
        pack_transposed(g->b + (column + n) * g->ldb + k0, g->ldb, g->alpha, count, depth, out);
    }
}

/* A^T[rows, k0 .. k0 + depth] in groups [depth][PACK_ROWS]. */
static void pack_a(const struct gemm *g, size_t row, size_t rows, size_t k0, size_t depth, float *out)
{
    for (size_t group = 0; group < rows; group += PACK_ROWS) {
        size_t m = rows - group < PACK_ROWS ? rows - group : PACK_ROWS;
        const float *a = g->a + k0 * g->lda + row + group;
        for (size_t k = 0; k < depth; k++, a += g->lda, out += PACK_ROWS) {
            if (m == PACK_ROWS)
                memcpy(out, a, PACK_ROWS * sizeof(float));
            else
                memcpy(out, a, m * sizeof(float));
        }
    }
}

/* All rows of a block, from pointers or, group_stride floats a group, from A^T. */
static void run_rows(struct strip *strip, size_t rows, const float *packed, size_t group_stride, float *const *c)
{
    if (strip->a) {
        strip->rows = rows;
        strip->c = c;
        KERNEL(strip_run)(strip);
        return;
    }
    for (size_t row = 0; row < rows; row += PACK_ROWS) {
        strip->rows = rows - row < PACK_ROWS ? rows - row : PACK_ROWS;
        strip->packed = packed + row / PACK_ROWS * group_stride;
        strip->c = c + row;
        KERNEL(strip_run)(strip);
    }
}

/* Rows [row, row + rows), rows <= GEMM_ROWS_MAX, and columns [column, end) of C. */
static void run_block(const struct gemm *g, size_t row, size_t rows, size_t column, size_t end, float *scratch)
{
    const float *a[GEMM_ROWS_MAX];
    float *c[GEMM_ROWS_MAX];
    for (size_t i = 0; i < rows; i++) {
        a[i] = g->transpose_a ? NULL : g->a + (row + i) * g->lda;
        c[i] = g->c + (row + i) * g->ldc;
    }
    float *packed_b = scratch, *packed_a = scratch + GEMM_COLUMNS * PASS_DEPTH;
    const size_t zero = 0;
    bool in_place = end - column <= 32 || g->lda <= PACK_ROWS; /* read too seldom for a copy of A^T to pay */
    struct pass pass = {0};
    struct strip strip = {.segments = 1,
                          .a = g->transpose_a ? NULL : a,
                          .offsets = &zero,
                          .terms = &zero,
                          .packed_step = in_place ? g->lda : PACK_ROWS};
    while (pass_next(&pass, 1, g->k)) {
        bool begins = pass.start == 0;
        const float *transposed = in_place ? g->a + pass.start * g->lda + row : packed_a;
        if (g->transpose_a && !in_place)
            pack_a(g, row, rows, pass.start, pass.length, packed_a);
        for (size_t n = column; n < end; n += STRIP_COLUMNS) {
            size_t packed = (n - column) % GEMM_COLUMNS;
            if (packed == 0)
                pack_b(g, pass.start, pass.length, n, end - n < GEMM_COLUMNS ? end - n : GEMM_COLUMNS, packed_b);
            strip.columns = end - n < STRIP_COLUMNS ? end - n : STRIP_COLUMNS;
            strip.length = pass.length;
            strip.first = pass.first;
            strip.b = packed_b + packed * pass.length;
            strip.panel_stride = pass.length * PANEL;
            strip.column = n;
            strip.load = !begins || g->beta != 0.0f;
            strip.beta = begins ? g->beta : 1.0f;
            strip.bias = begins && g->bias ? g->bias + n : NULL;
            run_rows(&strip, rows, transposed, in_place ? PACK_ROWS : pass.length * PACK_ROWS, c);
        }
    }
}

void KERNEL(gemm_serial)(const struct gemm *g, float *scratch)
{
    for (size_t row = 0; row < g->m; row += GEMM_ROWS_MAX)
        run_block(g, row, g->m - row < GEMM_ROWS_MAX ? g->m - row : GEMM_ROWS_MAX, 0, g->n, scratch);
}

static void run_task(void *context, size_t chunk, float *scratch)
{
    const struct task *task = context;
    const struct gemm *product = task->product;
    size_t column_block = chunk % task->column_blocks;
    size_t row_block = chunk / task->column_blocks % task->row_blocks;
    size_t index = chunk / task->column_blocks / task->row_blocks;
    struct gemm g = *product;
    g.a += index * g.stride_a;
    g.b += index * g.stride_b;
    g.c += index * g.stride_c;
    size_t row = row_block * task->rows, column = column_block * task->columns;
    size_t rows = g.m - row < task->rows ? g.m - row : task->rows;
    size_t end = g.n - column < task->columns ? g.n : column + task->columns;
    run_block(&g, row, rows, column, end, scratch);
}

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Halves blocks until there are chunks enough, or the work of one is not worth handing out. */
static void plan(struct task *task, size_t batch)
{
    const size_t chunks_wanted = 16, work_min = 64 * 1024;
    const struct gemm *g = task->product;
    const size_t columns_min = g->m <= 2 * PACK_ROWS ? GEMM_COLUMNS : 32; /* where packing B is most of the work */
    task->rows = g->m < GEMM_ROWS_MAX ? ceil_div(g->m, PACK_ROWS) * PACK_ROWS : GEMM_ROWS_MAX;
    task->columns = ceil_div(g->n, 32) * 32;
    for (;;) {
        task->row_blocks = ceil_div(g->m, task->rows);
        task->column_blocks = ceil_div(g->n, task->columns);
        bool enough = batch * task->row_blocks * task->column_blocks >= chunks_wanted ||
                      task->rows * task->columns * g->k <= work_min;
        if (!enough && task->columns > columns_min) /* costs nothing: A is read in place */
            task->columns = ceil_div(task->columns, 64) * 32;
        else if (!enough && task->rows > 4 * PACK_ROWS) /* each block packs B again */
            task->rows = ceil_div(task->rows, 2 * PACK_ROWS) * PACK_ROWS;
        else
            return;
    }
}

/* No terms: C = beta C + bias, which the passes over k never reach. */
static void without_terms(const struct gemm *g, size_t batch)
{
    for (size_t row = 0; row < batch * g->m; row++) {
        float *c = g->c + row / g->m * g->stride_c + row % g->m * g->ldc;
        for (size_t j = 0; j < g->n; j++)
            c[j] = (g->beta != 0.0f ? g->beta * c[j] : 0.0f) + (g->bias ? g->bias[j] : 0.0f);
    }
}

void KERNEL(gemm)(struct pool *pool, const struct gemm *product)
{
    size_t batch = product->batch ? product->batch : 1;
    if (product->m == 0 || product->n == 0)
        return;
    if (product->k == 0) {
        without_terms(product, batch);
        return;
    }
    struct task task = {.product = product};
    plan(&task, batch);
    pool_run(pool, batch * task.row_blocks * task.column_blocks, run_task, &task);
}
