/* The decision as a table; then the whole engine of jobs on a real store and real processes, with a shell script in the
 * place of the trainer. */
#include "unit.h"

#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/dataset.h"
#include "domain/download.h"
#include "domain/generation.h"
#include "domain/key.h"
#include "domain/scheduler.h"
#include "media/caption.h"
#include "media/media.h"

static struct plan_refusal refusal; /* no test here reads it: tests/api/test_limits.py does */

static void each_state_has_its_action(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct schedule_job job;
        enum schedule_action action;
    } cases[] = {
        {"queued, a slot is free", {.queued = true}, SCHEDULE_PREPARE},
        {"queued and canceled", {.queued = true, .cancel_requested = true}, SCHEDULE_SETTLE},
        {"being prepared", {.preparing = true, .cancel_requested = true}, SCHEDULE_WAIT},
        {"taken from the queue by a server that died", {0}, SCHEDULE_PREPARE},
        {"prepared", {.prepared = true}, SCHEDULE_START},
        {"canceled while it was prepared", {.prepared = true, .cancel_requested = true}, SCHEDULE_SETTLE},
        {"cannot be prepared", {.failed = true}, SCHEDULE_SETTLE},
        {"runs", {.prepared = true, .running = true, .attempts = 1}, SCHEDULE_WAIT},
        {"is to end", {.prepared = true, .running = true, .cancel_requested = true}, SCHEDULE_ASK_TO_END},
        {"was asked", {.running = true, .cancel_requested = true, .stop_asked_at = 9500}, SCHEDULE_WAIT},
        {"does not end", {.running = true, .cancel_requested = true, .stop_asked_at = 8800}, SCHEDULE_END},
        {"is done and saves", {.running = true, .has_outcome = true, .outcome_at = 5000}, SCHEDULE_WAIT},
        {"is done and lingers", {.running = true, .has_outcome = true, .outcome_at = 1}, SCHEDULE_END},
        {"is done", {.prepared = true, .has_outcome = true, .attempts = 4}, SCHEDULE_SETTLE},
        {"died once", {.prepared = true, .attempts = 1}, SCHEDULE_START},
        {"died just now", {.prepared = true, .attempts = 1, .not_before = 10250}, SCHEDULE_WAIT},
        {"died three times", {.prepared = true, .attempts = 3}, SCHEDULE_START},
        {"died four times", {.prepared = true, .attempts = 4}, SCHEDULE_GIVE_UP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum schedule_action action;
        schedule_decide(&cases[i].job, 1, 1, 10001, &action);
        if (action != cases[i].action)
            fail_msg("%s: %d, not %d", cases[i].what, (int)action, (int)cases[i].action);
    }
}

static void slots_are_given_in_queue_order(void **state)
{
    (void)state;
    const struct schedule_job jobs[] = {{.running = true, .prepared = true, .attempts = 1},
                                        {.queued = true, .cancel_requested = true},
                                        {.queued = true},
                                        {.queued = true}};
    enum schedule_action actions[4];
    schedule_decide(jobs, 4, 2, 0, actions);
    assert_int_equal(actions[0], SCHEDULE_WAIT);
    assert_int_equal(actions[1], SCHEDULE_SETTLE);
    assert_int_equal(actions[2], SCHEDULE_PREPARE);
    assert_int_equal(actions[3], SCHEDULE_WAIT);
    schedule_decide(jobs, 4, 1, 0, actions);
    assert_int_equal(actions[2], SCHEDULE_WAIT);
}

/* The world of a server, without HTTP. */
static struct {
    struct arena arena;
    char folder[64];
    sem_t decoding;
    struct domain domain;
    struct executor *executor;
    struct scheduler *scheduler;
    struct caller caller;
} world;

static void trouble(const char *job_id, struct error error)
{
    print_message("%s: %s\n", job_id ? job_id : "scheduler", error.text);
}

