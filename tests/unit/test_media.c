/* Pictures that are what they say, and many that are not. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "media/media.h"

/* Left half red, right half blue, with a gradient down. */
static struct media_rgb make_rgb(int width, int height)
{
    struct media_rgb rgb = {malloc((size_t)width * (size_t)height * 3), width, height};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *at = rgb.pixels + ((size_t)y * (size_t)width + (size_t)x) * 3;
            at[0] = x < width / 2 ? 255 : 0;
            at[1] = (uint8_t)(y * 128 / height);
            at[2] = x < width / 2 ? 0 : 255;
        }
    return rgb;
}

static struct buf make_png(int width, int height)
{
    struct media_rgb rgb = make_rgb(width, height);
    struct buf png;
    buf_init(&png, 64 << 20);
    assert_ok(media_save_png(&rgb, &png));
    free(rgb.pixels);
    return png;
}

static struct buf make_as(enum media_target target, int width, int height)
{
    struct buf png = make_png(width, height), out;
    struct media_info info;
    const struct media_transform transform = {.target = target, .quality = 90};
    buf_init(&out, 64 << 20);
    assert_ok(media_apply(png.data, png.len, &transform, &out, &info));
    buf_finish(&png);
    return out;
}

static void expect_refused(const void *bytes, size_t size, const char *words)
{
    struct media_info info;
    const struct error error = media_check(bytes, size, &info);
    if (error.code != ERR_INVALID && error.code != ERR_TOO_LARGE)
        fail_msg("was not refused; expected: %s", words);
    const char *said = error.text ? error.text : "";
    if (!strstr(said, words))
        fail_msg("refused with \"%s\", not with \"%s\"", said, words);
}

static void every_format_is_known_by_its_content(void **state)
{
    (void)state;
    static const struct {
        enum media_target target;
        enum media_format format;
    } cases[] = {{MEDIA_AS_PNG, MEDIA_PNG},
                 {MEDIA_AS_JPEG, MEDIA_JPEG},
                 {MEDIA_AS_WEBP, MEDIA_WEBP},
                 {MEDIA_AS_AVIF, MEDIA_AVIF},
                 {MEDIA_AS_TIFF, MEDIA_TIFF}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf bytes = make_as(cases[i].target, 64, 48);
        struct media_info info;
        struct media_rgb rgb;
        assert_ok(media_check(bytes.data, bytes.len, &info));
        assert_int_equal(info.format, cases[i].format);
        assert_int_equal(info.width, 64);
        assert_int_equal(info.height, 48);
        assert_int_equal(info.frames, 1);
        assert_ok(media_load_rgb(bytes.data, bytes.len, &rgb));
        assert_true(rgb.pixels[0] > 220 && rgb.pixels[2] < 40);
        assert_true(rgb.pixels[63 * 3] < 40 && rgb.pixels[63 * 3 + 2] > 220);
        free(rgb.pixels);
        buf_finish(&bytes);
    }
}

static void svg_and_gif_are_read(void **state)
{
    (void)state;
    static const char svg[] =
        "<?xml version=\"1.0\"?><!-- x > y --><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" "
        "height=\"20\"><title>t</title><rect width=\"40\" height=\"20\" fill=\"#f00\"/></svg>\n";
    static const uint8_t gif[] = "GIF89a\1\0\1\0\200\0\0\377\0\0\0\0\377,\0\0\0\0\1\0\1\0\0\2\2D\1\0;";
    struct media_info info;
    struct media_rgb rgb;
    assert_ok(media_check(svg, sizeof svg - 1, &info));
    assert_int_equal(info.format, MEDIA_SVG);
    assert_int_equal(info.width, 40);
    assert_ok(media_load_rgb(svg, sizeof svg - 1, &rgb));
    assert_int_equal(rgb.pixels[0], 255);
    assert_int_equal(rgb.pixels[1], 0);
    free(rgb.pixels);
    assert_ok(media_check(gif, sizeof gif - 1, &info));
    assert_int_equal(info.format, MEDIA_GIF);
}

