/* An SVG is a program for its renderer and for the browser that opens it. Only drawings that stand alone are taken: no
 * entities (billion laughs), no scripts, no reference outside the file, no embedded pictures (a bomb within). */
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "media/container.h"

struct cursor {
    const char *at, *end;
};

static struct error not_well_formed(void)
{
    return error_make(ERR_INVALID, "the SVG file is not well-formed XML: save it again");
}

static struct error refused(const char *what)
{
    return error_make(ERR_INVALID, "the SVG file must not contain %s: export it as a plain drawing", what);
}

static bool starts(const struct cursor *cursor, const char *text)
{
    const size_t length = strlen(text);
    return (size_t)(cursor->end - cursor->at) >= length && memcmp(cursor->at, text, length) == 0;
}

static bool skip_past(struct cursor *cursor, const char *text)
{
    const char *found = memmem(cursor->at, (size_t)(cursor->end - cursor->at), text, strlen(text));
    if (found)
        cursor->at = found + strlen(text);
    return found != NULL;
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && is_space(*cursor->at))
        cursor->at++;
}

/* A name without its namespace prefix; empty when there is none here. */
static size_t read_name(struct cursor *cursor, const char **name)
{
    *name = cursor->at;
    while (cursor->at < cursor->end && !is_space(*cursor->at) && !strchr("=/>\"'<", *cursor->at)) {
        if (*cursor->at == ':')
            *name = cursor->at + 1;
        cursor->at++;
    }
    return (size_t)(cursor->at - *name);
}

static bool named(const char *name, size_t length, const char *what)
{
    return length == strlen(what) && strncasecmp(name, what, length) == 0;
}

static struct error check_element(const char *name, size_t length)
{
    if (named(name, length, "script"))
        return refused("scripts");
    if (named(name, length, "image") || named(name, length, "feImage") || named(name, length, "foreignObject"))
        return refused("embedded pictures or documents");
    return OK;
}

static struct error check_attribute(const char *name, size_t length, const char *value, size_t value_length)
{
    if (length > 2 && strncasecmp(name, "on", 2) == 0)
        return refused("scripts");
    if (named(name, length, "href") && value_length > 0 && value[0] != '#')
        return refused("references outside itself");
    return OK;
}

/* After '<' and the element's name, to after '>'. */
static struct error check_tag(struct cursor *cursor)
{
    const char *name;
    size_t length = read_name(cursor, &name);
    TRY(check_element(name, length));
    for (skip_space(cursor); cursor->at < cursor->end; skip_space(cursor)) {
        if (*cursor->at == '>') {
            cursor->at++;
            return OK;
        }
        if (*cursor->at == '/') {
            cursor->at++;
            continue;
        }
        length = read_name(cursor, &name);
        skip_space(cursor);
        if (length == 0 || cursor->at == cursor->end || *cursor->at++ != '=')
            return not_well_formed();
        skip_space(cursor);
        if (cursor->at == cursor->end || (*cursor->at != '"' && *cursor->at != '\''))
            return not_well_formed();
        const char *value = cursor->at + 1;
        const char *close = memchr(value, *cursor->at, (size_t)(cursor->end - value));
        if (!close)
            return not_well_formed();
        TRY(check_attribute(name, length, value, (size_t)(close - value)));
        cursor->at = close + 1;
    }
    return not_well_formed();
}

/* Declaration, comment, CDATA or document type: all that starts with <? or <! */
static struct error check_markup(struct cursor *cursor)
{
    if (starts(cursor, "<!--"))
        return skip_past(cursor, "-->") ? OK : not_well_formed();
    if (starts(cursor, "<![CDATA["))
        return skip_past(cursor, "]]>") ? OK : not_well_formed();
    if (starts(cursor, "<?xml-stylesheet"))
        return refused("references outside itself");
    const char *begin = cursor->at;
    const bool instruction = starts(cursor, "<?");
    if (!skip_past(cursor, instruction ? "?>" : ">"))
        return not_well_formed();
    const size_t length = (size_t)(cursor->at - begin);
    if (!instruction && memchr(begin, '[', length))
        return refused("entities");
    return OK;
}

/* Style sheets may load too, wherever they stand: url(...) must name a part of this file. */
static struct error check_styles(const char *text, size_t size)
{
    struct cursor cursor = {text, text + size};
    if (memmem(text, size, "@import", 7))
        return refused("references outside itself");
    while (skip_past(&cursor, "url(")) {
        while (cursor.at < cursor.end && (is_space(*cursor.at) || *cursor.at == '"' || *cursor.at == '\''))
            cursor.at++;
        if (starts(&cursor, "&quot;"))
            cursor.at += strlen("&quot;");
        if (cursor.at == cursor.end || *cursor.at != '#')
            return refused("references outside itself");
    }
    return OK;
}

/* Everything here reads ASCII: an encoding that hides it is refused. */
static struct error check_encoding(const char *text, size_t size)
{
    if (memchr(text, 0, size))
        return error_make(ERR_INVALID, "the SVG file must be UTF-8");
    const char *declared = memmem(text, size < 256 ? size : 256, "encoding=", 9);
    if (declared && (size_t)(text + size - declared) > 20 && strncasecmp(declared + 10, "utf-8", 5) != 0 &&
        strncasecmp(declared + 10, "us-ascii", 8) != 0 && strncasecmp(declared + 10, "iso-8859-1", 10) != 0)
        return error_make(ERR_INVALID, "the SVG file must be UTF-8");
    return OK;
}

struct error svg_check(const char *text, size_t size)
{
    if (size > media_svg_bytes_max)
        return error_make(ERR_TOO_LARGE, "an SVG file must be at most %d MB", media_svg_bytes_max >> 20);
    TRY(check_encoding(text, size));
    TRY(check_styles(text, size));
    struct cursor cursor = {text, text + size};
    if (memmem(text, size, "<!ENTITY", 8))
        return refused("entities");
    while ((cursor.at = memchr(cursor.at, '<', (size_t)(cursor.end - cursor.at)))) {
        if (starts(&cursor, "<!") || starts(&cursor, "<?")) {
            TRY(check_markup(&cursor));
        } else {
            cursor.at++;
            if (cursor.at < cursor.end && *cursor.at == '/')
                cursor.at++;
            TRY(check_tag(&cursor));
        }
        skip_space(&cursor);
        if (cursor.at == cursor.end)
            return OK;
    }
    return error_make(ERR_INVALID, "the SVG file is cut off or goes on after its end: save it again");
}