static void start_scheduler(const char *script)
{
    const char *command[] = {"/bin/sh", "-c", script, "trainer", NULL};
    struct scheduler_options options = {.domain = &world.domain, .slots = 1, .failed = trouble};
    assert_ok(exec_local_create(&world.executor, &(struct exec_local_options){.command = command}));
    options.executor = world.executor;
    options.settings.jobs_dir = arena_printf(&world.arena, "%s/jobs", world.folder);
    options.settings.base_sd15 = "/nowhere/base";
    assert_ok(scheduler_create(&world.scheduler, &options));
}

static void stop_scheduler(void)
{
    scheduler_destroy(world.scheduler);
    executor_destroy(world.executor);
    world.scheduler = NULL;
    world.executor = NULL;
}

static int open_world(void **state)
{
    struct key_created key;
    (void)state;
    memset(&world, 0, sizeof world);
    arena_init(&world.arena, 64 << 20);
    snprintf(world.folder, sizeof world.folder, "/tmp/maquette-jobs-XXXXXX");
    if (!mkdtemp(world.folder))
        return -1;
    sem_init(&world.decoding, 0, decoding_max);
    world.domain.decoding = &world.decoding;
    world.domain.public_url = "http://127.0.0.1";
    world.domain.captioner = captioner_file_create();
    const char *path = arena_printf(&world.arena, "%s/db", world.folder);
    if (db_open_sqlite(&world.domain.db, &(struct db_options){.path = path}).code ||
        blob_file_create(&world.domain.blobs, arena_printf(&world.arena, "%s/blobs", world.folder)).code ||
        key_create(world.domain.db, "team", "project", &key).code)
        return -1;
    world.caller.kind = CALLER_KEY;
    snprintf(world.caller.key_id, id_size, "%s", key.key_id);
    snprintf(world.caller.project_id, id_size, "%s", key.project_id);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    stop_scheduler();
    captioner_destroy(world.domain.captioner);
    blob_destroy(world.domain.blobs);
    db_close(world.domain.db);
    arena_finish(&world.arena);
    return fs_remove_tree(world.folder).code ? -1 : 0;
}

/* A model of one image. */
static const char *make_model(void)
{
    uint8_t pixels[8 * 8 * 3] = {0};
    struct picture picture;
    struct model model;
    struct training_image added;
    struct buf png;
    buf_init(&png, 1 << 20);
    pixels[0] = 200;
    assert_ok(media_save_png(&(struct media_rgb){pixels, 8, 8}, &png));
    assert_ok(
        picture_take(&world.domain, &world.arena, "data", png.data, png.len, "red_apple.png", CAPTION_WHOLE, &picture));
    buf_finish(&png);
    assert_ok(
        model_create(&world.domain, &world.arena, &world.caller, &(struct model_new){.type = "sd-1_5-lora"}, &model));
    assert_ok(dataset_add_picture(&world.domain, &world.arena, &world.caller, model.id, &picture, &added, &refusal));
    return model.id;
}

static const char *launch(const char *model_id)
{
    struct job *job = ARENA_NEW(&world.arena, struct job);
    struct model model;
    assert_ok(training_launch(&world.domain, scheduler_settings(world.scheduler), &world.arena, &world.caller, model_id,
                              NULL, job, &model, &refusal));
    assert_string_equal(model.status, "training");
    scheduler_poke(world.scheduler);
    return job->id;
}

static struct job job_of(const char *id)
{
    struct job job;
    assert_ok(job_get(&world.domain, &world.arena, &world.caller, id, &job));
    return job;
}

static struct model model_of(const char *id)
{
    struct model model;
    assert_ok(model_get(&world.domain, &world.arena, &world.caller, id, &model));
    return model;
}

static struct job await(const char *id, const char *status, int64_t ms_max)
{
    const int64_t end = clock_monotonic_ms() + ms_max;
    for (;;) {
        const struct job job = job_of(id);
        if (strcmp(job.status, status) == 0)
            return job;
        if (clock_monotonic_ms() > end || job_status_is_final(job.status))
            fail_msg("%s, not %s: %s", job.status, status, job.metadata);
        poll(NULL, 0, 10);
    }
}