static void a_cut_off_file_is_refused_in_every_format(void **state)
{
    (void)state;
    for (enum media_target target = MEDIA_AS_JPEG; target <= MEDIA_AS_TIFF; target++) {
        struct buf bytes = make_as(target, 200, 200);
        expect_refused(bytes.data, bytes.len / 2, "");
        expect_refused(bytes.data, bytes.len - 20, "");
        expect_refused(bytes.data, 17, "");
        buf_finish(&bytes);
    }
}

static void trailing_bytes_are_refused_and_zeros_are_not(void **state)
{
    (void)state;
    static const enum media_target targets[] = {MEDIA_AS_JPEG, MEDIA_AS_PNG, MEDIA_AS_WEBP, MEDIA_AS_AVIF};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        struct buf bytes = make_as(targets[i], 32, 32);
        struct media_info info;
        const size_t size = bytes.len;
        buf_append(&bytes, "MZ\x90garbage", 10);
        expect_refused(bytes.data, bytes.len, targets[i] == MEDIA_AS_AVIF ? "cut off" : "after its end");
        if (targets[i] != MEDIA_AS_AVIF) {
            memset(bytes.data + size, 0, 10);
            assert_ok(media_check(bytes.data, bytes.len, &info));
        }
        buf_finish(&bytes);
    }
}

static void a_picture_that_is_an_archive_too_is_refused(void **state)
{
    (void)state;
    struct buf tiff = make_as(MEDIA_AS_TIFF, 32, 32);
    buf_append(&tiff, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
    expect_refused(tiff.data, tiff.len, "archive");
    buf_finish(&tiff);
}

static uint32_t crc32_of(const uint8_t *bytes, size_t size)
{
    uint32_t crc = ~0U;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
    }
    return ~crc;
}

