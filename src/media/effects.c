/* What the API's image delivery can do to a picture besides making it smaller. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "media/picture.h"

enum { blur_max = 100, whole_turn = 360, white = 255 };

static struct error parse_range(const char *field, const char *text, double max, double *value)
{
    char *end;
    if (!text || !*text)
        return OK;
    const double number = strtod(text, &end);
    if (*end || !(number >= 0 && number <= max))
        return error_field(field, "must be a number from 0 to %g", max);
    *value = number;
    return OK;
}

/* "greyscale" alone is enough. */
static struct error parse_switch(const char *field, const char *text, bool *on)
{
    if (!text || !strcmp(text, "false") || !strcmp(text, "0"))
        return OK;
    if (*text && strcmp(text, "true") != 0 && strcmp(text, "1") != 0)
        return error_field(field, "must be true or false");
    *on = true;
    return OK;
}

static struct error parse_background(const char *text, struct media_transform *transform)
{
    if (!text || !*text)
        return OK;
    const char *digits = text[0] == '#' ? text + 1 : text;
    const size_t length = strlen(digits);
    if ((length != 3 && length != 6) || strspn(digits, "0123456789abcdefABCDEF") != length)
        return error_field("background", "must be a colour in hexadecimal digits, such as ff8800");
    const long value = strtol(digits, NULL, 16);
    for (int i = 0; i < 3; i++)
        transform->background[i] =
            length == 6 ? (int)(value >> (16 - 8 * i) & 255) : (int)(value >> (8 - 4 * i) & 15) * 17;
    transform->flatten = true;
    return OK;
}

struct error media_effects_parse(struct media_transform *transform, const struct media_effect_texts *texts)
{
    for (int i = 0; i < 3; i++)
        transform->background[i] = white;
    TRY(parse_range("rotate", texts->rotate, whole_turn, &transform->rotate));
    TRY(parse_range("blur", texts->blur, blur_max, &transform->blur));
    TRY(parse_switch("greyscale", texts->greyscale, &transform->greyscale));
    TRY(parse_switch("flatten", texts->flatten, &transform->flatten));
    return parse_background(texts->background, transform);
}

static bool is_square(double degrees)
{
    return fmod(degrees, 90) == 0;
}

void effect_turned_size(double degrees, int *width, int *height)
{
    const double angle = degrees * M_PI / 180, across = *width, down = *height;
    *width = (int)lround(fabs(across * cos(angle)) + fabs(down * sin(angle)));
    *height = (int)lround(fabs(across * sin(angle)) + fabs(down * cos(angle)));
}

static struct error into_memory(struct picture *picture)
{
    VipsImage *made = picture->vips->vips_image_copy_memory(picture->image);
    return picture_step(picture, made ? 0 : -1, &made);
}

struct error effect_rotate(struct picture *picture, double degrees)
{
    const struct vips_calls *vips = picture->vips;
    VipsImage *made = NULL;
    if (!is_square(degrees) && !vips->vips_image_hasalpha(picture->image))
        TRY(picture_step(picture, vips->vips_addalpha(picture->image, &made, NULL), &made));
    TRY(into_memory(picture)); /* rows are needed in another order */
    TRY(picture_step(picture, vips->vips_rotate(picture->image, &made, degrees, NULL), &made));
    return picture_step(picture, vips->vips_cast(picture->image, &made, VIPS_FORMAT_UCHAR, NULL), &made);
}

/* A wide blur holds no details: it is made of a smaller picture, so that it costs no more than a narrow one. */
static struct error spread(struct picture *picture, double sigma)
{
    static const double sigma_max = 4;
    const struct vips_calls *vips = picture->vips;
    const int width = vips->vips_image_get_width(picture->image), height = vips->vips_image_get_height(picture->image);
    VipsImage *made = NULL;
    if (sigma <= sigma_max)
        return picture_step(picture, vips->vips_gaussblur(picture->image, &made, sigma, "min_ampl", 0.02, NULL), &made);
    const double smaller = fmax(sigma_max / sigma, 1.0 / (width < height ? width : height));
    TRY(picture_step(picture, vips->vips_resize(picture->image, &made, smaller, NULL), &made));
    TRY(into_memory(picture));
    TRY(picture_step(picture, vips->vips_gaussblur(picture->image, &made, sigma * smaller, "min_ampl", 0.02, NULL),
                     &made));
    const double across = (double)width / vips->vips_image_get_width(picture->image);
    const double down = (double)height / vips->vips_image_get_height(picture->image);
    return picture_step(picture, vips->vips_resize(picture->image, &made, across, "vscale", down, NULL), &made);
}

/* Colours count as much as they are opaque. */
struct error effect_blur(struct picture *picture, double sigma)
{
    static const double sigma_min = 0.3; /* below, nothing moves by a whole step of a pixel's value */
    const struct vips_calls *vips = picture->vips;
    const bool transparent = vips->vips_image_hasalpha(picture->image);
    VipsImage *made = NULL;
    if (sigma < sigma_min)
        return OK;
    TRY(into_memory(picture));
    if (transparent)
        TRY(picture_step(picture, vips->vips_premultiply(picture->image, &made, NULL), &made));
    TRY(spread(picture, sigma));
    if (transparent)
        TRY(picture_step(picture, vips->vips_unpremultiply(picture->image, &made, NULL), &made));
    return picture_step(picture, vips->vips_cast(picture->image, &made, VIPS_FORMAT_UCHAR, NULL), &made);
}

struct error effect_greyscale(struct picture *picture)
{
    VipsImage *made = NULL;
    const int result = picture->vips->vips_colourspace(picture->image, &made, VIPS_INTERPRETATION_B_W, NULL);
    return picture_step(picture, result, &made);
}
