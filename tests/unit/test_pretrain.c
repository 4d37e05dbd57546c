/* A base model of a few steps from nothing: the same bytes for any number of threads and interruptions, and for a
 * number of steps that was settled late. Pictures are a line of text here: the engine knows no image formats. */
#include "unit.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/json.h"
#include "engine/pretrain.h"
#include "engine/pretrain_job.h"
#include "engine/safetensors.h"
#include "engine/whiten.h"

enum { path_max = 512, side = 64, patience_ms = 60000 };

static char world[] = "/tmp/pretrain-XXXXXX";
static volatile sig_atomic_t stop;

static void path_in(const char *job, const char *name, char path[path_max])
{
    assert_true(snprintf(path, path_max, "%s/%s/%s", world, job, name) < path_max);
}

static void write_text(const char *job, const char *name, const char *text)
{
    char path[path_max];
    path_in(job, name, path);
    assert_ok(fs_write_atomic(path, text, strlen(text)));
}

static char *file_of(struct arena *arena, const char *job, const char *name, size_t *size)
{
    char path[path_max], *data = NULL;
    path_in(job, name, path);
    assert_ok(fs_read(arena, path, 256 << 20, &data, size));
    return data;
}

static void assert_same_file(const char *left, const char *right, const char *name)
{
    struct arena arena;
    size_t left_size, right_size;
    arena_init(&arena, 512 << 20);
    char *left_data = file_of(&arena, left, name, &left_size), *right_data = file_of(&arena, right, name, &right_size);
    assert_int_equal(left_size, right_size);
    assert_memory_equal(left_data, right_data, left_size);
    arena_finish(&arena);
}

static void assert_same_results(const char *left, const char *right)
{
    assert_same_file(left, right, "out/unet/diffusion_pytorch_model.safetensors");
    assert_same_file(left, right, "out/text_encoder/model.safetensors");
    assert_same_file(left, right, "out/curve.csv");
}

/* The base that ships, as links, without the weights of what is trained. */
static void make_base(const char *name, bool vae)
{
    char source[path_max];
    snprintf(source, sizeof source, "%s/base-models/tiny", getenv("MAQUETTE_SOURCE"));
    static const char *const parts[] = {"unet/config.json",
                                        "text_encoder/config.json",
                                        "vae/config.json",
                                        "tokenizer/vocab.json",
                                        "tokenizer/merges.txt",
                                        "tokenizer/tokenizer_config.json",
                                        "tokenizer/special_tokens_map.json",
                                        "scheduler/scheduler_config.json",
                                        "model_index.json",
                                        "vae/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts - !vae; i++) {
        char from[path_max], folder[path_max], to[path_max];
        assert_true(snprintf(from, sizeof from, "%s/%s", source, parts[i]) < path_max);
        path_in(name, parts[i], to);
        snprintf(folder, sizeof folder, "%s", to);
        *strrchr(folder, '/') = '\0';
        assert_ok(fs_make_dirs(folder));
        assert_int_equal(symlink(from, to), 0);
    }
}

/* Three pictures of two groups, the second from step 3 on; a row of the curve every second step. */
static void make_job_of(const char *job, const char *type, const char *base_name, unsigned steps, unsigned decay)
{
    char path[path_max], text[4096];
    path_in(job, "dataset", path);
    assert_ok(fs_make_dirs(path));
    write_text(job, "dataset/0.png", "picture 200");
    write_text(job, "dataset/1.png", "picture 90");
    write_text(job, "dataset/2.png", "picture 20");
    snprintf(text, sizeof text,
             "{\"type\":\"%s\",\"base\":\"../%s\",\"threads\":1,\"seed\":5,\"parameters\":{\"steps\":%u,"
             "\"decaySteps\":%u,\"batchSize\":2,\"warmupSteps\":2,\"reportSteps\":2,\"probePictures\":2,"
             "\"captionDropout\":0.3},\"phases\":[{\"step\":0,\"repeats\":[1]},{\"step\":3,\"timestepPower\":0.5,"
             "\"repeats\":[2,1]}],"
             "\"items\":[{\"image\":\"dataset/0.png\",\"captions\":[\"noto style, cat\",\"cat\"]},"
             "{\"image\":\"dataset/1.png\",\"group\":1,\"captions\":[\"fluent style, cat\"]},"
             "{\"image\":\"dataset/2.png\",\"captions\":[\"noto style, tree\"]}]}",
             type, base_name, steps, decay);
    write_text(job, "job.json", text);
}

