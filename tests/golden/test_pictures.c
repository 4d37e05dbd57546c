/* From pictures to latents and back: shapes and time ids of real crops, and large pictures in tiles. */
#include "../unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pictures.h"
#include "world.h"

static struct world sd, xl;
static struct base_model *base; /* of xl */

static int setup(void **state)
{
    (void)state;
    world_init(&sd, false, 2);
    world_init(&xl, true, 2);
    assert_ok(base_model_open(xl.folder, xl.pool, &base));
    return 0;
}

static int finish(void **state)
{
    (void)state;
    base_model_destroy(base);
    world_finish(&sd);
    world_finish(&xl);
    return 0;
}

/* ---- crops; the small model is made for 64 px in steps of 4 ---- */

/* "WIDTHxHEIGHT" is the name of a picture of noise. */
static struct error load_rgb(void *context, const char *path, uint8_t **rgb, size_t *width, size_t *height)
{
    (void)context;
    assert_int_equal(sscanf(strrchr(path, '/') + 1, "%zux%zu", width, height), 2);
    *rgb = malloc(*width * *height * 3);
    for (size_t i = 0; i < *width * *height * 3; i++)
        (*rgb)[i] = (uint8_t)(i * 2654435761u >> 13);
    return OK;
}

static struct pictures *load(const struct job *job)
{
    static const volatile sig_atomic_t stop = 0;
    const struct picture_io io = {.load_rgb = load_rgb};
    struct pictures *pictures = NULL;
    size_t at_fault;
    assert_ok(pictures_load(base, "/tmp", job, &io, &stop, &pictures, &at_fault));
    return pictures;
}

static struct job job_of(struct job_item *items, size_t count, bool random)
{
    return (struct job){.xl = true,
                        .item_count = count,
                        .items = items,
                        .parameters = {.class_prompt = "",
                                       .concept_prompt = "",
                                       .aspect_buckets = true,
                                       .random_crop = random,
                                       .crop_ratio = 1,
                                       .crop_scale = 0.5}};
}

static void assert_ids(const struct picture *picture, const float expected[6])
{
    for (int i = 0; i < 6; i++)
        assert_true(picture->time_ids[i] == expected[i]);
}

static void time_ids_tell_of_the_real_size_and_crop(void **state)
{
    (void)state;
    struct job_item items[] = {{"200x100", "a", NULL}, {"100x100", "b", NULL}, {"90x300", "c", NULL}};
    const struct job job = job_of(items, 3, false);
    struct pictures *pictures = load(&job);
    /* 2.0: 88 x 44; the picture becomes 88 x 44 */
    assert_ids(&pictures->items[0], (const float[]){100, 200, 0, 0, 44, 88});
    assert_ids(&pictures->items[1], (const float[]){100, 100, 0, 0, 64, 64});
    /* 0.3: 36 x 112 is 0.32; it becomes 36 x 120, and 4 go at the top */
    assert_ids(&pictures->items[2], (const float[]){300, 90, 4, 0, 112, 36});
    pictures_destroy(pictures);
}

static void a_random_crop_has_time_ids_of_its_own(void **state)
{
    (void)state;
    struct job_item items[] = {{"200x200", "a", NULL}};
    const struct job job = job_of(items, 1, true);
    struct pictures *pictures = load(&job);
    float *latent = malloc(pictures->latent_max * sizeof *latent), first[6], second[6];
    const struct picture *picture = &pictures->items[0];
    assert_ok(pictures_draw(pictures, picture, &(struct draw){1, 0, 0}, latent, first));
    assert_ok(pictures_draw(pictures, picture, &(struct draw){1, 1, 0}, latent, second));
    assert_true(memcmp(first, second, sizeof first) != 0);
    for (int i = 2; i < 4; i++) /* the window of 100 px becomes 64: at most 64 px are left of it */
        assert_true(first[i] >= 0 && first[i] <= 64 && second[i] >= 0 && second[i] <= 64);
    assert_true(first[0] == 200 && first[1] == 200 && first[4] == 64 && first[5] == 64);
    free(latent);
    pictures_destroy(pictures);
}

