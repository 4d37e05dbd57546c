/* The reader, the checker and the writer, over the contract's own tables. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_fields.h"
#include "api_types.h"
#include "base/fields.h"

enum { arena_bytes_max = 256 << 20 };

static int setup(void **state)
{
    struct arena *arena = malloc(sizeof *arena);
    arena_init(arena, arena_bytes_max);
    *state = arena;
    return 0;
}

static int teardown(void **state)
{
    arena_finish(*state);
    free(*state);
    return 0;
}

static struct error read_and_check(struct arena *arena, const struct fields *fields, const char *text, void *object)
{
    TRY(fields_read(arena, fields, text, strlen(text), object));
    return fields_check(fields, object);
}

static void expect_refusal(struct arena *arena, const struct fields *fields, const char *text, const char *field,
                           const char *reason)
{
    void *object = arena_alloc(arena, fields->size);
    struct error error = read_and_check(arena, fields, text, object);
    assert_int_equal(error.code, ERR_INVALID);
    if (field)
        assert_string_equal(error.field, field);
    assert_string_equal(error.text, reason);
}

static void a_body_becomes_a_struct(void **state)
{
    struct arena *arena = *state;
    struct api_update_model_body body = {0};
    assert_ok(read_and_check(
        arena, &api_update_model_body_fields,
        "{\"name\":\"caf\\u00e9\",\"parameters\":{\"rank\":8,\"randomCrop\":true,\"samplePrompts\":"
        "[\"a\",\"b\"]},\"concepts\":[{\"modelId\":\"m\",\"scale\":-0.5},{\"modelId\":\"n\",\"scale\":2}]}",
        &body));
    assert_string_equal(body.name, "caf\xc3\xa9");
    assert_true(body.parameters->has_rank && body.parameters->rank == 8 && body.parameters->random_crop);
    assert_false(body.parameters->has_seed);
    assert_int_equal(body.parameters->sample_prompts_count, 2);
    assert_string_equal(body.parameters->sample_prompts[1], "b");
    assert_int_equal(body.concepts_count, 2);
    assert_true(body.concepts[0].scale == -0.5);
    assert_string_equal(body.concepts[1].model_id, "n");
    assert_null(body.short_description);
}

static void a_seed_may_be_text_or_a_number(void **state)
{
    struct arena *arena = *state;
    struct api_generation_body text = {0}, number = {0}, null = {0};
    const struct fields *fields = &api_generation_body_fields;
    assert_ok(fields_read(arena, fields, "{\"seed\":\"007\"}", 14, &text));
    assert_ok(fields_read(arena, fields, "{\"seed\":9007199254740993}", 25, &number));
    assert_ok(fields_read(arena, fields, "{\"seed\":1,\"seed\":null}", 22, &null));
    assert_string_equal(text.seed, "007");
    assert_string_equal(number.seed, "9007199254740993");
    assert_null(null.seed);
    expect_refusal(arena, fields, "{\"modelId\":\"m\",\"prompt\":\"p\",\"seed\":true}", "seed",
                   "seed must be a string");
    expect_refusal(arena, fields, "{\"modelId\":\"m\",\"prompt\":7}", "prompt", "prompt must be a string");
}

static void absent_null_and_value_are_three_things(void **state)
{
    struct arena *arena = *state;
    struct api_update_model_body absent = {0}, null = {0}, value = {0};
    assert_ok(read_and_check(arena, &api_update_model_body_fields, "{}", &absent));
    assert_ok(read_and_check(arena, &api_update_model_body_fields, "{\"epoch\":null}", &null));
    assert_ok(read_and_check(arena, &api_update_model_body_fields, "{\"epoch\":\"000001\"}", &value));
    assert_false(absent.has_epoch);
    assert_true(null.has_epoch && !null.epoch);
    assert_true(value.has_epoch && strcmp(value.epoch, "000001") == 0);
}

static void an_empty_array_is_not_absent(void **state)
{
    struct api_update_model_body sent = {0}, absent = {0};
    assert_ok(read_and_check(*state, &api_update_model_body_fields, "{\"concepts\":[]}", &sent));
    assert_ok(read_and_check(*state, &api_update_model_body_fields, "{}", &absent));
    assert_non_null(sent.concepts);
    assert_int_equal(sent.concepts_count, 0);
    assert_null(absent.concepts);
}

static void null_is_absence_where_null_means_nothing(void **state)
{
    struct api_update_model_body body = {0};
    assert_ok(read_and_check(*state, &api_update_model_body_fields,
                             "{\"name\":\"x\",\"name\":null,\"parameters\":null,\"concepts\":null}", &body));
    assert_null(body.name);
    assert_null(body.parameters);
    assert_null(body.concepts);
}

static void the_last_of_duplicate_keys_wins(void **state)
{
    struct api_update_model_body body = {0};
    assert_ok(read_and_check(*state, &api_update_model_body_fields,
                             "{\"name\":\"a\",\"parameters\":{\"rank\":4},\"name\":\"b\",\"parameters\":{\"seed\":1},"
                             "\"concepts\":[{\"modelId\":\"m\",\"scale\":1}],\"concepts\":[]}",
                             &body));
    assert_string_equal(body.name, "b");
    assert_true(body.parameters->has_seed && !body.parameters->has_rank);
    assert_int_equal(body.concepts_count, 0);
}

static void unknown_fields_are_skipped_whatever_they_hold(void **state)
{
    struct api_create_model_body body = {0};
    assert_ok(read_and_check(
        *state, &api_create_model_body_fields,
        "{\"x\":{\"name\":1,\"y\":[[{\"type\":[]}],null,true,1e9]},\"z\":\"\\u0000\",\"name\":\"n\"}", &body));
    assert_string_equal(body.name, "n");
}

static void wrong_types_name_the_field_by_path(void **state)
{
    const struct fields *fields = &api_update_model_body_fields;
    expect_refusal(*state, fields, "{\"name\":7}", "name", "name must be a string");
    expect_refusal(*state, fields, "{\"parameters\":{\"rank\":\"8\"}}", "parameters.rank",
                   "parameters.rank must be a number");
    expect_refusal(*state, fields, "{\"parameters\":{\"randomCrop\":1}}", "parameters.randomCrop",
                   "parameters.randomCrop must be true or false");
    expect_refusal(*state, fields, "{\"parameters\":[]}", "parameters", "parameters must be an object");
    expect_refusal(*state, fields, "{\"concepts\":{}}", "concepts", "concepts must be an array of objects");
    expect_refusal(*state, fields, "{\"concepts\":[{\"modelId\":\"m\",\"scale\":1},{\"modelId\":2}]}",
                   "concepts[1].modelId", "concepts[1].modelId must be a string");
    expect_refusal(*state, fields, "{\"concepts\":[{\"modelId\":\"m\",\"scale\":1},3]}", "concepts[1]",
                   "concepts[1] must be an object");
    expect_refusal(*state, fields, "{\"parameters\":{\"samplePrompts\":[\"a\",null]}}", "parameters.samplePrompts[1]",
                   "parameters.samplePrompts[1] must be a string");
    expect_refusal(*state, fields, "{\"parameters\":{\"samplePrompts\":[\"\\u0000\"]}}", "parameters.samplePrompts[0]",
                   "parameters.samplePrompts[0] must not contain a NUL character");
    expect_refusal(*state, fields, "{\"parameters\":{\"samplePrompts\":[[]]}}", "parameters.samplePrompts[0]",
                   "parameters.samplePrompts[0] must be a string");
}

static void a_document_may_be_an_array(void **state)
{
    const struct fields *fields = &api_replace_training_pairs_body_fields;
    struct api_replace_training_pairs_body body = {0}, empty = {0};
    assert_ok(read_and_check(*state, fields,
                             "[{\"sourceId\":\"a\",\"targetId\":\"b\",\"x\":[{\"y\":1}]},"
                             "{\"targetId\":\"d\",\"sourceId\":\"c\",\"instruction\":\"red\"}]",
                             &body));
    assert_int_equal(body.items_count, 2);
    assert_string_equal(body.items[0].target_id, "b");
    assert_null(body.items[0].instruction);
    assert_string_equal(body.items[1].instruction, "red");
    assert_ok(read_and_check(*state, fields, "[]", &empty));
    assert_non_null(empty.items);
    assert_int_equal(empty.items_count, 0);
    expect_refusal(*state, fields, "{}", NULL, "the body must be a JSON array");
    expect_refusal(*state, fields, "null", NULL, "the body must be a JSON array");
    expect_refusal(*state, fields, "[7]", "[0]", "[0] must be an object");
    expect_refusal(*state, fields, "[{\"sourceId\":\"a\",\"targetId\":\"b\"},{\"sourceId\":[]}]", "[1].sourceId",
                   "[1].sourceId must be a string");
    expect_refusal(*state, fields, "[{\"sourceId\":\"a\",\"targetId\":\"b\"},{\"sourceId\":\"a\"}]", "[1].targetId",
                   "[1].targetId is required");
}

static void every_limit_is_kept_and_named(void **state)
{
    const struct fields *fields = &api_update_model_body_fields;
    expect_refusal(*state, fields, "{\"parameters\":{\"rank\":1}}", "parameters.rank",
                   "parameters.rank must be at least 2");
    expect_refusal(*state, fields, "{\"parameters\":{\"rank\":129}}", "parameters.rank",
                   "parameters.rank must be at most 128");
    expect_refusal(*state, fields, "{\"parameters\":{\"rank\":2.5}}", "parameters.rank",
                   "parameters.rank must be a whole number");
    expect_refusal(*state, fields, "{\"parameters\":{\"learningRate\":0}}", "parameters.learningRate",
                   "parameters.learningRate must be greater than 0");
    expect_refusal(*state, fields, "{\"parameters\":{\"learningRateTextEncoder\":0.002}}", NULL,
                   "parameters.learningRateTextEncoder must be at most 0.001");
    expect_refusal(
        *state, fields, "{\"parameters\":{\"lrScheduler\":\"step\"}}", "parameters.lrScheduler",
        "parameters.lrScheduler must be one of constant, constant-with-warmup, cosine, cosine-with-restarts, "
        "linear, polynomial");
    expect_refusal(*state, fields, "{\"concepts\":[{\"modelId\":\"m\",\"scale\":-3}]}", "concepts[0].scale",
                   "concepts[0].scale must be at least -2");
    expect_refusal(*state, fields, "{\"concepts\":[{\"modelId\":\"m\"}]}", "concepts[0].scale",
                   "concepts[0].scale is required");
    expect_refusal(*state, &api_create_asset_body_fields, "{}", "name", "name is required");
    expect_refusal(*state, &api_create_asset_body_fields, "{\"name\":null}", "name", "name is required");
    expect_refusal(*state, &api_training_action_body_fields, "{\"action\":\"stop\"}", "action",
                   "action must be one of cancel");
}

static void what_breaks_a_limit_can_be_dropped(void **state)
{
    static const char text[] =
        "{\"prompt\":\"p\",\"type\":\"wrong\",\"guidance\":21,\"numInferenceSteps\":150,\"seed\":\"1\","
        "\"scheduler\":\"none\",\"ipAdapterScales\":[0.5,2]}";
    struct api_inference_parameters parameters = {0};
    assert_ok(fields_read(*state, &api_inference_parameters_fields, text, sizeof text - 1, &parameters));
    fields_drop_invalid(&api_inference_parameters_fields, &parameters);
    assert_false(parameters.has_guidance);
    assert_true(parameters.has_num_inference_steps && parameters.num_inference_steps == 150);
    assert_string_equal(parameters.seed, "1");
    assert_null(parameters.scheduler);
    assert_null(parameters.ip_adapter_scales);
    assert_string_equal(parameters.type, "wrong"); /* is required: not to be had without */
}