static void make_job(const char *job, unsigned steps, unsigned decay)
{
    make_job_of(job, "sd-1_5-base", "base", steps, decay);
}

static struct error load_rgb(void *context, const char *path, uint8_t **rgb, size_t *width, size_t *height)
{
    (void)context;
    unsigned shade = 0;
    CLEANUP_FILE FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "picture %u", &shade) != 1)
        return error_make(ERR_INVALID, "%s is no picture", path);
    *width = *height = side;
    *rgb = malloc(side * side * 3);
    assert_non_null(*rgb);
    for (size_t i = 0; i < side * side * 3; i++)
        (*rgb)[i] = (uint8_t)(shade + i / 97);
    return OK;
}

static enum trainer_exit run_with(const char *job, unsigned threads, const char *kernels, struct error *error)
{
    char folder[path_max];
    path_in(job, ".", folder);
    const struct trainer_options options = {.folder = folder,
                                            .software = "maquette test",
                                            .threads = threads,
                                            .kernels = kernels,
                                            .stop = &stop,
                                            .io = {.load_rgb = load_rgb},
                                            .state_interval_ms = 1};
    return pretrain_run(&options, error);
}

static enum trainer_exit run(const char *job, unsigned threads, struct error *error)
{
    return run_with(job, threads, NULL, error);
}

static void finish_job(const char *job, unsigned threads)
{
    struct error error;
    if (run(job, threads, &error) != TRAINER_DONE)
        fail_msg("%s: %s", job, error.text);
}

static bool has_event(const char *job, const char *text)
{
    struct arena arena;
    char path[path_max];
    size_t size;
    path_in(job, "events.ndjson", path);
    if (!fs_exists(path))
        return false;
    arena_init(&arena, 64 << 20);
    bool found = strstr(file_of(&arena, job, "events.ndjson", &size), text) != NULL;
    arena_finish(&arena);
    return found;
}

/* Runs the job and kills it as soon as it has saved a state. */
static void kill_after_a_state(const char *job)
{
    struct error error;
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(run(job, 2, &error));
    int64_t end = clock_monotonic_ms() + patience_ms;
    while (!has_event(job, "\"event\":\"state\"") && clock_monotonic_ms() < end)
        usleep(1000);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(has_event(job, "\"event\":\"state\""));
}

/* ---- the tests ---- */

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(world))
        return -1;
    make_base("base", true);
    make_base("blank", false);
    make_job("plain", 6, 0);
    finish_job("plain", 1);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    return fs_remove_tree(world).code ? -1 : 0;
}

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    make_job("threads", 6, 0);
    finish_job("threads", 3);
    assert_same_results("plain", "threads");
}

static void any_kernels_give_the_same_bytes(void **state)
{
    (void)state;
    static const char *const sets[] = {"portable", "avx2", "avx512"};
    struct error error;
    make_job("short", 1, 0);
    finish_job("short", 2);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        make_job(sets[i], 1, 0);
        if (run_with(sets[i], 2, sets[i], &error) == TRAINER_DONE)
            assert_same_results("short", sets[i]);
        else
            assert_non_null(strstr(error.text, "this CPU or build has no")); /* but portable, which every one has */
        assert_true(i > 0 || !error.code);
    }
}

/* base-models/README.md promises the bytes of the shipped base: arithmetic that makes others asks for a new one. */
static void the_arithmetic_is_that_of_the_shipped_base(void **state)
{
    (void)state;
    struct arena arena;
    size_t size;
    uint8_t digest[sha256_size];
    char hex[sha256_hex_size];
    arena_init(&arena, 64 << 20);
    char *weights = file_of(&arena, "plain", "out/unet/diffusion_pytorch_model.safetensors", &size);
    sha256_of(weights, size, digest);
    arena_finish(&arena);
    assert_string_equal(sha256_hex(digest, hex), "2a4ef1b9db3e38784dccb6cedc5f7b4ebeb1b9f108f7bd769df111508fea33e0");
}