/* The header of a PNG rewritten, with the checksum made right. */
static void set_png_size(struct buf *png, uint32_t width, uint32_t height)
{
    uint8_t *header = (uint8_t *)png->data + 12;
    for (int i = 0; i < 4; i++) {
        header[4 + i] = (uint8_t)(width >> (24 - 8 * i));
        header[8 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    const uint32_t crc = crc32_of(header, 17);
    for (int i = 0; i < 4; i++)
        header[17 + i] = (uint8_t)(crc >> (24 - 8 * i));
}

static void huge_dimensions_are_refused_before_decoding(void **state)
{
    (void)state;
    struct buf png = make_png(16, 16);
    set_png_size(&png, 60000, 10);
    expect_refused(png.data, png.len, "a side must be at most 16384");
    set_png_size(&png, 16000, 16000);
    const int64_t begin = clock_monotonic_ms();
    expect_refused(png.data, png.len, "megapixels");
    assert_true(clock_monotonic_ms() - begin < 1000);
    buf_finish(&png);
}

static void a_damaged_pixel_stream_is_refused(void **state)
{
    (void)state;
    struct buf png = make_png(64, 64);
    png.data[png.len / 2] ^= 0x55;
    expect_refused(png.data, png.len, "damaged");
    buf_finish(&png);
}

static void rows_that_the_header_does_not_announce_are_refused(void **state)
{
    (void)state;
    struct buf png = make_png(64, 64);
    set_png_size(&png, 64, 65);
    expect_refused(png.data, png.len, "damaged");
    set_png_size(&png, 65, 64);
    expect_refused(png.data, png.len, "damaged");
    buf_finish(&png);
}

/* Whatever is accepted can be decoded: the quick proof for PNG files takes nothing that the decoder would not. */
static void an_accepted_picture_can_be_read(void **state)
{
    (void)state;
    uint32_t seed = 99;
    struct buf png = make_png(40, 40);
    for (int round = 0; round < 3000; round++) {
        struct media_info info;
        struct media_rgb rgb;
        seed = seed * 1664525 + 1013904223;
        const size_t at = (seed >> 8) % png.len;
        const char kept = png.data[at];
        png.data[at] = (char)(kept ^ (1 << (seed >> 29)));
        if (media_check(png.data, png.len, &info).code == ERR_NONE) {
            assert_ok(media_load_rgb(png.data, png.len, &rgb));
            free(rgb.pixels);
        }
        png.data[at] = kept;
    }
    buf_finish(&png);
}

static void what_is_no_picture_is_refused(void **state)
{
    (void)state;
    expect_refused("", 0, "Unhandled image format");
    expect_refused("hello", 5, "Unhandled image format");
    expect_refused("<html><body>an <svgx/></body></html>", 36, "");
    expect_refused("%PDF-1.4 ...........................", 36, "Unhandled image format");
    expect_refused("PK\3\4.............................", 33, "Unhandled image format");
}

static void svg_that_reaches_outside_is_refused(void **state)
{
    (void)state;
#define SVG(inner) "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\">" inner "</svg>"
    static const char *const hostile[] = {
        "<!DOCTYPE svg [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>" SVG("<text>&x;</text>"),
        "<!DOCTYPE svg [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>" SVG("<text>&b;</text>"),
        SVG("<image href=\"file:///etc/passwd\"/>"),
        SVG("<image href=\"data:image/png;base64,AAAA\"/>"),
        SVG("<use xlink:href=\"http://host/x.svg#a\"/>"),
        SVG("<script>alert(1)</script>"),
        SVG("<x:script xmlns:x=\"http://www.w3.org/2000/svg\">alert(1)</x:script>"),
        SVG("<rect onload=\"alert(1)\"/>"),
        SVG("<a href='javascript:alert(1)'>x</a>"),
        SVG("<style>@import url(http://host/x.css);</style>"),
        SVG("<rect style=\"fill:url(http://host/x)\"/>"),
        SVG("<foreignObject/>"),
        "<?xml version=\"1.0\" encoding=\"utf-7\"?>" SVG(""),
        "<?xml-stylesheet href=\"http://host/x.css\"?>" SVG(""),
        SVG("") "trailing",
        "<svg width=\"9\" height=\"9\"><rect",
        "<svg width=\"9\" height=\"9\"><rect>",
        SVG("") "<!-- x",
    };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct media_info info;
        const struct error error = media_check(hostile[i], strlen(hostile[i]), &info);
        if (error.code != ERR_INVALID)
            fail_msg("was taken: %s", hostile[i]);
    }
}

static void a_huge_svg_canvas_is_refused(void **state)
{
    (void)state;
    static const char svg[] = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90000\" height=\"90000\"></svg>";
    expect_refused(svg, sizeof svg - 1, "");
}

/* APP1 with one EXIF entry: orientation 6 (turned a quarter). */
static void orientation_is_applied(void **state)
{
    (void)state;
    static const uint8_t exif[] = "\xff\xe1\0\x22"
                                  "Exif\0\0MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0\0";
    struct buf jpeg = make_as(MEDIA_AS_JPEG, 64, 32), turned;
    struct media_info info;
    struct media_rgb rgb;
    buf_init(&turned, 1 << 20);
    buf_append(&turned, jpeg.data, 2);
    buf_append(&turned, exif, 36);
    buf_append(&turned, jpeg.data + 2, jpeg.len - 2);
    assert_ok(media_check(turned.data, turned.len, &info));
    assert_int_equal(info.width, 32);
    assert_int_equal(info.height, 64);
    assert_ok(media_load_rgb(turned.data, turned.len, &rgb));
    assert_int_equal(rgb.width, 32);
    assert_true(rgb.pixels[2] < 60);                /* above: what was left, red */
    assert_true(rgb.pixels[63 * 32 * 3 + 2] > 200); /* below: blue */
    free(rgb.pixels);
    buf_finish(&jpeg);
    buf_finish(&turned);
}

static void transparency_falls_on_white(void **state)
{
    (void)state;
    struct buf png = make_png(40, 20), padded;
    struct media_info info;
    struct media_rgb rgb;
    const struct media_transform contain = {
        .width = 40, .height = 40, .fit = MEDIA_FIT_CONTAIN, .target = MEDIA_AS_PNG};
    buf_init(&padded, 1 << 20);
    assert_ok(media_apply(png.data, png.len, &contain, &padded, &info));
    assert_true(info.has_alpha);
    assert_ok(media_load_rgb(padded.data, padded.len, &rgb));
    assert_int_equal(rgb.pixels[0], 255);
    assert_int_equal(rgb.pixels[1], 255);
    assert_int_equal(rgb.pixels[(20 * 40) * 3 + 2], 0);
    free(rgb.pixels);
    buf_finish(&png);
    buf_finish(&padded);
}

static void every_fit_gives_its_size(void **state)
{
    (void)state;
    static const struct {
        const char *width, *height, *fit, *format;
        int expected_width, expected_height;
        enum media_format expected;
    } cases[] = {
        {"50", "50", "cover", "jpeg", 50, 50, MEDIA_JPEG},   {"50", "50", "contain", "jpg", 50, 50, MEDIA_JPEG},
        {"50", "50", "fill", "webp", 50, 50, MEDIA_WEBP},    {"50", "50", "inside", "png", 50, 25, MEDIA_PNG},
        {"50", "50", "outside", "tif", 100, 50, MEDIA_TIFF}, {"100", NULL, NULL, "auto", 100, 50, MEDIA_WEBP},
        {"auto", "10", "", "origin", 20, 10, MEDIA_JPEG},    {NULL, NULL, NULL, "avif", 400, 200, MEDIA_AVIF},
        {"800", NULL, NULL, NULL, 800, 400, MEDIA_JPEG},
    };
    struct buf jpeg = make_as(MEDIA_AS_JPEG, 400, 200);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct media_transform transform;
        struct media_info info, seen;
        struct buf out;
        buf_init(&out, media_transform_bytes_max);
        assert_ok(
            media_transform_parse(&transform, cases[i].width, cases[i].height, cases[i].fit, "80", cases[i].format));
        assert_ok(media_apply(jpeg.data, jpeg.len, &transform, &out, &info));
        assert_ok(media_check(out.data, out.len, &seen));
        assert_int_equal(seen.format, cases[i].expected);
        assert_int_equal(seen.width, cases[i].expected_width);
        assert_int_equal(seen.height, cases[i].expected_height);
        buf_finish(&out);
    }
    buf_finish(&jpeg);
}

