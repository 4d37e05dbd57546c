/* yajl's events go straight into the struct: a stack of open objects and arrays, no tree. */
#include "base/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

enum {
    number_bytes_max = 64, /* longer than any double needs */
    array_items_first = 4, /* first capacity; doubles */
    arena_factor_max = 4,  /* memory for one document: this many times its size and arena_bytes_free; more comes only */
    arena_bytes_free = 1 << 16, /* of objects that are repeated to waste it */
    path_bytes_max = 128,
};

/* An open container. An array's frame keeps the owner's object, so that pointer and count stay current. */
struct frame {
    const struct fields *fields; /* of object; NULL in an array's frame */
    char *object;
    const struct field *field; /* the member being read (NULL: unknown), or the array */
    size_t capacity;           /* items allocated, in an array's frame */
};

struct reader {
    struct arena *arena;
    size_t arena_used_max;
    const struct fields *root_fields;
    char *root;
    struct frame frames[json_depth_max];
    int depth;
    int skipped; /* open containers inside an unknown field */
    struct error error;
};

static size_t *count_of(const struct frame *array)
{
    return (size_t *)(array->object + array->field->mark_offset);
}

/* "parameters.rank", "concepts[1].scale" */
static const char *path_here(const struct reader *reader, char path[path_bytes_max])
{
    size_t length = 0;
    path[0] = '\0';
    for (int i = 0; i < reader->depth && length < path_bytes_max; i++) {
        const struct frame *frame = &reader->frames[i];
        char *end = path + length;
        size_t room = path_bytes_max - length;
        if (!frame->fields)
            length += (size_t)snprintf(end, room, "[%zu]", *count_of(frame) - (i + 1 < reader->depth));
        else if (frame->field)
            length += (size_t)snprintf(end, room, "%s%s", i ? "." : "", frame->field->name);
    }
    return path;
}

/* A document that is an array has no field to be named by. */
static int fail(struct reader *reader, const char *text)
{
    char path[path_bytes_max];
    path_here(reader, path);
    reader->error = path[0] ? error_field(path, "%s", text) : error_make(ERR_INVALID, "the body %s", text);
    return 0;
}

/* The same for a value that place has made room for: an array's count is one ahead then. */
static int fail_placed(struct reader *reader, const char *text)
{
    struct frame *top = &reader->frames[reader->depth - 1];
    if (!top->fields)
        --*count_of(top);
    return fail(reader, text);
}

static const char *wanted(const struct field *field, bool item)
{
    switch (field->kind) {
    case FIELD_STRING:
        return "must be a string";
    case FIELD_NUMBER:
        return "must be a number";
    case FIELD_BOOL:
        return "must be true or false";
    case FIELD_OBJECT:
        return "must be an object";
    case FIELD_STRINGS:
        return item ? "must be a string" : "must be an array of strings";
    case FIELD_NUMBERS:
        return item ? "must be a number" : "must be an array of numbers";
    case FIELD_OBJECTS:
        return item ? "must be an object" : "must be an array of objects";
    case FIELD_RAW:
        break;
    }
    return "cannot be set";
}

/* Memory for a value, or NULL when the document asks for more than an honest one of its size can. */
static void *claim(struct reader *reader, size_t count, size_t item_size)
{
    if (reader->arena->used + count * item_size > reader->arena_used_max) {
        reader->error = error_make(ERR_INVALID, "the body repeats its fields too often");
        return NULL;
    }
    return arena_array(reader->arena, count, item_size);
}

static size_t item_size(const struct field *field)
{
    if (field->kind == FIELD_OBJECTS)
        return field->nested->size;
    return field->kind == FIELD_NUMBERS ? sizeof(double) : sizeof(char *);
}

/* The next item's memory; NULL after a failure. */
static void *append_item(struct reader *reader, struct frame *array)
{
    size_t *count = count_of(array), size = item_size(array->field);
    if (*count >= array->field->count_max) {
        reader->depth--; /* the array is at fault, not its item */
        char text[64];
        snprintf(text, sizeof text, "must be at most %u items long", array->field->count_max);
        fail(reader, text);
        return NULL;
    }
    char **items = (char **)(array->object + array->field->offset);
    if (*count == array->capacity) {
        char *larger = claim(reader, array->capacity * 2, size);
        if (!larger)
            return NULL;
        memcpy(larger, *items, *count * size);
        *items = larger;
        array->capacity *= 2;
    }
    return *items + size * (*count)++;
}

/* Where a value of this kind goes: the member of the open object, or a new item of the open array. NULL with no error
 * set: an unknown field, to be skipped. */
