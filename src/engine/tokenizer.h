/* CLIP's byte-pair tokenizer: text to token ids, from vocab.json and merges.txt.
 * Source: openai/CLIP simple_tokenizer.py; files as in diffusers' tokenizer folders. Input is expected in Unicode
 * normal form C; bytes that are no UTF-8 are taken one by one as symbols. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    TOKENIZER_TEXT_MAX = 64 << 10, /* bytes; only the first 75 tokens count anyway */
    TOKENIZER_VOCABULARY_MAX = 1 << 18,
    TOKENIZER_WORD_MAX = 512, /* bytes; a longer run of letters is split in such pieces */
};

struct tokenizer;

/* folder is a tokenizer folder. ERR_NOT_FOUND, ERR_CORRUPT. */
struct error tokenizer_open(const char *folder, struct tokenizer **out) __attribute__((warn_unused_result));
void tokenizer_destroy(struct tokenizer *tokenizer);
/* ids[count] = begin, the text's tokens cut to count - 2, end, padding. count is at least 2. used, which may be NULL,
 * says how many ids came before the padding. */
struct error tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t count, int32_t *ids,
                              size_t *used) __attribute__((warn_unused_result));
