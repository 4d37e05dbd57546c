/* JSON text to a small tree in an arena, and values to JSON text. For files of ours and others' (config.json, job.json,
 * safetensors headers, events). Request and response bodies go through the field tables in base/fields.h instead. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum { json_depth_max = 32, json_strings_bytes_max = 1 << 20 };

struct json {
    enum json_kind kind;
    const char *key;           /* member name when inside an object, else NULL */
    const char *text;          /* string value (NUL-terminated, no NUL inside), or a number as it was written */
    size_t len;                /* of text */
    double number;             /* JSON_NUMBER; integers are exact up to 2^53 */
    bool truth;                /* JSON_BOOL */
    size_t count;              /* members or items */
    struct json *first, *next; /* children in order; next sibling */
};

/* Whole documents only. Refuses trailing bytes, invalid UTF-8, depth over json_depth_max, NUL inside strings.
 * ERR_INVALID with the byte offset in the text. */
struct error json_parse(struct arena *arena, const char *text, size_t size, const struct json **root)
    __attribute__((warn_unused_result));
struct error json_read_file(struct arena *arena, const char *path, size_t size_max, const struct json **root)
    __attribute__((warn_unused_result));

/* Look-ups tolerate NULL and wrong kinds: they give the fallback. */
const struct json *json_get(const struct json *object, const char *key); /* NULL when absent */
const struct json *json_item(const struct json *array, size_t index);
const char *json_string(const struct json *object, const char *key, const char *fallback);
double json_number(const struct json *object, const char *key, double fallback);
int64_t json_int(const struct json *object, const char *key, int64_t fallback);
bool json_bool(const struct json *object, const char *key, bool fallback);
#define JSON_EACH(child, parent)                                                                                       \
    for (const struct json *child = (parent) ? (parent)->first : NULL; child; child = child->next)

/* Writing: commas and colons are placed by the writer. key is NULL inside arrays and at the root. */
struct json_writer {
    struct buf *out;
    bool need_comma;
};

void json_open(struct json_writer *writer, const char *key, char bracket);           /* '{' or '[' */
void json_close(struct json_writer *writer, char bracket);                           /* '}' or ']' */
void json_put_string(struct json_writer *writer, const char *key, const char *text); /* NULL text writes null */
void json_put_string_n(struct json_writer *writer, const char *key, const char *text, size_t len);
void json_put_int(struct json_writer *writer, const char *key, int64_t value);
void json_put_number(struct json_writer *writer, const char *key,
                     double value); /* shortest text that reads back equal */
void json_put_bool(struct json_writer *writer, const char *key, bool value);
void json_put_null(struct json_writer *writer, const char *key);
void json_put_raw(struct json_writer *writer, const char *key, const char *json); /* already JSON */
void json_put_tree(struct json_writer *writer, const char *key, const struct json *value);
/* The text as a JSON string, quotes included, in the arena; NULL gives null. At most 1 MiB, else "". */
const char *json_quoted(struct arena *arena, const char *text);
/* The array of strings that rows keep, at most json_strings_bytes_max (else "[]"), and back. strings is never NULL. */
const char *json_from_strings(struct arena *arena, const char *const *strings, size_t count);
struct error json_to_strings(struct arena *arena, const char *text, const char ***strings, size_t *count)
    __attribute__((warn_unused_result));
