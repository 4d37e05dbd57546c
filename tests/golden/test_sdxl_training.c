/* Job folders of a small SDXL: both text encoders, pooled text and time ids from real crops, samples; interrupted and
 * not. */
#include "../unit/job_world.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "world.h"

static struct world xl;
static const char weights[] = "out/model.safetensors";
static const char prompt[] = "{\"text\":\"cat\",\"steps\":2,\"seed\":4,\"width\":32,\"height\":48}";

static int setup(void **state)
{
    (void)state;
    world_init(&xl, true, 1);
    job_world_init();
    job_type = "sd-xl-lora";
    snprintf(job_base, sizeof job_base, "%s", xl.folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    job_world_finish();
    world_finish(&xl);
    return 0;
}

static void a_training(const char *name, const char *parameters)
{
    make_job(name, parameters, prompt);
    write_text(name, "dataset/0002.png", "picture 9 120 60"); /* another shape than the others */
}

static unsigned learned(const char *job, const char *prefix)
{
    char path[job_path_max];
    struct safetensors *tensors;
    unsigned count = 0;
    path_in(job, weights, path);
    assert_ok(safetensors_open(path, &tensors));
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->tensors[i];
        const char *bytes = tensor->data;
        bool learns = false;
        for (size_t j = 0; j < tensor->bytes; j++)
            learns |= (bytes[j] & 0x7f) != 0;
        count += learns && !strncmp(tensor->name, prefix, strlen(prefix)) && strstr(tensor->name, ".lora_up.") != NULL;
    }
    assert_string_equal(json_string(tensors->metadata, "ss_base_model_version", ""), "sdxl_base_v1-0");
    safetensors_close(tensors);
    return count;
}

static const char both[] = ",\"numTextTrainSteps\":3,\"numUNetTrainSteps\":3,\"learningRate\":0.001,\"batchSize\":2,"
                           "\"validationFrequency\":3";

static void both_text_encoders_and_the_unet_learn(void **state)
{
    (void)state;
    a_training("both", both);
    assert_int_equal(run("both", 1), TRAINER_DONE);
    assert_true(learned("both", "lora_te1_") > 0);
    assert_true(learned("both", "lora_te2_") > 0);
    assert_true(learned("both", "lora_unet_") > 0);
    assert_int_equal(count_files("both", "out/samples/*/*.png"), 2);
}

static void interrupted_or_recomputed_it_ends_with_the_same_bytes(void **state)
{
    (void)state;
    char parameters[300];
    a_training("both-killed", both);
    run_and_kill("both-killed", 2);
    run_and_kill("both-killed", 5);
    assert_int_equal(run("both-killed", 3), TRAINER_DONE);
    assert_same_file("both", "both-killed", weights);
    assert_same_file("both", "both-killed", "out/samples/000002/00.png");
    snprintf(parameters, sizeof parameters, "%s,\"gradientCheckpointing\":true", both);
    a_training("both-again", parameters);
    assert_int_equal(run("both-again", 2), TRAINER_DONE);
    assert_same_file("both", "both-again", weights);
    struct arena arena;
    arena_init(&arena, 16 << 20);
    const struct json *kept = result_of(&arena, "both"), *again = result_of(&arena, "both-again");
    assert_false(json_bool(kept, "activationsRecomputed", true));
    assert_true(json_bool(again, "activationsRecomputed", false));
    assert_true(json_int(again, "stepBytes", 0) < json_int(kept, "stepBytes", 0));
    arena_finish(&arena);
}

static void a_generation(const char *name, const char *loras)
{
    char path[job_path_max], text[2 * job_path_max];
    path_in(name, "loras", path);
    assert_ok(fs_make_dirs(path));
    snprintf(text, sizeof text,
             "{\"version\":1,\"kind\":\"generation\",\"type\":\"sd-xl\",\"base\":{\"path\":\"%s\"},\"prompt\":\"cat\","
             "\"numInferenceSteps\":2,\"width\":32,\"height\":48,\"seeds\":[4],\"loras\":[%s]}",
             job_base, loras);
    write_text(name, "job.json", text);
}

static void what_was_learned_draws_from_a_folder_too(void **state)
{
    (void)state;
    static const char *const names[] = {"draw-0", "draw-1", "draw-none"};
    static const char *const loras[] = {"{\"file\":\"loras/00.safetensors\",\"scale\":0}",
                                        "{\"file\":\"loras/00.safetensors\",\"scale\":1}", ""};
    char from[job_path_max], to[job_path_max];
    for (int i = 0; i < 3; i++) {
        a_generation(names[i], loras[i]);
        path_in("both", weights, from);
        path_in(names[i], "loras/00.safetensors", to);
        assert_int_equal(symlink(from, to), 0);
        assert_int_equal(run(names[i], i + 1), TRAINER_DONE);
    }
    assert_same_file("draw-0", "draw-none", "out/samples/00.png");
    assert_false(same_file("draw-1", "draw-none", "out/samples/00.png"));
}

/* Pictures of one colour make the same latents whatever their size: what differs is what the time ids say. */
static void the_size_of_the_original_is_told_to_the_unet(void **state)
{
    (void)state;
    static const char one[] = ",\"maxTrainSteps\":1,\"learningRate\":0.001";
    static const char *const flat[] = {"picture 0 1 1", "picture 0 3 3"}; /* all of one colour, in two sizes */
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "large" : "small";
        a_training(name, one);
        write_text(name, "dataset/0001.png", flat[i]);
        write_text(name, "dataset/0002.png", flat[i]);
        write_text(name, "dataset/0003.png", flat[i]);
        assert_int_equal(run(name, 1), TRAINER_DONE);
    }
    assert_false(same_file("small", "large", weights));
}

static void a_base_of_the_other_family_is_refused(void **state)
{
    (void)state;
    job_type = "sd-1_5-lora";
    a_training("other", both);
    job_type = "sd-xl-lora";
    assert_int_equal(run("other", 1), TRAINER_FAILED);
    assert_failed("other", "base", "SD 1.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_text_encoders_and_the_unet_learn),
        cmocka_unit_test(interrupted_or_recomputed_it_ends_with_the_same_bytes),
        cmocka_unit_test(what_was_learned_draws_from_a_folder_too),
        cmocka_unit_test(the_size_of_the_original_is_told_to_the_unet),
        cmocka_unit_test(a_base_of_the_other_family_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