static void *place(struct reader *reader, enum field_kind kind, enum field_kind array_kind)
{
    if (!reader->depth) {
        fail(reader, reader->root_fields->is_array ? "must be a JSON array" : "must be a JSON object");
        return NULL;
    }
    struct frame *top = &reader->frames[reader->depth - 1];
    if (!top->field || top->field->kind == FIELD_RAW)
        return NULL;
    if (top->field->kind != (top->fields ? kind : array_kind)) {
        fail(reader, wanted(top->field, !top->fields));
        return NULL;
    }
    if (!top->fields)
        return append_item(reader, top);
    if (top->field->has_mark)
        *(bool *)(top->object + top->field->mark_offset) = true;
    return top->object + top->field->offset;
}

static int on_string(void *context, const unsigned char *text, size_t size)
{
    struct reader *reader = context;
    if (reader->skipped)
        return 1;
    const char **target = place(reader, FIELD_STRING, FIELD_STRINGS);
    if (!target)
        return !reader->error.code;
    if (memchr(text, '\0', size))
        return fail_placed(reader, "must not contain a NUL character");
    char *copy = claim(reader, size + 1, 1);
    if (!copy)
        return 0;
    memcpy(copy, text, size); /* claim has zeroed the end */
    *target = copy;
    return 1;
}

static bool is_string_or_number(const struct reader *reader)
{
    const struct frame *top = reader->depth ? &reader->frames[reader->depth - 1] : NULL;
    return top && top->fields && top->field && top->field->number_too;
}

static int on_number(void *context, const char *text, size_t size)
{
    struct reader *reader = context;
    if (reader->skipped)
        return 1;
    if (is_string_or_number(reader))
        return on_string(context, (const unsigned char *)text, size);
    double *target = place(reader, FIELD_NUMBER, FIELD_NUMBERS);
    if (!target)
        return !reader->error.code;
    char digits[number_bytes_max];
    if (size >= sizeof digits)
        return fail_placed(reader, "must be a number of fewer than 64 digits");
    memcpy(digits, text, size);
    digits[size] = '\0';
    *target = strtod(digits, NULL);
    return isfinite(*target) ? 1 : fail_placed(reader, "must be a smaller number");
}

static int on_boolean(void *context, int truth)
{
    struct reader *reader = context;
    if (reader->skipped)
        return 1;
    bool *target = place(reader, FIELD_BOOL, FIELD_BOOL);
    if (target)
        *target = truth;
    return !reader->error.code;
}

static void clear_field(char *object, const struct field *field)
{
    if (field->kind == FIELD_NUMBER)
        *(double *)(object + field->offset) = field->required ? NAN : 0;
    else if (field->kind == FIELD_BOOL)
        *(bool *)(object + field->offset) = false;
    else
        *(void **)(object + field->offset) = NULL;
    if (field->has_mark)
        *(bool *)(object + field->mark_offset) = false;
    else if (field->mark_offset)
        *(size_t *)(object + field->mark_offset) = 0;
}

static int on_null(void *context)
{
    struct reader *reader = context;
    if (reader->skipped)
        return 1;
    if (!reader->depth)
        return !place(reader, FIELD_OBJECT, FIELD_OBJECTS) && !reader->error.code;
    struct frame *top = &reader->frames[reader->depth - 1];
    if (!top->field || top->field->kind == FIELD_RAW)
        return 1;
    if (!top->fields)
        return fail(reader, wanted(top->field, true));
    clear_field(top->object, top->field);
    if (top->field->nullable)
        *(bool *)(top->object + top->field->mark_offset) = true;
    return 1;
}

static int push(struct reader *reader, struct frame frame)
{
    if (reader->depth == json_depth_max)
        return fail(reader, "is nested too deeply");
    reader->frames[reader->depth++] = frame;
    return 1;
}

static int skip_container(struct reader *reader)
{
    if (reader->depth + ++reader->skipped <= json_depth_max)
        return 1;
    reader->error = error_make(ERR_INVALID, "the body is nested too deeply");
    return 0;
}

static void prepare(const struct fields *fields, char *object)
{
    for (size_t i = 0; i < fields->count; i++)
        if (fields->list[i].kind == FIELD_NUMBER && fields->list[i].required)
            clear_field(object, &fields->list[i]);
}

static int on_open_object(void *context)
{
    struct reader *reader = context;
    if (reader->skipped)
        return skip_container(reader);
    if (!reader->depth && !reader->root_fields->is_array) {
        prepare(reader->root_fields, reader->root);
        return push(reader, (struct frame){.fields = reader->root_fields, .object = reader->root});
    }
    char *target = place(reader, FIELD_OBJECT, FIELD_OBJECTS);
    if (!target)
        return reader->error.code ? 0 : skip_container(reader);
    const struct frame *top = &reader->frames[reader->depth - 1];
    char *object = target; /* an item of an array lies in the array */
    if (top->fields) {
        object = claim(reader, 1, top->field->nested->size);
        if (!object)
            return 0;
        *(char **)target = object;
    }
    prepare(top->field->nested, object);
    return push(reader, (struct frame){.fields = top->field->nested, .object = object});
}

