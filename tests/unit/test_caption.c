/* Captions from files, names and a vision endpoint that is a socket of this test. */
#include "unit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "media/caption.h"
#include "media/media.h"

static struct arena arena;

static const char *caption_of(const void *bytes, size_t size, const char *name)
{
    struct captioner *captioner = captioner_file_create();
    const char *text, *warning;
    assert_ok(captioner->caption(captioner, &arena, bytes, size, NULL, name, CAPTION_WHOLE, &text, &warning));
    assert_null(warning);
    captioner_destroy(captioner);
    return text;
}

static void names_become_words(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words;
    } cases[] = {
        {"red_apple-03.png", "red apple"},
        {"RedApple (1).jpg", "Red Apple"},
        {"dir/a golden key.webp", "a golden key"},
        {"IMG_2041.JPG", "IMG"},
        {"0001.png", ""},
        {"3f786850e387550fdab836ed7e6dc881.png", ""},
        {".png", "png"},
        {"caf\xc3\xa9 noir.png", "caf\xc3\xa9 noir"},
        {"bad\xff.png", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(caption_of("", 0, cases[i].name), cases[i].words);
    assert_string_equal(caption_of("", 0, NULL), "");
}

static void xmp_wins_over_the_name(void **state)
{
    (void)state;
    static const char bytes[] =
        "junk<x:xmpmeta><dc:description><rdf:Alt><rdf:li xml:lang=\"x-default\">A red &amp; round "
        "apple\n on  wood</rdf:li></rdf:Alt></dc:description></x:xmpmeta>junk";
    assert_string_equal(caption_of(bytes, sizeof bytes - 1, "x.png"), "A red & round apple on wood");
    assert_string_equal(caption_of(bytes, 40, "x.png"), "x");
}

static void iptc_exif_png_and_svg_texts_are_read(void **state)
{
    (void)state;
    static const char iptc[] = "8BIM\x04\x04\0\0\0\0\0\x10\x1c\x02\x78\0\x05"
                               "apple";
    static const char exif[] = "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0e\0\x02\0\0\0\x06\0\0\0\x1a\0\0\0\0pear!\0";
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\x10tEXtDescription\0plum\0\0\0\0";
    static const char svg[] = "<svg><title>A <b>green</b> leaf</title></svg>";
    assert_string_equal(caption_of(iptc, sizeof iptc - 1, NULL), "apple");
    assert_string_equal(caption_of(exif, sizeof exif - 1, NULL), "pear!");
    assert_string_equal(caption_of(png, sizeof png - 1, NULL), "plum");
    assert_string_equal(caption_of(svg, sizeof svg - 1, NULL), "A green leaf");
}

/* Every prefix and every changed byte of the files above: never outside of them (run under ASan). */
static void damaged_structures_are_survived(void **state)
{
    (void)state;
    static const char whole[] = "8BIM\x04\x04\0\0\0\0\0\x10\x1c\x02\x78\0\x05"
                                "apple"
                                "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0e\0\x02\0\0\0\x06\0\0\0\x1a\0\0\0\0pear!\0"
                                "<x:xmpmeta><dc:description>x</dc:description></x:xmpmeta>";
    for (size_t size = 0; size < sizeof whole; size++) {
        char *copy = malloc(size + 1);
        memcpy(copy, whole, size);
        for (size_t at = 0; at < size; at += 3) {
            const char kept = copy[at];
            copy[at] = (char)0xff;
            caption_of(copy, size, "x");
            copy[at] = kept;
        }
        free(copy);
        arena_finish(&arena);
        arena_init(&arena, 256 << 20);
    }
}

static void long_captions_are_cut_at_a_character(void **state)
{
    (void)state;
    char name[5000];
    for (size_t i = 0; i + 1 < sizeof name; i += 2)
        memcpy(name + i, "\xc3\xa9", 2);
    name[sizeof name - 2] = 0;
    assert_int_equal(strlen(caption_of("", 0, name)), caption_bytes_max);
}

struct endpoint {
    int socket, port;
    const char *answer; /* NULL: never answers */
    char request[1 << 16];
    pthread_t thread;
};

static void *serve_once(void *context)
{
    struct endpoint *endpoint = context;
    const int peer = accept(endpoint->socket, NULL, NULL);
    size_t length = 0;
    if (peer < 0)
        return NULL;
    if (endpoint->answer) {
        while (length < sizeof endpoint->request - 1 && !strstr(endpoint->request, "}]}]}")) {
            const ssize_t got = read(peer, endpoint->request + length, sizeof endpoint->request - 1 - length);
            if (got <= 0)
                break;
            length += (size_t)got;
        }
        assert_int_equal(write(peer, endpoint->answer, strlen(endpoint->answer)), strlen(endpoint->answer));
    } else {
        while (read(peer, endpoint->request, sizeof endpoint->request) > 0)
            continue;
    }
    close(peer);
    return NULL;
}

static void open_endpoint(struct endpoint *endpoint, const char *answer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *endpoint = (struct endpoint){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .answer = answer};
    assert_int_equal(bind(endpoint->socket, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(endpoint->socket, 1), 0);
    getsockname(endpoint->socket, (struct sockaddr *)&address, &size);
    endpoint->port = ntohs(address.sin_port);
    pthread_create(&endpoint->thread, NULL, serve_once, endpoint);
}

static void ask_about(struct endpoint *endpoint, const char *answer, enum caption_focus focus, const char **text,
                      const char **warning)
{
    char url[64];
    uint8_t pixels[16 * 16 * 3] = {0};
    const struct media_rgb rgb = {pixels, 16, 16};
    struct captioner *captioner;
    struct buf png;
    open_endpoint(endpoint, answer);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", endpoint->port);
    const struct captioner_openai_options options = {url, "tiny-vision", "sk-secret", 500};
    assert_ok(captioner_openai_create(&captioner, &options));
    buf_init(&png, 1 << 20);
    assert_ok(media_save_png(&rgb, &png));
    assert_ok(
        captioner->caption(captioner, &arena, png.data, png.len, "image/png", "red_apple.png", focus, text, warning));
    captioner_destroy(captioner);
    buf_finish(&png);
    pthread_join(endpoint->thread, NULL);
    close(endpoint->socket);
}

static void ask_endpoint(struct endpoint *endpoint, const char *answer, const char **text, const char **warning)
{
    ask_about(endpoint, answer, CAPTION_WHOLE, text, warning);
}

#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body

static void the_question_follows_the_focus(void **state)
{
    (void)state;
    static struct endpoint endpoint;
    static const char *const wanted[] = {"colours, composition, style", "on its style", "on its main subject"};
    const char *text, *warning;
    for (int focus = CAPTION_WHOLE; focus <= CAPTION_SUBJECT; focus++) {
        ask_about(&endpoint, ANSWER("200 OK", "{\"choices\":[{\"message\":{\"content\":\"ok\"}}]}"),
                  (enum caption_focus)focus, &text, &warning);
        assert_null(warning);
        for (int other = CAPTION_WHOLE; other <= CAPTION_SUBJECT; other++)
            assert_int_equal(strstr(endpoint.request, wanted[other]) != NULL, other == focus);
    }
}

static void the_endpoint_is_asked_with_picture_and_key(void **state)
{
    (void)state;
    static struct endpoint endpoint;
    const char *text, *warning;
    ask_endpoint(&endpoint, ANSWER("200 OK", "{\"choices\":[{\"message\":{\"content\":\" A red\\napple. \"}}]}"), &text,
                 &warning);
    assert_string_equal(text, "A red apple.");
    assert_null(warning);
    assert_non_null(strstr(endpoint.request, "POST /v1/chat/completions"));
    assert_non_null(strstr(endpoint.request, "Authorization: Bearer sk-secret"));
    assert_non_null(strstr(endpoint.request, "data:image/jpeg;base64,"));
    assert_non_null(strstr(endpoint.request, "\"model\":\"tiny-vision\""));
}

static void a_failing_endpoint_falls_back_with_a_warning(void **state)
{
    (void)state;
    static const char *const answers[] = {
        ANSWER("500 No", "{}"), ANSWER("200 OK", "not json"), ANSWER("200 OK", "{\"choices\":[]}"), "garbage", NULL,
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        static struct endpoint endpoint;
        const char *text, *warning;
        const int64_t begin = clock_monotonic_ms();
        ask_endpoint(&endpoint, answers[i], &text, &warning);
        assert_string_equal(text, "red apple");
        assert_non_null(warning);
        assert_null(strstr(warning, "sk-secret"));
        assert_true(clock_monotonic_ms() - begin < 3000);
    }
}

static void a_bad_address_is_refused(void **state)
{
    (void)state;
    struct captioner *captioner;
    assert_error(captioner_openai_create(&captioner, &(struct captioner_openai_options){.url = "file:///etc/passwd"}),
                 ERR_INVALID);
}

static int begin(void **state)
{
    (void)state;
    arena_init(&arena, 256 << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_finish(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_become_words, begin, end),
        cmocka_unit_test_setup_teardown(xmp_wins_over_the_name, begin, end),
        cmocka_unit_test_setup_teardown(iptc_exif_png_and_svg_texts_are_read, begin, end),
        cmocka_unit_test_setup_teardown(damaged_structures_are_survived, begin, end),
        cmocka_unit_test_setup_teardown(long_captions_are_cut_at_a_character, begin, end),
        cmocka_unit_test_setup_teardown(the_question_follows_the_focus, begin, end),
        cmocka_unit_test_setup_teardown(the_endpoint_is_asked_with_picture_and_key, begin, end),
        cmocka_unit_test_setup_teardown(a_failing_endpoint_falls_back_with_a_warning, begin, end),
        cmocka_unit_test_setup_teardown(a_bad_address_is_refused, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