static void length_is_counted_in_characters(void **state)
{
    char body[512] = "{\"name\":\"";
    for (int i = 0; i < 64; i++)
        strncat(body, "\xc3\xa9", sizeof body - strlen(body) - 1);
    char longer[512];
    snprintf(longer, sizeof longer, "%sx\"}", body);
    strncat(body, "\"}", sizeof body - strlen(body) - 1);
    struct api_create_model_body read = {0};
    assert_ok(read_and_check(*state, &api_create_model_body_fields, body, &read));
    expect_refusal(*state, &api_create_model_body_fields, longer, "name", "name must be at most 64 characters long");
}

static void a_long_array_is_refused_while_it_is_read(void **state)
{
    struct buf body;
    buf_init(&body, 1 << 20);
    buf_puts(&body, "{\"assetIds\":[\"a\"");
    for (int i = 0; i < 100; i++)
        buf_puts(&body, ",\"a\"");
    buf_puts(&body, "]}");
    expect_refusal(*state, &api_add_training_image_body_fields, body.data, "assetIds",
                   "assetIds must be at most 100 items long");
    buf_finish(&body);
}

static void hostile_bodies_are_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        "{",
        "[]",
        "7",
        "null",
        "\"x\"",
        "{}x",
        "{\"name\"}",
        "{\"name\":}",
        "{'name':1}",
        "{\"a\":1,}",
        "{\"name\":\"\xff\"}",
        "{\"name\":\"\\u0000\"}",
        "{\"parameters\":{\"seed\":1e999}}",
        "{\"name\":\"a\nb\"}",
        "{} {}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct api_update_model_body body = {0};
        assert_error(read_and_check(*state, &api_update_model_body_fields, bodies[i], &body), ERR_INVALID);
    }
}

