/* Smaller copies for pages and plug-ins. The words and their meanings are those of the API's image delivery. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "media/picture.h"

static struct error parse_side(const char *field, const char *text, int *side)
{
    char *end;
    if (!text || !*text || strcmp(text, "auto") == 0)
        return OK;
    const long value = strtol(text, &end, 10);
    if (*end || value < 1 || value > media_transform_side_max)
        return error_field(field, "must be auto or a whole number from 1 to %d", media_transform_side_max);
    *side = (int)value;
    return OK;
}

static struct error parse_word(const char *field, const char *text, const char *const *words, size_t count, int *index)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0) {
            *index = (int)i;
            return OK;
        }
    }
    return error_field(field, "must be one of the words that the documentation of asset URLs lists");
}

struct error media_transform_parse(struct media_transform *transform, const char *width, const char *height,
                                   const char *fit, const char *quality, const char *format)
{
    static const char *const fits[] = {"cover", "contain", "fill", "inside", "outside"};
    static const char *const targets[] = {"origin", "auto", "jpeg", "png", "webp", "avif", "tiff", "gif", "jpg", "tif"};
    int word = 0;
    *transform = (struct media_transform){.target = MEDIA_AS_ORIGIN};
    TRY(parse_side("width", width, &transform->width));
    TRY(parse_side("height", height, &transform->height));
    if (fit && *fit)
        TRY(parse_word("fit", fit, fits, sizeof fits / sizeof *fits, &word));
    transform->fit = (enum media_fit)word;
    if (quality && *quality) {
        char *end;
        const long value = strtol(quality, &end, 10);
        if (*end || value < 1 || value > 100)
            return error_field("quality", "must be a whole number from 1 to 100");
        transform->quality = (int)value;
    }
    if (format && *format) {
        TRY(parse_word("format", format, targets, sizeof targets / sizeof *targets, &word));
        transform->target = word == 8 ? MEDIA_AS_JPEG : word == 9 ? MEDIA_AS_TIFF : (enum media_target)word;
    }
    return OK;
}

static enum media_format target_format(enum media_target target, enum media_format origin)
{
    switch (target) {
    case MEDIA_AS_ORIGIN:
        return origin == MEDIA_HEIC ? MEDIA_JPEG : origin == MEDIA_SVG ? MEDIA_PNG : origin;
    case MEDIA_AS_AUTO:
    case MEDIA_AS_WEBP:
        return MEDIA_WEBP;
    case MEDIA_AS_JPEG:
        return MEDIA_JPEG;
    case MEDIA_AS_PNG:
        return MEDIA_PNG;
    case MEDIA_AS_AVIF:
        return MEDIA_AVIF;
    case MEDIA_AS_TIFF:
        return MEDIA_TIFF;
    case MEDIA_AS_GIF:
        return MEDIA_GIF;
    }
    return origin;
}

/* The canvas that was asked for, and the size that the picture is scaled to. */
struct plan {
    int canvas_width, canvas_height, width, height;
    bool cut, pad;
};

static int side(double pixels)
{
    return pixels < 1 ? 1 : pixels > media_transform_side_max ? media_transform_side_max : (int)lround(pixels);
}

static struct plan make_plan(const struct media_info *info, const struct media_transform *transform)
{
    const double width = info->width, height = info->height;
    double across = transform->width / width, down = transform->height / height; /* 0 when auto */
    enum media_fit fit = transform->fit;
    if (!transform->width || !transform->height) {
        const double limit = fmin(1, media_transform_side_max / fmax(width, height));
        across = down = transform->width || transform->height ? fmax(across, down) : limit;
        fit = MEDIA_FIT_INSIDE;
    }
    struct plan plan = {transform->width,  transform->height,      transform->width,
                        transform->height, fit == MEDIA_FIT_COVER, fit == MEDIA_FIT_CONTAIN};
    if (fit != MEDIA_FIT_FILL && fit != MEDIA_FIT_COVER) {
        const double scale = fit == MEDIA_FIT_OUTSIDE ? fmax(across, down) : fmin(across, down);
        plan.width = side(width * scale);
        plan.height = side(height * scale);
    }
    return plan;
}

/* JPEG can be decoded at a half, quarter or eighth: that is used as long as a factor of two is left to the resampler.
 */
static int decode_shrink(const struct media_info *info, const struct plan *plan)
{
    const double factor = fmin((double)info->width / plan->width, (double)info->height / plan->height);
    return factor >= 16 ? 8 : factor >= 8 ? 4 : factor >= 4 ? 2 : 1;
}

static struct error scale(struct picture *picture, const struct plan *plan)
{
    VipsImage *made = NULL;
    const int result =
        picture->vips->vips_thumbnail_image(picture->image, &made, plan->width, "height", plan->height, "size",
                                            plan->cut ? VIPS_SIZE_BOTH : VIPS_SIZE_FORCE, "crop",
                                            plan->cut ? VIPS_INTERESTING_CENTRE : VIPS_INTERESTING_NONE, NULL);
    return picture_step(picture, result, &made);
}