static int open_array(struct reader *reader, char *object, const struct field *field)
{
    void *items = claim(reader, array_items_first, item_size(field));
    if (!items)
        return 0;
    struct frame array = {.object = object, .field = field, .capacity = array_items_first};
    *(void **)(object + field->offset) = items;
    *count_of(&array) = 0;
    return push(reader, array);
}

static int on_open_array(void *context)
{
    struct reader *reader = context;
    if (reader->skipped)
        return skip_container(reader);
    if (!reader->depth && reader->root_fields->is_array)
        return open_array(reader, reader->root, &reader->root_fields->list[0]);
    if (!reader->depth)
        return place(reader, FIELD_OBJECTS, FIELD_OBJECTS) != NULL;
    struct frame *top = &reader->frames[reader->depth - 1];
    if (!top->field || top->field->kind == FIELD_RAW)
        return skip_container(reader);
    if (!top->fields || top->field->kind < FIELD_STRINGS)
        return fail(reader, wanted(top->field, !top->fields));
    return open_array(reader, top->object, top->field);
}

static int on_close(void *context)
{
    struct reader *reader = context;
    if (reader->skipped)
        reader->skipped--;
    else
        reader->depth--;
    return 1;
}

static const struct field *find_field(const struct fields *fields, const char *name, size_t size)
{
    for (size_t i = 0; i < fields->count; i++)
        if (strncmp(fields->list[i].name, name, size) == 0 && !fields->list[i].name[size])
            return &fields->list[i];
    return NULL;
}

static int on_key(void *context, const unsigned char *name, size_t size)
{
    struct reader *reader = context;
    if (reader->skipped)
        return 1;
    struct frame *top = &reader->frames[reader->depth - 1];
    top->field = find_field(top->fields, (const char *)name, size);
    return 1;
}

struct error fields_read(struct arena *arena, const struct fields *fields, const char *text, size_t size, void *object)
{
    static const yajl_callbacks callbacks = {
        .yajl_null = on_null,
        .yajl_boolean = on_boolean,
        .yajl_number = on_number,
        .yajl_string = on_string,
        .yajl_start_map = on_open_object,
        .yajl_map_key = on_key,
        .yajl_end_map = on_close,
        .yajl_start_array = on_open_array,
        .yajl_end_array = on_close,
    };
    struct reader reader = {.arena = arena, .root_fields = fields, .root = object};
    reader.arena_used_max = arena->used + arena_factor_max * size + arena_bytes_free;
    yajl_handle parser = yajl_alloc(&callbacks, NULL, &reader);
    if (!parser)
        abort();
    yajl_status status = yajl_parse(parser, (const unsigned char *)text, size);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(parser);
    size_t offset = yajl_get_bytes_consumed(parser);
    yajl_free(parser);
    if (reader.error.code)
        return reader.error;
    return status == yajl_status_ok ? OK : error_make(ERR_INVALID, "the body is not valid JSON near byte %zu", offset);
}

/* Appends the comma-separated parts of value to the array. */
static struct error append_parts(struct arena *arena, const struct field *field, const char *value, char *object)
{
    const char ***items = (const char ***)(object + field->offset);
    size_t *count = (size_t *)(object + field->mark_offset), added = 1;
    for (const char *c = value; *c; c++)
        added += *c == ',';
    if (*count + added > field->count_max)
        return error_field(field->name, "must be at most %u items long", field->count_max);
    const char **joined = arena_array(arena, *count + added, sizeof *joined);
    if (*count)
        memcpy(joined, *items, *count * sizeof *joined);
    for (size_t i = 0; i < added; i++) {
        size_t length = strcspn(value, ",");
        joined[*count + i] = arena_copy(arena, value, length);
        value += length + 1;
    }
    *items = joined;
    *count += added;
    return OK;
}

struct error fields_read_text(struct arena *arena, const struct fields *fields, const char *name, const char *value,
                              void *object)
{
    size_t length = strlen(name);
    if (length > 2 && strcmp(name + length - 2, "[]") == 0)
        length -= 2;
    const struct field *field = find_field(fields, name, length);
    if (!field)
        return OK;
    char *target = (char *)object + field->offset, *end;
    if (field->kind == FIELD_STRINGS)
        return append_parts(arena, field, value, object);
    if (field->has_mark)
        *(bool *)((char *)object + field->mark_offset) = true;
    if (field->kind == FIELD_STRING) {
        *(char **)target = arena_strdup(arena, value);
        return OK;
    }
    if (field->kind == FIELD_BOOL) {
        *(bool *)target = strcmp(value, "true") == 0;
        return *(bool *)target || strcmp(value, "false") == 0 ? OK : error_field(field->name, "must be true or false");
    }
    *(double *)target = strtod(value, &end);
    bool number = end != value && !*end && strspn(value, "0123456789+-.eE") == strlen(value);
    return number && isfinite(*(double *)target) ? OK : error_field(field->name, "must be a number");
}
