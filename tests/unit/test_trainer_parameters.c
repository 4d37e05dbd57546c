/* Every parameter that the API gives SD models, by what it does to a training of a few steps. */
#include "job_world.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

static const char weights[] = "out/model.safetensors";

static int setup(void **state)
{
    (void)state;
    job_world_init();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    job_world_finish();
    return 0;
}

/* A finished training, its folder named after nothing but its number. */
static const char *trained(const char *parameters)
{
    static char names[64][16];
    static unsigned count;
    assert_true(count < 64);
    char *name = names[count];
    snprintf(name, sizeof names[0], "job-%u", count++);
    make_job(name, parameters, "");
    assert_int_equal(run_with(name, 1, (struct trainer_options){0}), TRAINER_DONE);
    return name;
}

static double last_rate(const char *job)
{
    struct arena arena;
    arena_init(&arena, 16 << 20);
    double rate = json_number(last_event_named(&arena, job, "progress"), "lr", NAN);
    arena_finish(&arena);
    return rate;
}

static double first_loss(const char *job)
{
    struct arena arena;
    arena_init(&arena, 16 << 20);
    const struct json *history = json_get(result_of(&arena, job), "lossHistory");
    double loss = json_item(json_item(history, 0), 1)->number;
    arena_finish(&arena);
    return loss;
}

static int64_t number_in_result(const char *job, const char *name)
{
    struct arena arena;
    arena_init(&arena, 16 << 20);
    int64_t number = json_int(result_of(&arena, job), name, -1);
    arena_finish(&arena);
    return number;
}

/* How many up factors with this prefix are not all zeros: they begin as zeros. */
static unsigned learned(const char *job, const char *file, const char *prefix)
{
    char path[job_path_max];
    struct safetensors *tensors;
    unsigned count = 0;
    path_in(job, file, path);
    assert_ok(safetensors_open(path, &tensors));
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->tensors[i];
        const char *bytes = tensor->data;
        if (strncmp(tensor->name, prefix, strlen(prefix)) != 0 || !strstr(tensor->name, ".lora_up."))
            continue;
        for (size_t j = 0; j < tensor->bytes; j++) {
            if (bytes[j] & 0x7f) {
                count++;
                break;
            }
        }
    }
    safetensors_close(tensors);
    return count;
}

/* The largest difference of two jobs' numbers, relative to the largest of them. */
static double difference(const char *left, const char *right)
{
    char path[job_path_max];
    struct safetensors *files[2];
    double most = 0, largest = 0;
    path_in(left, weights, path);
    assert_ok(safetensors_open(path, &files[0]));
    path_in(right, weights, path);
    assert_ok(safetensors_open(path, &files[1]));
    assert_int_equal(files[0]->count, files[1]->count);
    for (size_t i = 0; i < files[0]->count; i++) {
        const struct tensor *tensor = &files[0]->tensors[i];
        float *a = malloc(tensor->count * sizeof *a), *b = malloc(tensor->count * sizeof *b);
        assert_ok(tensor_read(tensor, a));
        assert_ok(tensor_read(&files[1]->tensors[i], b));
        for (size_t j = 0; strstr(tensor->name, ".lora_up.") && j < tensor->count; j++) {
            most = fmax(most, fabs((double)a[j] - (double)b[j]));
            largest = fmax(largest, fabs((double)a[j]));
        }
        free(a);
        free(b);
    }
    safetensors_close(files[0]);
    safetensors_close(files[1]);
    return most / largest;
}

/* ---- learning rates; the base that ships multiplies them by 200 ---- */

static const double base_rate = 5e-6 * 200;

static void each_lr_scheduler_ends_at_its_own_rate(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double factor; /* of the fifth step of five */
    } schedulers[] = {
        {"constant", 1},
        {"constant-with-warmup", 1},
        {"linear", 0.2},
        {"cosine", 0.09549150281252627},
        {"cosine-with-restarts", 0.09549150281252627}, /* one cycle, as in diffusers */
        {"polynomial", 0.2 + 0.8 * 1e-7 / 1e-3},       /* of power 1, to 1e-7 */
    };
    for (size_t i = 0; i < sizeof schedulers / sizeof *schedulers; i++) {
        char parameters[128];
        snprintf(parameters, sizeof parameters, ",\"maxTrainSteps\":5,\"lrScheduler\":\"%s\"", schedulers[i].name);
        assert_true(fabs(last_rate(trained(parameters)) / (base_rate * schedulers[i].factor) - 1) < 1e-9);
    }
}

static void a_warm_up_begins_at_nothing(void **state)
{
    (void)state;
    const char *job = trained(",\"maxTrainSteps\":1,\"lrScheduler\":\"constant-with-warmup\"");
    assert_true(last_rate(job) == 0);
    assert_int_equal(learned(job, weights, "lora_"), 0);
    assert_true(learned(trained(",\"maxTrainSteps\":1,\"lrScheduler\":\"constant\""), weights, "lora_") > 0);
}

