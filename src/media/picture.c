#include "media/picture.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "media/container.h"
#include "media/png.h"

static const struct {
    const char *mime, *extension;
} formats[] = {
    [MEDIA_PNG] = {"image/png", "png"},    [MEDIA_JPEG] = {"image/jpeg", "jpg"},
    [MEDIA_WEBP] = {"image/webp", "webp"}, [MEDIA_GIF] = {"image/gif", "gif"},
    [MEDIA_AVIF] = {"image/avif", "avif"}, [MEDIA_TIFF] = {"image/tiff", "tiff"},
    [MEDIA_HEIC] = {"image/heic", "heic"}, [MEDIA_SVG] = {"image/svg+xml", "svg"},
};

const char *media_mime(enum media_format format)
{
    return formats[format].mime;
}

const char *media_extension(enum media_format format)
{
    return formats[format].extension;
}

void picture_finish(struct picture *picture)
{
    if (picture->image)
        picture->vips->g_object_unref(picture->image);
    picture->image = NULL;
}

/* The first line of what the decoder said, without its own prefix lines. */
static struct error cannot_decode(const struct picture *picture)
{
    char *said = picture->vips->vips_error_buffer_copy();
    said[strcspn(said, "\r\n")] = 0;
    const struct error error = error_make(ERR_INVALID, "the picture cannot be decoded, it is damaged (%.120s)", said);
    picture->vips->g_free(said);
    return error;
}

struct error picture_step(struct picture *picture, int result, VipsImage **made)
{
    if (result != 0)
        return cannot_decode(picture);
    picture_finish(picture);
    picture->image = *made;
    return OK;
}

static struct error check_limits(const struct media_info *info)
{
    if (info->width > media_side_max || info->height > media_side_max)
        return error_make(ERR_INVALID, "the picture is %d x %d pixels: a side must be at most %d", info->width,
                          info->height, media_side_max);
    if ((int64_t)info->width * info->height > media_pixels_max)
        return error_make(ERR_INVALID, "the picture is %d x %d pixels: it must have at most %d megapixels", info->width,
                          info->height, media_pixels_max / 1000000);
    if (info->frames > media_frames_max)
        return error_make(ERR_INVALID, "the picture has %d frames: at most %d", info->frames, media_frames_max);
    return OK;
}

static void read_info(struct picture *picture)
{
    const struct vips_calls *vips = picture->vips;
    struct media_info *info = &picture->info;
    const bool turned = vips->vips_image_get_orientation(picture->image) >= 5;
    const int width = vips->vips_image_get_width(picture->image), height = vips->vips_image_get_height(picture->image);
    info->mime = media_mime(info->format);
    info->extension = media_extension(info->format);
    info->width = turned ? height : width;
    info->height = turned ? width : height;
    info->frames = vips->vips_image_get_n_pages(picture->image);
    info->has_alpha = vips->vips_image_hasalpha(picture->image);
}

