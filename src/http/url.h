/* Request targets as text: percent-decoding that leaves no surprise behind. RFC 3986. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

/* Decoded UTF-8. ERR_INVALID: a bad %-sequence, a NUL or control character, invalid UTF-8, "%2F" or a "." or ".."
 * segment. */
struct error url_decode_path(struct arena *arena, const char *raw, const char **path)
    __attribute__((warn_unused_result));
/* A name or value of a query: any character but NUL may be encoded. */
struct error url_decode_value(struct arena *arena, const char *raw, const char **value)
    __attribute__((warn_unused_result));
bool utf8_valid(const char *text, size_t size);
