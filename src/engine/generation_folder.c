#include "engine/generation_folder.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "engine/pool.h"

enum { job_bytes_max = 1 << 20, job_arena_max = 32 << 20, side_max = 16384 };

static struct error read_root(struct arena *arena, const char *folder, const struct json **root)
{
    return json_read_file(arena, arena_printf(arena, "%s/job.json", folder), job_bytes_max, root);
}

bool generation_is(const char *folder)
{
    struct arena arena;
    const struct json *root;
    arena_init(&arena, job_arena_max);
    const bool is = !read_root(&arena, folder, &root).code && !strcmp(json_string(root, "kind", ""), "generation");
    arena_finish(&arena);
    return is;
}

static struct error number_in(const struct json *root, const char *name, double most, double *value)
{
    *value = json_number(root, name, 0);
    if (*value >= 0 && *value <= most)
        return OK;
    return error_make(ERR_INVALID, "job.json: %s must be 0 to %g", name, most);
}

static struct error count_in(const struct json *root, const char *name, double most, size_t *value)
{
    double number;
    TRY(number_in(root, name, most, &number));
    if (number != floor(number))
        return error_make(ERR_INVALID, "job.json: %s must be a whole number", name);
    *value = (size_t)number;
    return OK;
}

static struct error read_sampling(const struct json *root, struct generation_job *job)
{
    size_t steps;
    TRY(count_in(root, "width", side_max, &job->width));
    TRY(count_in(root, "height", side_max, &job->height));
    TRY(count_in(root, "numInferenceSteps", SAMPLER_STEPS_MAX, &steps));
    TRY(number_in(root, "guidance", 50, &job->guidance));
    job->steps = (unsigned)steps;
    job->has_guidance = json_get(root, "guidance") != NULL;
    if (!sampler_kind_parse(json_string(root, "scheduler", "ddim"), &job->sampler))
        return error_make(ERR_INVALID, "job.json: scheduler is not known");
    return OK;
}

static struct error read_seeds(struct arena *arena, const struct json *seeds, struct generation_job *job)
{
    if (!seeds || seeds->kind != JSON_ARRAY || !seeds->count || seeds->count > GENERATION_PICTURES_MAX)
        return error_make(ERR_INVALID, "job.json must have 1 to %d seeds", GENERATION_PICTURES_MAX);
    job->seeds = arena_array(arena, seeds->count, sizeof *job->seeds);
    JSON_EACH (seed, seeds) {
        if (seed->kind != JSON_NUMBER || !(seed->number >= 0 && seed->number <= 9007199254740991.0))
            return error_make(ERR_INVALID, "job.json: seeds[%zu] must be 0 to 9007199254740991", job->picture_count);
        job->seeds[job->picture_count++] = (uint64_t)seed->number;
    }
    return OK;
}

/* Files stay inside of the folder: relative and never upwards. */
static bool is_inside(const char *file)
{
    return *file && *file != '/' && !strstr(file, "..");
}

static struct error read_image(struct arena *arena, const char *folder, const struct json *root,
                               struct generation_job *job)
{
    const char *file = json_string(root, "image", NULL);
    if (!file)
        return OK;
    job->strength = json_number(root, "strength", 0);
    if (!is_inside(file) || !(job->strength > 0 && job->strength <= 1))
        return error_make(ERR_INVALID, "job.json: image needs a file in the folder and a strength above 0, at most 1");
    job->image = arena_printf(arena, "%s/%s", folder, file);
    return OK;
}

static struct error read_loras(struct arena *arena, const char *folder, const struct json *loras,
                               struct generation_job *job)
{
    if (!loras)
        return OK;
    if (loras->kind != JSON_ARRAY || loras->count > GENERATION_LORAS_MAX)
        return error_make(ERR_INVALID, "job.json must have at most %d loras", GENERATION_LORAS_MAX);
    job->loras = arena_array(arena, loras->count + 1, sizeof *job->loras);
    JSON_EACH (lora, loras) {
        const char *file = json_string(lora, "file", "");
        const double scale = json_number(lora, "scale", 1);
        if (!is_inside(file) || !isfinite((float)scale))
            return error_make(ERR_INVALID, "job.json: loras[%zu] needs a file in the folder and a scale",
                              job->lora_count);
        job->loras[job->lora_count++] =
            (struct lora_choice){.path = arena_printf(arena, "%s/%s", folder, file), .scale = (float)scale};
    }
    return OK;
}

struct error generation_read(struct arena *arena, const char *folder, struct generation_job *job)
{
    const struct json *root;
    size_t threads;
    *job = (struct generation_job){0};
    TRY(read_root(arena, folder, &root));
    if (json_int(root, "version", 0) != 1 || strcmp(json_string(root, "kind", ""), "generation") != 0)
        return error_make(ERR_INVALID, "job.json: version must be 1 and kind generation");
    job->base_path = json_string(json_get(root, "base"), "path", "");
    job->xl = strcmp(json_string(root, "type", ""), "sd-xl") == 0;
    job->prompt = json_string(root, "prompt", "");
    job->negative = json_string(root, "negativePrompt", "");
    TRY(count_in(root, "threads", POOL_THREADS_MAX, &threads));
    job->threads = (unsigned)threads;
    if (!*job->base_path)
        return error_make(ERR_INVALID, "job.json: base.path is missing");
    TRY(read_sampling(root, job));
    TRY(read_seeds(arena, json_get(root, "seeds"), job));
    TRY(read_image(arena, folder, root, job));
    return read_loras(arena, folder, json_get(root, "loras"), job);
}
