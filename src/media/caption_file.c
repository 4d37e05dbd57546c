/* Where a picture says what it shows, in the order of trust: XMP dc:description (or dc:title), IPTC caption, EXIF image
 * description, PNG text, SVG title and description; else its name. Nothing is decoded: the texts are found in the
 * containers' own structures, and every length is checked against what is there.
 *
 * Sources: XMP part 3 (embedding), IPTC IIM 4.2 record 2 data set 120, TIFF 6.0 tag 0x010E, PNG tEXt and iTXt. */
#include "media/caption_file.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "media/caption.h"

enum { name_words_max = 40 };

/* Length of the character at text, 0 when it is no valid UTF-8. */
static size_t character_size(const uint8_t *text, size_t left)
{
    const uint8_t lead = text[0];
    const size_t size = lead < 0x80 ? 1 : lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (size == 0 || size > left || lead >= 0xf5)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    const bool overlong = (lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90);
    const bool outside = (lead == 0xed && text[1] >= 0xa0) || (lead == 0xf4 && text[1] >= 0x90);
    return overlong || outside ? 0 : size;
}

const char *caption_clean(struct arena *arena, const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;
    char *line = arena_alloc(arena, caption_bytes_max + 1);
    size_t length = 0;
    for (size_t at = 0, step; at < size && bytes[at]; at += step) {
        step = character_size(bytes + at, size - at);
        if (step == 0)
            return "";
        if (length + step > caption_bytes_max)
            break;
        const bool blank = bytes[at] <= ' ' || bytes[at] == 0x7f;
        if (blank && (length == 0 || line[length - 1] == ' '))
            continue;
        if (blank)
            line[length++] = ' ';
        else
            memcpy(line + length, text + at, step), length += step;
    }
    while (length && line[length - 1] == ' ')
        length--;
    line[length] = '\0';
    return line;
}

/* The five entities of XML, in place of their characters. */
static const char *without_entities(struct arena *arena, const char *text, size_t size)
{
    static const struct {
        const char *name;
        char character;
    } entities[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *plain = arena_copy(arena, text, size);
    size_t length = 0;
    for (size_t at = 0; at < size;) {
        size_t taken = 1;
        plain[length] = text[at];
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
            const size_t name = strlen(entities[i].name);
            if (size - at >= name && memcmp(text + at, entities[i].name, name) == 0) {
                plain[length] = entities[i].character;
                taken = name;
            }
        }
        length++;
        at += taken;
    }
    plain[length] = '\0';
    return plain;
}

/* The text of the first element of this name: tags inside of it are left out. */
static const char *element_text(struct arena *arena, const char *xml, size_t size, const char *name)
{
    const char *open = arena_printf(arena, "<%s", name), *close = arena_printf(arena, "</%s", name);
    const char *end = xml + size;
    const char *at = memmem(xml, size, open, strlen(open));
    if (!at || !(at = memchr(at, '>', (size_t)(end - at))))
        return "";
    const char *stop = memmem(at, (size_t)(end - at), close, strlen(close));
    if (!stop || stop - at > 65536)
        return "";
    char *text = arena_alloc(arena, (size_t)(stop - at) + 1);
    size_t length = 0;
    bool inside_tag = false;
    for (at++; at < stop; at++) {
        if (*at == '<')
            inside_tag = true;
        else if (*at == '>')
            inside_tag = false;
        else if (!inside_tag)
            text[length++] = *at;
    }
    const char *plain = without_entities(arena, text, length);
    return caption_clean(arena, plain, strlen(plain));
}

/* A packet stands somewhere in the file as plain text, in every format that embeds XMP. */
static const char *from_xmp(struct arena *arena, const char *bytes, size_t size)
{
    const char *begin = memmem(bytes, size, "<x:xmpmeta", 10);
    if (!begin)
        return "";
    const size_t left = size - (size_t)(begin - bytes);
    const char *end = memmem(begin, left, "</x:xmpmeta", 11);
    if (!end)
        return "";
    const char *text = element_text(arena, begin, (size_t)(end - begin), "dc:description");
    return text[0] ? text : element_text(arena, begin, (size_t)(end - begin), "dc:title");
}

/* 1C 02 78, two bytes of length, the caption; inside a Photoshop block (8BIM 0404). */
static const char *from_iptc(struct arena *arena, const uint8_t *bytes, size_t size)
{
    const uint8_t *block = memmem(bytes, size, "8BIM\x04\x04", 6);
    if (!block)
        return "";
    const size_t left = size - (size_t)(block - bytes), span = left < 65536 ? left : 65536;
    const uint8_t *field = memmem(block, span, "\x1c\x02\x78", 3);
    if (!field || (size_t)(field - block) + 5 > span)
        return "";
    const size_t length = (size_t)field[3] << 8 | field[4];
    return (size_t)(field - block) + 5 + length > span ? "" : caption_clean(arena, (const char *)field + 5, length);
}

static uint32_t read_number(const uint8_t *at, int size, bool big)
{
    uint32_t number = 0;
    for (int i = 0; i < size; i++)
        number = number << 8 | at[big ? i : size - 1 - i];
    return number;
}

