/* yajl reads (it checks UTF-8 and escapes and never recurses); this file builds the tree and writes. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "base/fs.h"

struct builder {
    struct arena *arena;
    struct json *root;
    struct json *open[json_depth_max]; /* containers not yet closed, outermost first */
    struct json *last[json_depth_max]; /* last child of each */
    int depth;
    const char *key;
    const char *refusal; /* why a callback stopped the parser */
};

static struct json *add_node(struct builder *builder, enum json_kind kind)
{
    struct json *node = ARENA_NEW(builder->arena, struct json);
    node->kind = kind;
    node->key = builder->key;
    builder->key = NULL;
    if (!builder->depth) {
        builder->root = node;
        return node;
    }
    int top = builder->depth - 1;
    if (builder->last[top])
        builder->last[top]->next = node;
    else
        builder->open[top]->first = node;
    builder->last[top] = node;
    builder->open[top]->count++;
    return node;
}

static int on_null(void *context)
{
    add_node(context, JSON_NULL);
    return 1;
}

static int on_boolean(void *context, int truth)
{
    add_node(context, JSON_BOOL)->truth = truth;
    return 1;
}

static int on_number(void *context, const char *text, size_t size)
{
    struct builder *builder = context;
    struct json *node = add_node(builder, JSON_NUMBER);
    node->text = arena_copy(builder->arena, text, size);
    node->len = size;
    node->number = strtod(node->text, NULL);
    if (isfinite(node->number))
        return 1;
    builder->refusal = "a number is too large";
    return 0;
}

static int on_string(void *context, const unsigned char *text, size_t size)
{
    struct builder *builder = context;
    if (memchr(text, '\0', size)) {
        builder->refusal = "a string holds a NUL character";
        return 0;
    }
    struct json *node = add_node(builder, JSON_STRING);
    node->text = arena_copy(builder->arena, text, size);
    node->len = size;
    return 1;
}

static int on_key(void *context, const unsigned char *text, size_t size)
{
    struct builder *builder = context;
    builder->key = arena_copy(builder->arena, text, size);
    return 1;
}

static int open_container(struct builder *builder, enum json_kind kind)
{
    if (builder->depth == json_depth_max) {
        builder->refusal = "the document is nested too deeply";
        return 0;
    }
    struct json *node = add_node(builder, kind);
    builder->open[builder->depth] = node;
    builder->last[builder->depth++] = NULL;
    return 1;
}

static int on_open_object(void *context)
{
    return open_container(context, JSON_OBJECT);
}

static int on_open_array(void *context)
{
    return open_container(context, JSON_ARRAY);
}

static int on_close(void *context)
{
    struct builder *builder = context;
    builder->depth--;
    return 1;
}

struct error json_parse(struct arena *arena, const char *text, size_t size, const struct json **root)
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
    struct builder builder = {.arena = arena};
    yajl_handle parser = yajl_alloc(&callbacks, NULL, &builder);
    if (!parser)
        abort();
    yajl_status status = yajl_parse(parser, (const unsigned char *)text, size);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(parser);
    size_t offset = yajl_get_bytes_consumed(parser);
    yajl_free(parser);
    if (status != yajl_status_ok || !builder.root)
        return error_make(ERR_INVALID, "the JSON is malformed near byte %zu%s%s", offset, builder.refusal ? ": " : "",
                          builder.refusal ? builder.refusal : "");
    *root = builder.root;
    return OK;
}

struct error json_read_file(struct arena *arena, const char *path, size_t size_max, const struct json **root)
{
    char *text;
    size_t size;
    TRY(fs_read(arena, path, size_max, &text, &size));
    struct error error = json_parse(arena, text, size, root);
    return error.code ? error_make(ERR_CORRUPT, "%s: %s", path, error.text) : OK;
}

const struct json *json_get(const struct json *object, const char *key)
{
    if (!object || object->kind != JSON_OBJECT)
        return NULL;
    JSON_EACH (member, object)
        if (strcmp(member->key, key) == 0)
            return member;
    return NULL;
}

const struct json *json_item(const struct json *array, size_t index)
{
    if (!array || array->kind != JSON_ARRAY)
        return NULL;
    JSON_EACH (item, array)
        if (index-- == 0)
            return item;
    return NULL;
}

static const struct json *get_of_kind(const struct json *object, const char *key, enum json_kind kind)
{
    const struct json *member = json_get(object, key);
    return member && member->kind == kind ? member : NULL;
}

const char *json_string(const struct json *object, const char *key, const char *fallback)
{
    const struct json *member = get_of_kind(object, key, JSON_STRING);
    return member ? member->text : fallback;
}

double json_number(const struct json *object, const char *key, double fallback)
{
    const struct json *member = get_of_kind(object, key, JSON_NUMBER);
    return member ? member->number : fallback;
}

int64_t json_int(const struct json *object, const char *key, int64_t fallback)
{
    const struct json *member = get_of_kind(object, key, JSON_NUMBER);
    if (!member)
        return fallback;
    char *end;
    long long exact = strtoll(member->text, &end, 10); /* keeps integers over 2^53 */
    if (!*end)
        return exact;
    bool fits = member->number > -9.2e18 && member->number < 9.2e18;
    return fits ? (int64_t)member->number : fallback;
}

bool json_bool(const struct json *object, const char *key, bool fallback)
{
    const struct json *member = get_of_kind(object, key, JSON_BOOL);
    return member ? member->truth : fallback;
}

static bool needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

