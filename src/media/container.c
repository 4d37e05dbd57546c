/* A file that goes on after its picture, or ends before it, is refused here: decoders are lenient about both, and a
 * file that is two types at once is served to somebody as the other one. */
#include "media/container.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static uint32_t big32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint32_t little32(const uint8_t *at)
{
    return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static struct error cut_off(const char *type)
{
    return error_make(ERR_INVALID, "the %s file is cut off: upload it again", type);
}

static struct error goes_on(const char *type, size_t extra)
{
    return error_make(ERR_INVALID, "the %s file has %zu bytes after its end: save the picture again", type, extra);
}

/* Padding with zeros is harmless and common. */
static bool only_zeros(const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (at[i])
            return false;
    return true;
}

static struct error png_check(const uint8_t *bytes, size_t size)
{
    size_t at = 8;
    bool first = true;
    while (size - at >= 12) {
        const uint32_t length = big32(bytes + at);
        if (first && memcmp(bytes + at + 4, "IHDR", 4) != 0)
            return error_make(ERR_INVALID, "the PNG file does not begin with its header");
        first = false;
        if (length > size - at - 12)
            return cut_off("PNG");
        const bool last = memcmp(bytes + at + 4, "IEND", 4) == 0;
        at += 12 + (size_t)length;
        if (last)
            return only_zeros(bytes + at, size - at) ? OK : goes_on("PNG", size - at);
    }
    return cut_off("PNG");
}

/* From just after a start-of-scan segment to the next marker that is neither stuffing nor a restart. */
static size_t jpeg_skip_scan(const uint8_t *bytes, size_t size, size_t at)
{
    while (at + 1 < size) {
        const uint8_t *mark = memchr(bytes + at, 0xff, size - at - 1);
        if (!mark)
            return size;
        at = (size_t)(mark - bytes);
        const uint8_t kind = mark[1];
        if (kind != 0 && kind != 0xff && (kind < 0xd0 || kind > 0xd7))
            return at;
        at += kind == 0xff ? 1 : 2;
    }
    return size;
}

/* One picture from its start-of-image marker; *end is after its end-of-image marker. */
static struct error jpeg_walk(const uint8_t *bytes, size_t size, size_t at, size_t *end)
{
    at += 2;
    while (size - at >= 2) {
        if (bytes[at] != 0xff)
            return error_make(ERR_INVALID, "the JPEG file is damaged: upload it again");
        const uint8_t kind = bytes[at + 1];
        if (kind == 0xff) {
            at++;
            continue;
        }
        at += 2;
        if (kind == 0xd9) {
            *end = at;
            return OK;
        }
        if (kind == 0x01 || (kind >= 0xd0 && kind <= 0xd8))
            continue;
        if (size - at < 2)
            break;
        const size_t length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2 || length > size - at)
            return cut_off("JPEG");
        at += length;
        if (kind == 0xda)
            at = jpeg_skip_scan(bytes, size, at);
    }
    return cut_off("JPEG");
}

/* Cameras and phones append smaller JPEG pictures (multi-picture format): those are walked too. */
static struct error jpeg_check(const uint8_t *bytes, size_t size)
{
    size_t at = 0;
    do {
        TRY(jpeg_walk(bytes, size, at, &at));
        while (at < size && bytes[at] == 0)
            at++;
    } while (size - at >= 4 && bytes[at] == 0xff && bytes[at + 1] == 0xd8 && bytes[at + 2] == 0xff);
    return at == size ? OK : goes_on("JPEG", size - at);
}

static struct error webp_check(const uint8_t *bytes, size_t size)
{
    const size_t end = 8 + (size_t)little32(bytes + 4);
    size_t at = 12;
    if (end > size)
        return cut_off("WebP");
    while (at < end) {
        if (end - at < 8)
            return error_make(ERR_INVALID, "the WebP file is damaged: upload it again");
        const size_t length = little32(bytes + at + 4);
        if (length > end - at - 8)
            return cut_off("WebP");
        at += 8 + length + (length & 1);
    }
    return only_zeros(bytes + end, size - end) ? OK : goes_on("WebP", size - end);
}

static bool gif_skip_blocks(const uint8_t *bytes, size_t size, size_t *at)
{
    while (*at < size) {
        const size_t length = bytes[(*at)++];
        if (length == 0)
            return true;
        if (length > size - *at)
            return false;
        *at += length;
    }
    return false;
}

static size_t gif_colours(uint8_t flags)
{
    return flags & 0x80 ? (size_t)3 << ((flags & 7) + 1) : 0;
}

static struct error gif_check(const uint8_t *bytes, size_t size)
{
    if (size < 14)
        return cut_off("GIF");
    size_t at = 13 + gif_colours(bytes[10]);
    while (at < size) {
        const uint8_t kind = bytes[at++];
        if (kind == 0x3b)
            return only_zeros(bytes + at, size - at) ? OK : goes_on("GIF", size - at);
        if (kind == 0x2c) {
            if (size - at < 10)
                break;
            at += 10 + gif_colours(bytes[at + 8]);
        } else if (kind == 0x21) {
            at++;
        } else {
            return error_make(ERR_INVALID, "the GIF file is damaged: upload it again");
        }
        if (at >= size || !gif_skip_blocks(bytes, size, &at))
            break;
    }
    return cut_off("GIF");
}

