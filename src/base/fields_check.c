/* The limits of the contract, field by field in the order of the wire: the first broken one is the answer. */
#include "base/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { path_bytes_max = 128, values_bytes_max = 1024, no_index = -1 };

/* Where the checker is; links of the path live on its stack and become text only for an error. */
struct place {
    const struct place *parent;
    const char *name;
    long index;
};

static size_t write_path(const struct place *place, char *path, size_t size)
{
    size_t length = place->parent ? write_path(place->parent, path, size) : 0;
    if (length >= size)
        return length;
    length += (size_t)snprintf(path + length, size - length, "%s%s", length ? "." : "", place->name);
    if (place->index != no_index && length < size)
        length += (size_t)snprintf(path + length, size - length, "[%ld]", place->index);
    return length;
}

__attribute__((format(printf, 2, 3))) static struct error fault(const struct place *place, const char *format, ...)
{
    char path[path_bytes_max], text[values_bytes_max];
    write_path(place, path, sizeof path);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return path[0] ? error_field(path, "%s", text) : error_make(ERR_INVALID, "the body %s", text);
}

/* UTF-8 was checked by the parser: characters are the bytes that begin one. */
static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

static struct error check_string(const struct place *place, const struct field *field, const char *text)
{
    if (field->length_max && strlen(text) > field->length_max && characters(text) > field->length_max)
        return fault(place, "must be at most %u characters long", field->length_max);
    if (!field->values)
        return OK;
    for (const char *const *value = field->values; *value; value++)
        if (strcmp(*value, text) == 0)
            return OK;
    char list[values_bytes_max] = "";
    size_t length = 0;
    for (const char *const *value = field->values; *value && length < sizeof list; value++)
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", length ? ", " : "", *value);
    return fault(place, "must be one of %s", list);
}

static struct error check_number(const struct place *place, const struct field *field, double number)
{
    if (number < field->min)
        return fault(place, "must be at least %.16g", field->min);
    if (field->above_min && number == field->min)
        return fault(place, "must be greater than %.16g", field->min);
    if (number > field->max)
        return fault(place, "must be at most %.16g", field->max);
    if (field->whole && number != floor(number))
        return fault(place, "must be a whole number");
    return OK;
}

static struct error check_object(const struct place *place, const struct fields *fields, const char *object);

static struct error check_array(struct place *place, const struct field *field, const char *items, size_t count)
{
    if (count > field->count_max)
        return fault(place, "must be at most %u items long", field->count_max);
    for (size_t i = 0; i < count; i++) {
        place->index = (long)i;
        if (field->kind == FIELD_STRINGS)
            TRY(check_string(place, field, ((const char *const *)items)[i]));
        else if (field->kind == FIELD_NUMBERS)
            TRY(check_number(place, field, ((const double *)items)[i]));
        else
            TRY(check_object(place, field->nested, items + i * field->nested->size));
    }
    return OK;
}

static bool absent(const struct field *field, const char *object)
{
    if (field->has_mark && !*(const bool *)(object + field->mark_offset))
        return true;
    if (field->kind == FIELD_NUMBER)
        return isnan(*(const double *)(object + field->offset));
    return field->kind != FIELD_BOOL && !*(void *const *)(object + field->offset);
}

static struct error check_field(const struct place *parent, const struct field *field, const char *object)
{
    struct place place = {parent, field->name, no_index};
    if (absent(field, object)) {
        bool is_null = field->nullable && *(const bool *)(object + field->mark_offset);
        return field->required && !is_null ? fault(&place, "is required") : OK;
    }
    const char *target = object + field->offset;
    switch (field->kind) {
    case FIELD_STRING:
        return check_string(&place, field, *(const char *const *)target);
    case FIELD_NUMBER:
        return check_number(&place, field, *(const double *)target);
    case FIELD_OBJECT:
        return check_object(&place, field->nested, *(const char *const *)target);
    case FIELD_STRINGS:
    case FIELD_NUMBERS:
    case FIELD_OBJECTS:
        return check_array(&place, field, *(const char *const *)target, *(const size_t *)(object + field->mark_offset));
    case FIELD_BOOL:
    case FIELD_RAW:
        break;
    }
    return OK;
}

/* As deep as the tables nest: no table of the contract holds itself. */
static struct error check_object(const struct place *place, const struct fields *fields, const char *object)
{
    for (size_t i = 0; i < fields->count; i++)
        TRY(check_field(place, &fields->list[i], object));
    return OK;
}

struct error fields_check(const struct fields *fields, const void *object)
{
    return check_object(NULL, fields, object);
}

void fields_drop_invalid(const struct fields *fields, void *object)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        if (field->required || !check_field(NULL, field, object).code)
            continue;
        char *target = (char *)object + field->offset;
        if (field->has_mark)
            *(bool *)((char *)object + field->mark_offset) = false;
        if (field->kind != FIELD_NUMBER && field->kind != FIELD_BOOL)
            *(void **)target = NULL;
    }
}