static void a_killed_training_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    make_job("killed", 6, 0);
    kill_after_a_state("killed");
    finish_job("killed", 2);
    assert_true(has_event("killed", "resumed after step"));
    assert_same_results("plain", "killed");
}

static void steps_can_be_added_while_the_rate_has_not_fallen(void **state)
{
    (void)state;
    struct error error;
    make_job("longer", 2, 0);
    finish_job("longer", 1);
    make_job("longer", 4, 0);
    finish_job("longer", 2);
    make_job("longer", 6, 0);
    finish_job("longer", 1);
    assert_same_results("plain", "longer");
    make_job("fallen", 3, 2);
    finish_job("fallen", 1);
    make_job("fallen", 6, 2);
    assert_int_equal(run("fallen", 1, &error), TRAINER_FAILED);
    assert_non_null(strstr(error.text, "steps was 3"));
}

static void a_state_of_another_job_is_refused(void **state)
{
    (void)state;
    struct error error;
    make_job("other", 2, 0);
    finish_job("other", 1);
    make_job("other", 2, 1);
    assert_int_equal(run("other", 1, &error), TRAINER_FAILED);
    assert_non_null(strstr(error.text, "another job.json"));
}

static void a_finished_training_is_left_as_it_is(void **state)
{
    (void)state;
    struct arena arena;
    size_t size;
    arena_init(&arena, 64 << 20);
    finish_job("plain", 1);
    assert_non_null(strstr(file_of(&arena, "plain", "out/curve.csv", &size), "\n6,12,"));
    arena_finish(&arena);
}

static void the_weights_move_from_fresh_ones(void **state)
{
    (void)state;
    struct safetensors *file;
    char path[path_max];
    float gains[64], changed = 0;
    path_in("plain", "out/unet/diffusion_pytorch_model.safetensors", path);
    assert_ok(safetensors_open(path, &file));
    const struct tensor *gain = safetensors_find(file, "conv_norm_out.weight");
    const struct tensor *projection = safetensors_find(file, "mid_block.attentions.0.proj_in.weight");
    assert_int_equal(gain->count, 64);
    assert_ok(tensor_read(gain, gains));
    for (int i = 0; i < 64; i++) {
        assert_true(gains[i] > 0.9f && gains[i] < 1.1f);
        changed += gains[i] == 1 ? 0.0f : 1.0f;
    }
    assert_true(changed > 32);
    assert_int_equal(projection->dimensions, 4); /* as diffusers' 1x1 convolution */
    safetensors_close(file);
}

/* How far the latents of the job's pictures are from white, seen by the VAE that it made. */
static double distance_from_white(const char *job)
{
    char from[path_max], to[path_max], folder[path_max];
    float rgb[side * side * 3], mean[16 * 16 * 4], logvar[16 * 16 * 4];
    struct pool *pool;
    struct model *model;
    struct latent_moments moments;
    make_base("finished", false);
    path_in(job, "out/vae/diffusion_pytorch_model.safetensors", from);
    path_in("finished", "vae/diffusion_pytorch_model.safetensors", to);
    assert_int_equal(symlink(from, to), 0);
    path_in("finished", "", folder);
    assert_ok(pool_create(1, &pool));
    assert_ok(model_open_fresh(folder, 1, pool, &model));
    latent_moments_init(&moments, 4);
    for (unsigned shade = 0; shade < 3; shade++) {
        for (size_t i = 0; i < side * side * 3; i++)
            rgb[i] = (float)(uint8_t)((unsigned[]){200, 90, 20}[shade] + i / 97) / 127.5f - 1;
        assert_ok(model_encode_image(model, 1, side, side, rgb, mean, logvar));
        assert_true(fabsf(logvar[0] - 2 * logf(0.1f)) < 0.01f);
        latent_moments_add(&moments, 256, mean);
    }
    model_destroy(model);
    pool_destroy(pool);
    return latent_moments_distance(&moments);
}