#define SAY(text) "echo '" text "' >>$1/events.ndjson;"
#define TRAIN                                                                                                          \
    "mkdir -p $1/out/epochs $1/out/samples/000001;" SAY("{\"event\":\"phase\",\"phase\":\"training\"}")                \
        SAY("{\"event\":\"progress\",\"step\":5,\"steps\":10,\"remainingMs\":1000}")
#define FINISH                                                                                                         \
    "cp $1/dataset/0001.png $1/out/samples/000001/00.png; echo e >$1/out/epochs/000001.safetensors;" SAY(              \
        "{\"event\":\"sample\",\"epoch\":1,\"path\":\"out/samples/000001/00.png\",\"prompt\":\"a disc\"}")             \
        SAY("{\"event\":\"checkpoint\",\"epoch\":1,\"path\":\"out/epochs/000001.safetensors\"}")                       \
            SAY("{\"event\":\"checkpoint\",\"epoch\":2,\"path\":\"out/../../../etc/passwd\"}") "echo w "               \
                                                                                               ">$1/out/"              \
                                                                                               "model.safetensors; "   \
                                                                                               "echo "                 \
                                                                                               "'{\"steps\":10,"       \
                                                                                               "\"finalLoss\":0.5}' "  \
                                                                                               ">$1/out/"              \
                                                                                               "result.json;" SAY(     \
                                                                                                   "{\"event\":"       \
                                                                                                   "\"done\"}")

static void a_training_ends_as_a_trained_model(void **state)
{
    (void)state;
    start_scheduler(TRAIN FINISH);
    const char *model_id = make_model(), *id = launch(model_id);
    const struct job job = await(id, "success", 10000);
    const struct model model = model_of(model_id);
    assert_true(job.progress == 1);
    assert_string_equal(model.status, "trained");
    assert_string_equal(model.training_progress, "{}");
    assert_non_null(strstr(model.concepts, model_id));
    assert_non_null(strstr(model.training_stats, "trainDuration"));
    assert_non_null(strstr(model.epochs, "\"000001\""));
    assert_non_null(strstr(model.epochs, "asset_"));
    assert_null(strstr(model.epochs, "\"000002\"")); /* the file outside of the folder */
    assert_non_null(strstr(job.metadata, "\"finalLoss\":0.5"));
    assert_true(model.name[0]);
}

static void a_download_is_an_archive_or_the_file(void **state)
{
    (void)state;
    start_scheduler(TRAIN FINISH);
    const char *model_id = make_model();
    struct job job;
    struct download download;
    char bytes[4] = {0};
    assert_error(download_create(&world.domain, &world.arena, &world.caller, model_id, NULL, "zip", &job), ERR_INVALID);
    await(launch(model_id), "success", 10000);
    assert_error(download_create(&world.domain, &world.arena, &world.caller, model_id, "000009", "zip", &job),
                 ERR_INVALID);
    assert_ok(download_create(&world.domain, &world.arena, &world.caller, model_id, NULL, "zip", &job));
    assert_string_equal(job.status, "success");
    assert_non_null(strstr(download_output(&world.domain, &world.arena, &job, 1), "downloadUrl"));
    assert_ok(download_open(&world.domain, &world.arena, job.id, NULL, &download));
    assert_int_equal(read(download.fd, bytes, 4), 4);
    assert_memory_equal(bytes, "PK\3\4", 4);
    close(download.fd);
    assert_ok(download_open(&world.domain, &world.arena, job.id, "safetensors", &download));
    assert_int_equal(download.size, 2);
    close(download.fd);
}

static void a_running_training_is_canceled_within_two_seconds(void **state)
{
    (void)state;
    start_scheduler("trap '' TERM;" TRAIN "while :; do sleep 1; done");
    const char *model_id = make_model(), *id = launch(model_id);
    struct model model;
    await(id, "in-progress", 10000);
    const int64_t begin = clock_monotonic_ms();
    assert_ok(training_cancel(&world.domain, &world.arena, &world.caller, model_id, &model));
    scheduler_poke(world.scheduler);
    await(id, "canceled", 5000);
    assert_true(clock_monotonic_ms() - begin < 2000);
    assert_string_equal(model_of(model_id).status, "training-canceled");
    assert_error(training_cancel(&world.domain, &world.arena, &world.caller, model_id, &model), ERR_INVALID);
}

