#include "engine/job_folder.h"

#include <math.h>
#include <string.h>

#include "base/crypt.h"
#include "base/fs.h"
#include "base/json.h"
#include "engine/model.h"

enum { job_bytes_max = 8 << 20 };

struct range {
    const char *name;
    double fallback, least, most;
};

static struct error number_in(const struct json *parameters, struct range range, double *value)
{
    *value = json_number(parameters, range.name, range.fallback);
    if (*value >= range.least && *value <= range.most)
        return OK;
    return error_make(ERR_INVALID, "parameters.%s must be %g to %g", range.name, range.least, range.most);
}

static struct error count_in(const struct json *parameters, struct range range, unsigned *value)
{
    double number;
    TRY(number_in(parameters, range, &number));
    if (number != floor(number))
        return error_make(ERR_INVALID, "parameters.%s must be a whole number", range.name);
    *value = (unsigned)number;
    return OK;
}

/* SD 1.5: 75 steps a picture; SDXL: 175. The Models API's defaults. */
static unsigned default_steps(const struct job *job)
{
    double steps = job->xl ? (double)job->item_count * 175 : nearbyint((double)job->item_count * 225 / 3);
    return (unsigned)fmin(steps, 40000);
}

static struct error read_counts(const struct json *source, struct job *job)
{
    struct job_parameters *to = &job->parameters;
    TRY(count_in(source, (struct range){"batchSize", 1, 1, JOB_BATCH_MAX}, &to->batch_size));
    TRY(count_in(source, (struct range){"nbEpochs", 0, 0, 1000}, &to->epochs));
    TRY(count_in(source, (struct range){"nbRepeats", 1, 1, 1000}, &to->repeats));
    TRY(count_in(source, (struct range){"rank", job->xl ? 64 : 16, 1, LORA_RANK_MAX}, &to->rank));
    TRY(count_in(source, (struct range){"maxTrainSteps", 0, 0, JOB_STEPS_MAX}, &to->steps_max));
    TRY(count_in(source, (struct range){"validationFrequency", 0, 0, JOB_STEPS_MAX}, &to->validation_frequency));
    TRY(count_in(source, (struct range){"gradientAccumulationSteps", 1, 1, JOB_ACCUMULATION_MAX}, &to->accumulation));
    if (!to->epochs && !to->steps_max)
        to->steps_max = default_steps(job);
    return OK;
}

/* The text encoder trains when it is given steps. The UNet's are what is given or else all others. */
static struct error read_split(const struct json *source, struct job_parameters *to)
{
    const struct json *text = json_get(source, "numTextTrainSteps"), *unet = json_get(source, "numUNetTrainSteps");
    TRY(count_in(source, (struct range){"numTextTrainSteps", 0, 0, 40000}, &to->text_steps));
    TRY(count_in(source, (struct range){"numUNetTrainSteps", to->steps_max, 0, JOB_STEPS_MAX}, &to->unet_steps));
    to->steps_split = (unet && unet->kind == JSON_NUMBER) || (text && text->kind == JSON_NUMBER && to->steps_max);
    return OK;
}

static struct error read_rates(const struct json *source, struct job *job)
{
    struct job_parameters *to = &job->parameters;
    const struct json *text = json_get(source, "learningRateTextEncoder");
    TRY(number_in(source, (struct range){"learningRate", 5e-6, 1e-12, 1}, &to->learning_rate));
    double text_rate = job->xl ? 5e-5 : to->learning_rate;
    TRY(number_in(source, (struct range){"learningRateTextEncoder", text_rate, 0, 1}, &to->text_learning_rate));
    to->text_rate_given = text && text->kind == JSON_NUMBER;
    return number_in(source, (struct range){"learningRateUnet", to->learning_rate, 1e-12, 1}, &to->learning_rate);
}

