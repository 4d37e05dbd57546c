/* Trainings of a few steps on the base that ships: the same bytes however often they are interrupted, and failures that
 * say what is wrong. */
#include "job_world.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "engine/rng.h"

enum { patience_ms = 60000 };

/* A checkpoint after three. */
static const char six_steps[] = ",\"maxTrainSteps\":6,\"validationFrequency\":3";

static const char one_prompt[] =
    "{\"text\":\"daiton, cat\",\"negative\":\"fog\",\"seed\":3,\"steps\":2,\"scheduler\":\"euler\"}";

static void assert_same_results(const char *left, const char *right)
{
    assert_same_file(left, right, "out/model.safetensors");
    assert_same_file(left, right, "out/epochs/000001.safetensors");
    assert_same_file(left, right, "out/epochs/000002.safetensors");
}

/* ---- the tests ---- */

static int setup(void **state)
{
    (void)state;
    job_world_init();
    make_job("reference", six_steps, one_prompt);
    assert_int_equal(run("reference", 1), TRAINER_DONE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    job_world_finish();
    return 0;
}

static void a_training_leaves_weights_samples_and_a_result(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    const struct json *result = result_of(&arena, "reference");
    assert_int_equal(json_int(result, "steps", 0), 6);
    assert_int_equal(json_get(result, "lossHistory")->count, 6);
    assert_int_equal(json_get(result, "files")->count, 5);
    assert_true(json_number(result, "finalLoss", 0) > 0);
    assert_string_equal(json_string(last_event(&arena, "reference"), "event", ""), "done");
    assert_int_equal(count_events("reference", "sample"), 2);
    assert_int_equal(count_events("reference", "checkpoint"), 2);
    assert_true(has_file("reference", "out/samples/000002/00.png"));
    assert_false(has_file("reference", "state"));
    assert_int_equal(count_files("reference", "out/*tmp*"), 0);
    arena_finish(&arena);
}

/* The line of the n-th event of a name. */
static size_t line_of(const char *job, const char *name, unsigned n)
{
    struct arena arena;
    size_t size, line = 0;
    char *rest, needle[64];
    arena_init(&arena, 64 << 20);
    snprintf(needle, sizeof needle, "\"event\":\"%s\"", name);
    char *text = file_of(&arena, job, "events.ndjson", &size);
    for (char *at = strtok_r(text, "\n", &rest); at && n; at = strtok_r(NULL, "\n", &rest)) {
        line++;
        n -= strstr(at, needle) != NULL;
    }
    arena_finish(&arena);
    return n ? SIZE_MAX : line;
}

static void assert_describes_sample(const struct json *sample)
{
    assert_string_equal(json_string(sample, "prompt", ""), "daiton, cat");
    assert_string_equal(json_string(sample, "negativePrompt", ""), "fog");
    assert_string_equal(json_string(sample, "scheduler", ""), "EulerDiscreteScheduler");
    assert_string_equal(json_string(sample, "path", ""), "out/samples/000002/00.png");
    assert_string_equal(json_string(sample, "lora", ""), "out/epochs/000002.safetensors");
    assert_string_equal(json_string(sample, "base", ""), "base");
    assert_int_equal(json_int(sample, "seed", 0), 3);
    assert_int_equal(json_int(sample, "steps", 0), 2);
    assert_int_equal(json_int(sample, "epoch", 0), 2);
    assert_int_equal(json_int(sample, "width", 0), 32);
    assert_int_equal(json_int(sample, "height", 0), 32);
    assert_true(json_number(sample, "guidance", 0) == 2); /* the base's, as resolved */
}

static void weights_come_before_samples_and_samples_say_how_they_were_made(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    for (unsigned epoch = 1; epoch <= 2; epoch++)
        assert_true(line_of("reference", "checkpoint", epoch) < line_of("reference", "sample", epoch));
    assert_true(line_of("reference", "sample", 1) < line_of("reference", "checkpoint", 2));
    const struct json *samples = json_get(result_of(&arena, "reference"), "samples");
    assert_int_equal(samples->count, 2);
    assert_describes_sample(json_item(samples, 1));
    assert_describes_sample(last_event_named(&arena, "reference", "sample"));
    arena_finish(&arena);
}

static void up_factors_have_been_learned(void **state)
{
    (void)state;
    char path[job_path_max];
    struct safetensors *file;
    size_t up = 0, learned = 0;
    path_in("reference", "out/model.safetensors", path);
    assert_ok(safetensors_open(path, &file));
    for (size_t i = 0; i < file->count; i++) {
        if (!strstr(file->tensors[i].name, ".lora_up.weight"))
            continue;
        up++;
        for (size_t j = 0; j < file->tensors[i].bytes; j++) {
            if (((const char *)file->tensors[i].data)[j]) {
                learned++;
                break;
            }
        }
    }
    assert_true(up > 20 && learned * 10 >= up * 9);
    assert_string_equal(json_string(file->metadata, "ss_network_module", ""), "networks.lora");
    assert_string_equal(json_string(file->metadata, "ss_network_dim", ""), "2");
    safetensors_close(file);
}

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    static const char *const jobs[] = {NULL, NULL, "threads-2", "threads-3"};
    for (unsigned threads = 2; threads <= 3; threads++) {
        make_job(jobs[threads], six_steps, "");
        assert_int_equal(run(jobs[threads], threads), TRAINER_DONE);
        assert_same_results("reference", jobs[threads]);
    }
}

