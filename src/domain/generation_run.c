/* A generation's folder and the pictures that come out of it. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/asset.h"
#include "domain/generation.h"
#include "domain/run.h"

static const char image_file[] = "image";
enum { copy_bytes = 1 << 20, job_bytes_max = 1 << 20 };

/* ---- the folder ---- */

static struct error copy_fd(int from, int to)
{
    CLEANUP_FREE char *bytes = malloc(copy_bytes);
    if (!bytes)
        return error_make(ERR_INTERNAL, "out of memory");
    for (;;) {
        const ssize_t size = read(from, bytes, copy_bytes);
        if (size < 0)
            return error_errno("read what a generation is made of");
        if (!size)
            break;
        TRY(fs_write_all(to, bytes, (size_t)size));
    }
    return fdatasync(to) == 0 ? OK : error_errno("write the generation's folder");
}

/* gone: what to say when the blob is not there any more. */
static struct error copy_blob(const struct domain *domain, const char *sha256, const char *path, const char *gone)
{
    CLEANUP_FD int from = -1, to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int64_t size;
    if (to < 0)
        return error_errno("write %s", path);
    const struct error error = domain->blobs->open(domain->blobs, sha256, &from, &size);
    if (error.code == ERR_NOT_FOUND)
        return error_make(ERR_NOT_FOUND, "%s", gone);
    TRY(error);
    return copy_fd(from, to);
}

static const char *lora_file(struct arena *arena, size_t index)
{
    return arena_printf(arena, "loras/%02zu.safetensors", index);
}

static struct error copy_loras(const struct run_filling *filling, struct arena *arena, const char *dir,
                               const struct json *input)
{
    size_t index = 0;
    TRY(fs_make_dirs(arena_printf(arena, "%s/loras", dir)));
    JSON_EACH (sha256, json_get(input, "weights")) {
        if (__atomic_load_n(filling->stop, __ATOMIC_RELAXED))
            return error_make(ERR_CANCELED, "canceled");
        TRY(copy_blob(filling->domain, sha256->text, arena_printf(arena, "%s/%s", dir, lora_file(arena, index++)),
                      "the weights of a LoRA are gone: it was trained again or deleted"));
    }
    return OK;
}

static void put_loras(struct json_writer *writer, struct arena *arena, const struct json *concepts)
{
    size_t index = 0;
    json_open(writer, "loras", '[');
    JSON_EACH (concept, concepts) {
        json_open(writer, NULL, '{');
        json_put_string(writer, "file", lora_file(arena, index++));
        json_put_number(writer, "scale", json_number(concept, "scale", 1));
        json_put_string(writer, "modelId", json_string(concept, "modelId", ""));
        json_close(writer, '}');
    }
    json_close(writer, ']');
}

/* One a picture, so that each can be drawn again alone: 0 comes after the largest. */
static void put_seeds(struct json_writer *writer, const struct json *input)
{
    const int64_t first = strtoll(json_string(input, "seed", "0"), NULL, 10);
    const int64_t count = json_int(input, "numSamples", 1);
    json_open(writer, "seeds", '[');
    for (int64_t i = 0; i < count; i++)
        json_put_int(writer, NULL, (first + i) & INT32_MAX);
    json_close(writer, ']');
}

static void put_job(struct json_writer *writer, const struct run_filling *filling, struct arena *arena,
                    const struct json *input)
{
    static const char *const kept[] = {"prompt",   "negativePrompt",    "width",     "height",
                                       "guidance", "numInferenceSteps", "scheduler", "strength"};
    json_open(writer, NULL, '{');
    json_put_int(writer, "version", 1);
    json_put_string(writer, "kind", "generation");
    json_put_string(writer, "jobId", filling->job->id);
    json_put_string(writer, "type", json_string(input, "baseModelId", ""));
    json_open(writer, "base", '{');
    json_put_string(writer, "path", json_string(input, "base", ""));
    json_close(writer, '}');
    json_put_int(writer, "threads", filling->settings->threads);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (json_get(input, kept[i]))
            json_put_tree(writer, kept[i], json_get(input, kept[i]));
    if (json_get(input, "imageSha256"))
        json_put_string(writer, "image", image_file);
    put_seeds(writer, input);
    put_loras(writer, arena, json_get(input, "concepts"));
    json_close(writer, '}');
}