/* Length of the run that needs no escape, eight bytes at a time: a byte under n borrows into its top bit in x - n. */
static size_t plain_length(const char *text, size_t len)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t x;
        memcpy(&x, text + i, 8);
        uint64_t quote = x ^ (ones * '"'), slash = x ^ (ones * '\\');
        uint64_t hits = ((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
        if (hits & tops)
            break;
    }
    while (i < len && !needs_escape((unsigned char)text[i]))
        i++;
    return i;
}

static void write_escape(struct buf *out, unsigned char c)
{
    if (c == '"' || c == '\\')
        buf_append(out, (char[]){'\\', (char)c}, 2);
    else if (c == '\n')
        buf_puts(out, "\\n");
    else
        buf_printf(out, "\\u%04x", c);
}

static void write_escaped(struct buf *out, const char *text, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        size_t plain = plain_length(text + at, len - at);
        buf_append(out, text + at, plain);
        at += plain;
        if (at < len)
            write_escape(out, (unsigned char)text[at]);
    }
}

/* before, the text in quotes, after: at once when nothing is escaped, which is nearly always. */
static void write_string(struct buf *out, const char *before, const char *text, size_t len, const char *after)
{
    size_t before_len = strlen(before), after_len = strlen(after), plain = plain_length(text, len);
    char *room = plain == len ? buf_reserve(out, before_len + len + 2 + after_len) : NULL;
    if (room) {
        room = mempcpy(room, before, before_len);
        *room++ = '"';
        room = mempcpy(room, text, len);
        *room++ = '"';
        memcpy(room, after, after_len + 1);
        out->len += before_len + len + 2 + after_len;
    } else if (plain < len) {
        buf_puts(out, before);
        buf_putc(out, '"');
        write_escaped(out, text, len);
        buf_putc(out, '"');
        buf_puts(out, after);
    }
}

static struct buf *start_value(struct json_writer *writer, const char *key)
{
    const char *comma = writer->need_comma ? "," : "";
    if (key)
        write_string(writer->out, comma, key, strlen(key), ":");
    else
        buf_puts(writer->out, comma);
    writer->need_comma = true;
    return writer->out;
}

void json_open(struct json_writer *writer, const char *key, char bracket)
{
    buf_putc(start_value(writer, key), bracket);
    writer->need_comma = false;
}

void json_close(struct json_writer *writer, char bracket)
{
    buf_putc(writer->out, bracket);
    writer->need_comma = true;
}

void json_put_string_n(struct json_writer *writer, const char *key, const char *text, size_t len)
{
    write_string(start_value(writer, key), "", text, len, "");
}

void json_put_string(struct json_writer *writer, const char *key, const char *text)
{
    if (text)
        json_put_string_n(writer, key, text, strlen(text));
    else
        json_put_null(writer, key);
}

void json_put_int(struct json_writer *writer, const char *key, int64_t value)
{
    buf_printf(start_value(writer, key), "%lld", (long long)value);
}

void json_put_number(struct json_writer *writer, const char *key, double value)
{
    if (!isfinite(value)) {
        json_put_null(writer, key);
        return;
    }
    char text[32];
    if (value == floor(value) && fabs(value) < 1e15) {
        snprintf(text, sizeof text, "%.0f", value);
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, value);
            if (strtod(text, NULL) == value)
                break;
        }
    }
    buf_puts(start_value(writer, key), text);
}

void json_put_bool(struct json_writer *writer, const char *key, bool value)
{
    buf_puts(start_value(writer, key), value ? "true" : "false");
}

void json_put_null(struct json_writer *writer, const char *key)
{
    buf_puts(start_value(writer, key), "null");
}

void json_put_raw(struct json_writer *writer, const char *key, const char *json)
{
    buf_puts(start_value(writer, key), json);
}

void json_put_tree(struct json_writer *writer, const char *key, const struct json *value)
{
    switch (value->kind) {
    case JSON_NULL:
        json_put_null(writer, key);
        return;
    case JSON_BOOL:
        json_put_bool(writer, key, value->truth);
        return;
    case JSON_NUMBER:
        json_put_raw(writer, key, value->text);
        return;
    case JSON_STRING:
        json_put_string_n(writer, key, value->text, value->len);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    bool object = value->kind == JSON_OBJECT;
    json_open(writer, key, object ? '{' : '[');
    JSON_EACH (child, value)
        json_put_tree(writer, child->key, child); /* depth is bounded by json_depth_max at parsing */
    json_close(writer, object ? '}' : ']');
}

const char *json_quoted(struct arena *arena, const char *text)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    json_put_string(&(struct json_writer){.out = &out}, NULL, text);
    const char *copy = arena_copy(arena, out.data ? out.data : "", out.len);
    buf_finish(&out);
    return copy;
}

const char *json_from_strings(struct arena *arena, const char *const *strings, size_t count)
{
    struct buf out;
    buf_init(&out, json_strings_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < count; i++)
        json_put_string(&writer, NULL, strings[i]);
    json_close(&writer, ']');
    const char *copy = buf_error(&out).code ? "[]" : arena_copy(arena, out.data, out.len);
    buf_finish(&out);
    return copy;
}

struct error json_to_strings(struct arena *arena, const char *text, const char ***strings, size_t *count)
{
    static const char *none[1];
    const struct json *array;
    *strings = none;
    *count = 0;
    if (strcmp(text, "[]") == 0)
        return OK;
    TRY(json_parse(arena, text, strlen(text), &array));
    *strings = arena_array(arena, array->count + 1, sizeof **strings);
    JSON_EACH (item, array) {
        (*strings)[(*count)++] = item->kind == JSON_STRING ? item->text : "";
    }
    return OK;
}