static void the_queue_moves_up(void **state)
{
    (void)state;
    start_scheduler(TRAIN "while :; do sleep 1; done");
    const char *models[3], *jobs[3];
    struct model model;
    for (int i = 0; i < 3; i++) {
        models[i] = make_model();
        jobs[i] = launch(models[i]);
        if (i == 0)
            await(jobs[0], "in-progress", 10000);
    }
    assert_non_null(strstr(model_of(models[1]).training_progress, "\"position\":1"));
    assert_non_null(strstr(model_of(models[2]).training_progress, "\"position\":2"));
    assert_ok(training_cancel(&world.domain, &world.arena, &world.caller, models[1], &model));
    assert_string_equal(job_of(jobs[1]).status, "canceled");
    assert_non_null(strstr(model_of(models[2]).training_progress, "\"position\":1"));
    assert_ok(training_cancel(&world.domain, &world.arena, &world.caller, models[0], &model));
    scheduler_poke(world.scheduler);
    await(jobs[2], "in-progress", 10000);
    assert_ok(training_cancel(&world.domain, &world.arena, &world.caller, models[2], &model));
    await(jobs[2], "canceled", 5000);
}

static void a_trainer_that_dies_is_started_three_more_times(void **state)
{
    (void)state;
    start_scheduler("echo x >>$1/starts; kill -9 $$");
    const char *model_id = make_model(), *id = launch(model_id);
    const struct job job = await(id, "failure", 20000);
    char *starts;
    size_t size;
    assert_ok(
        fs_read(&world.arena, arena_printf(&world.arena, "%s/jobs/%s/starts", world.folder, id), 64, &starts, &size));
    assert_int_equal(size, 2 * (1 + schedule_restarts_max));
    assert_non_null(strstr(job.metadata, "\"error\""));
    assert_non_null(strstr(job.metadata, "\"hint\""));
    assert_string_equal(model_of(model_id).status, "failed");
}

static void a_trainer_that_dies_once_goes_on(void **state)
{
    (void)state;
    start_scheduler("if ! test -e $1/again; then >$1/again; " TRAIN " kill -9 $$; fi;" TRAIN FINISH);
    const char *model_id = make_model();
    await(launch(model_id), "success", 10000);
    assert_string_equal(model_of(model_id).status, "trained");
}

static void what_the_trainer_says_of_its_failure_is_told(void **state)
{
    (void)state;
    start_scheduler(TRAIN SAY("{\"event\":\"failed\",\"error\":\"no unet\",\"hint\":\"give one\"}") "exit 1");
    const struct job job = await(launch(make_model()), "failure", 10000);
    assert_non_null(strstr(job.metadata, "\"error\":\"no unet\",\"hint\":\"give one\""));
}

static void a_trainer_outlives_its_server(void **state)
{
    (void)state;
    static const char script[] = "echo x >>$1/starts;" TRAIN "while ! test -e $1/go; do sleep 0.05; done;" FINISH;
    start_scheduler(script);
    const char *model_id = make_model(), *id = launch(model_id);
    await(id, "in-progress", 10000);
    stop_scheduler();
    assert_ok(fs_write_atomic(arena_printf(&world.arena, "%s/jobs/%s/go", world.folder, id), "", 0));
    start_scheduler(script);
    assert_int_equal(await(id, "success", 10000).attempts, 1);
}

static void an_unreadable_image_fails_and_is_named(void **state)
{
    (void)state;
    start_scheduler("exit 0");
    const char *model_id = make_model();
    const struct model model = model_of(model_id);
    assert_ok(fs_remove_tree(arena_printf(&world.arena, "%s/blobs", world.folder)));
    const struct job job = await(launch(model_id), "failure", 10000);
    assert_non_null(strstr(job.metadata, model.images[0].id));
    assert_non_null(strstr(job.metadata, "\"hint\""));
}