static void bad_transform_words_name_the_field(void **state)
{
    (void)state;
    struct media_transform transform;
    assert_string_equal(media_transform_parse(&transform, "5000", NULL, NULL, NULL, NULL).field, "width");
    assert_string_equal(media_transform_parse(&transform, NULL, "-1", NULL, NULL, NULL).field, "height");
    assert_string_equal(media_transform_parse(&transform, NULL, NULL, "tile", NULL, NULL).field, "fit");
    assert_string_equal(media_transform_parse(&transform, NULL, NULL, NULL, "101", NULL).field, "quality");
    assert_string_equal(media_transform_parse(&transform, NULL, NULL, NULL, NULL, "bmp").field, "format");
}

/* A picture of 40 x 20, red on the left and blue on the right, after effects; out is RGB. */
static struct media_rgb with_effects(const struct media_effect_texts *texts, struct media_transform transform)
{
    struct buf png = make_png(40, 20), out;
    struct media_info info;
    struct media_rgb rgb;
    transform.target = MEDIA_AS_PNG;
    buf_init(&out, 1 << 20);
    assert_ok(media_effects_parse(&transform, texts));
    assert_ok(media_apply(png.data, png.len, &transform, &out, &info));
    assert_ok(media_load_rgb(out.data, out.len, &rgb));
    assert_int_equal(rgb.width, info.width);
    assert_int_equal(rgb.height, info.height);
    buf_finish(&png);
    buf_finish(&out);
    return rgb;
}

static const uint8_t *pixel(const struct media_rgb *rgb, int x, int y)
{
    return rgb->pixels + ((size_t)y * (size_t)rgb->width + (size_t)x) * 3;
}