static void an_unknown_lr_scheduler_is_refused(void **state)
{
    (void)state;
    make_job("unknown", ",\"lrScheduler\":\"cubic\"", "");
    assert_int_equal(run("unknown", 1), TRAINER_FAILED);
    assert_failed("unknown", "data", "lrScheduler");
}

static void unet_and_text_encoder_have_rates_of_their_own(void **state)
{
    (void)state;
    assert_true(fabs(last_rate(trained(",\"maxTrainSteps\":1,\"learningRateUnet\":0.000002")) / 4e-4 - 1) < 1e-9);
    const char *text = trained(",\"numTextTrainSteps\":1,\"numUNetTrainSteps\":0,\"learningRateTextEncoder\":0.000001");
    assert_true(fabs(last_rate(text) / 2e-4 - 1) < 1e-9);
    const char *still = trained(",\"numTextTrainSteps\":1,\"numUNetTrainSteps\":1,\"learningRateTextEncoder\":0");
    assert_int_equal(learned(still, weights, "lora_te_"), 0);
    assert_true(learned(still, weights, "lora_unet_") > 0);
}

static void a_rate_that_nothing_uses_is_said(void **state)
{
    (void)state;
    assert_int_equal(count_events(trained(",\"maxTrainSteps\":1,\"learningRateTextEncoder\":0.000001"), "warning"), 1);
    assert_int_equal(count_events(trained(",\"maxTrainSteps\":1"), "warning"), 0);
}

/* ---- steps ---- */

static void text_encoder_and_unet_train_for_their_steps_one_after_the_other(void **state)
{
    (void)state;
    const char *both = trained(",\"numTextTrainSteps\":2,\"numUNetTrainSteps\":3,\"validationFrequency\":2");
    assert_int_equal(number_in_result(both, "steps"), 5);
    assert_true(learned(both, "out/epochs/000001.safetensors", "lora_te_") > 0);
    assert_int_equal(learned(both, "out/epochs/000001.safetensors", "lora_unet_"), 0);
    assert_true(learned(both, weights, "lora_unet_") > 0);
    const char *unet = trained(",\"numTextTrainSteps\":0,\"numUNetTrainSteps\":2");
    assert_int_equal(number_in_result(unet, "steps"), 2);
    assert_int_equal(learned(unet, weights, "lora_te_"), 0);
    const char *rest = trained(",\"numTextTrainSteps\":2,\"maxTrainSteps\":1");
    assert_int_equal(number_in_result(rest, "steps"), 3);
}

static void the_ratio_gives_the_text_encoder_its_share(void **state)
{
    (void)state;
    const char *ratio = trained(",\"maxTrainSteps\":4,\"textEncoderTrainingRatio\":0.5");
    const char *steps = trained(",\"numTextTrainSteps\":2,\"numUNetTrainSteps\":2");
    assert_same_file(ratio, steps, weights);
}

static void epochs_repeats_and_batch_size_make_the_steps(void **state)
{
    (void)state;
    const char *job = trained(",\"nbEpochs\":2,\"nbRepeats\":3,\"batchSize\":2"); /* 9 pictures: 5 batches */
    assert_int_equal(number_in_result(job, "steps"), 10);
    assert_int_equal(count_files(job, "out/epochs/*.safetensors"), 2);
    const char *whole = trained(",\"nbEpochs\":1,\"nbRepeats\":1,\"batchSize\":3");
    assert_int_equal(number_in_result(whole, "steps"), 1);
    const char *capped = trained(",\"nbEpochs\":3,\"nbRepeats\":1,\"batchSize\":3,\"maxTrainSteps\":2");
    assert_int_equal(number_in_result(capped, "steps"), 2);
}

/* The same pictures with the same noise: the same gradient, but for the order of sums. */
static void accumulated_batches_are_one_large_batch(void **state)
{
    (void)state;
    const char *large = trained(",\"maxTrainSteps\":2,\"batchSize\":4,\"nbRepeats\":4");
    const char *small = trained(",\"maxTrainSteps\":2,\"batchSize\":2,\"gradientAccumulationSteps\":2,\"nbRepeats\":4");
    assert_true(fabs(first_loss(large) / first_loss(small) - 1) < 1e-5);
    assert_true(difference(large, small) < 0.01);
    const char *other = trained(",\"maxTrainSteps\":2,\"batchSize\":2,\"nbRepeats\":4");
    assert_true(difference(large, other) > 0.1);
}