/* Tag 0x010E of the first directory of a TIFF structure. */
static const char *from_tiff(struct arena *arena, const uint8_t *tiff, size_t size)
{
    if (size < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return "";
    const bool big = tiff[0] == 'M';
    const size_t directory = read_number(tiff + 4, 4, big);
    if (directory > size || size - directory < 2)
        return "";
    const size_t entries = read_number(tiff + directory, 2, big);
    for (size_t i = 0; i < entries; i++) {
        const size_t at = directory + 2 + i * 12;
        if (at + 12 > size)
            break;
        const size_t count = read_number(tiff + at + 4, 4, big);
        if (read_number(tiff + at, 2, big) != 0x010e || read_number(tiff + at + 2, 2, big) != 2)
            continue;
        const size_t value = count <= 4 ? at + 8 : read_number(tiff + at + 8, 4, big);
        return value > size || count > size - value ? "" : caption_clean(arena, (const char *)tiff + value, count);
    }
    return "";
}

static const char *from_exif(struct arena *arena, const uint8_t *bytes, size_t size)
{
    const char *text = from_tiff(arena, bytes, size);
    if (text[0])
        return text;
    const size_t head = size < (1 << 20) ? size : 1 << 20;
    const uint8_t *exif = memmem(bytes, head, "Exif\0\0", 6);
    if (exif)
        return from_tiff(arena, exif + 6, size - (size_t)(exif + 6 - bytes));
    const uint8_t *chunk = memmem(bytes, head, "eXIf", 4);
    return chunk ? from_tiff(arena, chunk + 4, size - (size_t)(chunk + 4 - bytes)) : "";
}

/* A tEXt chunk is keyword NUL text; an iTXt chunk has flags, a language and a translated keyword between. */
static const char *text_of_chunk(struct arena *arena, const char *chunk, size_t size, bool international)
{
    const char *end = chunk + size, *at = memchr(chunk, 0, size);
    if (!at || (strcmp(chunk, "Description") != 0 && strcmp(chunk, "Title") != 0 && strcmp(chunk, "parameters") != 0 &&
                strcmp(chunk, "Comment") != 0))
        return "";
    at++;
    if (international) {
        if (end - at < 2 || at[0] != 0) /* compressed texts are left alone */
            return "";
        at += 2;
        for (int i = 0; i < 2; i++) {
            at = memchr(at, 0, (size_t)(end - at));
            if (!at++)
                return "";
        }
    }
    return caption_clean(arena, at, (size_t)(end - at));
}

static const char *from_png(struct arena *arena, const uint8_t *bytes, size_t size)
{
    if (size < 8 || memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) != 0)
        return "";
    for (size_t at = 8; size - at >= 12;) {
        const size_t length = read_number(bytes + at, 4, true);
        const char *kind = (const char *)bytes + at + 4, *chunk = kind + 4;
        if (length > size - at - 12)
            break;
        const bool international = memcmp(kind, "iTXt", 4) == 0;
        if (length && (international || memcmp(kind, "tEXt", 4) == 0)) {
            const char *text = text_of_chunk(arena, chunk, length, international);
            if (text[0])
                return text;
        }
        at += 12 + length;
    }
    return "";
}

static const char *from_svg(struct arena *arena, const char *bytes, size_t size)
{
    if (!memmem(bytes, size < 8192 ? size : 8192, "<svg", 4))
        return "";
    const char *text = element_text(arena, bytes, size, "title");
    return text[0] ? text : element_text(arena, bytes, size, "desc");
}

/* A word that only counts or identifies says nothing about the picture. */
static bool is_number(const char *word, size_t length)
{
    size_t digits = 0;
    for (size_t i = 0; i < length; i++)
        digits += isdigit((unsigned char)word[i]) != 0;
    return digits == length || (length >= 16 && digits * 4 > length);
}

/* "red_apple-03.png" -> "red apple"; "RedApple (1).jpg" -> "Red Apple". */
static const char *from_name(struct arena *arena, const char *name)
{
    const char *slash = strrchr(name, '/'), *begin = slash ? slash + 1 : name;
    const char *dot = strrchr(begin, '.');
    const char *end = dot && dot > begin && strlen(dot) <= 6 ? dot : begin + strlen(begin);
    char *text = arena_alloc(arena, (size_t)(end - begin) * 2 + 2);
    size_t length = 0;
    int words = 0;
    for (const char *at = begin; at < end && words < name_words_max;) {
        const char *word = at;
        while (at < end && !strchr(" _-.,;()[]{}+~#", *at) &&
               !(at > word && isupper((unsigned char)*at) && islower((unsigned char)at[-1])))
            at++;
        if (at > word && !is_number(word, (size_t)(at - word))) {
            if (length)
                text[length++] = ' ';
            memcpy(text + length, word, (size_t)(at - word));
            length += (size_t)(at - word);
            words++;
        }
        if (at == word)
            at++;
    }
    return caption_clean(arena, text, length);
}

const char *caption_from_file(struct arena *arena, const void *bytes, size_t size, const char *file_name)
{
    const char *text = from_xmp(arena, bytes, size);
    if (!text[0])
        text = from_iptc(arena, bytes, size);
    if (!text[0])
        text = from_exif(arena, bytes, size);
    if (!text[0])
        text = from_png(arena, bytes, size);
    if (!text[0])
        text = from_svg(arena, bytes, size);
    return text[0] || !file_name ? text : from_name(arena, file_name);
}

static struct error file_caption(struct captioner *captioner, struct arena *arena, const void *bytes, size_t size,
                                 const char *mime, const char *file_name, enum caption_focus focus, const char **text,
                                 const char **warning)
{
    (void)captioner, (void)mime, (void)focus;
    *warning = NULL;
    *text = caption_from_file(arena, bytes, size, file_name);
    return OK;
}

static void file_destroy(struct captioner *captioner)
{
    free(captioner);
}

struct captioner *captioner_file_create(void)
{
    struct captioner *captioner = malloc(sizeof *captioner);
    if (!captioner)
        abort();
    *captioner = (struct captioner){file_caption, file_destroy};
    return captioner;
}
