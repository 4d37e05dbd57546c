/* Error texts live in a small ring per thread: an error costs no allocation and a caller frees nothing. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"

enum { slots = 8, text_bytes_max = 1280, field_bytes_max = 128 };

struct slot {
    char text[text_bytes_max];
    char field[field_bytes_max];
};

static struct slot *next_slot(void)
{
    static _Thread_local struct slot ring[slots];
    static _Thread_local unsigned next;
    return &ring[next++ % slots];
}

/* Bytes of the character that begins here; 0 when it is none or not whole. */
static size_t character_size(const char *at)
{
    const unsigned char lead = (unsigned char)*at;
    const size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < size; i++)
        if (((unsigned char)at[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

/* Texts quote what was asked for, cut by "%.64s" and the like; a character that was cut in half would be no UTF-8. */
static void drop_half_characters(char *text)
{
    char *to = text;
    for (const char *at = text; *at;) {
        const size_t size = character_size(at);
        memmove(to, at, size);
        to += size;
        at += size ? size : 1;
    }
    *to = '\0';
}

struct error (error_make)(enum error_code code, const char *format, ...)
{
    struct slot *slot = next_slot();
    va_list args;
    va_start(args, format);
    vsnprintf(slot->text, sizeof slot->text, format, args);
    va_end(args);
    drop_half_characters(slot->text);
    return (struct error){.code = code, .text = slot->text};
}

struct error (error_field)(const char *field, const char *format, ...)
{
    char what[text_bytes_max - field_bytes_max]; /* formatted apart: an argument may be an earlier error's text */
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    struct slot *slot = next_slot();
    size_t length = strnlen(field, sizeof slot->field - 1);
    memmove(slot->field, field, length);
    slot->field[length] = '\0';
    memcpy(slot->text, slot->field, length);
    snprintf(slot->text + length, sizeof slot->text - length, " %s", what);
    drop_half_characters(slot->text);
    return (struct error){.code = ERR_INVALID, .field = slot->field, .text = slot->text};
}

struct error (error_errno)(const char *format, ...)
{
    int number = errno;
    char what[text_bytes_max / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    bool full = number == ENOSPC || number == EDQUOT;
    return error_make(full ? ERR_NO_SPACE : ERR_IO, "cannot %s: %s", what, strerror(number));
}

struct error error_keep(struct arena *arena, struct error error)
{
    error.text = arena_strdup(arena, error.text);
    error.field = arena_strdup(arena, error.field);
    return error;
}

struct error error_adopt(struct error error)
{
    struct slot *slot = next_slot();
    snprintf(slot->text, sizeof slot->text, "%s", error.text);
    error.text = slot->text;
    if (error.field) {
        snprintf(slot->field, sizeof slot->field, "%s", error.field);
        error.field = slot->field;
    }
    return error;
}

int error_status(enum error_code code)
{
    static const int statuses[] = {
#define ERROR_STATUS(code, status, name) [code] = status,
        ERROR_CODE_LIST(ERROR_STATUS)
#undef ERROR_STATUS
    };
    return statuses[code];
}

const char *error_name(enum error_code code)
{
    static const char *const names[] = {
#define ERROR_NAME(code, status, name) [code] = name,
        ERROR_CODE_LIST(ERROR_NAME)
#undef ERROR_NAME
    };
    return names[code];
}
