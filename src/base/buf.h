/* A growing byte buffer on the heap with a cap. Appending past the cap marks it as overflowed and drops the bytes:
 * check once, at the end, with buf_error. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct buf {
    char *data; /* NUL-terminated once something was appended, else NULL */
    size_t len, capacity, bytes_max;
    bool overflowed;
};

void buf_init(struct buf *buf, size_t bytes_max);
void buf_finish(struct buf *buf);
void buf_clear(struct buf *buf);
void buf_append(struct buf *buf, const void *bytes, size_t size);
void buf_puts(struct buf *buf, const char *text);
void buf_putc(struct buf *buf, char byte);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *buf_reserve(struct buf *buf, size_t size); /* room for size bytes at data + len, or NULL when over the cap */
struct error buf_error(const struct buf *buf) __attribute__((warn_unused_result));
