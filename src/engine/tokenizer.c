/* Words are found by class of character, their bytes are written as printable symbols, and pairs of symbols are merged
 * by rank until none is listed. Symbols live in one table of strings; a pair is a string with a space between. */
#include "engine/tokenizer.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/fs.h"
#include "base/json.h"
#include "unicode_classes.h" /* generated */

enum {
    file_bytes_max = 16 << 20,
    arena_bytes_max = 256 << 20,
    path_bytes_max = 4096,
    merges_max = 1 << 18,
    symbol_bytes_max = 4 * TOKENIZER_WORD_MAX + 8, /* a byte takes at most 2 as a symbol, and "</w>" */
};

struct entry {
    const char *text; /* NULL: empty slot */
    size_t len;
    int32_t value;
};

struct table {
    size_t mask; /* slots - 1, a power of two at least twice the entries */
    struct entry *slots;
};

struct tokenizer {
    struct arena arena;
    struct table vocabulary; /* symbol -> id */
    struct table ranks;      /* "left right" -> rank */
    char byte_symbols[256][4];
    int32_t begin, end, padding;
};

/* ---- a table of strings ---- */

static uint64_t hash_bytes(const char *text, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3;
    return hash ^ hash >> 29;
}

static void table_init(struct table *table, struct arena *arena, size_t entries)
{
    size_t slots = 16;
    while (slots < 2 * entries)
        slots *= 2;
    table->mask = slots - 1;
    table->slots = arena_array(arena, slots, sizeof *table->slots);
}

static struct entry *table_slot(const struct table *table, const char *text, size_t len)
{
    size_t at = hash_bytes(text, len) & table->mask;
    while (table->slots[at].text && (table->slots[at].len != len || memcmp(table->slots[at].text, text, len) != 0))
        at = (at + 1) & table->mask;
    return &table->slots[at];
}

static void table_put(struct table *table, const char *text, size_t len, int32_t value)
{
    struct entry *slot = table_slot(table, text, len);
    if (!slot->text)
        *slot = (struct entry){text, len, value};
}

static int32_t table_get(const struct table *table, const char *text, size_t len, int32_t fallback)
{
    const struct entry *slot = table_slot(table, text, len);
    return slot->text ? slot->value : fallback;
}

/* ---- opening ---- */

