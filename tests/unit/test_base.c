#include "unit.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/json.h"

static int open_world(void **state)
{
    static struct arena arena;
    arena_init(&arena, 1 << 24);
    *state = &arena;
    return 0;
}

static int close_world(void **state)
{
    arena_finish(*state);
    return 0;
}

static void arena_memory_is_zeroed_and_aligned(void **state)
{
    for (size_t size = 1; size < 100000; size = size * 3 + 1) {
        unsigned char *memory = arena_alloc(*state, size);
        assert_int_equal((uintptr_t)memory % 16, 0);
        assert_int_equal(memory[0] | memory[size - 1], 0);
        memset(memory, 0xff, size);
    }
}

static void dates_survive_a_round_trip(void **state)
{
    (void)state;
    char text[clock_iso_size];
    int64_t ms;
    assert_string_equal(clock_format_iso(text, 1767225599999), "2025-12-31T23:59:59.999Z");
    assert_true(clock_parse_iso(text, &ms));
    assert_int_equal(ms, 1767225599999);
    assert_true(clock_parse_iso("2026-01-01T02:00:00+02:00", &ms));
    assert_int_equal(ms, 1767225600000);
    assert_true(clock_parse_iso("2026-01-01", &ms));
    assert_false(clock_parse_iso("2026-02-30", &ms));
    assert_false(clock_parse_iso("2026-01-01T25:00", &ms));
    assert_false(clock_parse_iso("yesterday", &ms));
}

static void base64_refuses_what_is_malformed(void **state)
{
    (void)state;
    char text[64], bytes[64];
    size_t size;
    for (size_t length = 0; length < 20; length++) {
        base64_encode("any carnal pleasure.", length, text);
        assert_true(base64_decode(text, strlen(text), bytes, &size));
        assert_int_equal(size, length);
        assert_memory_equal(bytes, "any carnal pleasure.", length);
    }
    static const char *const malformed[] = {"abc", " abcd", "abcd\n", "ab=d", "====", "a===", "ab c", "ab\200d"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        assert_false(base64_decode(malformed[i], strlen(malformed[i]), bytes, &size));
}

/* RFC 4231, test cases 1, 2 and 6: a short key, text that is no multiple of anything, a key longer than a block. */
static void hmac_gives_the_digests_of_the_rfc(void **state)
{
    (void)state;
    char long_key[131], ones[20];
    memset(long_key, 0xaa, sizeof long_key);
    memset(ones, 0x0b, sizeof ones);
    const struct {
        const char *key, *text, *digest;
        size_t key_size;
    } cases[] = {
        {ones, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", sizeof ones},
        {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 4},
        {long_key, "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", sizeof long_key},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t digest[sha256_size];
        char hex[sha256_hex_size];
        hmac_sha256(cases[i].key, cases[i].key_size, cases[i].text, strlen(cases[i].text), digest);
        assert_string_equal(sha256_hex(digest, hex), cases[i].digest);
    }
}

static void ids_have_a_prefix_and_24_characters_of_base58(void **state)
{
    (void)state;
    char id[id_size], other[id_size];
    assert_int_equal(strlen(id_make(id, "model_")), 30);
    assert_int_equal(strncmp(id, "model_", 6), 0);
    assert_null(strpbrk(id + 6, "0OIl_-"));
    assert_string_not_equal(id, id_make(other, "model_"));
}

static void json_refuses_hostile_documents(void **state)
{
    const struct json *root;
    static const char *const hostile[] = {"",      "{",          "{}x",      "[1,]", "\"\\u0000\"",
                                          "1e999", "{\"a\":1,}", "\"\xff\"", "nul"};
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++)
        assert_error(json_parse(*state, hostile[i], strlen(hostile[i]), &root), ERR_INVALID);
    char deep[200];
    memset(deep, '[', sizeof deep);
    assert_error(json_parse(*state, deep, sizeof deep, &root), ERR_INVALID);
}

static void json_writes_what_it_read(void **state)
{
    static const char text[] = "{\"a\":[1,2.5,\"q\\\"\\n\\u0001\",true,null],\"b\":{},\"c\":1e-05}";
    const struct json *root;
    assert_ok(json_parse(*state, text, strlen(text), &root));
    assert_true(fabs(json_number(root, "c", 0) - 1e-5) < 1e-20);
    assert_int_equal(json_get(root, "a")->count, 5);
    struct buf out;
    buf_init(&out, 4096);
    struct json_writer writer = {.out = &out};
    json_put_tree(&writer, NULL, root);
    assert_string_equal(out.data, text);
    buf_finish(&out);
}

static void buffers_say_when_they_overflow(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 8);
    buf_puts(&buf, "12345678");
    assert_ok(buf_error(&buf));
    buf_putc(&buf, '9');
    assert_error(buf_error(&buf), ERR_TOO_LARGE);
    assert_string_equal(buf.data, "12345678");
    buf_finish(&buf);
}

static void error_names_the_field_at_fault(void **state)
{
    (void)state;
    struct error error = error_field("parameters.rank", "must be at least %d", 2);
    assert_int_equal(error.code, ERR_INVALID);
    assert_string_equal(error.field, "parameters.rank");
    assert_string_equal(error.text, "parameters.rank must be at least 2");
    assert_int_equal(error_status(error.code), 400);
}

static void error_texts_hold_whole_characters_only(void **state)
{
    (void)state;
    assert_string_equal(error_make(ERR_INVALID, "%.2s|%.3s|%.5s|", "a\u00e9", "a\u00e9", "a\U0001f600").text,
                        "a|a\u00e9|a\U0001f600|");
    assert_string_equal(
        error_make(ERR_INVALID, "%.2s|%.3s|%.4s not found", "a\U0001f600", "a\u20ac", "a\U0001f600").text,
        "a|a|a not found");
    assert_string_equal(error_field("f", "\x80 \xff %s", "\u00e9").text, "f   \u00e9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_memory_is_zeroed_and_aligned),
        cmocka_unit_test(dates_survive_a_round_trip),
        cmocka_unit_test(base64_refuses_what_is_malformed),
        cmocka_unit_test(hmac_gives_the_digests_of_the_rfc),
        cmocka_unit_test(ids_have_a_prefix_and_24_characters_of_base58),
        cmocka_unit_test(json_refuses_hostile_documents),
        cmocka_unit_test(json_writes_what_it_read),
        cmocka_unit_test(buffers_say_when_they_overflow),
        cmocka_unit_test(error_names_the_field_at_fault),
        cmocka_unit_test(error_texts_hold_whole_characters_only),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
