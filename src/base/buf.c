#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *buf, size_t bytes_max)
{
    *buf = (struct buf){.bytes_max = bytes_max};
}

void buf_finish(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){.bytes_max = buf->bytes_max};
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->overflowed = false;
}

char *buf_reserve(struct buf *buf, size_t size)
{
    if (buf->overflowed || size > buf->bytes_max - buf->len) {
        buf->overflowed = true;
        return NULL;
    }
    size_t needed = buf->len + size + 1;
    if (needed > buf->capacity) {
        size_t capacity = buf->capacity ? buf->capacity : 256;
        while (capacity < needed)
            capacity *= 2;
        char *data = realloc(buf->data, capacity);
        if (!data) {
            buf->overflowed = true;
            return NULL;
        }
        buf->data = data;
        buf->capacity = capacity;
    }
    return buf->data + buf->len;
}

void buf_append(struct buf *buf, const void *bytes, size_t size)
{
    char *room = buf_reserve(buf, size);
    if (!room)
        return;
    if (size)
        memcpy(room, bytes, size);
    room[size] = '\0';
    buf->len += size;
}

void buf_puts(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_putc(struct buf *buf, char byte)
{
    char *room = buf_reserve(buf, 1);
    if (!room)
        return;
    room[0] = byte;
    room[1] = '\0';
    buf->len++;
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *room = length < 0 ? NULL : buf_reserve(buf, (size_t)length);
    if (room) {
        vsnprintf(room, (size_t)length + 1, format, again);
        buf->len += (size_t)length;
    }
    va_end(again);
    va_end(args);
}

struct error buf_error(const struct buf *buf)
{
    if (buf->overflowed)
        return error_make(ERR_TOO_LARGE, "the content is larger than %zu bytes", buf->bytes_max);
    return OK;
}
