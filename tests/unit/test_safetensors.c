#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/safetensors.h"

static char folder[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/maquette-safetensors-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int finish(void **state)
{
    (void)state;
    return fs_remove_tree(folder).code ? -1 : 0;
}

/* A file of this header, padded data bytes, and a header size that is off by lie. */
static struct error open_bytes(const char *header, size_t data_bytes, int64_t lie, struct safetensors **file)
{
    char path[128], bytes[4096] = {0};
    uint64_t size = strlen(header), stated = size + (uint64_t)lie;
    snprintf(path, sizeof path, "%s/bytes.safetensors", folder);
    memcpy(bytes, &stated, 8);
    memcpy(bytes + 8, header, size);
    assert_ok(fs_write_atomic(path, bytes, 8 + size + data_bytes));
    return safetensors_open(path, file);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/round.safetensors", folder);
    const float wide[] = {1, -2.5f, 3e-20f, INFINITY};
    const uint16_t narrow[] = {half_from_float(0.1f), half_from_float(-65504)};
    const struct tensor tensors[] = {
        {.name = "b", .type = TENSOR_F16, .dimensions = 1, .shape = {2}, .data = narrow},
        {.name = "a", .type = TENSOR_F32, .dimensions = 2, .shape = {2, 2}, .data = wide},
        {.name = "empty", .type = TENSOR_F32, .dimensions = 2, .shape = {0, 7}, .data = ""},
    };
    assert_ok(safetensors_write(path, tensors, 3, &(struct tensor_note){"key", "value"}, 1));
    struct safetensors *file;
    assert_ok(safetensors_open(path, &file));
    assert_int_equal(file->count, 3);
    assert_string_equal(json_string(file->metadata, "key", ""), "value");
    float values[4];
    assert_ok(tensor_read(safetensors_find(file, "a"), values));
    assert_memory_equal(values, wide, sizeof wide);
    assert_ok(tensor_read(safetensors_find(file, "b"), values));
    assert_true(fabsf(values[0] - 0.1f) < 5e-5f && values[1] == -65504);
    assert_null(safetensors_find(file, "c"));
    assert_int_equal(safetensors_find(file, "empty")->count, 0);
    safetensors_close(file);
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        float low = half_to_float((uint16_t)bits), high = half_to_float((uint16_t)(bits + 1));
        assert_int_equal(half_from_float(low), bits);
        if (bits + 1 == 0x7c00)
            continue;
        assert_int_equal(half_from_float((low + high) / 2), bits % 2 ? bits + 1 : bits);
        assert_int_equal(half_from_float(-nextafterf((low + high) / 2, high)), 0x8000 | (bits + 1));
    }
    assert_int_equal(half_from_float(65520), 0x7c00);
    assert_int_equal(half_from_float(65519), 0x7bff);
    assert_true(isnan(half_to_float(half_from_float(NAN))));
    assert_true(bfloat_to_float(bfloat_from_float(1.00390625f)) == 1);
    assert_true(bfloat_to_float(bfloat_from_float(1.01171875f)) == 1.015625f);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        int64_t lie;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, 0},   /* truncated */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 12, 0},  /* data beyond */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, 0},   /* not the shape */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, 0},   /* backwards */
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0},   /* no such type */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}", 8, 0},  /* negative */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0.5],\"data_offsets\":[0,2]}}", 2, 0}, /* not whole */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, 0}, /* overflows */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, 0},                                                                    /* overlap */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, 0}, /* hole */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, 0}, /* twice */
        {"{\"a\":1}", 0, 0},
        {"[]", 0, 0},
        {"{}", 0, 1000}, /* header longer than the file */
        {"{}", 0, -3},   /* size wraps around */
        {"{\"__metadata__\":3}", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors *file = NULL;
        assert_error(open_bytes(cases[i].header, cases[i].data_bytes, cases[i].lie, &file), ERR_CORRUPT);
    }
}

static void types_that_are_no_weights_are_not_read_as_floats(void **state)
{
    (void)state;
    struct safetensors *file;
    float value;
    assert_ok(open_bytes("{\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, 0, &file));
    assert_error(tensor_read(safetensors_find(file, "a"), &value), ERR_INVALID);
    safetensors_close(file);
    assert_error(safetensors_open("/nonexistent/file", &file), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(types_that_are_no_weights_are_not_read_as_floats),
    };
    return cmocka_run_group_tests(tests, setup, finish);
}