static void deep_nesting_is_refused(void **state)
{
    char body[8192] = "{\"x\":";
    size_t length = strlen(body);
    memset(body + length, '[', 5000);
    struct api_create_model_body read = {0};
    struct error error = fields_read(*state, &api_create_model_body_fields, body, length + 5000, &read);
    assert_string_equal(error.text, "the body is nested too deeply");
}

static void repeated_objects_cannot_waste_memory(void **state)
{
    struct arena *arena = *state;
    struct buf body;
    buf_init(&body, 4 << 20);
    buf_putc(&body, '{');
    for (int i = 0; i < 100000; i++)
        buf_puts(&body, "\"parameters\":{},");
    buf_puts(&body, "\"name\":\"x\"}");
    struct api_update_model_body read = {0};
    struct error error = fields_read(arena, &api_update_model_body_fields, body.data, body.len, &read);
    assert_int_equal(error.code, ERR_INVALID);
    assert_true(arena->used < 5 * body.len + (1 << 17));
    buf_finish(&body);
}

static void a_large_string_is_copied_once(void **state)
{
    struct arena *arena = *state;
    enum { size = 8 << 20 };
    struct buf body;
    buf_init(&body, size + 64);
    buf_puts(&body, "{\"data\":\"");
    memset(buf_reserve(&body, size), 'A', size);
    body.len += size;
    buf_puts(&body, "\"}");
    struct api_add_training_image_body read = {0};
    assert_ok(fields_read(arena, &api_add_training_image_body_fields, body.data, body.len, &read));
    assert_int_equal(strlen(read.data), size);
    assert_true(arena->used < size + 4096);
    buf_finish(&body);
}