static size_t put_utf8(unsigned code, char *text)
{
    if (code < 0x80) {
        text[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        text[0] = (char)(0xC0 | code >> 6);
        text[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        text[0] = (char)(0xE0 | code >> 12);
        text[1] = (char)(0x80 | (code >> 6 & 63));
        text[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    text[0] = (char)(0xF0 | code >> 18);
    text[1] = (char)(0x80 | (code >> 12 & 63));
    text[2] = (char)(0x80 | (code >> 6 & 63));
    text[3] = (char)(0x80 | (code & 63));
    return 4;
}

/* Printable Latin-1 stands for itself, the other bytes for U+0100 and up. */
static void name_bytes(struct tokenizer *tokenizer)
{
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        char *symbol = tokenizer->byte_symbols[byte];
        symbol[put_utf8(printable ? byte : next++, symbol)] = '\0';
    }
}

static struct error read_vocabulary(struct tokenizer *tokenizer, const char *folder)
{
    const struct json *root;
    TRY(json_read_file(&tokenizer->arena, arena_printf(&tokenizer->arena, "%s/vocab.json", folder), file_bytes_max,
                       &root));
    if (root->kind != JSON_OBJECT || !root->count || root->count > TOKENIZER_VOCABULARY_MAX)
        return error_make(ERR_CORRUPT, "%s/vocab.json must be an object of 1 to %d tokens", folder,
                          TOKENIZER_VOCABULARY_MAX);
    table_init(&tokenizer->vocabulary, &tokenizer->arena, root->count);
    JSON_EACH (token, root) {
        if (token->kind != JSON_NUMBER || token->number < 0 || token->number >= TOKENIZER_VOCABULARY_MAX)
            return error_make(ERR_CORRUPT, "%s/vocab.json: the id of %.40s is no token id", folder, token->key);
        table_put(&tokenizer->vocabulary, token->key, strlen(token->key), (int32_t)token->number);
    }
    return OK;
}

static struct error read_merges(struct tokenizer *tokenizer, const char *folder)
{
    char *text, *rest;
    size_t size;
    TRY(fs_read(&tokenizer->arena, arena_printf(&tokenizer->arena, "%s/merges.txt", folder), file_bytes_max, &text,
                &size));
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    if (lines > merges_max)
        return error_make(ERR_TOO_LARGE, "%s/merges.txt has more than %d lines", folder, merges_max);
    table_init(&tokenizer->ranks, &tokenizer->arena, lines);
    int32_t rank = 0;
    for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        bool version = rank == 0 && strncmp(line, "#version", strlen("#version")) == 0;
        if (!version && strchr(line, ' '))
            table_put(&tokenizer->ranks, line, strlen(line), rank++);
    }
    return OK;
}

/* A special token is written as a string or as {"content": string}. */
static const char *special_token(const struct json *config, const char *key)
{
    const struct json *token = json_get(config, key);
    return token && token->kind == JSON_STRING ? token->text : json_string(token, "content", NULL);
}

static struct error find_special(struct tokenizer *tokenizer, const char *folder, const char *key, const char *usual,
                                 int32_t *id)
{
    static const char *const files[] = {"special_tokens_map.json", "tokenizer_config.json"};
    const char *text = NULL;
    for (size_t i = 0; i < 2 && !text; i++) {
        const struct json *config;
        char *path = arena_printf(&tokenizer->arena, "%s/%s", folder, files[i]);
        if (!fs_exists(path))
            continue;
        TRY(json_read_file(&tokenizer->arena, path, file_bytes_max, &config));
        text = special_token(config, key);
    }
    text = text ? text : usual;
    *id = table_get(&tokenizer->vocabulary, text, strlen(text), -1);
    if (*id < 0)
        return error_make(ERR_CORRUPT, "%s/vocab.json lacks %.40s", folder, text);
    return OK;
}

static struct error read_folder(struct tokenizer *tokenizer, const char *folder)
{
    TRY(read_vocabulary(tokenizer, folder));
    TRY(read_merges(tokenizer, folder));
    TRY(find_special(tokenizer, folder, "bos_token", "<|startoftext|>", &tokenizer->begin));
    TRY(find_special(tokenizer, folder, "eos_token", "<|endoftext|>", &tokenizer->end));
    return find_special(tokenizer, folder, "pad_token", "<|endoftext|>", &tokenizer->padding);
}

struct error tokenizer_open(const char *folder, struct tokenizer **out)
{
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return error_make(ERR_INTERNAL, "not enough memory for a tokenizer");
    arena_init(&tokenizer->arena, arena_bytes_max);
    name_bytes(tokenizer);
    struct error error = read_folder(tokenizer, folder);
    if (error.code) {
        tokenizer_destroy(tokenizer);
        return error;
    }
    *out = tokenizer;
    return OK;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer)
        arena_finish(&tokenizer->arena);
    free(tokenizer);
}

/* ---- characters ---- */

static bool in_ranges(const struct unicode_range *ranges, size_t count, unsigned code)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && code >= ranges[low].first;
}

#define IN_RANGES(ranges, code) in_ranges((ranges), sizeof(ranges) / sizeof *(ranges), (code))

enum character_class { CLASS_SPACE, CLASS_LETTER, CLASS_NUMBER, CLASS_OTHER };

static enum character_class class_of(unsigned code)
{
    if (IN_RANGES(unicode_spaces, code))
        return CLASS_SPACE;
    if (IN_RANGES(unicode_letters, code))
        return CLASS_LETTER;
    return IN_RANGES(unicode_numbers, code) ? CLASS_NUMBER : CLASS_OTHER;
}

static unsigned lower_of(unsigned code)
{
    size_t low = 0, high = sizeof unicode_lower / sizeof *unicode_lower;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > unicode_lower[middle].first)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < sizeof unicode_lower / sizeof *unicode_lower && unicode_lower[low].first == code;
    return found ? unicode_lower[low].last : code;
}

/* Bytes of the character at text; a byte that begins none counts as a character beyond Unicode. */
static size_t get_utf8(const char *text, unsigned *code)
{
    const unsigned char *byte = (const unsigned char *)text;
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = byte[0] < 0x80 ? 1 : byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : byte[0] >= 0xC0 ? 2 : 0;
    unsigned value = size == 1 ? byte[0] : size ? byte[0] & (0x7Fu >> size) : 0;
    for (size_t i = 1; i < size; i++) {
        if ((byte[i] & 0xC0) != 0x80)
            size = 0;
        else
            value = value << 6 | (byte[i] & 63);
    }
    bool valid = size && value >= least[size] && value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
    *code = valid ? value : 0x110000;
    return valid ? size : 1;
}

/* Lower case as UTF-8; invalid bytes pass. A lower-case form is at most a byte longer than its character. */
static char *lower_text(const char *text)
{
    char *lower = calloc(2 * strlen(text) + 1, 1), *end = lower;
    while (lower && *text) {
        unsigned code;
        size_t size = get_utf8(text, &code);
        if (code > 0x10FFFF)
            *end++ = *text;
        else
            end += put_utf8(lower_of(code), end);
        text += size;
    }
    if (lower)
        *end = '\0';
    return lower;
}