static void the_rank_is_that_of_the_factors(void **state)
{
    (void)state;
    char path[job_path_max];
    struct safetensors *file;
    path_in(trained(",\"maxTrainSteps\":1,\"rank\":5"), weights, path);
    assert_ok(safetensors_open(path, &file));
    assert_string_equal(json_string(file->metadata, "ss_network_dim", ""), "5");
    for (size_t i = 0; i < file->count; i++) {
        if (strstr(file->tensors[i].name, ".lora_down."))
            assert_int_equal(file->tensors[i].shape[0], 5);
    }
    safetensors_close(file);
}

static void another_seed_is_another_training(void **state)
{
    (void)state;
    char path[job_path_max], *text;
    size_t size;
    struct arena arena;
    const char *job = trained(",\"maxTrainSteps\":1");
    arena_init(&arena, 1 << 20);
    make_job("seed", ",\"maxTrainSteps\":1", "");
    path_in("seed", "job.json", path);
    assert_ok(fs_read(&arena, path, 1 << 20, &text, &size));
    strstr(text, "\"seed\":9")[7] = '8';
    write_text("seed", "job.json", text);
    assert_int_equal(run("seed", 1), TRAINER_DONE);
    assert_false(same_file(job, "seed", weights));
    arena_finish(&arena);
}

static void the_validation_frequency_makes_the_checkpoints(void **state)
{
    (void)state;
    static const char prompts[] = "{\"text\":\"cat\",\"steps\":1,\"seed\":1},{\"text\":\"tree\",\"steps\":1}";
    make_job("validated", ",\"maxTrainSteps\":5,\"validationFrequency\":2", prompts);
    assert_int_equal(run("validated", 1), TRAINER_DONE);
    assert_int_equal(count_files("validated", "out/epochs/*.safetensors"), 3); /* after 2, 4 and all 5 */
    assert_int_equal(count_files("validated", "out/samples/*/*.png"), 6);
    make_job("at-the-end", ",\"maxTrainSteps\":5", prompts);
    assert_int_equal(run("at-the-end", 1), TRAINER_DONE);
    assert_int_equal(count_files("at-the-end", "out/samples/*/*.png"), 2);
}

static void the_lora_has_the_names_of_the_asked_format(void **state)
{
    (void)state;
    char path[job_path_max];
    struct safetensors *file;
    path_in(trained(",\"maxTrainSteps\":1,\"loraFormat\":\"diffusers\""), weights, path);
    assert_ok(safetensors_open(path, &file));
    for (size_t i = 0; i < file->count; i++)
        assert_true(strncmp(file->tensors[i].name, "unet.", 5) == 0);
    safetensors_close(file);
}

/* ---- the loss ---- */

static void min_snr_takes_weight_from_the_loss(void **state)
{
    (void)state;
    const char *plain = trained(",\"maxTrainSteps\":1,\"batchSize\":3"),
               *weighted = trained(",\"maxTrainSteps\":1,\"batchSize\":3,\"minSnrGamma\":0.1");
    assert_true(first_loss(weighted) < 0.5 * first_loss(plain));
}

static void the_class_loss_counts_by_its_weight(void **state)
{
    (void)state;
    const char *without = trained(",\"maxTrainSteps\":1,\"conceptPrompt\":\"\"");
    const char *half = trained(",\"maxTrainSteps\":1,\"classPrompt\":\"cat\",\"priorLossWeight\":0.5");
    const char *whole = trained(",\"maxTrainSteps\":1,\"classPrompt\":\"cat\",\"priorLossWeight\":1");
    double class_half = first_loss(half) - first_loss(without), class_whole = first_loss(whole) - first_loss(without);
    assert_true(class_half > 0 && fabs(class_whole / class_half - 2) < 1e-3);
    assert_int_equal(count_files(half, "class/*.png"), 8);
    assert_int_equal(count_files(without, "class/*"), 0);
    assert_same_file(half, whole, "class/0003.png");
}

static void *stop_after_two_class_pictures(void *unused)
{
    (void)unused;
    int64_t until = clock_monotonic_ms() + 60000;
    while (!has_file("class-stopped", "class/0002.png") && clock_monotonic_ms() < until)
        usleep(1000);
    job_stop = 1;
    return NULL;
}

static void class_pictures_are_made_once(void **state)
{
    (void)state;
    static const char parameters[] = ",\"maxTrainSteps\":1,\"classPrompt\":\"tree\"";
    pthread_t thread;
    make_job("class-stopped", parameters, "");
    pthread_create(&thread, NULL, stop_after_two_class_pictures, NULL);
    assert_int_equal(run("class-stopped", 1), TRAINER_CANCELED);
    pthread_join(thread, NULL);
    job_stop = 0;
    assert_true(count_files("class-stopped", "class/*.png") < 8);
    assert_int_equal(run("class-stopped", 1), TRAINER_DONE);
    const char *whole = trained(parameters);
    assert_same_file(whole, "class-stopped", weights);
    make_job("class-given", parameters, ""); /* what is there is not made again */
    char path[job_path_max];
    path_in("class-given", "class", path);
    assert_ok(fs_make_dirs(path));
    write_text("class-given", "class/0001.png", "picture 77 64 64");
    assert_int_equal(run("class-given", 1), TRAINER_DONE);
    assert_false(same_file(whole, "class-given", weights));
}