/* ---- tiles ---- */

enum { height = 48, width = 64, tile = 32, factor = 2, picture_floats = height * width * factor * factor * 3 };

/* Root mean square of a - b, relative to b's. */
static double distance(const float *a, const float *b, size_t count)
{
    double error = 0, power = 0;
    for (size_t i = 0; i < count; i++) {
        error += pow((double)a[i] - (double)b[i], 2);
        power += pow((double)b[i], 2);
    }
    return sqrt(error / power);
}

static float *decoded(const float *latents, size_t side)
{
    float *rgb = malloc(picture_floats * sizeof *rgb);
    model_set_tile(sd.model, side);
    assert_ok(model_decode_latents(sd.model, 1, height, width, latents, rgb));
    model_set_tile(sd.model, MODEL_TILE);
    return rgb;
}

/* How much neighbouring columns differ, on average. */
static double roughness(const float *rgb, size_t column)
{
    double sum = 0;
    for (size_t y = 0; y < height * factor; y++) {
        const float *pixel = rgb + (y * width * factor + column) * 3;
        sum += fabs((double)pixel[3] - (double)pixel[0]);
    }
    return sum / (height * factor);
}

static void tiles_decode_to_nearly_the_same_picture_without_seams(void **state)
{
    (void)state;
    float *latents = malloc(height * width * 4 * sizeof *latents);
    fill_input("tiles", height * width * 4, latents);
    float *whole = decoded(latents, width), *tiled = decoded(latents, tile), *again = decoded(latents, tile);
    /* 0.075; norms and attention see the tile only, which is 0.22 in tiles of 16 and 0.03 in tiles of 48 */
    assert_true(distance(tiled, whole, picture_floats) < 0.1);
    assert_memory_equal(tiled, again, picture_floats * sizeof *tiled);
    double worst = 0, usual = 0;
    for (size_t x = 0; x + 1 < width * factor; x++) {
        worst = fmax(worst, roughness(tiled, x) / roughness(whole, x));
        usual += roughness(tiled, x) / roughness(whole, x) / (width * factor - 1);
    }
    assert_true(usual > 0.9 && usual < 1.1 && worst < 1.4);
    free(whole);
    free(tiled);
    free(again);
    free(latents);
}

static void tiles_encode_to_nearly_the_same_latents(void **state)
{
    (void)state;
    enum { latents = height * width * 4 };
    float *rgb = malloc(picture_floats * sizeof *rgb);
    float *moments[4];
    for (int i = 0; i < 4; i++)
        moments[i] = malloc(latents * sizeof(float));
    fill_input("picture", picture_floats, rgb);
    for (size_t i = 0; i < picture_floats; i++)
        rgb[i] /= 2;
    assert_ok(model_encode_image(sd.model, 1, height * factor, width * factor, rgb, moments[0], moments[1]));
    model_set_tile(sd.model, tile);
    assert_ok(model_encode_image(sd.model, 1, height * factor, width * factor, rgb, moments[2], moments[3]));
    model_set_tile(sd.model, MODEL_TILE);
    assert_true(distance(moments[2], moments[0], latents) < 0.1);
    assert_true(distance(moments[3], moments[1], latents) < 0.1);
    for (int i = 0; i < 4; i++)
        free(moments[i]);
    free(rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_ids_tell_of_the_real_size_and_crop),
        cmocka_unit_test(a_random_crop_has_time_ids_of_its_own),
        cmocka_unit_test(tiles_decode_to_nearly_the_same_picture_without_seams),
        cmocka_unit_test(tiles_encode_to_nearly_the_same_latents),
    };
    return cmocka_run_group_tests(tests, setup, finish);
}
