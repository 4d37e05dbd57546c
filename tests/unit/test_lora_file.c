/* LoRA files: what is written is read again, and the other tools' names are understood. On the base that ships. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/lora_file.h"
#include "engine/optimizer.h"
#include "engine/safetensors.h"

enum { rank = 4 };

static char folder[] = "/tmp/lora-XXXXXX", path[64];
static struct pool *pool;
static struct model *model;

static int setup(void **state)
{
    (void)state;
    char base[512];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/lora.safetensors", folder);
    assert_true(snprintf(base, sizeof base, "%s/base-models/tiny", getenv("MAQUETTE_SOURCE")) < (int)sizeof base);
    assert_ok(pool_create(2, &pool));
    assert_ok(model_open(base, pool, &model));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_destroy(model);
    pool_destroy(pool);
    assert_ok(fs_remove_tree(folder));
    return 0;
}

/* A LoRA of everything, alpha 2 for rank 4, as this program would write it. */
static void write_lora(struct learner *learner, enum lora_format format)
{
    struct rate_schedule rates = {.kind = RATE_CONSTANT, .base = 1e-3, .total = 1};
    struct parameter_options options = {TARGETS_WIDE, .unet = true, .text = true, .rank = rank, .alpha = 2};
    struct lora_facts facts = {
        .title = "t", .trigger = "", .software = "s", .prediction_type = "v", .rate_schedule = ""};
    assert_ok(learner_init(learner, model, &options, &rates, 1));
    struct parameters *parameters = learner->parameters;
    for (size_t i = 0; i < parameters->count; i++)
        parameters->values[i] += (float)(i % 17) / 16;
    assert_ok(lora_write(path, (const struct parameters *const[]){parameters}, 1, &facts, format));
}

static void assert_reads_as(const char *file, const struct parameters *parameters)
{
    struct lora *lora;
    size_t count = parameters->table_count / 2;
    struct lora_delta *expected = calloc(count, sizeof *expected);
    assert_ok(lora_open(model, file, &lora));
    lora_deltas(parameters, 1, expected);
    assert_int_equal(lora->count, count);
    assert_int_equal(lora->skipped, 0);
    for (size_t i = 0; i < count; i++) {
        const struct lora_delta *read = &lora->deltas[i];
        assert_string_equal(read->module, expected[i].module);
        assert_true(read->component == expected[i].component && read->kernel == expected[i].kernel);
        assert_true(read->rank == rank && read->in == expected[i].in && read->out == expected[i].out);
        for (size_t j = 0; j < rank * read->in * read->kernel * read->kernel; j++)
            assert_true(fabsf(read->a[j] - expected[i].a[j]) < 1e-3f);
        for (size_t j = 0; j < rank * read->out; j++)
            assert_true(fabsf(read->scale * read->b[j] - expected[i].scale * expected[i].b[j]) < 1e-3f);
    }
    assert_ok(model_merge(model, lora->deltas, lora->count));
    assert_ok(model_merge(model, NULL, 0));
    free(expected);
    lora_destroy(lora);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    for (int format = LORA_KOHYA; format <= LORA_DIFFUSERS; format++) {
        struct learner learner;
        write_lora(&learner, (enum lora_format)format);
        assert_reads_as(path, learner.parameters);
        learner_finish(&learner);
    }
}

static const struct tensor *tensor_of(const struct safetensors *file, const char *name)
{
    const struct tensor *tensor = safetensors_find(file, name);
    if (!tensor)
        fail_msg("there is no %s", name);
    return tensor;
}

static void each_format_has_the_names_and_shapes_of_its_tools(void **state)
{
    (void)state;
    static const char *const names[][3] = {
        /* linear; 1x1 convolution; text encoder */
        {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
         "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
         "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"},
        {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
         "unet.down_blocks.0.attentions.0.proj_in.lora_B.weight",
         "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"},
    };
    for (int format = LORA_KOHYA; format <= LORA_DIFFUSERS; format++) {
        struct learner learner;
        struct safetensors *file;
        write_lora(&learner, (enum lora_format)format);
        assert_ok(safetensors_open(path, &file));
        assert_int_equal(tensor_of(file, names[format][0])->dimensions, 2);
        const struct tensor *up = tensor_of(file, names[format][1]);
        assert_true(up->dimensions == 4 && up->shape[1] == rank && up->shape[2] == 1 && up->shape[3] == 1);
        assert_int_equal(tensor_of(file, names[format][2])->dimensions, 2);
        safetensors_close(file);
        learner_finish(&learner);
    }
}