static struct error fill_folder(const struct run_filling *filling, struct arena *arena, const char *dir)
{
    const struct json *input;
    struct buf text;
    TRY(json_parse(arena, filling->job->input, strlen(filling->job->input), &input));
    TRY(copy_loras(filling, arena, dir, input));
    const char *image = json_string(input, "imageSha256", NULL);
    if (image)
        TRY(copy_blob(filling->domain, image, arena_printf(arena, "%s/%s", dir, image_file),
                      "the image to begin on is gone: it was deleted"));
    buf_init(&text, job_bytes_max);
    put_job(&(struct json_writer){.out = &text}, filling, arena, input);
    struct error error = buf_error(&text);
    if (!error.code)
        error = fs_write_atomic(arena_printf(arena, "%s/job.json", dir), text.data, text.len);
    buf_finish(&text);
    return error;
}

static struct error generation_prepare(const struct domain *domain, const struct training_settings *settings,
                                       const struct job *job, const bool *stop)
{
    return run_place_folder(&(struct run_filling){domain, settings, job, stop, fill_folder});
}

/* ---- the pictures ---- */

/* What the event said of one picture, and what the request said of all. */
static const char *describe(struct arena *arena, const struct json *input, const struct run_file *file)
{
    static const char *const kept[] = {"modelType", "baseModelId", "numSamples", "modelEpoch", "concepts", "image"};
    struct json_change changes[sizeof kept / sizeof *kept];
    size_t count = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        const struct json *value = json_get(input, kept[i]);
        struct buf text;
        if (!value)
            continue;
        buf_init(&text, job_bytes_max);
        json_put_tree(&(struct json_writer){.out = &text}, NULL, value);
        changes[count++] = (struct json_change){kept[i], arena_copy(arena, text.data, text.len)};
        buf_finish(&text);
    }
    return json_object_with(arena, file->generation ? file->generation : "{}", changes, count);
}

static struct error insert_picture(struct db_tx *tx, const struct run_work *work, struct job *job,
                                   const struct json *input, const struct run_file *file)
{
    const char *slash = strrchr(file->name, '/');
    struct asset asset;
    run_asset_init(&asset, work, job, file);
    asset.name = arena_printf(work->arena, "%s-%s", job->id, slash ? slash + 1 : file->name);
    asset.model_id = json_string(input, "modelId", NULL);
    asset.inference_id = json_string(input, "inferenceId", NULL);
    asset.generation = describe(work->arena, input, file);
    asset.hide = json_bool(input, "hideResults", false);
    if (json_get(input, "image")) {
        asset.type = "inference-img2img";
        asset.source = "inference-img";
        asset.root_parent_id = json_string(input, "rootParentId", NULL);
        asset.parent_id = asset.root_parent_id ? json_string(input, "image", NULL) : NULL;
    }
    TRY(asset_insert(tx, &asset));
    return run_add_asset_id(work->arena, job, asset.id);
}

static struct error generation_take(struct db_tx *tx, const struct run_work *work, struct job *job)
{
    const struct json *input;
    TRY(json_parse(work->arena, job->input, strlen(job->input), &input));
    for (size_t i = 0; i < work->batch->file_count; i++)
        if (work->batch->files[i].is_sample)
            TRY(insert_picture(tx, work, job, input, &work->batch->files[i]));
    return OK;
}

/* A success has all its pictures. */
static struct error generation_end(struct db_tx *tx, const struct run_work *work, struct job *job, const char *status)
{
    const struct json *input, *metadata;
    (void)tx;
    if (strcmp(status, "success") != 0)
        return OK;
    TRY(json_parse(work->arena, job->input, strlen(job->input), &input));
    TRY(json_parse(work->arena, job->metadata, strlen(job->metadata), &metadata));
    const struct json *ids = json_get(metadata, "assetIds");
    const int64_t wanted = json_int(input, "numSamples", 1), have = ids ? (int64_t)ids->count : 0;
    if (have >= wanted)
        return OK;
    return error_make(ERR_CORRUPT, "the generator ended well but left %lld of %lld pictures", (long long)have,
                      (long long)wanted);
}

static const char *const leftovers[] = {"loras", image_file, "out/samples", NULL};

const struct run_kind generation_kind = {
    .noun = "generation",
    .runner = "generator",
    .input_hint = "Leave out what is gone, or make it again, and start the generation again.",
    .death_hint = "Read trainer.log in the job folder. A generator that is killed often needs more memory: ask for "
                  "smaller pictures, or run fewer jobs at a time.",
    .leftovers = leftovers,
    .prepare = generation_prepare,
    .take = generation_take,
    .end = generation_end,
};