static void a_turned_picture_has_the_size_that_was_asked(void **state)
{
    (void)state;
    static const struct {
        const char *rotate;
        int width, expected_width, expected_height;
    } cases[] = {{"90", 0, 20, 40},  {"180", 0, 40, 20},   {"270", 10, 10, 20}, {"360", 0, 40, 20},   {"45", 0, 42, 42},
                 {"45", 21, 21, 21}, {"30.5", 80, 80, 67}, {"0", 0, 40, 20},    {"90", 200, 200, 400}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct media_rgb rgb = with_effects(&(struct media_effect_texts){.rotate = cases[i].rotate},
                                            (struct media_transform){.width = cases[i].width});
        if (abs(rgb.width - cases[i].expected_width) > 0 || abs(rgb.height - cases[i].expected_height) > 1)
            fail_msg("%s: %d x %d", cases[i].rotate, rgb.width, rgb.height);
        free(rgb.pixels);
    }
}

static void a_picture_is_turned_clockwise(void **state)
{
    (void)state;
    struct media_rgb rgb = with_effects(&(struct media_effect_texts){.rotate = "90"}, (struct media_transform){0});
    assert_true(pixel(&rgb, 10, 5)[2] < 60);   /* what was left, without blue, is above */
    assert_true(pixel(&rgb, 10, 35)[2] > 200); /* what was right is below */
    free(rgb.pixels);
}

static void what_is_transparent_takes_the_background(void **state)
{
    (void)state;
    static const char *const backgrounds[] = {"ff8800", "#f80", "FF8800"};
    for (size_t i = 0; i < sizeof backgrounds / sizeof *backgrounds; i++) {
        const struct media_effect_texts texts = {.rotate = "45", .background = backgrounds[i]};
        struct media_rgb turned = with_effects(&texts, (struct media_transform){0});
        struct media_rgb padded =
            with_effects(&(struct media_effect_texts){.background = backgrounds[i]},
                         (struct media_transform){.width = 40, .height = 40, .fit = MEDIA_FIT_CONTAIN});
        for (const struct media_rgb *rgb = &turned; rgb; rgb = rgb == &turned ? &padded : NULL) {
            assert_int_equal(pixel(rgb, 0, 0)[0], 255);
            assert_int_equal(pixel(rgb, 0, 0)[1], 136);
            assert_int_equal(pixel(rgb, 0, 0)[2], 0);
        }
        free(turned.pixels);
        free(padded.pixels);
    }
    struct media_rgb white =
        with_effects(&(struct media_effect_texts){.rotate = "45", .flatten = ""}, (struct media_transform){0});
    assert_true(pixel(&white, 0, 0)[0] == 255 && pixel(&white, 0, 0)[1] == 255 && pixel(&white, 0, 0)[2] == 255);
    free(white.pixels);
}

static void grey_is_the_same_in_all_channels(void **state)
{
    (void)state;
    struct media_rgb rgb = with_effects(&(struct media_effect_texts){.greyscale = "true", .rotate = "10"},
                                        (struct media_transform){.width = 33});
    for (int i = 0; i < rgb.width * rgb.height; i++)
        assert_true(rgb.pixels[i * 3] == rgb.pixels[i * 3 + 1] && rgb.pixels[i * 3] == rgb.pixels[i * 3 + 2]);
    free(rgb.pixels);
}

static void a_blur_of_any_width_keeps_the_size_and_spreads_edges(void **state)
{
    (void)state;
    static const char *const widths[] = {"0.5", "4", "5", "30", "100"};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct media_rgb rgb =
            with_effects(&(struct media_effect_texts){.blur = widths[i]}, (struct media_transform){0});
        assert_int_equal(rgb.width, 40);
        assert_int_equal(rgb.height, 20);
        const int edge = pixel(&rgb, 19, 10)[2]; /* 0 when nothing was spread */
        if (edge < 20 || edge > 180)
            fail_msg("blur %s: the edge is %d", widths[i], edge);
        free(rgb.pixels);
    }
}

