/* CLIP's tokenizer on a vocabulary small enough to reckon by hand. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include "engine/tokenizer.h"

enum { cat_id = 512, cats_id, s_id, e_acute_id, begin_id, end_id };

static char folder[] = "/tmp/tokenizer-XXXXXX";
static struct tokenizer *tokenizer;

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(fs_write_atomic(path, text, strlen(text)));
}

/* Ids 0..255 are the bytes, 256..511 the bytes at the end of a word, and then a few merges. */
static void write_vocabulary(void)
{
    struct buf text;
    buf_init(&text, 1 << 16);
    struct json_writer json = {.out = &text};
    unsigned next = 256;
    json_open(&json, NULL, '{');
    for (int byte = 0; byte < 256; byte++) {
        char symbol[16];
        int printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        unsigned code = printable ? (unsigned)byte : next++;
        int len = code < 128
                      ? snprintf(symbol, sizeof symbol, "%c", (char)code)
                      : snprintf(symbol, sizeof symbol, "%c%c", (char)(0xC0 | code >> 6), (char)(0x80 | (code & 63)));
        json_put_int(&json, symbol, byte);
        memcpy(symbol + len, "</w>", sizeof "</w>");
        json_put_int(&json, symbol, 256 + byte);
    }
    json_put_int(&json, "cat</w>", cat_id);
    json_put_int(&json, "cats</w>", cats_id);
    json_put_int(&json, "'s</w>", s_id);
    json_put_int(&json, "\303\203\302\251</w>", e_acute_id); /* the bytes C3 A9, each written as a character */
    json_put_int(&json, "<|startoftext|>", begin_id);
    json_put_int(&json, "<|endoftext|>", end_id);
    json_close(&json, '}');
    write_file("vocab.json", text.data);
    buf_finish(&text);
    write_file("merges.txt", "#version: 0.2\nc a\nt </w>\nca t</w>\nca t\ncat s</w>\n' s</w>\n"
                             "\303\203 \302\251</w>\n");
    write_file("special_tokens_map.json", "{\"pad_token\": {\"content\": \"!\"}, \"eos_token\": \"<|endoftext|>\"}");
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    write_vocabulary();
    assert_ok(tokenizer_open(folder, &tokenizer));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_destroy(tokenizer);
    assert_ok(fs_remove_tree(folder));
    return 0;
}

static void check(const char *text, size_t expected_count, const int32_t *expected)
{
    int32_t ids[16];
    size_t used;
    assert_ok(tokenizer_encode(tokenizer, text, 16, ids, &used));
    assert_int_equal(used, expected_count + 2);
    assert_int_equal(ids[0], begin_id);
    for (size_t i = 0; i < expected_count; i++)
        assert_int_equal(ids[i + 1], expected[i]);
    assert_int_equal(ids[expected_count + 1], end_id);
    for (size_t i = expected_count + 2; i < 16; i++)
        assert_int_equal(ids[i], '!');
}

#define CHECK(text, ...) check((text), sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (int32_t[]){__VA_ARGS__})

static void pairs_are_merged_by_rank(void **state)
{
    (void)state;
    CHECK("cat", cat_id);
    CHECK("cats", cats_id);
    CHECK("cut", 'c', 'u', 256 + 't');
    check("", 0, NULL);
}

static void case_and_spaces_do_not_matter(void **state)
{
    (void)state;
    CHECK("  CAT \t\n Cats\xC2\xA0", cat_id, cats_id);
}

static void contractions_numbers_and_signs_are_words_of_their_own(void **state)
{
    (void)state;
    CHECK("cat's", cat_id, s_id);
    CHECK("42", 256 + '4', 256 + '2');
    CHECK("cat!?", cat_id, '!', 256 + '?');
    CHECK("<|endoftext|>cat", end_id, cat_id);
}

static void letters_beyond_ascii_are_letters_and_have_lower_case(void **state)
{
    (void)state;
    CHECK("\xC3\xA9", e_acute_id);
    CHECK("\xC3\x89", e_acute_id); /* capital */
    CHECK("\xE7\x8C\xAB", 0xE7, 0x8C, 256 + 0xAB);
}

static void any_bytes_are_tokens(void **state)
{
    (void)state;
    CHECK("\xFF\x80", 0xFF, 256 + 0x80);
    CHECK("\xC3", 256 + 0xC3);
    CHECK("\xED\xA0\x80", 0xED, 0xA0, 256 + 0x80); /* a surrogate */
}

static void long_text_is_cut_and_monstrous_text_refused(void **state)
{
    (void)state;
    enum { size = TOKENIZER_TEXT_MAX + 2 };
    char *text = malloc(size);
    int32_t ids[77];
    memset(text, 'c', size);
    text[size - 1] = '\0';
    assert_error(tokenizer_encode(tokenizer, text, 77, ids, NULL), ERR_TOO_LARGE);
    text[size - 2] = '\0';
    assert_ok(tokenizer_encode(tokenizer, text, 77, ids, NULL));
    assert_int_equal(ids[75], 'c');
    assert_int_equal(ids[76], end_id);
    free(text);
}

static void broken_folders_are_refused(void **state)
{
    (void)state;
    struct tokenizer *broken = NULL;
    assert_error(tokenizer_open("/nonexistent", &broken), ERR_NOT_FOUND);
    write_file("vocab.json", "{\"a\": -1}");
    assert_error(tokenizer_open(folder, &broken), ERR_CORRUPT);
    write_file("vocab.json", "{\"a\": 1}");
    assert_error(tokenizer_open(folder, &broken), ERR_CORRUPT);
    assert_null(broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_merged_by_rank),
        cmocka_unit_test(case_and_spaces_do_not_matter),
        cmocka_unit_test(contractions_numbers_and_signs_are_words_of_their_own),
        cmocka_unit_test(letters_beyond_ascii_are_letters_and_have_lower_case),
        cmocka_unit_test(any_bytes_are_tokens),
        cmocka_unit_test(long_text_is_cut_and_monstrous_text_refused),
        cmocka_unit_test(broken_folders_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
