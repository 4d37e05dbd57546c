#include "picture_files.h"

#include "media/media.h"

static struct error load_rgb(void *context, const char *path, uint8_t **rgb, size_t *width, size_t *height)
{
    struct media_rgb picture;
    (void)context;
    TRY(media_load_rgb_file(path, &picture));
    *rgb = picture.pixels;
    *width = (size_t)picture.width;
    *height = (size_t)picture.height;
    return OK;
}

static struct error save_png(void *context, const char *path, const uint8_t *rgb, size_t width, size_t height)
{
    struct media_rgb picture = {.pixels = (uint8_t *)rgb, .width = (int)width, .height = (int)height};
    (void)context;
    return media_save_png_file(&picture, path);
}

struct picture_io picture_files(void)
{
    return (struct picture_io){.load_rgb = load_rgb, .save_png = save_png};
}