static void bad_effects_name_the_field(void **state)
{
    (void)state;
    static const struct {
        struct media_effect_texts texts;
        const char *field;
    } cases[] = {
        {{.rotate = "361"}, "rotate"},
        {{.rotate = "-1"}, "rotate"},
        {{.rotate = "nan"}, "rotate"},
        {{.rotate = "x"}, "rotate"},
        {{.blur = "100.5"}, "blur"},
        {{.blur = "1e9"}, "blur"},
        {{.greyscale = "grey"}, "greyscale"},
        {{.flatten = "maybe"}, "flatten"},
        {{.background = "red"}, "background"},
        {{.background = "ff00"}, "background"},
        {{.background = "#gg0000"}, "background"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct media_transform transform = {0};
        const struct error error = media_effects_parse(&transform, &cases[i].texts);
        assert_int_equal(error.code, ERR_INVALID);
        assert_string_equal(error.field, cases[i].field);
    }
    struct media_transform transform = {0};
    assert_ok(media_effects_parse(&transform, &(struct media_effect_texts){.greyscale = "false", .flatten = "0"}));
    assert_false(transform.greyscale || transform.flatten);
}

static void the_same_pixels_give_the_same_png(void **state)
{
    (void)state;
    struct buf first = make_png(128, 128), second;
    buf_init(&second, 1 << 20);
    assert_ok(media_to_png(first.data, first.len, &second));
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    buf_finish(&first);
    buf_finish(&second);
}

/* Random damage to each format: never a crash (run under ASan), always an answer. */
static void random_damage_is_survived(void **state)
{
    (void)state;
    uint32_t seed = 12345;
    for (enum media_target target = MEDIA_AS_JPEG; target <= MEDIA_AS_TIFF; target++) {
        struct buf bytes = make_as(target, 40, 40);
        for (int round = 0; round < 60; round++) {
            struct media_info info;
            seed = seed * 1664525 + 1013904223;
            const size_t at = seed % bytes.len;
            const char kept = bytes.data[at];
            bytes.data[at] = (char)(seed >> 24);
            const struct error error = media_check(bytes.data, bytes.len, &info);
            assert_true(error.code == ERR_NONE || error.code == ERR_INVALID);
            bytes.data[at] = kept;
        }
        buf_finish(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_is_known_by_its_content),
        cmocka_unit_test(svg_and_gif_are_read),
        cmocka_unit_test(a_cut_off_file_is_refused_in_every_format),
        cmocka_unit_test(trailing_bytes_are_refused_and_zeros_are_not),
        cmocka_unit_test(a_picture_that_is_an_archive_too_is_refused),
        cmocka_unit_test(huge_dimensions_are_refused_before_decoding),
        cmocka_unit_test(a_damaged_pixel_stream_is_refused),
        cmocka_unit_test(rows_that_the_header_does_not_announce_are_refused),
        cmocka_unit_test(an_accepted_picture_can_be_read),
        cmocka_unit_test(what_is_no_picture_is_refused),
        cmocka_unit_test(svg_that_reaches_outside_is_refused),
        cmocka_unit_test(a_huge_svg_canvas_is_refused),
        cmocka_unit_test(orientation_is_applied),
        cmocka_unit_test(transparency_falls_on_white),
        cmocka_unit_test(every_fit_gives_its_size),
        cmocka_unit_test(bad_transform_words_name_the_field),
        cmocka_unit_test(a_turned_picture_has_the_size_that_was_asked),
        cmocka_unit_test(a_picture_is_turned_clockwise),
        cmocka_unit_test(what_is_transparent_takes_the_background),
        cmocka_unit_test(grey_is_the_same_in_all_channels),
        cmocka_unit_test(a_blur_of_any_width_keeps_the_size_and_spreads_edges),
        cmocka_unit_test(bad_effects_name_the_field),
        cmocka_unit_test(the_same_pixels_give_the_same_png),
        cmocka_unit_test(random_damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