static int load(const struct picture *picture, const void *bytes, size_t size, VipsAccess access, int shrink,
                VipsImage **image)
{
    const struct vips_calls *vips = picture->vips;
    void *data = (void *)(uintptr_t)bytes; /* libvips reads only */
    switch (picture->info.format) {
    case MEDIA_PNG:
        return vips->vips_pngload_buffer(data, size, image, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
    case MEDIA_JPEG:
        return vips->vips_jpegload_buffer(data, size, image, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, "shrink",
                                          shrink, NULL);
    case MEDIA_WEBP:
        return vips->vips_webpload_buffer(data, size, image, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
    case MEDIA_GIF:
        return vips->vips_gifload_buffer(data, size, image, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
    case MEDIA_AVIF:
    case MEDIA_HEIC:
        return vips->vips_heifload_buffer(data, size, image, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
    case MEDIA_TIFF:
        return vips->vips_tiffload_buffer(data, size, image, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
    case MEDIA_SVG:
        return vips->vips_svgload_buffer(data, size, image, "access", access, NULL);
    }
    return -1;
}

struct error picture_open(struct picture *picture, const void *bytes, size_t size, bool sequential, int shrink)
{
    VipsImage *image = NULL;
    TRY(container_check(bytes, size, &picture->info.format));
    TRY(vips_calls_get(&picture->vips));
    const VipsAccess access = sequential ? VIPS_ACCESS_SEQUENTIAL : VIPS_ACCESS_RANDOM;
    TRY(picture_step(picture, load(picture, bytes, size, access, shrink, &image), &image));
    read_info(picture);
    return check_limits(&picture->info);
}

/* A profile that cannot be used is ignored, as browsers do. */
static struct error to_srgb(struct picture *picture)
{
    const struct vips_calls *vips = picture->vips;
    VipsImage *made = NULL;
    if (vips->vips_image_get_typeof(picture->image, VIPS_META_ICC_NAME) != 0) {
        if (vips->vips_icc_transform(picture->image, &made, "srgb", "embedded", TRUE, "intent", VIPS_INTENT_PERCEPTUAL,
                                     NULL) == 0)
            return picture_step(picture, 0, &made);
        vips->g_free(vips->vips_error_buffer_copy());
    }
    return picture_step(picture, vips->vips_colourspace(picture->image, &made, VIPS_INTERPRETATION_sRGB, NULL), &made);
}

struct error picture_normalise(struct picture *picture)
{
    const struct vips_calls *vips = picture->vips;
    VipsImage *made = NULL;
    if (vips->vips_image_get_orientation(picture->image) > 1) {
        if (!(made = vips->vips_image_copy_memory(picture->image)))
            return cannot_decode(picture);
        TRY(picture_step(picture, 0, &made));
        TRY(picture_step(picture, vips->vips_autorot(picture->image, &made, NULL), &made));
    }
    TRY(to_srgb(picture));
    return picture_step(picture, vips->vips_cast(picture->image, &made, VIPS_FORMAT_UCHAR, NULL), &made);
}

struct error picture_flatten_onto(struct picture *picture, const int background[3])
{
    const struct vips_calls *vips = picture->vips;
    const double colour[3] = {background[0], background[1], background[2]};
    VipsImage *made = NULL;
    if (vips->vips_image_hasalpha(picture->image)) {
        const int bands = vips->vips_image_get_bands(picture->image);
        VipsArrayDouble *array = vips->vips_array_double_new(colour, bands == 4 ? 3 : 1);
        const int result = vips->vips_flatten(picture->image, &made, "background", array, NULL);
        vips->vips_area_unref(VIPS_AREA(array));
        TRY(picture_step(picture, result, &made));
    }
    return OK;
}

struct error picture_flatten(struct picture *picture)
{
    static const int white[3] = {255, 255, 255};
    return picture_flatten_onto(picture, white);
}

struct error media_probe(const void *bytes, size_t size, struct media_info *info)
{
    CLEANUP_PICTURE struct picture picture = {0};
    TRY(picture_open(&picture, bytes, size, true, 1));
    *info = picture.info;
    return OK;
}

static int look_at_pixels(VipsRegion *region, void *sequence, void *a, void *b, gboolean *stop)
{
    (void)region, (void)sequence, (void)a, (void)b, (void)stop;
    return 0;
}

struct error media_check(const void *bytes, size_t size, struct media_info *info)
{
    CLEANUP_PICTURE struct picture picture = {0};
    TRY(picture_open(&picture, bytes, size, true, 1));
    const bool whole = picture.info.format == MEDIA_PNG && png_is_whole(bytes, size);
    if (!whole && picture.vips->vips_sink(picture.image, NULL, look_at_pixels, NULL, NULL, NULL) != 0)
        return cannot_decode(&picture);
    *info = picture.info;
    return OK;
}

struct error media_load_rgb(const void *bytes, size_t size, struct media_rgb *rgb)
{
    CLEANUP_PICTURE struct picture picture = {0};
    size_t pixel_bytes;
    *rgb = (struct media_rgb){0};
    TRY(picture_open(&picture, bytes, size, true, 1));
    TRY(picture_normalise(&picture));
    TRY(picture_flatten(&picture));
    const struct vips_calls *vips = picture.vips;
    if (vips->vips_image_get_bands(picture.image) != 3)
        return error_make(ERR_INVALID, "the picture has colours that cannot be shown as RGB: save it as a PNG");
    rgb->width = vips->vips_image_get_width(picture.image);
    rgb->height = vips->vips_image_get_height(picture.image);
    rgb->pixels = vips->vips_image_write_to_memory(picture.image, &pixel_bytes);
    return rgb->pixels ? OK : cannot_decode(&picture);
}

struct error media_load_rgb_file(const char *path, struct media_rgb *rgb)
{
    struct arena arena;
    char *bytes;
    size_t size;
    arena_init(&arena, (size_t)media_bytes_max + 4096);
    struct error error = fs_read(&arena, path, media_bytes_max, &bytes, &size);
    if (!error.code)
        error = media_load_rgb(bytes, size, rgb);
    arena_finish(&arena);
    return error;
}

struct error media_save_png(const struct media_rgb *rgb, struct buf *png)
{
    CLEANUP_PICTURE struct picture picture = {0};
    void *encoded = NULL;
    size_t size = 0;
    TRY(vips_calls_get(&picture.vips));
    const size_t pixel_bytes = (size_t)rgb->width * (size_t)rgb->height * 3;
    picture.image = picture.vips->vips_image_new_from_memory(rgb->pixels, pixel_bytes, rgb->width, rgb->height, 3,
                                                             VIPS_FORMAT_UCHAR);
    VipsImage *made = NULL;
    if (!picture.image)
        return cannot_decode(&picture);
    TRY(picture_step(&picture,
                     picture.vips->vips_copy(picture.image, &made, "interpretation", VIPS_INTERPRETATION_sRGB, NULL),
                     &made));
    if (picture.vips->vips_pngsave_buffer(picture.image, &encoded, &size, "compression", 3, "strip", TRUE, NULL) != 0)
        return cannot_decode(&picture);
    buf_append(png, encoded, size);
    picture.vips->g_free(encoded);
    return buf_error(png);
}

struct error media_save_png_file(const struct media_rgb *rgb, const char *path)
{
    struct buf png;
    buf_init(&png, SIZE_MAX / 2);
    struct error error = media_save_png(rgb, &png);
    if (!error.code)
        error = fs_write_atomic(path, png.data, png.len);
    buf_finish(&png);
    return error;
}

struct error media_to_png(const void *bytes, size_t size, struct buf *png)
{
    struct media_rgb rgb;
    TRY(media_load_rgb(bytes, size, &rgb));
    const struct error error = media_save_png(&rgb, png);
    free(rgb.pixels);
    return error;
}
