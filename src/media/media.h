/* What a picture is, by its content: type, size, integrity, pixels, smaller copies. libvips lives behind this header.
 *
 * All bytes are hostile. Every function below first finds the type by signature, walks the container to its end
 * (truncated files, trailing bytes and files that are two types at once are refused), and checks the limits on the
 * header before a pixel is decoded. Errors are ERR_INVALID with a sentence for the user, or ERR_TOO_LARGE.
 * Thread-safe. libvips is loaded at the first call that decodes, so that an idle server does without its 25 MB. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

enum {
    media_side_max = 16384,           /* pixels */
    media_pixels_max = 100 * 1000000, /* width * height: 300 MB as 8-bit RGB */
    media_bytes_max = 64 << 20,       /* of an encoded picture */
    media_svg_bytes_max = 4 << 20,    /* XML is parsed whole */
    media_frames_max = 1000,          /* of an animation or a many-page file; only the first is ever decoded */
    media_transform_side_max = 4096,  /* of a transformed copy */
    media_transform_bytes_max = 96 << 20,
};

enum media_format {
    MEDIA_PNG,
    MEDIA_JPEG,
    MEDIA_WEBP,
    MEDIA_GIF,
    MEDIA_AVIF,
    MEDIA_TIFF,
    MEDIA_HEIC,
    MEDIA_SVG,
};

struct media_info {
    enum media_format format;
    const char *mime;      /* "image/png"; static */
    const char *extension; /* "png"; static */
    int width, height;     /* as shown: after EXIF orientation */
    int frames;            /* 1 for a still picture */
    bool has_alpha;
};

/* Type, size and integrity of the container, without decoding pixels (about 0.1 ms, 1 ms the first time). */
struct error media_probe(const void *bytes, size_t size, struct media_info *info) __attribute__((warn_unused_result));
/* media_probe, and every pixel of the first frame decoded once: what an upload must pass. */
struct error media_check(const void *bytes, size_t size, struct media_info *info) __attribute__((warn_unused_result));

/* 8-bit sRGB of the first frame, [height, width, 3]; orientation and colour profile applied, transparency on white.
 * pixels is the caller's, to be given to free(). */
struct media_rgb {
    uint8_t *pixels;
    int width, height;
};
struct error media_load_rgb(const void *bytes, size_t size, struct media_rgb *rgb) __attribute__((warn_unused_result));
struct error media_load_rgb_file(const char *path, struct media_rgb *rgb) __attribute__((warn_unused_result));

/* 8-bit RGB PNG without metadata; the same pixels give the same bytes. The _file form is durable and atomic. */
struct error media_save_png(const struct media_rgb *rgb, struct buf *png) __attribute__((warn_unused_result));
struct error media_save_png_file(const struct media_rgb *rgb, const char *path) __attribute__((warn_unused_result));
/* The two together: any picture to a plain RGB PNG (what a job folder's dataset/ holds). */
struct error media_to_png(const void *bytes, size_t size, struct buf *png) __attribute__((warn_unused_result));

enum media_fit {
    MEDIA_FIT_COVER,   /* fills width x height, cut at the centre (default) */
    MEDIA_FIT_CONTAIN, /* inside width x height, padded (transparent, or white where the format has no alpha) */
    MEDIA_FIT_FILL,    /* stretched to width x height */
    MEDIA_FIT_INSIDE,  /* as large as fits inside, not padded */
    MEDIA_FIT_OUTSIDE, /* as small as covers, not cut */
};

enum media_target {                  /* what to encode as */
                    MEDIA_AS_ORIGIN, /* the source's format; HEIC becomes JPEG and SVG becomes PNG */
                    MEDIA_AS_AUTO,   /* WebP */
                    MEDIA_AS_JPEG,
                    MEDIA_AS_PNG,
                    MEDIA_AS_WEBP,
                    MEDIA_AS_AVIF,
                    MEDIA_AS_TIFF,
                    MEDIA_AS_GIF,
};

struct media_transform {
    int width, height; /* 0 is auto: keeps the ratio; both 0 keeps the size. At most media_transform_side_max */
    enum media_fit fit;
    int quality; /* 1 to 100 for lossy formats; 0 means 100 */
    enum media_target target;
    /* Effects, in this order: width and height are of the turned picture. */
    double rotate;     /* degrees clockwise, 0 to 360 */
    bool flatten;      /* onto the background: nothing stays transparent */
    double blur;       /* pixels of the result that a point is spread over (sigma), 0 to 100 */
    bool greyscale;    /* transparency stays */
    int background[3]; /* red, green, blue from 0 to 255; white unless given */
};

/* From query text; NULL or "" leaves the default ("auto" is fine for width and height). ERR_INVALID names the field. */
struct error media_transform_parse(struct media_transform *transform, const char *width, const char *height,
                                   const char *fit, const char *quality, const char *format)
    __attribute__((warn_unused_result));
/* The effects of a transform that was parsed before, likewise. greyscale and flatten are on when "" or "true"; a
 * background, "rgb" or "rrggbb" in hexadecimal digits, '#' in front or not, implies flatten. */
struct media_effect_texts {
    const char *rotate, *blur, *greyscale, *flatten, *background;
};
struct error media_effects_parse(struct media_transform *transform, const struct media_effect_texts *texts)
    __attribute__((warn_unused_result));
/* info is of the result. out is appended to. */
struct error media_apply(const void *bytes, size_t size, const struct media_transform *transform, struct buf *out,
                         struct media_info *info) __attribute__((warn_unused_result));

/* Static text of a format. */
const char *media_mime(enum media_format format);
const char *media_extension(enum media_format format);