/* ---- pictures ---- */

static void the_concept_is_in_every_caption(void **state)
{
    (void)state;
    const char *daiton = trained(",\"maxTrainSteps\":3");
    assert_same_file(daiton, trained(",\"maxTrainSteps\":3,\"conceptPrompt\":\"daiton\""), weights);
    assert_false(same_file(daiton, trained(",\"maxTrainSteps\":3,\"conceptPrompt\":\"house\""), weights));
}

static void random_crops_come_as_often_and_as_small_as_asked(void **state)
{
    (void)state;
#define CROP ",\"maxTrainSteps\":2,\"randomCrop\":true"
    const char *centre = trained(",\"maxTrainSteps\":2");
    assert_same_file(centre, trained(CROP ",\"randomCropRatio\":0"), weights);
    const char *crop = trained(CROP ",\"randomCropRatio\":1,\"randomCropScale\":0.9");
    assert_false(same_file(centre, crop, weights));
    assert_false(same_file(crop, trained(CROP ",\"randomCropRatio\":1,\"randomCropScale\":0.5"), weights));
}

static const char *trained_on(const char *name, const char *picture, const char *parameters)
{
    make_job(name, parameters, "");
    for (int i = 1; i <= 3; i++) {
        char file[32];
        snprintf(file, sizeof file, "dataset/%04d.png", i);
        write_text(name, file, picture);
    }
    assert_int_equal(run(name, 1), TRAINER_DONE);
    return name;
}

static void pictures_keep_their_shape_unless_told_otherwise(void **state)
{
    (void)state;
    static const char squares[] = ",\"maxTrainSteps\":2,\"aspectBuckets\":false", buckets[] = ",\"maxTrainSteps\":2";
    const char *wide = trained_on("wide", "picture 9 320 96", buckets);
    assert_false(same_file(wide, trained_on("wide-cut", "picture 9 320 96", squares), weights));
    const char *square = trained_on("square", "picture 9 96 96", buckets);
    assert_same_file(square, trained_on("square-cut", "picture 9 96 96", squares), weights);
}

static void shapes_may_be_mixed_and_interrupted(void **state)
{
    (void)state;
    static const char parameters[] = ",\"maxTrainSteps\":6,\"batchSize\":2,\"nbRepeats\":3,\"validationFrequency\":3";
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "mixed-killed" : "mixed";
        make_job(name, parameters, "");
        write_text(name, "dataset/0002.png", "picture 9 320 96");
        if (i) {
            run_and_kill(name, 2);
            run_and_kill(name, 4);
        }
        assert_int_equal(run(name, 1 + (unsigned)i), TRAINER_DONE);
    }
    assert_same_file("mixed", "mixed-killed", weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_lr_scheduler_ends_at_its_own_rate),
        cmocka_unit_test(a_warm_up_begins_at_nothing),
        cmocka_unit_test(an_unknown_lr_scheduler_is_refused),
        cmocka_unit_test(unet_and_text_encoder_have_rates_of_their_own),
        cmocka_unit_test(a_rate_that_nothing_uses_is_said),
        cmocka_unit_test(text_encoder_and_unet_train_for_their_steps_one_after_the_other),
        cmocka_unit_test(the_ratio_gives_the_text_encoder_its_share),
        cmocka_unit_test(epochs_repeats_and_batch_size_make_the_steps),
        cmocka_unit_test(accumulated_batches_are_one_large_batch),
        cmocka_unit_test(the_rank_is_that_of_the_factors),
        cmocka_unit_test(another_seed_is_another_training),
        cmocka_unit_test(the_validation_frequency_makes_the_checkpoints),
        cmocka_unit_test(the_lora_has_the_names_of_the_asked_format),
        cmocka_unit_test(min_snr_takes_weight_from_the_loss),
        cmocka_unit_test(the_class_loss_counts_by_its_weight),
        cmocka_unit_test(class_pictures_are_made_once),
        cmocka_unit_test(the_concept_is_in_every_caption),
        cmocka_unit_test(random_crops_come_as_often_and_as_small_as_asked),
        cmocka_unit_test(pictures_keep_their_shape_unless_told_otherwise),
        cmocka_unit_test(shapes_may_be_mixed_and_interrupted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
