/* Inside the room: a picture in the making, as libvips sees it. */
#pragma once

#include "media/media.h"
#include "media/vips_calls.h"

/* The newest step of a chain of operations; each keeps the ones before it alive. */
struct picture {
    const struct vips_calls *vips;
    VipsImage *image; /* NULL when none */
    struct media_info info;
};

void picture_finish(struct picture *picture);
#define CLEANUP_PICTURE __attribute__((cleanup(picture_finish)))

/* Checks container and header. bytes must outlive the picture. shrink is 1, 2, 4 or 8 and counts for JPEG only. The
 * rows come once and in order when sequential. */
struct error picture_open(struct picture *picture, const void *bytes, size_t size, bool sequential, int shrink)
    __attribute__((warn_unused_result));
/* After a vips call that gave result and *made: the new step, or ERR_INVALID with the decoder's own words. */
struct error picture_step(struct picture *picture, int result, VipsImage **made) __attribute__((warn_unused_result));
/* Upright, sRGB, 8 bits. Alpha is kept. */
struct error picture_normalise(struct picture *picture) __attribute__((warn_unused_result));
struct error picture_flatten(struct picture *picture) __attribute__((warn_unused_result)); /* onto white */
struct error picture_flatten_onto(struct picture *picture, const int background[3]) __attribute__((warn_unused_result));

/* Effects, of pictures that are normalised. The size of a picture after it was turned by some degrees clockwise. */
void effect_turned_size(double degrees, int *width, int *height);
/* What becomes visible at the corners is transparent. The pixels are held in memory. */
struct error effect_rotate(struct picture *picture, double degrees) __attribute__((warn_unused_result));
struct error effect_blur(struct picture *picture, double sigma) __attribute__((warn_unused_result));
struct error effect_greyscale(struct picture *picture) __attribute__((warn_unused_result));