static void any_kind_of_cpu_gives_the_same_bytes(void **state)
{
    (void)state;
    static const char *const sets[] = {"avx2", "avx512"}; /* "portable" takes long: test_gradients has it */
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        make_job(sets[i], six_steps, one_prompt);
        enum trainer_exit outcome = run_with(sets[i], 2, (struct trainer_options){.kernels = sets[i]});
        if (outcome == TRAINER_FAILED) {
            print_message("this CPU has no %s\n", sets[i]);
            assert_failed(sets[i], "base", "kernels");
            continue;
        }
        assert_int_equal(outcome, TRAINER_DONE);
        assert_same_results("reference", sets[i]);
        assert_same_file("reference", sets[i], "out/samples/000002/00.png");
    }
}

static void a_finished_folder_is_left_alone(void **state)
{
    (void)state;
    struct arena arena;
    size_t before, after;
    arena_init(&arena, 64 << 20);
    file_of(&arena, "reference", "events.ndjson", &before);
    assert_int_equal(run("reference", 1), TRAINER_DONE);
    file_of(&arena, "reference", "events.ndjson", &after);
    assert_int_equal(before, after);
    arena_finish(&arena);
}

/* At steps and places of the epoch that the clock draws. MAQUETTE_SEED repeats a run. */
static void killed_at_random_it_still_ends_with_the_same_bytes(void **state)
{
    (void)state;
    const char *given = getenv("MAQUETTE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)clock_now_ms();
    print_message("MAQUETTE_SEED=%llu\n", (unsigned long long)seed);
    for (uint32_t round = 0; round < 2; round++) {
        const char *job = round ? "killed-1" : "killed-0";
        struct rng rng = {.seed = seed, .step = round};
        unsigned first = 1 + rng_below(&rng, 0, 5), second = first + 1 + rng_below(&rng, 1, 4);
        make_job(job, six_steps, one_prompt);
        run_and_kill(job, first);
        usleep(rng_below(&rng, 2, 20000));
        run_and_kill(job, second);
        assert_int_equal(run(job, 1 + round), TRAINER_DONE);
        assert_same_results("reference", job);
        assert_same_file("reference", job, "out/samples/000001/00.png");
        assert_same_file("reference", job, "out/samples/000002/00.png");
        assert_int_equal(count_events(job, "checkpoint"), 2);
        assert_int_equal(count_events(job, "sample"), 2);
    }
}

static void an_event_torn_by_a_kill_is_passed_over(void **state)
{
    (void)state;
    char path[job_path_max];
    make_job("torn", six_steps, "");
    run_and_kill("torn", 2);
    path_in("torn", "events.ndjson", path);
    FILE *events = fopen(path, "ae");
    fputs("{\"seq\":99,\"time", events);
    fclose(events);
    assert_int_equal(run("torn", 1), TRAINER_DONE);
    assert_same_results("reference", "torn");
    assert_true(count_events("torn", "log") >= 1);
}

static void *stop_after_the_first_step(void *job)
{
    int64_t until = clock_monotonic_ms() + patience_ms;
    while (!count_events(job, "progress") && clock_monotonic_ms() < until)
        usleep(1000);
    job_stop = 1;
    return NULL;
}

static void a_stopped_training_says_so_and_can_go_on(void **state)
{
    (void)state;
    struct arena arena;
    pthread_t thread;
    make_job("stopped", ",\"maxTrainSteps\":500", "");
    pthread_create(&thread, NULL, stop_after_the_first_step, (char[]){"stopped"});
    assert_int_equal(run_with("stopped", 1, (struct trainer_options){0}), TRAINER_CANCELED);
    pthread_join(thread, NULL);
    job_stop = 0;
    arena_init(&arena, 64 << 20);
    assert_string_equal(json_string(last_event(&arena, "stopped"), "event", ""), "canceled");
    arena_finish(&arena);
    assert_int_equal(count_files("stopped", "state/step-*.safetensors"), 1);
    assert_false(has_file("stopped", "out/result.json"));
}

static void text_encoder_and_class_pictures_train_too(void **state)
{
    (void)state;
    static const char parameters[] = ",\"numTextTrainSteps\":3,\"numUNetTrainSteps\":3,\"validationFrequency\":3,"
                                     "\"lrScheduler\":\"cosine\",\"batchSize\":2";
    static const char class_parameters[] = ",\"maxTrainSteps\":2,\"classPrompt\":\"cat\",\"randomCrop\":true";
    make_job("text", parameters, "{\"text\":\"cat\",\"steps\":1}");
    assert_int_equal(run("text", 2), TRAINER_DONE);
    make_job("text-killed", parameters, "");
    run_and_kill("text-killed", 2);
    run_and_kill("text-killed", 5);
    assert_int_equal(run("text-killed", 1), TRAINER_DONE);
    assert_same_results("text", "text-killed");
    make_job("class", class_parameters, "");
    assert_int_equal(run("class", 2), TRAINER_DONE);
}

static void a_sample_that_cannot_be_made_is_a_warning(void **state)
{
    (void)state;
    int refusal = 0;
    make_job("no-samples", ",\"maxTrainSteps\":1", "{\"text\":\"cat\",\"steps\":1},{\"text\":\"cat\",\"width\":63}");
    assert_int_equal(run_with("no-samples", 1, (struct trainer_options){.io.context = &refusal}), TRAINER_DONE);
    assert_int_equal(count_events("no-samples", "warning"), 2);
    assert_int_equal(count_events("no-samples", "sample"), 0);
    assert_int_equal(count_events("no-samples", "checkpoint"), 1);
    assert_true(has_file("no-samples", "out/epochs/000001.safetensors"));
}

static void an_unreadable_picture_is_named(void **state)
{
    (void)state;
    struct arena arena;
    make_job("unreadable", six_steps, "");
    write_text("unreadable", "dataset/0002.png", "nonsense");
    assert_int_equal(run("unreadable", 1), TRAINER_FAILED);
    assert_failed("unreadable", "data", "0002.png");
    arena_init(&arena, 64 << 20);
    assert_string_equal(json_string(last_event(&arena, "unreadable"), "sourceId", ""), "asset_2");
    arena_finish(&arena);
}

static void a_missing_base_is_blamed(void **state)
{
    (void)state;
    char kept[job_path_max];
    memcpy(kept, job_base, sizeof kept);
    snprintf(job_base, sizeof job_base, "%s/nothing", job_world);
    make_job("baseless", six_steps, "");
    memcpy(job_base, kept, sizeof job_base);
    assert_int_equal(run("baseless", 1), TRAINER_FAILED);
    assert_failed("baseless", "base", "nothing");
}

static void too_little_memory_is_said_before_it_is_taken(void **state)
{
    (void)state;
    make_job("memory", six_steps, "");
    assert_int_equal(run_with("memory", 1, (struct trainer_options){.memory_bytes = 1 << 20}), TRAINER_FAILED);
    assert_failed("memory", "memory", "needs");
}

/* A limit on file size stands for a disk that is full after some kilobytes. */
static void a_full_disk_ends_in_a_failed_job_with_nothing_half_written(void **state)
{
    (void)state;
    int status;
    make_job("full", six_steps, "");
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        struct rlimit limit = {100000, 100000};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(run("full", 1));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == TRAINER_FAILED);
    assert_failed("full", "disk", "write");
    assert_int_equal(count_files("full", "state/*"), 0);
    assert_int_equal(count_files("full", "out/*"), 0);
    assert_int_equal(run("full", 1), TRAINER_DONE); /* space was made */
    assert_same_results("reference", "full");
}

