/* Aspect buckets are kohya's, and batches hold every picture as often as asked, one shape at a time. */
#include "unit.h"

#include <string.h>

#include "engine/batches.h"

static size_t find(const struct bucket *buckets, size_t count, size_t width, size_t height)
{
    for (size_t i = 0; i < count; i++) {
        if (buckets[i].width == width && buckets[i].height == height)
            return i;
    }
    return SIZE_MAX;
}

/* SD 1.5: 512 px in steps of 64, sides of 256 to 1,024. */
static void buckets_are_those_of_kohya(void **state)
{
    (void)state;
    struct bucket buckets[BUCKETS_MAX];
    static const size_t sizes[][2] = {{32, 128}, {40, 96}, {48, 80},  {56, 72},  {64, 64},  {72, 56}, {80, 48},
                                      {88, 40},  {96, 40}, {104, 32}, {112, 32}, {120, 32}, {128, 32}};
    size_t count = buckets_make(64, 8, true, buckets);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_true(find(buckets, count, sizes[i][0], sizes[i][1]) != SIZE_MAX);
        assert_true(find(buckets, count, sizes[i][1], sizes[i][0]) != SIZE_MAX);
    }
    for (size_t i = 0; i < count; i++)
        assert_true(buckets[i].width * buckets[i].height <= 64 * 64);
    assert_int_equal(buckets[0].width, 64);
    assert_int_equal(buckets[0].height, 64);
    assert_int_equal(buckets_make(64, 8, false, buckets), 1);
    assert_int_equal(buckets_make(9, 2, true, buckets) > 1, true); /* a side that is no multiple of the step */
    assert_int_equal(buckets[0].width, 9);
}

static void a_picture_goes_where_its_shape_is_nearest(void **state)
{
    (void)state;
    struct bucket buckets[BUCKETS_MAX];
    size_t count = buckets_make(64, 8, true, buckets);
    assert_int_equal(buckets_choose(buckets, count, 3000, 3000), 0);
    assert_int_equal(buckets_choose(buckets, count, 1920, 1080), find(buckets, count, 80, 48)); /* 1.78: 1.67 */
    assert_int_equal(buckets_choose(buckets, count, 1000, 9000), find(buckets, count, 32, 128));
    assert_int_equal(buckets_choose(buckets, count, 96, 64), find(buckets, count, 80, 48)); /* 1.5: not 72 x 56 */
}

static void count_epoch(struct batches *batches, unsigned epoch, const size_t *buckets, size_t seen[5])
{
    for (unsigned i = 0; i < batches_count(batches); i++) {
        size_t count;
        const uint32_t *items = batches_get(batches, epoch, i, &count);
        assert_true(count >= 1 && count <= 2);
        for (size_t j = 0; j < count; j++) {
            assert_int_equal(buckets[items[j]], buckets[items[0]]);
            seen[items[j]]++;
        }
    }
}

static void an_epoch_has_every_picture_as_often_as_it_repeats(void **state)
{
    (void)state;
    static const size_t buckets[5] = {3, 0, 3, 0, 3};
    struct batches *batches;
    size_t seen[5] = {0};
    assert_ok(batches_create(buckets, 5, 3, 2, 7, &batches));
    assert_int_equal(batches_count(batches), 3 + 5); /* 6 and 9 pictures, two by two */
    count_epoch(batches, 0, buckets, seen);
    count_epoch(batches, 1, buckets, seen);
    for (int i = 0; i < 5; i++)
        assert_int_equal(seen[i], 6);
    batches_destroy(batches);
}

static void an_order_depends_on_seed_and_epoch_alone(void **state)
{
    (void)state;
    static const size_t buckets[40] = {0};
    struct batches *one, *other;
    uint32_t first[40], again[40];
    size_t count;
    assert_ok(batches_create(buckets, 40, 1, 40, 7, &one));
    assert_ok(batches_create(buckets, 40, 1, 40, 8, &other));
    memcpy(first, batches_get(one, 5, 0, &count), sizeof first);
    memcpy(again, batches_get(one, 6, 0, &count), sizeof again);
    assert_true(memcmp(first, again, sizeof first) != 0);
    assert_true(memcmp(first, batches_get(other, 5, 0, &count), sizeof first) != 0);
    assert_memory_equal(first, batches_get(one, 5, 0, &count), sizeof first);
    batches_destroy(one);
    batches_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_those_of_kohya),
        cmocka_unit_test(a_picture_goes_where_its_shape_is_nearest),
        cmocka_unit_test(an_epoch_has_every_picture_as_often_as_it_repeats),
        cmocka_unit_test(an_order_depends_on_seed_and_epoch_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