static struct error read_numbers(const struct json *source, struct job_parameters *to)
{
    TRY(number_in(source, (struct range){"textEncoderTrainingRatio", 0, 0, 0.99}, &to->text_ratio));
    TRY(number_in(source, (struct range){"priorLossWeight", 1, 0, 1000}, &to->prior_weight));
    TRY(number_in(source, (struct range){"randomCropRatio", 1, 0, 1}, &to->crop_ratio));
    TRY(number_in(source, (struct range){"randomCropScale", 0.8, 0, 1}, &to->crop_scale));
    TRY(number_in(source, (struct range){"minSnrGamma", 0, 0, 1000}, &to->min_snr_gamma));
    to->crop_scale = fmax(to->crop_scale, 0.1); /* a smaller window shows nothing of a picture */
    return OK;
}

static struct error read_parameters(const struct json *source, struct job *job)
{
    struct job_parameters *to = &job->parameters;
    TRY(read_counts(source, job));
    TRY(read_split(source, to));
    TRY(read_rates(source, job));
    TRY(read_numbers(source, to));
    to->aspect_buckets = json_bool(source, "aspectBuckets", true);
    const char *format = json_string(source, "loraFormat", "kohya");
    if (strcmp(format, "kohya") != 0 && strcmp(format, "diffusers") != 0)
        return error_make(ERR_INVALID, "parameters.loraFormat must be kohya or diffusers");
    to->lora_format = strcmp(format, "kohya") == 0 ? LORA_KOHYA : LORA_DIFFUSERS;
    to->recompute = !json_get(source, "gradientCheckpointing")          ? RECOMPUTE_TO_FIT
                    : json_bool(source, "gradientCheckpointing", false) ? RECOMPUTE_ALWAYS
                                                                        : RECOMPUTE_NEVER;
    to->random_crop = json_bool(source, "randomCrop", false);
    to->class_prompt = json_string(source, "classPrompt", "");
    to->concept_prompt = json_string(source, "conceptPrompt", *to->class_prompt ? "" : "daiton");
    to->rate_name = json_string(source, "lrScheduler", "constant");
    if (!rate_kind_parse(to->rate_name, &to->rate_kind))
        return error_make(ERR_INVALID, "parameters.lrScheduler %.40s is not known", to->rate_name);
    return OK;
}

/* A path inside the folder: relative and never upwards. */
static bool stays_inside(const char *path)
{
    return *path && *path != '/' && !strstr(path, "..");
}

static struct error read_items(struct arena *arena, const struct json *items, struct job *job)
{
    size_t at = 0;
    if (!items || items->kind != JSON_ARRAY || !items->count || items->count > JOB_ITEMS_MAX)
        return error_make(ERR_INVALID, "job.json must have 1 to %d items", JOB_ITEMS_MAX);
    job->item_count = items->count;
    job->items = arena_array(arena, items->count, sizeof *job->items);
    JSON_EACH (item, items) {
        struct job_item *to = &job->items[at++];
        to->image = json_string(item, "image", "");
        to->caption = json_string(item, "caption", "");
        to->source_id = json_string(item, "sourceId", NULL);
        if (!stays_inside(to->image))
            return error_make(ERR_INVALID, "job.json: items[%zu].image must be a path inside the folder", at - 1);
    }
    return OK;
}

static uint64_t seed_of(const struct json *object)
{
    double seed = json_number(object, "seed", 0);
    return seed > 0 && seed < 18446744073709551616.0 ? (uint64_t)seed : 0;
}

static struct error read_prompts(struct arena *arena, const struct json *prompts, struct job *job)
{
    size_t at = 0;
    if (!prompts)
        return OK;
    if (prompts->kind != JSON_ARRAY || prompts->count > JOB_PROMPTS_MAX)
        return error_make(ERR_INVALID, "job.json must have at most %d prompts", JOB_PROMPTS_MAX);
    job->prompt_count = prompts->count;
    job->prompts = arena_array(arena, prompts->count + 1, sizeof *job->prompts);
    JSON_EACH (prompt, prompts) {
        double width = json_number(prompt, "width", 0), height = json_number(prompt, "height", 0);
        double steps = json_number(prompt, "steps", 0), guidance = json_number(prompt, "guidance", 0);
        if (!(width >= 0 && width <= 16384 && height >= 0 && height <= 16384 && steps >= 0 && steps <= 10000))
            return error_make(ERR_INVALID, "job.json: prompts[%zu] has impossible numbers", at);
        enum sampler_kind sampler;
        if (!sampler_kind_parse(json_string(prompt, "scheduler", "ddim"), &sampler))
            return error_make(ERR_INVALID, "job.json: prompts[%zu].scheduler is not known", at);
        job->prompts[at++] = (struct job_prompt){
            .text = json_string(prompt, "text", ""),
            .negative = json_string(prompt, "negative", ""),
            .seed = seed_of(prompt),
            .width = (size_t)width,
            .height = (size_t)height,
            .steps = (unsigned)steps,
            .guidance = guidance,
            .sampler = sampler,
        };
    }
    return OK;
}

