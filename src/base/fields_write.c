/* Struct to JSON, in the order of the table. */
#include "base/fields.h"

#include <math.h>

static void write_array(struct json_writer *writer, const struct field *field, const char *items, size_t count)
{
    json_open(writer, field->name, '[');
    for (size_t i = 0; i < count; i++) {
        if (field->kind == FIELD_STRINGS)
            json_put_string(writer, NULL, ((const char *const *)items)[i]);
        else if (field->kind == FIELD_NUMBERS)
            json_put_number(writer, NULL, ((const double *)items)[i]);
        else
            fields_write(writer, NULL, field->nested, items + i * field->nested->size);
    }
    json_close(writer, ']');
}

static void write_absent(struct json_writer *writer, const struct field *field, bool marked)
{
    bool array = field->kind >= FIELD_STRINGS;
    if (field->nullable && marked) {
        json_put_null(writer, field->name);
    } else if (field->empty_when_absent || (array && field->required)) {
        json_open(writer, field->name, array ? '[' : '{');
        json_close(writer, array ? ']' : '}');
    }
}

static void write_field(struct json_writer *writer, const struct field *field, const char *object)
{
    const char *place = object + field->offset;
    bool marked = field->has_mark && *(const bool *)(object + field->mark_offset);
    if (field->kind == FIELD_NUMBER || field->kind == FIELD_BOOL) {
        if (field->has_mark && !marked)
            return;
        if (field->kind == FIELD_BOOL)
            json_put_bool(writer, field->name, *(const bool *)place);
        else if (!isnan(*(const double *)place))
            json_put_number(writer, field->name, *(const double *)place);
        return;
    }
    const char *value = *(const char *const *)place;
    if (!value)
        write_absent(writer, field, marked);
    else if (field->kind == FIELD_STRING)
        json_put_string(writer, field->name, value);
    else if (field->kind == FIELD_RAW)
        json_put_raw(writer, field->name, value);
    else if (field->kind == FIELD_OBJECT)
        fields_write(writer, field->name, field->nested, value);
    else
        write_array(writer, field, value, *(const size_t *)(object + field->mark_offset));
}

void fields_write(struct json_writer *writer, const char *key, const struct fields *fields, const void *object)
{
    json_open(writer, key, '{');
    for (size_t i = 0; i < fields->count; i++)
        write_field(writer, &fields->list[i], object);
    json_close(writer, '}');
}