/* AVIF and HEIC: boxes that follow each other to the end of the file. */
static struct error boxes_check(const uint8_t *bytes, size_t size, const char *type)
{
    size_t at = 0;
    while (at < size) {
        if (size - at < 8)
            return goes_on(type, size - at);
        uint64_t length = big32(bytes + at);
        if (length == 1 && size - at >= 16)
            length = (uint64_t)big32(bytes + at + 8) << 32 | big32(bytes + at + 12);
        if (length == 0)
            length = size - at;
        if (length < 8)
            return goes_on(type, size - at);
        if (length > size - at)
            return cut_off(type);
        at += (size_t)length;
    }
    return OK;
}

static bool has_brand(const uint8_t *bytes, size_t size, const char *brand)
{
    const size_t length = big32(bytes);
    for (size_t at = 8; at + 4 <= size && at + 4 <= length && at < 256; at += at == 8 ? 8 : 4)
        if (memcmp(bytes + at, brand, 4) == 0)
            return true;
    return false;
}

static bool is_heic(const uint8_t *bytes, size_t size)
{
    static const char *const brands[] = {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"};
    for (size_t i = 0; i < sizeof brands / sizeof *brands; i++)
        if (has_brand(bytes, size, brands[i]))
            return true;
    return false;
}

/* An SVG's root may stand behind a byte order mark, a declaration, comments and a document type. */
static bool is_svg(const uint8_t *bytes, size_t size)
{
    const size_t head = size < 8192 ? size : 8192;
    size_t at = head >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < head && strchr(" \t\r\n", bytes[at]) && bytes[at])
        at++;
    if (at == head || bytes[at] != '<')
        return false;
    const uint8_t *root = memmem(bytes + at, head - at, "<svg", 4);
    return root != NULL;
}

static bool recognise(const uint8_t *bytes, size_t size, enum media_format *format)
{
    if (size >= 16 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        *format = MEDIA_PNG;
    else if (size >= 16 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        *format = MEDIA_JPEG;
    else if (size >= 16 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        *format = MEDIA_WEBP;
    else if (size >= 6 && (memcmp(bytes, "GIF87a", 6) == 0 || memcmp(bytes, "GIF89a", 6) == 0))
        *format = MEDIA_GIF;
    else if (size >= 16 && memcmp(bytes + 4, "ftyp", 4) == 0 &&
             (has_brand(bytes, size, "avif") || has_brand(bytes, size, "avis")))
        *format = MEDIA_AVIF;
    else if (size >= 16 && memcmp(bytes + 4, "ftyp", 4) == 0 && is_heic(bytes, size))
        *format = MEDIA_HEIC;
    else if (size >= 16 && (memcmp(bytes, "II*\0", 4) == 0 || memcmp(bytes, "MM\0*", 4) == 0))
        *format = MEDIA_TIFF;
    else if (is_svg(bytes, size))
        *format = MEDIA_SVG;
    else
        return false;
    return true;
}

/* A ZIP is read from its end, a PDF from anywhere in its first 1024 bytes: both hide in pictures. */
static struct error refuse_second_type(const uint8_t *bytes, size_t size)
{
    const size_t tail = size < 65557 ? size : 65557;
    for (size_t left = tail; left >= 22; left--) {
        const uint8_t *at = bytes + size - left;
        if (memcmp(at, "PK\5\6", 4) == 0 && ((size_t)at[20] | (size_t)at[21] << 8) == left - 22)
            return error_make(ERR_INVALID, "the file is a picture and an archive at once: save the picture again");
    }
    if (memmem(bytes, size < 1024 ? size : 1024, "%PDF-", 5))
        return error_make(ERR_INVALID, "the file is a picture and a PDF at once: save the picture again");
    return OK;
}

static struct error check_end(const uint8_t *bytes, size_t size, enum media_format format)
{
    switch (format) {
    case MEDIA_PNG:
        return png_check(bytes, size);
    case MEDIA_JPEG:
        return jpeg_check(bytes, size);
    case MEDIA_WEBP:
        return webp_check(bytes, size);
    case MEDIA_GIF:
        return gif_check(bytes, size);
    case MEDIA_AVIF:
        return boxes_check(bytes, size, "AVIF");
    case MEDIA_HEIC:
        return boxes_check(bytes, size, "HEIC");
    case MEDIA_SVG:
        return svg_check((const char *)bytes, size);
    case MEDIA_TIFF: /* offsets may point anywhere: its decoder finds what is missing */
        break;
    }
    return OK;
}

struct error container_check(const void *bytes, size_t size, enum media_format *format)
{
    if (size > media_bytes_max)
        return error_make(ERR_TOO_LARGE, "the picture must be at most %d MB", media_bytes_max >> 20);
    if (size == 0 || !recognise(bytes, size, format))
        return error_make(ERR_INVALID, "Unhandled image format: send PNG, JPEG, WebP, GIF, AVIF, TIFF, HEIC or SVG");
    TRY(check_end(bytes, size, *format));
    return refuse_second_type(bytes, size);
}
