/* The inner loops of every product: a strip of C, some rows by at most STRIP_COLUMNS columns, gets k more terms of its
 * fused multiply-add chains. B comes packed in panels [k][PANEL]; A comes as pointers to rows or packed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/kernels_table.h"
#include "engine/simd.h"

#define PANEL 16     /* columns of a packed panel of B, in every kernel set */
#define PACK_ROWS 12 /* rows of a packed group of A */
#define STRIP_COLUMNS (LANES == 16 ? 32 : 16)
#define STRIP_PANELS (STRIP_COLUMNS / PANEL)
/* k of one pass: a panel of 256 x 16 floats takes half of a 32 KiB first-level cache. */
#define PASS_DEPTH 256

struct strip {
    size_t rows, columns;    /* columns in 1..STRIP_COLUMNS */
    size_t segments, length; /* k runs over segments x length */

    /* Either rows of A: a[s * a_stride + i] points at row i of segment s, whose terms start at first ... */
    const float *const *a;
    size_t a_stride, first;
    const float *zeros; /* a row of zeros that rows may point at: segments of nothing else are left out */
    /* ... or, where a is NULL, at most PACK_ROWS rows packed: row i of term k of segment s is
     * packed[offsets[s] + k * packed_step + i], and meets term terms[s] + k of B. */
    const float *packed;
    const size_t *offsets, *terms;
    size_t packed_step;

    const float *b; /* panels [segments * length][PANEL], panel_stride floats apart */
    size_t panel_stride;

    float *const *c; /* row i starts at c[i] + column */
    size_t column;
    bool load;         /* chains go on from what C holds, times beta; else they start at zero */
    float beta;        /* read when load is set */
    const float *bias; /* [columns] added where the chains start; or NULL */
};

void KERNEL(strip_run)(const struct strip *strip);

/* Splits segments x length terms into passes of about PASS_DEPTH: whole segments, or parts of one. */
struct pass {
    size_t segment, segments; /* of this pass */
    size_t first, length;     /* terms of each of these segments */
    size_t start;             /* segment * whole length + first */
};

/* The pass after this one, from a zeroed struct on; false when all terms are done. */
static inline bool pass_next(struct pass *pass, size_t segments, size_t length)
{
    bool begun = pass->segments > 0;
    size_t segment = begun ? pass->segment : 0;
    size_t first = begun ? pass->first + pass->length : 0;
    if (begun && first >= length) {
        segment += pass->segments;
        first = 0;
    }
    if (segment >= segments || length == 0)
        return false;
    size_t together = length < PASS_DEPTH ? PASS_DEPTH / length : 1;
    if (together > segments - segment)
        together = segments - segment;
    size_t left = length - first;
    size_t parts = (left + PASS_DEPTH - 1) / PASS_DEPTH;
    pass->segment = segment;
    pass->segments = together;
    pass->first = first;
    pass->length = (left + parts - 1) / parts;
    pass->start = segment * length + first;
    return true;
}
