#include "engine/pretrain_job.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/json.h"
#include "engine/mathd.h"
#include "engine/model.h"

enum { job_bytes_max = 64 << 20 };

static struct error number_in(const struct json *object, const char *key, double fallback, double least, double most,
                              double *value)
{
    *value = json_number(object, key, fallback);
    if (*value >= least && *value <= most)
        return OK;
    return error_make(ERR_INVALID, "job.json: %s must be %g to %g", key, least, most);
}

static struct error count_in(const struct json *object, const char *key, unsigned fallback, unsigned least,
                             unsigned most, unsigned *value)
{
    double number;
    TRY(number_in(object, key, fallback, least, most, &number));
    if (number != floor(number))
        return error_make(ERR_INVALID, "job.json: %s must be a whole number", key);
    *value = (unsigned)number;
    return OK;
}

static struct error read_parameters(const struct json *from, struct pretrain_job *job)
{
    TRY(count_in(from, "steps", 0, 1, PRETRAIN_STEPS_MAX, &job->steps));
    TRY(count_in(from, "batchSize", 16, 1, MODEL_BATCH_MAX, &job->batch_size));
    TRY(count_in(from, "warmupSteps", 200, 0, PRETRAIN_STEPS_MAX, &job->warmup_steps));
    TRY(count_in(from, "decaySteps", 0, 0, job->steps, &job->decay_steps));
    TRY(count_in(from, "reportSteps", 500, 1, PRETRAIN_STEPS_MAX, &job->report_steps));
    TRY(count_in(from, "probePictures", 96, 1, 1024, &job->probe_pictures));
    TRY(number_in(from, "learningRate", 8e-4, 1e-9, 1, &job->learning_rate));
    TRY(number_in(from, "beta1", 0.9, 0, 0.999999, &job->beta1));
    TRY(number_in(from, "beta2", 0.99, 0, 0.999999, &job->beta2));
    TRY(number_in(from, "weightDecay", 0.01, 0, 1, &job->weight_decay));
    TRY(number_in(from, "gradientNormMax", 1, 1e-6, 1e6, &job->gradient_norm_max));
    TRY(number_in(from, "averageDecay", 0.998, 0, 0.999999, &job->average_decay));
    TRY(number_in(from, "captionDropout", 0.1, 0, 1, &job->caption_dropout));
    return number_in(from, "timestepPower", 0.8, 0.1, 10, &job->timestep_power);
}

static struct error read_captions(struct arena *arena, const struct json *list, size_t at, struct pretrain_item *item)
{
    if (!list)
        return OK;
    if (list->kind != JSON_ARRAY || list->count > PRETRAIN_CAPTIONS_MAX)
        return error_make(ERR_INVALID, "job.json: items[%zu].captions must have at most %d entries", at,
                          PRETRAIN_CAPTIONS_MAX);
    item->captions = arena_array(arena, list->count + 1, sizeof *item->captions);
    JSON_EACH (caption, list) {
        if (caption->kind != JSON_STRING)
            return error_make(ERR_INVALID, "job.json: items[%zu].captions must be texts", at);
        item->captions[item->caption_count++] = caption->text;
    }
    return OK;
}

/* A path inside the folder: relative and never upwards. */
static bool stays_inside(const char *path)
{
    return *path && *path != '/' && !strstr(path, "..");
}

static struct error read_items(struct arena *arena, const struct json *list, struct pretrain_job *job)
{
    if (!list || list->kind != JSON_ARRAY || !list->count || list->count > PRETRAIN_ITEMS_MAX)
        return error_make(ERR_INVALID, "job.json must have 1 to %d items", PRETRAIN_ITEMS_MAX);
    job->items = arena_array(arena, list->count, sizeof *job->items);
    JSON_EACH (from, list) {
        size_t at = job->item_count++;
        struct pretrain_item *item = &job->items[at];
        item->image = json_string(from, "image", "");
        if (!stays_inside(item->image))
            return error_make(ERR_INVALID, "job.json: items[%zu].image must be a path inside the folder", at);
        TRY(count_in(from, "group", 0, 0, PRETRAIN_GROUPS_MAX - 1, &item->group));
        TRY(read_captions(arena, json_get(from, "captions"), at, item));
    }
    return OK;
}

static struct error read_repeats(const struct json *list, struct pretrain_phase *phase)
{
    size_t group = 0;
    if (!list || list->kind != JSON_ARRAY || list->count > PRETRAIN_GROUPS_MAX)
        return error_make(ERR_INVALID, "job.json: phases need repeats, a number for each group");
    JSON_EACH (number, list) {
        if (number->kind != JSON_NUMBER || !(number->number >= 0 && number->number <= PRETRAIN_REPEATS_MAX))
            return error_make(ERR_INVALID, "job.json: repeats must be 0 to %d", PRETRAIN_REPEATS_MAX);
        phase->repeats[group++] = (unsigned)number->number;
    }
    return OK;
}

