/* Cutting a window out of a picture and making it another size. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct window { /* in pixels, fractions allowed */
    double left, top, width, height;
};

/* The largest window of that shape, any unit, times scale; x and y say where in the room that is left, 0 to 1. */
struct window window_of_shape(size_t width, size_t height, double shape_width, double shape_height, double scale,
                              double x, double y);

/* The window of rgb [height, width, 3] as [out_height, out_width, 3] in [-1, 1]: triangle filter, widened when
 * reducing, as PIL's BILINEAR. */
struct error picture_resample(const uint8_t *rgb, size_t width, size_t height, const struct window *window,
                              size_t out_height, size_t out_width, float *out) __attribute__((warn_unused_result));