static struct error pad(struct picture *picture, const struct plan *plan, bool opaque, const int background[3])
{
    const struct vips_calls *vips = picture->vips;
    const double colour[3] = {background[0], background[1], background[2]};
    VipsImage *made = NULL;
    if (!opaque && !vips->vips_image_hasalpha(picture->image))
        TRY(picture_step(picture, vips->vips_addalpha(picture->image, &made, NULL), &made));
    const int x = (plan->canvas_width - plan->width) / 2, y = (plan->canvas_height - plan->height) / 2;
    VipsArrayDouble *array =
        vips->vips_array_double_new(colour, vips->vips_image_get_bands(picture->image) == 3 ? 3 : 1);
    const int result = vips->vips_embed(picture->image, &made, x, y, plan->canvas_width, plan->canvas_height, "extend",
                                        opaque ? VIPS_EXTEND_BACKGROUND : VIPS_EXTEND_BLACK, "background", array, NULL);
    vips->vips_area_unref(VIPS_AREA(array));
    return picture_step(picture, result, &made);
}

static int encode(const struct picture *picture, enum media_format format, int quality, void **bytes, size_t *size)
{
    const struct vips_calls *vips = picture->vips;
    VipsImage *image = picture->image;
    switch (format) {
    case MEDIA_JPEG:
        return vips->vips_jpegsave_buffer(image, bytes, size, "Q", quality, "strip", TRUE, NULL);
    case MEDIA_WEBP:
        return vips->vips_webpsave_buffer(image, bytes, size, "Q", quality, "effort", 2, "strip", TRUE, NULL);
    case MEDIA_AVIF:
        return vips->vips_heifsave_buffer(image, bytes, size, "Q", quality, "compression",
                                          VIPS_FOREIGN_HEIF_COMPRESSION_AV1, "effort", 1, "strip", TRUE, NULL);
    case MEDIA_TIFF:
        return vips->vips_tiffsave_buffer(image, bytes, size, "compression", VIPS_FOREIGN_TIFF_COMPRESSION_LZW, "strip",
                                          TRUE, NULL);
    case MEDIA_GIF:
        return vips->vips_gifsave_buffer(image, bytes, size, "effort", 4, "strip", TRUE, NULL);
    default:
        return vips->vips_pngsave_buffer(image, bytes, size, "compression", 3, "strip", TRUE, NULL);
    }
}

/* Opened twice: the header gives the size from which the plan and the decoder's shrink follow. */
static struct error open_for(struct picture *picture, const void *bytes, size_t size,
                             const struct media_transform *transform, struct plan *plan)
{
    TRY(picture_open(picture, bytes, size, true, 1));
    struct media_info turned = picture->info;
    effect_turned_size(transform->rotate, &turned.width, &turned.height);
    *plan = make_plan(&turned, transform);
    const int shrink = decode_shrink(&turned, plan);
    return picture->info.format == MEDIA_JPEG && shrink > 1 ? picture_open(picture, bytes, size, true, shrink) : OK;
}

/* Of a picture that is made smaller anyway, the smaller one is turned. */
static struct error rotate(struct picture *picture, const struct plan *plan, double degrees)
{
    const struct vips_calls *vips = picture->vips;
    int width = vips->vips_image_get_width(picture->image), height = vips->vips_image_get_height(picture->image);
    effect_turned_size(degrees, &width, &height);
    const double smaller = fmax((double)plan->width / width, (double)plan->height / height);
    VipsImage *made = NULL;
    if (smaller < 1)
        TRY(picture_step(picture, vips->vips_resize(picture->image, &made, smaller, NULL), &made));
    return effect_rotate(picture, degrees);
}

static struct error apply(struct picture *picture, const struct plan *plan, const struct media_transform *transform,
                          enum media_format format)
{
    const bool opaque = format == MEDIA_JPEG || transform->flatten;
    static const int white[3] = {255, 255, 255};
    const int *background = transform->flatten ? transform->background : white;
    TRY(picture_normalise(picture));
    if (fmod(transform->rotate, 360) != 0)
        TRY(rotate(picture, plan, transform->rotate));
    TRY(scale(picture, plan));
    if (opaque)
        TRY(picture_flatten_onto(picture, background));
    if (transform->blur > 0)
        TRY(effect_blur(picture, transform->blur));
    if (plan->pad)
        TRY(pad(picture, plan, opaque, background));
    return transform->greyscale ? effect_greyscale(picture) : OK;
}

struct error media_apply(const void *bytes, size_t size, const struct media_transform *transform, struct buf *out,
                         struct media_info *info)
{
    CLEANUP_PICTURE struct picture picture = {0};
    struct plan plan;
    void *encoded = NULL;
    size_t encoded_size = 0;
    TRY(open_for(&picture, bytes, size, transform, &plan));
    const enum media_format format = target_format(transform->target, picture.info.format);
    TRY(apply(&picture, &plan, transform, format));
    const int quality = transform->quality ? transform->quality : 100;
    if (encode(&picture, format, quality, &encoded, &encoded_size) != 0)
        return picture_step(&picture, -1, NULL);
    buf_append(out, encoded, encoded_size);
    picture.vips->g_free(encoded);
    *info = (struct media_info){format,
                                media_mime(format),
                                media_extension(format),
                                picture.vips->vips_image_get_width(picture.image),
                                picture.vips->vips_image_get_height(picture.image),
                                1,
                                picture.vips->vips_image_hasalpha(picture.image)};
    return buf_error(out);
}