static struct error read_header(const struct json *root, struct job *job)
{
    if (json_int(root, "version", 0) != 1)
        return error_make(ERR_INVALID, "job.json: version must be 1");
    job->id = json_string(root, "jobId", "");
    job->name = json_string(root, "name", "lora");
    job->type = json_string(root, "type", "");
    job->base_path = json_string(json_get(root, "base"), "path", "");
    job->seed = seed_of(root);
    job->xl = strcmp(job->type, "sd-xl-lora") == 0;
    double threads = json_number(root, "threads", 0);
    job->threads = threads >= 1 && threads <= POOL_THREADS_MAX ? (unsigned)threads : 0;
    if (!job->xl && strcmp(job->type, "sd-1_5-lora") != 0)
        return error_make(ERR_INVALID, "the embedded trainer trains sd-1_5-lora and sd-xl-lora, not %.40s", job->type);
    if (!*job->base_path)
        return error_make(ERR_INVALID, "job.json: base.path is missing");
    return OK;
}

struct error job_read(struct arena *arena, const char *folder, struct job *job)
{
    char *text;
    size_t size;
    const struct json *root;
    uint8_t digest[sha256_size];
    *job = (struct job){0};
    TRY(fs_read(arena, arena_printf(arena, "%s/job.json", folder), job_bytes_max, &text, &size));
    TRY(json_parse(arena, text, size, &root));
    sha256_of(text, size, digest);
    sha256_hex(digest, job->fingerprint);
    TRY(read_header(root, job));
    TRY(read_items(arena, json_get(root, "items"), job));
    TRY(read_prompts(arena, json_get(root, "prompts"), job));
    return read_parameters(json_get(root, "parameters"), job);
}

static void plan_checkpoints(const struct job_parameters *from, struct job_plan *plan)
{
    unsigned every = from->epochs                 ? plan->steps_per_epoch
                     : from->validation_frequency ? from->validation_frequency
                                                  : plan->steps;
    plan->steps_per_checkpoint = every < plan->steps ? every : plan->steps;
    plan->checkpoints = (plan->steps + plan->steps_per_checkpoint - 1) / plan->steps_per_checkpoint;
}

struct error job_plan_make(const struct job *job, unsigned batches_per_epoch, struct job_plan *plan)
{
    const struct job_parameters *from = &job->parameters;
    *plan = (struct job_plan){.batches_per_epoch = batches_per_epoch,
                              .steps_per_epoch = (batches_per_epoch + from->accumulation - 1) / from->accumulation};
    size_t steps = from->steps_max;
    if (from->epochs) {
        size_t whole = (size_t)from->epochs * plan->steps_per_epoch;
        steps = steps && steps < whole ? steps : whole;
    }
    plan->text_steps = (unsigned)nearbyint((double)steps * from->text_ratio);
    if (from->steps_split) {
        steps = (size_t)from->text_steps + from->unet_steps;
        plan->text_steps = from->text_steps;
    }
    if (steps < 1 || steps > JOB_STEPS_MAX)
        return error_make(ERR_INVALID, "the parameters make %zu steps: it must be 1 to %d", steps, JOB_STEPS_MAX);
    plan->steps = (unsigned)steps;
    plan_checkpoints(from, plan);
    return OK;
}