/* ---- words ---- */

static size_t prefix_among(const char *text, const char *const *prefixes)
{
    for (; *prefixes; prefixes++) {
        if (strncmp(text, *prefixes, strlen(*prefixes)) == 0)
            return strlen(*prefixes);
    }
    return 0;
}

/* Bytes of the word at text: a contraction, a run of letters, one number, or a run of other symbols. 0 at a space. */
static size_t word_size(const char *text)
{
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", NULL};
    unsigned code;
    size_t size = prefix_among(text, contractions);
    if (size)
        return size;
    size = get_utf8(text, &code);
    enum character_class first = class_of(code);
    if (first == CLASS_SPACE || first == CLASS_NUMBER)
        return first == CLASS_SPACE ? 0 : size;
    while (text[size] && size < TOKENIZER_WORD_MAX) {
        size_t next = get_utf8(text + size, &code);
        if (class_of(code) != first)
            break;
        size += next;
    }
    return size;
}

struct symbol {
    const char *text; /* inside the word's symbols, which stay in place: a merge joins neighbours */
    size_t len;
};

/* The index of the pair of least rank, or count when none is listed. */
static size_t best_pair(const struct tokenizer *tokenizer, const struct symbol *symbols, size_t count)
{
    char pair[symbol_bytes_max];
    size_t best = count;
    int32_t best_rank = INT32_MAX;
    for (size_t i = 0; i + 1 < count; i++) {
        memcpy(pair, symbols[i].text, symbols[i].len);
        pair[symbols[i].len] = ' ';
        memcpy(pair + symbols[i].len + 1, symbols[i + 1].text, symbols[i + 1].len);
        int32_t rank = table_get(&tokenizer->ranks, pair, symbols[i].len + 1 + symbols[i + 1].len, INT32_MAX);
        if (rank < best_rank) {
            best_rank = rank;
            best = i;
        }
    }
    return best;
}

static size_t split_symbols(const struct tokenizer *tokenizer, const char *word, size_t size, char *text,
                            struct symbol *symbols)
{
    for (size_t i = 0; i < size; i++) {
        const char *symbol = tokenizer->byte_symbols[(unsigned char)word[i]];
        symbols[i] = (struct symbol){text, strlen(symbol)};
        memcpy(text, symbol, strlen(symbol));
        text += strlen(symbol);
    }
    memcpy(text, "</w>", 4);
    symbols[size - 1].len += 4;
    return size;
}

/* Appends the word's ids to ids[*used .. count). */
static void encode_word(const struct tokenizer *tokenizer, const char *word, size_t size, size_t count, int32_t *ids,
                        size_t *used)
{
    char text[symbol_bytes_max];
    struct symbol symbols[TOKENIZER_WORD_MAX + 4];
    assert(size > 0);
    size_t left = split_symbols(tokenizer, word, size, text, symbols), at;
    while ((at = best_pair(tokenizer, symbols, left)) < left) {
        symbols[at].len += symbols[at + 1].len;
        memmove(symbols + at + 1, symbols + at + 2, (left - at - 2) * sizeof *symbols);
        left--;
    }
    for (size_t i = 0; i < left && *used < count; i++)
        ids[(*used)++] = table_get(&tokenizer->vocabulary, symbols[i].text, symbols[i].len, tokenizer->end);
}

static void encode_text(const struct tokenizer *tokenizer, const char *text, size_t count, int32_t *ids, size_t *used)
{
    static const char *const specials[] = {"<|startoftext|>", "<|endoftext|>", NULL};
    while (*text && *used < count) {
        unsigned code;
        size_t special = prefix_among(text, specials), size = special ? special : word_size(text);
        if (special)
            ids[(*used)++] = table_get(&tokenizer->vocabulary, text, special, tokenizer->end);
        else if (size)
            encode_word(tokenizer, text, size, count, ids, used);
        text += size ? size : get_utf8(text, &code);
    }
}

struct error tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t count, int32_t *ids,
                              size_t *used)
{
    if (strlen(text) > TOKENIZER_TEXT_MAX)
        return error_make(ERR_TOO_LARGE, "a prompt or caption must have at most %d bytes", TOKENIZER_TEXT_MAX);
    char *lower = lower_text(text);
    if (!lower)
        return error_make(ERR_INTERNAL, "not enough memory for a prompt");
    size_t filled = 1;
    ids[0] = tokenizer->begin;
    encode_text(tokenizer, lower, count - 1, ids, &filled);
    free(lower);
    ids[filled++] = tokenizer->end;
    if (used)
        *used = filled;
    while (filled < count)
        ids[filled++] = tokenizer->padding;
    return OK;
}
