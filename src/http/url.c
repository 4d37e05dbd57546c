#include "http/url.h"

#include <string.h>

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

/* Bytes of the sequence that starts with lead, or 0; least is the smallest code point that needs so many. */
static size_t sequence_size(unsigned char lead, unsigned *point, unsigned *least)
{
    if (lead < 0x80) {
        *point = lead, *least = 0;
        return 1;
    }
    if (lead >= 0xc2 && lead <= 0xdf) {
        *point = lead & 0x1f, *least = 0x80;
        return 2;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        *point = lead & 0x0f, *least = 0x800;
        return 3;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        *point = lead & 0x07, *least = 0x10000;
        return 4;
    }
    return 0;
}

bool utf8_valid(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        unsigned point, least;
        size_t length = sequence_size((unsigned char)text[i], &point, &least);
        if (length == 0 || length > size - i)
            return false;
        for (size_t k = 1; k < length; k++) {
            unsigned char byte = (unsigned char)text[i + k];
            if ((byte & 0xc0) != 0x80)
                return false;
            point = point << 6 | (byte & 0x3f);
        }
        if (point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
            return false;
        i += length;
    }
    return true;
}

static struct error decode(struct arena *arena, const char *raw, const char *what, char **decoded)
{
    size_t size = strlen(raw), length = 0;
    char *text = arena_alloc(arena, size + 1);
    for (size_t i = 0; i < size; i++) {
        if (raw[i] != '%') {
            text[length++] = raw[i];
            continue;
        }
        int high = hex_digit(raw[i + 1]), low = high < 0 ? -1 : hex_digit(raw[i + 2]);
        if (low < 0)
            return error_make(ERR_INVALID, "the %s has a '%%' without two hexadecimal digits", what);
        if (high == 0 && low == 0)
            return error_make(ERR_INVALID, "the %s has a NUL character", what);
        text[length++] = (char)(high * 16 + low);
        i += 2;
    }
    if (!utf8_valid(text, length))
        return error_make(ERR_INVALID, "the %s is not UTF-8", what);
    *decoded = text;
    return OK;
}

static bool has_dot_segment(const char *path)
{
    for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
        size_t length = strcspn(slash + 1, "/");
        if ((length == 1 && slash[1] == '.') || (length == 2 && slash[1] == '.' && slash[2] == '.'))
            return true;
    }
    return false;
}

struct error url_decode_path(struct arena *arena, const char *raw, const char **path)
{
    if (raw[0] != '/')
        return error_make(ERR_INVALID, "the path must start with '/'");
    if (strstr(raw, "%2F") || strstr(raw, "%2f"))
        return error_make(ERR_INVALID, "the path has an encoded slash");
    char *decoded;
    TRY(decode(arena, raw, "path", &decoded));
    for (const char *byte = decoded; *byte; byte++)
        if ((unsigned char)*byte < 0x20 || *byte == 0x7f)
            return error_make(ERR_INVALID, "the path has a control character");
    if (has_dot_segment(decoded))
        return error_make(ERR_INVALID, "the path has a '.' or '..' segment");
    *path = decoded;
    return OK;
}

struct error url_decode_value(struct arena *arena, const char *raw, const char **value)
{
    char *decoded;
    TRY(decode(arena, raw, "query", &decoded));
    *value = decoded;
    return OK;
}
