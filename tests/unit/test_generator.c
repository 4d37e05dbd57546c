/* Generations: pictures that are the same whatever the threads and the interruptions, and folders that are refused. */
#include "job_world.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

enum { patience_ms = 60000, text_max = 4096 };

/* Members begin with a comma each, and win over the usual ones. */
static void make_generation(const char *job, const char *members)
{
    char path[job_path_max], text[text_max];
    path_in(job, ".", path);
    assert_ok(fs_make_dirs(path));
    snprintf(
        text, sizeof text,
        "{\"version\":1,\"kind\":\"generation\"%s,\"prompt\":\"a cat\",\"type\":\"sd-1_5\",\"base\":{\"path\":\"%s\"}}",
        members, job_base);
    write_text(job, "job.json", text);
}

static void assert_same_pictures(const char *left, const char *right)
{
    assert_same_file(left, right, "out/samples/00.png");
    assert_same_file(left, right, "out/samples/01.png");
    assert_same_file(left, right, "out/result.json");
}

static void threads_and_kills_change_no_byte(void **state)
{
    (void)state;
    static const char members[] = ",\"seeds\":[3,4],\"numInferenceSteps\":8,\"scheduler\":\"dpmpp_2m\"";
    make_generation("one", members);
    make_generation("three", members);
    make_generation("killed", members);
    assert_int_equal(run("one", 1), TRAINER_DONE);
    assert_int_equal(run("three", 3), TRAINER_DONE);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        _exit(run("killed", 1));
    const int64_t until = clock_monotonic_ms() + patience_ms;
    while (!count_events("killed", "sample") && clock_monotonic_ms() < until)
        usleep(1000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(run("killed", 1), TRAINER_DONE);
    assert_same_pictures("one", "three");
    assert_same_pictures("one", "killed");
    assert_int_equal(count_events("killed", "sample"), 2);
    assert_false(has_file("killed", "out/samples/02.png"));
}

static void each_seed_is_a_picture_of_its_own(void **state)
{
    (void)state;
    struct arena arena;
    size_t sizes[2];
    arena_init(&arena, 64 << 20);
    make_generation("both", ",\"seeds\":[3,4]");
    make_generation("second", ",\"seeds\":[4]");
    assert_int_equal(run("both", 1), TRAINER_DONE);
    assert_int_equal(run("second", 1), TRAINER_DONE);
    const char *both = file_of(&arena, "both", "out/samples/01.png", &sizes[0]);
    const char *second = file_of(&arena, "second", "out/samples/00.png", &sizes[1]);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(both, second, sizes[0]);
    const char *first = file_of(&arena, "both", "out/samples/00.png", &sizes[1]);
    assert_memory_not_equal(both, first, sizes[0]);
    const struct json *event = last_event_named(&arena, "both", "sample");
    assert_int_equal(json_int(event, "seed", 0), 4);
    assert_int_equal(json_int(event, "promptIndex", 0), 1);
    assert_int_equal(json_int(event, "width", 0), strtol(second + strlen("rgb "), NULL, 10)); /* the base's own */
    assert_int_equal(json_int(event, "steps", 0), 3);
    assert_string_equal(json_string(event, "scheduler", ""), "DDIMScheduler");
    arena_finish(&arena);
}

static void guidance_below_1_is_none_and_told_as_asked(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    make_generation("none", ",\"seeds\":[3],\"guidance\":0");
    make_generation("unit", ",\"seeds\":[3],\"guidance\":1");
    assert_int_equal(run("none", 1), TRAINER_DONE);
    assert_int_equal(run("unit", 1), TRAINER_DONE);
    assert_same_file("none", "unit", "out/samples/00.png");
    assert_true(json_number(last_event_named(&arena, "none", "sample"), "guidance", -1) == 0);
    arena_finish(&arena);
}

/* Killed between the two: what is there is not drawn again. */
static void a_picture_that_is_there_is_only_announced(void **state)
{
    (void)state;
    char path[job_path_max];
    struct arena arena;
    size_t size;
    arena_init(&arena, 64 << 20);
    make_generation("there", ",\"seeds\":[3]");
    path_in("there", "out/samples", path);
    assert_ok(fs_make_dirs(path));
    write_text("there", "out/samples/00.png", "as it was");
    assert_int_equal(run("there", 1), TRAINER_DONE);
    assert_string_equal(file_of(&arena, "there", "out/samples/00.png", &size), "as it was");
    assert_int_equal(count_events("there", "sample"), 1);
    assert_int_equal(run("there", 1), TRAINER_DONE); /* a finished folder is left as it is */
    assert_int_equal(count_events("there", "done"), 1);
    arena_finish(&arena);
}

static void a_stop_cancels_and_the_next_run_goes_on(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    make_generation("stop", ",\"seeds\":[3]");
    job_stop = 1;
    assert_int_equal(run("stop", 1), TRAINER_CANCELED);
    job_stop = 0;
    assert_string_equal(json_string(last_event(&arena, "stop"), "event", ""), "canceled");
    assert_false(has_file("stop", "out/samples/00.png"));
    assert_int_equal(run("stop", 1), TRAINER_DONE);
    arena_finish(&arena);
}

static void what_cannot_be_drawn_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *members, *words;
    } cases[] = {
        {"", "1 to 128 seeds"},
        {",\"seeds\":[]", "1 to 128 seeds"},
        {",\"seeds\":[-1]", "seeds[0]"},
        {",\"seeds\":[\"1\"]", "seeds[0]"},
        {",\"seeds\":[1],\"width\":60.5", "width must be a whole number"},
        {",\"seeds\":[1],\"width\":-8", "width must be 0 to"},
        {",\"seeds\":[1],\"width\":63", "width and height must be multiples of"},
        {",\"seeds\":[1],\"numInferenceSteps\":251", "numInferenceSteps must be 0 to 250"},
        {",\"seeds\":[1],\"guidance\":51", "guidance must be 0 to 50"},
        {",\"seeds\":[1],\"scheduler\":\"magic\"", "scheduler is not known"},
        {",\"seeds\":[1],\"loras\":[{\"file\":\"../x.safetensors\"}]", "loras[0]"},
        {",\"seeds\":[1],\"loras\":[{\"file\":\"/x.safetensors\"}]", "loras[0]"},
        {",\"seeds\":[1],\"loras\":[{\"file\":\"x\",\"scale\":1e300}]", "loras[0]"},
        {",\"seeds\":[1],\"loras\":[{\"file\":\"loras/none.safetensors\"}]", "none.safetensors"},
        {",\"seeds\":[1],\"type\":\"sd-xl\"", "SDXL base model"},
        {",\"seeds\":[1],\"base\":{\"path\":\"/nowhere\"}", "nowhere"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena;
        char job[16];
        arena_init(&arena, 64 << 20);
        snprintf(job, sizeof job, "bad%zu", i);
        make_generation(job, cases[i].members);
        assert_int_equal(run(job, 1), TRAINER_FAILED);
        const struct json *event = last_event(&arena, job);
        assert_string_equal(json_string(event, "event", ""), "failed");
        if (!strstr(json_string(event, "error", ""), cases[i].words))
            fail_msg("%s: %s", cases[i].members, json_string(event, "error", ""));
        assert_true(strlen(json_string(event, "hint", "")) > 20);
        arena_finish(&arena);
    }
}

static int open_world(void **state)
{
    (void)state;
    job_world_init();
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    job_world_finish();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_kills_change_no_byte),
        cmocka_unit_test(each_seed_is_a_picture_of_its_own),
        cmocka_unit_test(guidance_below_1_is_none_and_told_as_asked),
        cmocka_unit_test(a_picture_that_is_there_is_only_announced),
        cmocka_unit_test(a_stop_cancels_and_the_next_run_goes_on),
        cmocka_unit_test(what_cannot_be_drawn_says_why),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
