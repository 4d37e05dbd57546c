/* Defaults and bounds of each family. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "domain/training_parameters.h"

static struct arena arena;

static const struct json *parse(const char *text)
{
    const struct json *root;
    assert_ok(json_parse(&arena, text, strlen(text), &root));
    return root;
}

static struct error resolve(const char *type, int images, int pairs, const char *asked, const struct json **resolved)
{
    const struct training_data data = {.images = images, .pairs = pairs};
    const char *text;
    TRY(training_parameters_resolve(&arena, training_type_find(type), &data, asked ? parse(asked) : NULL, &text));
    *resolved = parse(text);
    return OK;
}

static void every_type_of_the_contract_is_known(void **state)
{
    (void)state;
    static const char *const types[] = {"custom",
                                        "elevenlabs-voice",
                                        "flux.1",
                                        "flux.1-composition",
                                        "flux.1-kontext-dev",
                                        "flux.1-kontext-lora",
                                        "flux.1-krea-dev",
                                        "flux.1-krea-lora",
                                        "flux.1-lora",
                                        "flux.1-pro",
                                        "flux.1.1-pro-ultra",
                                        "flux.2-dev-edit-lora",
                                        "flux.2-dev-lora",
                                        "flux.2-klein-4b-edit-lora",
                                        "flux.2-klein-4b-lora",
                                        "flux.2-klein-9b-edit-lora",
                                        "flux.2-klein-9b-lora",
                                        "flux.2-klein-base-4b-edit-lora",
                                        "flux.2-klein-base-4b-lora",
                                        "flux.2-klein-base-9b-edit-lora",
                                        "flux.2-klein-base-9b-lora",
                                        "flux1.1-pro",
                                        "gpt-image-1",
                                        "qwen-image-2512-lora",
                                        "qwen-image-edit-2509-lora",
                                        "qwen-image-edit-2511-lora",
                                        "qwen-image-edit-lora",
                                        "qwen-image-lora",
                                        "sd-1_5",
                                        "sd-1_5-composition",
                                        "sd-1_5-lora",
                                        "sd-xl",
                                        "sd-xl-composition",
                                        "sd-xl-lora",
                                        "zimage-de-turbo-lora",
                                        "zimage-lora",
                                        "zimage-turbo-lora"};
    assert_int_equal(sizeof types / sizeof *types, 37);
    for (size_t i = 0; i < 37; i++)
        assert_non_null(training_type_find(types[i]));
    assert_null(training_type_find("sd-3"));
}

static void each_family_has_its_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        double rate, rank, steps, epochs;
        const char *concept;
    } cases[] = {
        {"sd-1_5-lora", 5e-6, 16, 600, 0, "daiton"}, {"sd-xl-lora", 5e-6, 64, 1400, 0, "daiton"},
        {"flux.1-lora", 1e-4, 16, 800, 0, ""},       {"flux.2-dev-lora", 5e-5, 64, 0, 10, ""},
        {"zimage-lora", 5e-5, 64, 0, 10, ""},        {"qwen-image-edit-lora", 5e-5, 64, 0, 10, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct json *resolved;
        assert_ok(resolve(cases[i].type, 8, 8, NULL, &resolved));
        assert_float_equal(json_number(resolved, "learningRate", 0), cases[i].rate, 1e-12);
        assert_int_equal(json_int(resolved, "rank", 0), cases[i].rank);
        assert_int_equal(json_int(resolved, "maxTrainSteps", 0), cases[i].steps);
        assert_int_equal(json_int(resolved, "nbEpochs", 0), cases[i].epochs);
        assert_int_equal(json_int(resolved, "batchSize", 0), 1);
        assert_string_equal(json_string(resolved, "conceptPrompt", "?"), cases[i].concept);
        assert_true(json_number(resolved, "seed", -1) >= 0);
    }
}

static void what_is_asked_is_kept_and_secrets_are_not(void **state)
{
    (void)state;
    const struct json *resolved;
    assert_ok(resolve("sd-1_5-lora", 8, 0,
                      "{\"rank\":4,\"seed\":9007199254740991,\"maxTrainSteps\":16,\"wandbKey\":\"hidden\","
                      "\"unknown\":1,\"samplePrompts\":[\"a disc\"],\"classPrompt\":\"disc\",\"learningRate\":null}",
                      &resolved));
    assert_int_equal(json_int(resolved, "rank", 0), 4);
    assert_int_equal(json_int(resolved, "maxTrainSteps", 0), 16);
    assert_true(json_int(resolved, "seed", 0) == 9007199254740991);
    assert_string_equal(json_item(json_get(resolved, "samplePrompts"), 0)->text, "a disc");
    assert_int_equal(json_int(resolved, "priorLossWeight", 0), 1);
    assert_null(json_get(resolved, "wandbKey"));
    assert_null(json_get(resolved, "unknown"));
    assert_float_equal(json_number(resolved, "learningRate", 0), 5e-6, 1e-12);
}

static void epochs_take_the_place_of_steps(void **state)
{
    (void)state;
    const struct json *resolved;
    assert_ok(resolve("sd-1_5-lora", 8, 0, "{\"nbEpochs\":3,\"nbRepeats\":2}", &resolved));
    assert_null(json_get(resolved, "maxTrainSteps"));
    assert_int_equal(json_int(resolved, "nbEpochs", 0), 3);
}

static void bounds_are_the_familys_and_name_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *type, *asked, *field;
    } cases[] = {
        {"flux.1-lora", "{\"rank\":65}", "parameters.rank"},
        {"flux.2-dev-lora", "{\"rank\":129}", "parameters.rank"},
        {"sd-1_5-lora", "{\"rank\":1}", "parameters.rank"},
        {"flux.1-lora", "{\"batchSize\":5}", "parameters.batchSize"},
        {"flux.2-dev-lora", "{\"batchSize\":9}", "parameters.batchSize"},
        {"flux.2-dev-lora", "{\"conceptPrompt\":\"twenty-five characters...\"}", "parameters.conceptPrompt"},
        {"flux.2-dev-lora", "{\"learningRate\":0.01}", "parameters.learningRate"},
        {"sd-1_5-lora", "{\"learningRate\":0}", "parameters.learningRate"},
        {"flux.1-lora", "{\"maxTrainSteps\":10001}", "parameters.maxTrainSteps"},
        {"sd-1_5-lora", "{\"maxTrainSteps\":10,\"validationFrequency\":11}", "parameters.validationFrequency"},
        {"flux.2-dev-lora", "{\"samplePrompts\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "parameters.samplePrompts"},
        {"flux.1-lora", "{\"samplePrompts\":[\"a\"],\"sampleSourceImages\":[]}", "parameters.sampleSourceImages"},
        {"sd-1_5-lora", "{\"rank\":\"4\"}", "parameters.rank"},
        {"sd-1_5-lora", "{\"validationFrequency\":601}", "parameters.validationFrequency"},
        {"flux.1-lora", "{\"sampleSourceImages\":[\"asset_x\"]}", "parameters.sampleSourceImages"},
        {"flux.1-lora", "{\"rank\":2.5}", "parameters.rank"},
        {"flux.1-lora", "{\"optimizeFor\":\"all\"}", "parameters.optimizeFor"},
        {"sd-xl-lora", "{\"lrScheduler\":\"cosin\"}", "parameters.lrScheduler"},
        {"elevenlabs-voice", "{\"language\":\"english\"}", "parameters.language"},
        {"elevenlabs-voice", "{\"cloneType\":\"slow\"}", "parameters.cloneType"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct json *resolved;
        const struct error error = resolve(cases[i].type, 8, 8, cases[i].asked, &resolved);
        assert_int_equal(error.code, ERR_INVALID);
        assert_non_null(error.field);
        assert_string_equal(error.field, cases[i].field);
    }
}

static void what_a_family_does_not_have_is_left_out(void **state)
{
    (void)state;
    const struct json *resolved;
    assert_ok(
        resolve("flux.2-dev-lora", 8, 0,
                "{\"lrScheduler\":\"cosine\",\"maxTrainSteps\":7,\"sampleSourceImages\":[\"a\"],\"language\":\"en\"}",
                &resolved));
    assert_null(json_get(resolved, "lrScheduler"));
    assert_null(json_get(resolved, "maxTrainSteps"));
    assert_null(json_get(resolved, "sampleSourceImages"));
    assert_null(json_get(resolved, "language"));
    assert_ok(resolve("elevenlabs-voice", 8, 0, "{\"rank\":999,\"language\":\"en\"}", &resolved));
    assert_null(json_get(resolved, "rank"));
    assert_null(json_get(resolved, "seed"));
    assert_string_equal(json_string(resolved, "language", ""), "en");
}

static void a_class_says_what_the_images_show(void **state)
{
    (void)state;
    const struct training_data data = {.images = 8, .has_class = true};
    const char *text;
    assert_ok(training_parameters_resolve(&arena, training_type_find("sd-1_5-lora"), &data, NULL, &text));
    assert_string_equal(json_string(parse(text), "conceptPrompt", "?"), "");
    assert_ok(training_parameters_resolve(&arena, training_type_find("sd-xl-lora"), &data, NULL, &text));
    assert_string_equal(json_string(parse(text), "conceptPrompt", "?"), "daiton");
}

static void empty_prompts_are_not_rendered(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 4096);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    training_prompts_put(&writer, parse("{\"seed\":9007199254740991,\"samplePrompts\":[\"a disc\",\"\",\"b\"],"
                                        "\"validationPrompt\":\"c\"}"));
    json_close(&writer, '}');
    const struct json *prompts = json_get(parse(text.data), "prompts");
    buf_finish(&text);
    assert_int_equal(prompts->count, 3);
    assert_string_equal(json_string(json_item(prompts, 0), "text", ""), "a disc");
    assert_string_equal(json_string(json_item(prompts, 1), "text", ""), "b");
    assert_string_equal(json_string(json_item(prompts, 2), "text", ""), "c");
    assert_true(json_int(json_item(prompts, 2), "seed", 0) == 9007199254740991);
}

static void missing_data_is_refused(void **state)
{
    (void)state;
    const struct json *resolved;
    assert_error(resolve("sd-1_5-lora", 0, 0, NULL, &resolved), ERR_INVALID);
    assert_error(resolve("flux.1-kontext-lora", 8, 1, NULL, &resolved), ERR_INVALID);
    assert_ok(resolve("flux.1-kontext-lora", 8, 2, NULL, &resolved));
    assert_error(resolve("flux.1-composition", 8, 2, NULL, &resolved), ERR_INVALID);
    assert_error(resolve("gpt-image-1", 8, 2, NULL, &resolved), ERR_INVALID);
}

static int begin(void **state)
{
    (void)state;
    arena_init(&arena, 4 << 20);
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
        cmocka_unit_test_setup_teardown(every_type_of_the_contract_is_known, begin, end),
        cmocka_unit_test_setup_teardown(each_family_has_its_defaults, begin, end),
        cmocka_unit_test_setup_teardown(what_is_asked_is_kept_and_secrets_are_not, begin, end),
        cmocka_unit_test_setup_teardown(epochs_take_the_place_of_steps, begin, end),
        cmocka_unit_test_setup_teardown(bounds_are_the_familys_and_name_the_field, begin, end),
        cmocka_unit_test_setup_teardown(what_a_family_does_not_have_is_left_out, begin, end),
        cmocka_unit_test_setup_teardown(a_class_says_what_the_images_show, begin, end),
        cmocka_unit_test_setup_teardown(empty_prompts_are_not_rendered, begin, end),
        cmocka_unit_test_setup_teardown(missing_data_is_refused, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