static const char *generate(int samples)
{
    const struct generation_request request = {
        .model_id = "sd-1_5", .prompt = "a disc", .samples = samples, .guidance = -1};
    struct job *job = ARENA_NEW(&world.arena, struct job);
    assert_ok(generation_launch(&world.domain, scheduler_settings(world.scheduler), &world.arena, &world.caller,
                                &request, job, &refusal));
    scheduler_poke(world.scheduler);
    return job->id;
}

static void a_generation_is_told_what_to_draw(void **state)
{
    (void)state;
    start_scheduler("cp $1/job.json $1/seen; exit 1");
    const char *id = generate(3);
    const struct job job = await(id, "failure", 20000);
    const struct json *seen, *input;
    char *text;
    size_t size;
    assert_ok(
        fs_read(&world.arena, arena_printf(&world.arena, "%s/jobs/%s/seen", world.folder, id), 1 << 16, &text, &size));
    assert_ok(json_parse(&world.arena, text, size, &seen));
    assert_ok(json_parse(&world.arena, job.input, strlen(job.input), &input));
    assert_string_equal(json_string(seen, "kind", ""), "generation");
    assert_string_equal(json_string(seen, "prompt", ""), "a disc");
    assert_string_equal(json_string(json_get(seen, "base"), "path", ""), "/nowhere/base");
    assert_int_equal(json_get(seen, "seeds")->count, 3);
    assert_int_equal((int64_t)json_item(json_get(seen, "seeds"), 0)->number,
                     strtoll(json_string(input, "seed", ""), NULL, 10));
    assert_null(json_get(seen, "guidance")); /* the base's own */
    assert_non_null(strstr(job.metadata, "The generator ended without a result, 4 times"));
}

static void a_generation_without_all_its_pictures_is_a_failure(void **state)
{
    (void)state;
    start_scheduler("mkdir $1/out; echo '{}' >$1/out/result.json;" SAY("{\"event\":\"done\"}"));
    const struct job job = await(generate(2), "failure", 10000);
    assert_non_null(strstr(job.metadata, "0 of 2 pictures"));
    assert_non_null(strstr(job.metadata, "\"hint\""));
}

static void generations_and_trainings_wait_in_one_queue(void **state)
{
    (void)state;
    start_scheduler(TRAIN "while :; do sleep 1; done");
    const char *running = generate(1), *queued, *model_id = make_model();
    struct job job;
    await(running, "in-progress", 10000);
    queued = generate(1);
    launch(model_id);
    assert_non_null(strstr(model_of(model_id).training_progress, "\"position\":2"));
    assert_ok(job_cancel(&world.domain, &world.arena, &world.caller, queued, &job));
    assert_string_equal(job.status, "canceled");
    assert_non_null(strstr(model_of(model_id).training_progress, "\"position\":1"));
    assert_ok(job_cancel(&world.domain, &world.arena, &world.caller, running, &job));
    scheduler_poke(world.scheduler);
    await(running, "canceled", 5000);
    assert_error(job_cancel(&world.domain, &world.arena, &world.caller, running, &job), ERR_INVALID);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_has_its_action),
        cmocka_unit_test(slots_are_given_in_queue_order),
        IN_WORLD(a_training_ends_as_a_trained_model),
        IN_WORLD(a_download_is_an_archive_or_the_file),
        IN_WORLD(a_running_training_is_canceled_within_two_seconds),
        IN_WORLD(the_queue_moves_up),
        IN_WORLD(a_trainer_that_dies_is_started_three_more_times),
        IN_WORLD(a_trainer_that_dies_once_goes_on),
        IN_WORLD(what_the_trainer_says_of_its_failure_is_told),
        IN_WORLD(a_trainer_outlives_its_server),
        IN_WORLD(an_unreadable_image_fails_and_is_named),
        IN_WORLD(a_generation_is_told_what_to_draw),
        IN_WORLD(a_generation_without_all_its_pictures_is_a_failure),
        IN_WORLD(generations_and_trainings_wait_in_one_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