static struct error check_phase(const struct pretrain_job *job, const struct pretrain_phase *phase, size_t index)
{
    bool any = false;
    for (size_t i = 0; i < job->item_count; i++)
        any |= phase->repeats[job->items[i].group] > 0;
    if (!any)
        return error_make(ERR_INVALID, "job.json: phases[%zu] has no pictures", index);
    if (index ? phase->first_step <= job->phases[index - 1].first_step : phase->first_step != 0)
        return error_make(ERR_INVALID, "job.json: phases must begin at step 0 and follow one another");
    return OK;
}

static struct error read_phases(const struct json *list, struct pretrain_job *job)
{
    if (!list || list->kind != JSON_ARRAY || !list->count || list->count > PRETRAIN_PHASES_MAX)
        return error_make(ERR_INVALID, "job.json must have 1 to %d phases", PRETRAIN_PHASES_MAX);
    JSON_EACH (from, list) {
        struct pretrain_phase *phase = &job->phases[job->phase_count];
        TRY(count_in(from, "step", 0, 0, PRETRAIN_STEPS_MAX, &phase->first_step));
        TRY(number_in(from, "timestepPower", job->timestep_power, 0.1, 10, &phase->timestep_power));
        TRY(read_repeats(json_get(from, "repeats"), phase));
        TRY(check_phase(job, phase, job->phase_count));
        job->phase_count++;
    }
    return OK;
}

/* The text without the two numbers that may change: the tree written again. */
static struct error take_fingerprint(const struct json *root, struct pretrain_job *job)
{
    uint8_t digest[sha256_size];
    struct buf text;
    buf_init(&text, job_bytes_max);
    struct json_writer json = {.out = &text};
    json_open(&json, NULL, '{');
    JSON_EACH (member, root) {
        if (!strcmp(member->key, "threads"))
            continue;
        if (strcmp(member->key, "parameters") != 0) {
            json_put_tree(&json, member->key, member);
            continue;
        }
        json_open(&json, member->key, '{');
        JSON_EACH (parameter, member) {
            if (strcmp(parameter->key, "steps") != 0)
                json_put_tree(&json, parameter->key, parameter);
        }
        json_close(&json, '}');
    }
    json_close(&json, '}');
    sha256_of(text.data, text.len, digest);
    sha256_hex(digest, job->fingerprint);
    buf_finish(&text);
    return OK;
}

struct error pretrain_job_read(struct arena *arena, const char *folder, struct pretrain_job *job)
{
    const struct json *root;
    double seed;
    *job = (struct pretrain_job){0};
    TRY(json_read_file(arena, arena_printf(arena, "%s/job.json", folder), job_bytes_max, &root));
    job->type = json_string(root, "type", "");
    if (root->kind != JSON_OBJECT || !*job->type)
        return error_make(ERR_INVALID, "job.json: type is missing");
    const char *base = json_string(root, "base", "");
    if (!*base)
        return error_make(ERR_INVALID, "job.json: base, the folder with configs, tokenizer and VAE, is missing");
    job->base_path = *base == '/' ? base : arena_printf(arena, "%s/%s", folder, base);
    TRY(number_in(root, "seed", 0, 0, 9007199254740992.0, &seed));
    job->seed = (uint64_t)seed;
    TRY(count_in(root, "threads", 0, 0, POOL_THREADS_MAX, &job->threads));
    TRY(read_parameters(json_get(root, "parameters"), job));
    TRY(read_items(arena, json_get(root, "items"), job));
    TRY(read_phases(json_get(root, "phases"), job));
    return take_fingerprint(root, job);
}

double pretrain_rate(const struct pretrain_job *job, unsigned step)
{
    double rate = job->learning_rate;
    unsigned decay_first = job->steps - job->decay_steps;
    if (step < job->warmup_steps)
        rate *= (step + 1.0) / job->warmup_steps;
    if (step >= decay_first && job->decay_steps)
        rate *= 0.5 + 0.5 * mathd_cos_turn(0.5 * (step - decay_first + 0.5) / job->decay_steps);
    return rate;
}

const struct pretrain_phase *pretrain_phase(const struct pretrain_job *job, unsigned step)
{
    size_t at = 0;
    while (at + 1 < job->phase_count && job->phases[at + 1].first_step <= step)
        at++;
    return &job->phases[at];
}