static void a_file_can_be_converted_there_and_back(void **state)
{
    (void)state;
    struct learner learner;
    struct safetensors *file;
    char there[80], back[80];
    snprintf(there, sizeof there, "%s/there.safetensors", folder);
    snprintf(back, sizeof back, "%s/back.safetensors", folder);
    write_lora(&learner, LORA_KOHYA);
    assert_ok(lora_convert(model, path, there, LORA_DIFFUSERS));
    assert_reads_as(there, learner.parameters);
    assert_ok(lora_convert(model, there, back, LORA_KOHYA));
    assert_reads_as(back, learner.parameters);
    assert_ok(safetensors_open(back, &file));
    assert_string_equal(json_string(file->metadata, "ss_network_module", ""), "networks.lora");
    safetensors_close(file);
    learner_finish(&learner);
}

static struct tensor matrix(const char *name, size_t rows, size_t columns, const float *values)
{
    return (struct tensor){.name = name,
                           .type = TENSOR_F32,
                           .dimensions = 2,
                           .shape = {rows, columns},
                           .count = rows * columns,
                           .bytes = rows * columns * sizeof(float),
                           .data = values};
}

/* A LoRA of one module, 64 x 64, under some tool's names. */
static struct error open_named(const char *down, const char *up, size_t inputs, struct lora **lora)
{
    static float values[rank * 128];
    struct tensor tensors[] = {matrix(down, rank, inputs, values), matrix(up, 64, rank, values)};
    assert_ok(safetensors_write(path, tensors, 2, NULL, 0));
    return lora_open(model, path, lora);
}

#define MODULE "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
#define PROCESSOR "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
#define FLAT "transformer_blocks_0_attn1_to_q"

/* As diffusers says it beside the tensors. */
static void an_alpha_in_the_metadata_counts(void **state)
{
    (void)state;
    static float values[rank * 64];
    struct lora *lora;
    struct tensor tensors[] = {matrix("unet." MODULE ".lora_A.weight", rank, 64, values),
                               matrix("unet." MODULE ".lora_B.weight", 64, rank, values)};
    const struct tensor_note note = {"lora_adapter_metadata", "{\"unet.lora_alpha\": 8, \"unet.r\": 4}"};
    assert_ok(safetensors_write(path, tensors, 2, &note, 1));
    assert_ok(lora_open(model, path, &lora));
    assert_true(lora->deltas[0].scale == 2);
    lora_destroy(lora);
}

static void assert_understood(const char *down, const char *up)
{
    struct lora *lora;
    assert_ok(open_named(down, up, 64, &lora));
    assert_int_equal(lora->count, 1);
    assert_int_equal(lora->skipped, 0);
    assert_true(lora->deltas[0].scale == 1); /* no alpha: it equals the rank */
    assert_string_equal(lora->deltas[0].module, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q");
    lora_destroy(lora);
}

static void names_of_other_tools_are_understood(void **state)
{
    (void)state;
    assert_understood("unet." MODULE ".lora_A.weight", "unet." MODULE ".lora_B.weight");
    assert_understood("unet." MODULE ".lora.down.weight", "unet." MODULE ".lora.up.weight");
    assert_understood("lora_unet_down_blocks_0_attentions_0_" FLAT ".lora_down.weight",
                      "lora_unet_down_blocks_0_attentions_0_" FLAT ".lora_up.weight");
    assert_understood("base_model.model." MODULE ".lora_A.weight", "base_model.model." MODULE ".lora_B.weight");
    assert_understood("unet." PROCESSOR ".processor.to_q_lora.down.weight",
                      "unet." PROCESSOR ".processor.to_q_lora.up.weight");
    assert_understood("lora_unet_input_blocks_1_1_" FLAT ".lora_down.weight",
                      "lora_unet_input_blocks_1_1_" FLAT ".lora_up.weight"); /* SDXL's original names */
}

static void a_lora_for_another_model_is_refused(void **state)
{
    (void)state;
    struct lora *lora = NULL;
    assert_error(open_named("transformer.x.lora_A.weight", "transformer.x.lora_B.weight", 64, &lora), ERR_INVALID);
    assert_error(open_named("unet." MODULE ".lora_A.weight", "unet.no.lora_B.weight", 64, &lora), ERR_CORRUPT);
    assert_null(lora);
}

static void factors_of_the_wrong_size_are_not_merged(void **state)
{
    (void)state;
    struct lora *lora;
    assert_ok(open_named("unet." MODULE ".lora_A.weight", "unet." MODULE ".lora_B.weight", 65, &lora));
    struct error error = model_merge(model, lora->deltas, lora->count);
    assert_true(error.code == ERR_INVALID || error.code == ERR_CORRUPT);
    lora_destroy(lora);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(each_format_has_the_names_and_shapes_of_its_tools),
        cmocka_unit_test(a_file_can_be_converted_there_and_back),
        cmocka_unit_test(an_alpha_in_the_metadata_counts),
        cmocka_unit_test(names_of_other_tools_are_understood),
        cmocka_unit_test(a_lora_for_another_model_is_refused),
        cmocka_unit_test(factors_of_the_wrong_size_are_not_merged),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
