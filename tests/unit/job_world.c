#include "job_world.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "engine/generation_folder.h"
#include "engine/generator.h"

enum { patience_ms = 60000 };

char job_world[] = "/tmp/trainer-XXXXXX", job_base[job_path_max];
const char *job_type = "sd-1_5-lora";
volatile sig_atomic_t job_stop;

/* A config.json of the base that ships, for pictures of 32 px: a quarter of the work. */
static void write_small_config(void)
{
    struct arena arena;
    size_t size;
    char *text, from[job_path_max];
    arena_init(&arena, 1 << 20);
    snprintf(from, sizeof from, "%s/base-models/tiny/unet/config.json", getenv("MAQUETTE_SOURCE"));
    assert_ok(fs_read(&arena, from, 1 << 16, &text, &size));
    char *key = strstr(text, "\"sample_size\"");
    assert_non_null(key);
    char *rest = strchr(key, ',');
    write_text("base", "unet/config.json",
               arena_printf(&arena, "%.*s\"sample_size\": 8%s", (int)(key - text), text, rest ? rest : "}"));
    arena_finish(&arena);
}

/* The networks are the ones that ship; size and hints are ours, with few sampling steps. */
void job_world_init(void)
{
    static const char *const parts[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "vae",
                                        "text_encoder",
                                        "tokenizer",
                                        "scheduler",
                                        "model_index.json"};
    static const char hints[] = "{\"learningRateScale\":200,\"learningRateMax\":0.005,\"loraTargets\":\"wide\","
                                "\"sampleSteps\":3,\"guidance\":2}";
    char from[job_path_max], to[job_path_max];
    assert_non_null(mkdtemp(job_world));
    snprintf(job_base, sizeof job_base, "%s/base", job_world);
    path_in("base", "unet", from);
    assert_ok(fs_make_dirs(from));
    write_small_config();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(from, sizeof from, "%s/base-models/tiny/%s", getenv("MAQUETTE_SOURCE"), parts[i]);
        path_in("base", parts[i], to);
        assert_int_equal(symlink(from, to), 0);
    }
    write_text("base", "maquette.json", hints);
}

void job_world_finish(void)
{
    assert_ok(fs_remove_tree(job_world));
}

/* ---- a job folder ---- */

void path_in(const char *job, const char *name, char path[job_path_max])
{
    assert_true(snprintf(path, job_path_max, "%s/%s/%s", job_world, job, name) < job_path_max);
}

void write_text(const char *job, const char *name, const char *text)
{
    char path[job_path_max];
    path_in(job, name, path);
    assert_ok(fs_write_atomic(path, text, strlen(text)));
}

void make_job(const char *job, const char *parameters, const char *prompts)
{
    char path[job_path_max], text[4096];
    path_in(job, "dataset", path);
    assert_ok(fs_make_dirs(path));
    write_text(job, "dataset/0001.png", "picture 200 46 40");
    write_text(job, "dataset/0002.png", "picture 90 46 40");
    write_text(job, "dataset/0003.png", "picture 20 46 40");
    snprintf(text, sizeof text,
             "{\"version\":1,\"jobId\":\"job_1\",\"name\":\"test\",\"type\":\"%s\",\"base\":{\"path\":\"%s\"},"
             "\"threads\":1,\"seed\":9,\"parameters\":{\"learningRate\":0.000005%s%s},\"items\":["
             "{\"image\":\"dataset/0001.png\",\"caption\":\"cat\",\"sourceId\":\"asset_1\"},"
             "{\"image\":\"dataset/0002.png\",\"caption\":\"daiton tree\",\"sourceId\":\"asset_2\"},"
             "{\"image\":\"dataset/0003.png\",\"caption\":\"\",\"sourceId\":\"asset_3\"}],\"prompts\":[%s]}",
             job_type, job_base, strstr(parameters, "rank") ? "" : ",\"rank\":2", parameters, prompts);
    write_text(job, "job.json", text);
}

static uint8_t *read_rgb(FILE *file, size_t *width, size_t *height)
{
    if (fscanf(file, "rgb %zu %zu", width, height) != 2 || fgetc(file) != '\n')
        return NULL;
    uint8_t *rgb = malloc(*width * *height * 3);
    assert_non_null(rgb);
    assert_int_equal(fread(rgb, 3, *width * *height, file), *width * *height);
    return rgb;
}

static struct error load_rgb(void *context, const char *path, uint8_t **rgb, size_t *width, size_t *height)
{
    (void)context;
    unsigned shade = 0;
    CLEANUP_FILE FILE *file = fopen(path, "re");
    *rgb = file ? read_rgb(file, width, height) : NULL;
    if (*rgb)
        return OK;
    if (!file || fseek(file, 0, SEEK_SET) != 0 || fscanf(file, "picture %u %zu %zu", &shade, width, height) != 3)
        return error_make(ERR_INVALID, "%s is no picture", path);
    *rgb = malloc(*width * *height * 3);
    assert_non_null(*rgb);
    for (size_t i = 0; i < *width * *height * 3; i++)
        (*rgb)[i] = (uint8_t)(shade + i / 97);
    return OK;
}

