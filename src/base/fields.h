/* Requests and answers as C structs, described by tables that api/generate.py makes of the contract. One reader (JSON
 * or query text to struct), one checker (limits), one writer (struct to JSON) walk any of them.
 *
 * In a struct: a string is NULL when absent, an object is a pointer, an array is a pointer and a count (NULL when
 * absent, not NULL and 0 when empty), an optional number or boolean and a nullable string have a mark, `bool has_NAME`.
 * A nullable string that is marked and NULL is a null on the wire. FIELD_RAW is JSON text, written as it is and never
 * read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

enum field_kind {
    FIELD_STRING,  /* const char * */
    FIELD_NUMBER,  /* double; NaN stands for a required number that was not sent */
    FIELD_BOOL,    /* bool */
    FIELD_OBJECT,  /* pointer to the struct of nested */
    FIELD_RAW,     /* const char *, JSON */
    FIELD_STRINGS, /* const char **, size_t */
    FIELD_NUMBERS, /* double *, size_t */
    FIELD_OBJECTS, /* pointer to structs of nested, size_t */
};

struct field {
    const char *name; /* on the wire */
    enum field_kind kind;
    bool required, nullable;
    bool has_mark;          /* mark_offset is that of a bool has_NAME */
    bool empty_when_absent; /* written as {} or [] rather than left out */
    bool whole;             /* integers only */
    bool above_min;         /* min itself is not allowed */
    bool number_too;        /* a string that may be written as a number: its digits are kept */
    size_t offset;
    size_t mark_offset;        /* of bool has_NAME, or of an array's size_t NAME_count */
    double min, max;           /* inclusive; of the items when an array */
    uint32_t length_max;       /* in characters; of the items when an array */
    uint32_t count_max;        /* items */
    const char *const *values; /* allowed ones, then NULL; NULL: any */
    const struct fields *nested;
};

struct fields {
    const struct field *list; /* in the order of the wire */
    size_t count, size;       /* fields; bytes of the struct */
    bool is_array;            /* the document is an array of objects: the one field, whose name is "" */
};

/* JSON text, an object or what is_array says, into a zeroed struct. Unknown fields are skipped, null is absence unless
 * nullable, the last of duplicate keys wins. ERR_INVALID names the field by path (`parameters.rank must be a number`).
 * Limits are not checked, except the counts of arrays and the depth (json_depth_max). A string is copied once, whatever
 * its size. */
struct error fields_read(struct arena *arena, const struct fields *fields, const char *text, size_t size, void *object)
    __attribute__((warn_unused_result));

/* One parameter of a query or path, already percent-decoded. Arrays are comma-separated and repeated names or `name[]`
 * append. An unknown name is ignored. */
struct error fields_read_text(struct arena *arena, const struct fields *fields, const char *name, const char *value,
                              void *object) __attribute__((warn_unused_result));

/* Every limit of the table: `name must be at most 64 characters long`, `concepts[1].scale must be at least -2`. */
struct error fields_check(const struct fields *fields, const void *object) __attribute__((warn_unused_result));

/* Makes optional fields that break a limit absent: for values of ours that the contract has no room for. Not inside of
 * objects and arrays; what fields_check says of required ones stays as it is. */
void fields_drop_invalid(const struct fields *fields, void *object);

/* Absent optional fields are left out. key is NULL at the root and inside arrays. */
void fields_write(struct json_writer *writer, const char *key, const struct fields *fields, const void *object);