static void a_vae_from_nothing_is_the_same_anywhere_and_its_latent_white(void **state)
{
    (void)state;
    make_job_of("vae", "vae", "blank", 4, 2);
    make_job_of("vae-threads", "vae", "blank", 4, 2);
    finish_job("vae", 1);
    kill_after_a_state("vae-threads");
    finish_job("vae-threads", 3);
    assert_same_file("vae", "vae-threads", "out/vae/diffusion_pytorch_model.safetensors");
    assert_same_file("vae", "vae-threads", "out/curve.csv");
    double distance = distance_from_white("vae");
    if (!(distance < 1e-3))
        fail_msg("the latent's moments are %g from white", distance);
}

static void assert_refused(const char *text, const char *words)
{
    struct arena arena;
    struct pretrain_job job;
    char folder[path_max];
    arena_init(&arena, 64 << 20);
    path_in("bad", ".", folder);
    assert_ok(fs_make_dirs(folder));
    write_text("bad", "job.json", text);
    struct error error = pretrain_job_read(&arena, folder, &job);
    assert_int_equal(error.code, ERR_INVALID);
    if (!strstr(error.text, words))
        fail_msg("%s does not speak of %s", error.text, words);
    arena_finish(&arena);
}

static void what_is_wrong_in_job_json_is_named(void **state)
{
    (void)state;
    assert_refused("[]", "type");
    assert_refused("{\"type\":\"sd-1_5-base\"}", "base");
#define HEAD "{\"type\":\"sd-1_5-base\",\"base\":\"b\","
    assert_refused(HEAD "\"parameters\":{}}", "steps");
    assert_refused(HEAD "\"parameters\":{\"steps\":2.5}}", "steps");
    assert_refused(HEAD "\"parameters\":{\"steps\":2,\"decaySteps\":3}}", "decaySteps");
#define STEPS HEAD "\"parameters\":{\"steps\":2},"
    assert_refused(STEPS "\"items\":[]}", "items");
    assert_refused(STEPS "\"items\":[{\"image\":\"../x\"}]}", "items[0].image");
    assert_refused(STEPS "\"items\":[{\"image\":\"x\",\"captions\":{}}]}", "items[0].captions");
    assert_refused(STEPS "\"items\":[{\"image\":\"x\",\"captions\":[1]}]}", "items[0].captions");
#define ITEMS STEPS "\"items\":[{\"image\":\"x\",\"captions\":[\"\"]}]"
    assert_refused(ITEMS "}", "phases");
    assert_refused(ITEMS ",\"phases\":[{\"repeats\":[0,1]}]}", "phases[0]");
    assert_refused(ITEMS ",\"phases\":[{\"repeats\":[1],\"timestepPower\":0}]}", "timestepPower");
    assert_refused(ITEMS ",\"phases\":[{\"step\":1,\"repeats\":[1]}]}", "step 0");
}

static void the_rate_rises_stays_and_falls(void **state)
{
    (void)state;
    const struct pretrain_job job = {.steps = 10, .warmup_steps = 2, .decay_steps = 4, .learning_rate = 1};
    const double expected[10] = {0.5, 1, 1, 1, 1, 1, 0.9619398, 0.6913417, 0.3086583, 0.0380602};
    for (unsigned i = 0; i < 10; i++)
        assert_true(pretrain_rate(&job, i) - expected[i] < 1e-6 && expected[i] - pretrain_rate(&job, i) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(any_kernels_give_the_same_bytes),
        cmocka_unit_test(the_arithmetic_is_that_of_the_shipped_base),
        cmocka_unit_test(a_killed_training_goes_on_to_the_same_bytes),
        cmocka_unit_test(steps_can_be_added_while_the_rate_has_not_fallen),
        cmocka_unit_test(a_state_of_another_job_is_refused),
        cmocka_unit_test(a_finished_training_is_left_as_it_is),
        cmocka_unit_test(the_weights_move_from_fresh_ones),
        cmocka_unit_test(a_vae_from_nothing_is_the_same_anywhere_and_its_latent_white),
        cmocka_unit_test(what_is_wrong_in_job_json_is_named),
        cmocka_unit_test(the_rate_rises_stays_and_falls),
    };
    return cmocka_run_group_tests_name("pretrain", tests, setup, finish);
}