static void parameters_out_of_bounds_are_refused(void **state)
{
    (void)state;
    make_job("bounds", ",\"batchSize\":99", "");
    assert_int_equal(run("bounds", 1), TRAINER_FAILED);
    assert_failed("bounds", "data", "batchSize");
}

static void two_trainers_never_share_a_folder(void **state)
{
    (void)state;
    char path[job_path_max];
    make_job("locked", six_steps, "");
    path_in("locked", "lock", path);
    CLEANUP_FD int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(run("locked", 1), TRAINER_FAILED);
    assert_false(has_file("locked", "events.ndjson"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_training_leaves_weights_samples_and_a_result),
        cmocka_unit_test(weights_come_before_samples_and_samples_say_how_they_were_made),
        cmocka_unit_test(up_factors_have_been_learned),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(any_kind_of_cpu_gives_the_same_bytes),
        cmocka_unit_test(a_finished_folder_is_left_alone),
        cmocka_unit_test(killed_at_random_it_still_ends_with_the_same_bytes),
        cmocka_unit_test(an_event_torn_by_a_kill_is_passed_over),
        cmocka_unit_test(a_stopped_training_says_so_and_can_go_on),
        cmocka_unit_test(text_encoder_and_class_pictures_train_too),
        cmocka_unit_test(a_sample_that_cannot_be_made_is_a_warning),
        cmocka_unit_test(an_unreadable_picture_is_named),
        cmocka_unit_test(a_missing_base_is_blamed),
        cmocka_unit_test(too_little_memory_is_said_before_it_is_taken),
        cmocka_unit_test(a_full_disk_ends_in_a_failed_job_with_nothing_half_written),
        cmocka_unit_test(parameters_out_of_bounds_are_refused),
        cmocka_unit_test(two_trainers_never_share_a_folder),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