static void query_text_goes_through_the_same_tables(void **state)
{
    struct arena *arena = *state;
    struct api_list_jobs_query query = {0};
    const struct fields *fields = &api_list_jobs_query_fields;
    assert_ok(fields_read_text(arena, fields, "pageSize", "20", &query));
    assert_ok(fields_read_text(arena, fields, "types", "upload,custom", &query));
    assert_ok(fields_read_text(arena, fields, "types[]", "flux", &query));
    assert_ok(fields_read_text(arena, fields, "utm_source", "x", &query));
    assert_ok(fields_check(fields, &query));
    assert_true(query.has_page_size && query.page_size == 20);
    assert_int_equal(query.types_count, 3);
    assert_string_equal(query.types[1], "custom");
    assert_string_equal(query.types[2], "flux");
    static const char *const wrong[] = {"", "x", "1x", "0x10", "nan", "inf", "1e999", " 1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_error(fields_read_text(arena, fields, "pageSize", wrong[i], &query), ERR_INVALID);
    assert_ok(fields_read_text(arena, fields, "pageSize", "201", &query));
    struct error error = fields_check(fields, &query);
    assert_string_equal(error.text, "pageSize must be at most 200");
}

static const char *written(struct buf *out, const struct fields *fields, const void *object)
{
    buf_clear(out);
    struct json_writer writer = {.out = out};
    fields_write(&writer, NULL, fields, object);
    return out->data;
}

static void what_was_read_is_written_alike(void **state)
{
    static const char *const body =
        "{\"name\":\"a \\\"b\\\" \\\\ \\n\",\"classSlug\":null,\"concepts\":[{\"modelId\":\"m\",\"scale\":0.8},"
        "{\"modelId\":\"n\",\"scale\":-2,\"modelEpoch\":\"000002\"}],\"parameters\":{\"learningRate\":0.0001,"
        "\"samplePrompts\":[],\"scaleLr\":false,\"seed\":9007199254740991}}";
    struct api_update_model_body read = {0};
    assert_ok(read_and_check(*state, &api_update_model_body_fields, body, &read));
    struct buf out;
    buf_init(&out, 1 << 16);
    assert_string_equal(written(&out, &api_update_model_body_fields, &read), body);
    buf_finish(&out);
}

static void absent_fields_are_left_out_and_required_arrays_stay(void **state)
{
    (void)state;
    struct api_training_pair pair = {.source_id = "asset_a"};
    struct api_model model = {.id = "model_x", .training_image_pairs = &pair, .training_image_pairs_count = 1};
    struct buf out;
    buf_init(&out, 1 << 16);
    assert_string_equal(written(&out, &api_model_fields, &model),
                        "{\"id\":\"model_x\",\"capabilities\":[],\"collectionIds\":[],\"custom\":false,"
                        "\"exampleAssetIds\":[],\"tags\":[],\"trainingImagesNumber\":0,\"parameters\":{},"
                        "\"trainingImagePairs\":[{\"sourceId\":\"asset_a\"}],\"trainingProgress\":{}}");
    buf_finish(&out);
}

static void free_json_is_written_as_it_is(void **state)
{
    (void)state;
    struct api_job_metadata metadata = {.output = "{\"downloadUrl\":\"http://x\"}"};
    struct buf out;
    buf_init(&out, 1 << 16);
    assert_string_equal(written(&out, &api_job_metadata_fields, &metadata),
                        "{\"output\":{\"downloadUrl\":\"http://x\"}}");
    buf_finish(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_becomes_a_struct, setup, teardown),
        cmocka_unit_test_setup_teardown(a_seed_may_be_text_or_a_number, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_null_and_value_are_three_things, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_array_is_not_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(null_is_absence_where_null_means_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_of_duplicate_keys_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_fields_are_skipped_whatever_they_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_types_name_the_field_by_path, setup, teardown),
        cmocka_unit_test_setup_teardown(a_document_may_be_an_array, setup, teardown),
        cmocka_unit_test_setup_teardown(every_limit_is_kept_and_named, setup, teardown),
        cmocka_unit_test_setup_teardown(what_breaks_a_limit_can_be_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(length_is_counted_in_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_array_is_refused_while_it_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_bodies_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_nesting_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(repeated_objects_cannot_waste_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_string_is_copied_once, setup, teardown),
        cmocka_unit_test_setup_teardown(query_text_goes_through_the_same_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_read_is_written_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_fields_are_left_out_and_required_arrays_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(free_json_is_written_as_it_is, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