static struct error save_png(void *context, const char *path, const uint8_t *rgb, size_t width, size_t height)
{
    struct buf bytes;
    if (context)
        return error_make(ERR_INTERNAL, "no pictures today");
    buf_init(&bytes, 64 << 20);
    buf_printf(&bytes, "rgb %zu %zu\n", width, height);
    buf_append(&bytes, rgb, width * height * 3);
    struct error error = buf_error(&bytes);
    if (!error.code)
        error = fs_write_atomic(path, bytes.data, bytes.len);
    buf_finish(&bytes);
    return error;
}

enum trainer_exit run_with(const char *job, unsigned threads, struct trainer_options options)
{
    char folder[job_path_max];
    struct error error;
    path_in(job, ".", folder);
    options.folder = folder;
    options.software = "maquette test";
    options.threads = threads;
    options.stop = &job_stop;
    options.io.load_rgb = load_rgb;
    options.io.save_png = save_png;
    return generation_is(folder) ? generator_run(&options, &error) : trainer_run(&options, &error);
}

enum trainer_exit run(const char *job, unsigned threads)
{
    return run_with(job, threads, (struct trainer_options){.state_interval_ms = 1});
}

/* ---- what it left ---- */

char *file_of(struct arena *arena, const char *job, const char *name, size_t *size)
{
    char path[job_path_max], *data = NULL;
    path_in(job, name, path);
    assert_ok(fs_read(arena, path, 64 << 20, &data, size));
    return data;
}

bool same_file(const char *left, const char *right, const char *name)
{
    struct arena arena;
    size_t left_size, right_size;
    arena_init(&arena, 256 << 20);
    char *left_data = file_of(&arena, left, name, &left_size), *right_data = file_of(&arena, right, name, &right_size);
    bool same = left_size == right_size && memcmp(left_data, right_data, left_size) == 0;
    arena_finish(&arena);
    return same;
}

void assert_same_file(const char *left, const char *right, const char *name)
{
    struct arena arena;
    size_t left_size, right_size;
    arena_init(&arena, 256 << 20);
    char *left_data = file_of(&arena, left, name, &left_size), *right_data = file_of(&arena, right, name, &right_size);
    assert_int_equal(left_size, right_size);
    assert_memory_equal(left_data, right_data, left_size);
    arena_finish(&arena);
}

const struct json *last_event_named(struct arena *arena, const char *job, const char *name)
{
    size_t size;
    char *text = file_of(arena, job, "events.ndjson", &size), *rest;
    const struct json *event = NULL, *found = NULL;
    int64_t sequence = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (json_parse(arena, line, strlen(line), &event).code)
            continue; /* torn by a kill */
        assert_int_equal(json_int(event, "seq", 0), ++sequence);
        if (!name || strcmp(json_string(event, "event", ""), name) == 0)
            found = event;
    }
    return found;
}

const struct json *last_event(struct arena *arena, const char *job)
{
    return last_event_named(arena, job, NULL);
}

unsigned count_events(const char *job, const char *name)
{
    struct arena arena;
    size_t size;
    unsigned count = 0;
    char path[job_path_max], needle[64];
    path_in(job, "events.ndjson", path);
    if (!fs_exists(path))
        return 0;
    arena_init(&arena, 64 << 20);
    snprintf(needle, sizeof needle, "\"event\":\"%s\"", name);
    for (char *at = file_of(&arena, job, "events.ndjson", &size); (at = strstr(at, needle)); at++)
        count++;
    arena_finish(&arena);
    return count;
}

void assert_failed(const char *job, const char *reason, const char *words)
{
    struct arena arena;
    arena_init(&arena, 64 << 20);
    const struct json *event = last_event(&arena, job);
    assert_string_equal(json_string(event, "event", ""), "failed");
    assert_string_equal(json_string(event, "reason", ""), reason);
    assert_non_null(strstr(json_string(event, "error", ""), words));
    assert_true(strlen(json_string(event, "hint", "")) > 20);
    arena_finish(&arena);
}

bool has_file(const char *job, const char *name)
{
    char path[job_path_max];
    path_in(job, name, path);
    return fs_exists(path);
}

size_t count_files(const char *job, const char *pattern)
{
    char path[job_path_max];
    glob_t found = {0};
    path_in(job, pattern, path);
    glob(path, 0, NULL, &found);
    size_t count = found.gl_pathc;
    globfree(&found);
    return count;
}

const struct json *result_of(struct arena *arena, const char *job)
{
    size_t size;
    const struct json *result;
    char *text = file_of(arena, job, "out/result.json", &size);
    assert_ok(json_parse(arena, text, size, &result));
    return result;
}

void run_and_kill(const char *job, unsigned states)
{
    pid_t child = fork();
    int status;
    assert_true(child >= 0);
    if (!child)
        _exit(run(job, 2));
    int64_t until = clock_monotonic_ms() + patience_ms;
    while (count_events(job, "state") < states && clock_monotonic_ms() < until)
        usleep(1000);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
}
