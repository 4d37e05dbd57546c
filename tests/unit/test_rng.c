/* Counter-based random numbers and the elementary functions below them. */
#include "unit.h"

#include <math.h>
#include <stdbool.h>

#include "engine/mathd.h"
#include "engine/rng.h"

/* Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10). */
static void philox_gives_the_published_words(void **state)
{
    (void)state;
    struct rng zero = {0};
    uint32_t words[4];
    rng_block(&zero, 0, words);
    assert_int_equal(words[0], 0x6627e8d5);
    assert_int_equal(words[1], 0xe169c58d);
    assert_int_equal(words[2], 0xbc57ac4c);
    assert_int_equal(words[3], 0x9b00dbd8);
    struct rng ones = {UINT64_MAX, (enum rng_purpose)UINT32_MAX, UINT32_MAX, UINT32_MAX};
    rng_block(&ones, UINT32_MAX, words);
    assert_int_equal(words[0], 0x408f276d);
    assert_int_equal(words[1], 0x41c83b0e);
    assert_int_equal(words[2], 0xa20bc7c6);
    assert_int_equal(words[3], 0x6d5451fd);
}

static void normal_numbers_have_the_moments_of_a_normal_distribution(void **state)
{
    (void)state;
    enum { count = 100000 };
    static float values[count];
    struct rng rng = {.seed = 7, .purpose = RNG_NOISE, .step = 3};
    double moments[5] = {0};
    rng_normal(&rng, count, values);
    for (int i = 0; i < count; i++) {
        for (int k = 1; k <= 4; k++)
            moments[k] += pow(values[i], k) / count;
    }
    assert_true(fabs(moments[1]) < 0.01);
    assert_true(fabs(moments[2] - 1) < 0.02);
    assert_true(fabs(moments[3]) < 0.04);
    assert_true(fabs(moments[4] - 3) < 0.1);
}

static void a_shorter_draw_is_the_start_of_a_longer_one(void **state)
{
    (void)state;
    float longer[11], shorter[6];
    struct rng rng = {.seed = 1, .purpose = RNG_SAMPLE, .index = 2};
    rng_normal(&rng, 11, longer);
    rng_normal(&rng, 6, shorter);
    assert_memory_equal(longer, shorter, sizeof shorter);
}

static void a_shuffle_is_a_permutation_that_depends_on_the_step(void **state)
{
    (void)state;
    enum { count = 50 };
    uint32_t first[count], second[count];
    bool seen[count] = {false};
    for (uint32_t i = 0; i < count; i++)
        first[i] = second[i] = i;
    rng_shuffle(&(struct rng){.seed = 5, .purpose = RNG_ORDER, .step = 0}, count, first);
    rng_shuffle(&(struct rng){.seed = 5, .purpose = RNG_ORDER, .step = 1}, count, second);
    for (int i = 0; i < count; i++)
        seen[first[i]] = true;
    for (int i = 0; i < count; i++)
        assert_true(seen[i]);
    assert_memory_not_equal(first, second, sizeof first);
}

static void elementary_functions_agree_with_libm(void **state)
{
    (void)state;
    for (double x = 1e-9; x < 1e9; x *= 1.37) {
        assert_true(fabs(mathd_log(x) - log(x)) <= 1e-15 * (1 + fabs(log(x))));
        double turn = x / 1e4;
        assert_true(turn > 1e3 || fabs(mathd_cos_turn(turn) - cos(2 * M_PI * turn)) < 1e-11 * (1 + turn));
        assert_true(turn > 1e3 || fabs(mathd_sin_turn(turn) - sin(2 * M_PI * turn)) < 1e-11 * (1 + turn));
    }
    for (double x = -50; x < 50; x += 0.37)
        assert_true(fabs(mathd_exp(x) / exp(x) - 1) < 1e-15 * 4);
    assert_true(fabs(mathd_pow(2.5, 7) / pow(2.5, 7) - 1) < 1e-14);
    assert_true(mathd_pow(0, 2) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_words),
        cmocka_unit_test(normal_numbers_have_the_moments_of_a_normal_distribution),
        cmocka_unit_test(a_shorter_draw_is_the_start_of_a_longer_one),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_depends_on_the_step),
        cmocka_unit_test(elementary_functions_agree_with_libm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
