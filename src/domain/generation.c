#include "domain/generation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "domain/asset.h"
#include "domain/composition.h"

enum { seed_max = 2147483647, sd15_side_max = 1024, retry_queue_s = 60, input_bytes_max = 1 << 20 };

/* Which base model draws models of a type. */
static const struct {
    const char *type, *base;
} drawable[] = {
    {"sd-1_5-lora", "sd-1_5"},
    {"sd-1_5-composition", "sd-1_5"},
    {"sd-xl-lora", "sd-xl"},
    {"sd-xl-composition", "sd-xl"},
};
static const char drawable_types[] = "sd-1_5-lora, sd-1_5-composition, sd-xl-lora, sd-xl-composition";

/* Everything that must hold before a generation starts, found out in one snapshot. */
struct plan {
    const struct training_type *base_type; /* "sd-1_5" or "sd-xl" */
    const char *base;                      /* directory */
    bool has_model;                        /* else the base alone was asked for */
    struct model model;
    struct composition_part *parts; /* LoRAs */
    const char **weights;           /* a blob for each */
    size_t part_count;
    int64_t seed; /* of the first picture */
    struct asset image;
};

static const char *base_of(const char *model_type)
{
    for (size_t i = 0; i < sizeof drawable / sizeof *drawable; i++)
        if (strcmp(drawable[i].type, model_type) == 0)
            return drawable[i].base;
    return NULL;
}

static struct error find_model(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                               struct plan *plan)
{
    const char *base = id;
    if (strcmp(id, "sd-1_5") != 0 && strcmp(id, "sd-xl") != 0) {
        TRY(model_find_readable(tx, arena, caller, id, &plan->model));
        plan->has_model = true;
        base = base_of(plan->model.type);
        if (!base)
            return error_make(ERR_INVALID, "Invalid model(s): %.64s.\nAllowed model types: %s", id, drawable_types);
        if (strcmp(plan->model.status, "trained") != 0)
            return error_field("modelId", "names %.64s, which is not trained yet", id);
    }
    plan->base_type = training_type_find(base);
    return OK;
}

/* Numbers: what the contract cannot say. */

static struct error check_side(const char *field, int side, const struct plan *plan)
{
    if (side % generation_side_multiple != 0)
        return error_field(field, "must be a multiple of %d", generation_side_multiple);
    if (plan->base_type->family == FAMILY_SD15 && side > sd15_side_max)
        return error_field(field, "must be at most %d for models of type %s", sd15_side_max,
                           plan->base_type->model_type);
    return OK;
}

static struct error read_seed(const char *text, int64_t *seed)
{
    if (!text) {
        uint32_t bits;
        random_bytes(&bits, sizeof bits);
        *seed = bits & seed_max;
        return OK;
    }
    const size_t length = strlen(text);
    if (!length || length > 10 || strspn(text, "0123456789") != length || strtoll(text, NULL, 10) > seed_max)
        return error_field("seed", "must be a whole number from 0 to %d", seed_max);
    *seed = strtoll(text, NULL, 10);
    return OK;
}

/* LoRAs. */

static struct error check_epoch(struct arena *arena, const struct plan *plan, const char *epoch)
{
    if (!epoch)
        return OK;
    if (!plan->has_model || strstr(plan->model.type, "composition"))
        return error_field("modelEpoch", "is only for LoRAs: the concepts of others have a modelEpoch each");
    if (!model_has_epoch(arena, &plan->model, epoch))
        return error_field("modelEpoch", "must be one of the epochs of %.64s", plan->model.id);
    return OK;
}

static struct error append_parts(struct arena *arena, struct plan *plan, const struct composition_part *parts,
                                 size_t count)
{
    struct composition_part *all = arena_array(arena, plan->part_count + count + 1, sizeof *all);
    if (plan->part_count + count > composition_parts_max)
        return error_make(ERR_INVALID, "At most %d LoRAs draw together", composition_parts_max);
    for (size_t i = 0; i < plan->part_count; i++)
        all[i] = plan->parts[i];
    for (size_t i = 0; i < count; i++)
        all[plan->part_count + i] = parts[i];
    plan->parts = all;
    plan->part_count += count;
    return OK;
}

static struct error add_list(struct db_tx *tx, struct arena *arena, const char *concepts, struct plan *plan)
{
    struct composition_part *parts;
    size_t count;
    TRY(composition_parts(tx, arena, concepts, &parts, &count));
    return append_parts(arena, plan, parts, count);
}

/* A trained LoRA names itself among its concepts; one whose concepts were emptied still stands for itself. */
static const char *own_concepts(struct arena *arena, const struct model *model)
{
    const bool none = !model->concepts || strcmp(model->concepts, "[]") == 0;
    return none ? arena_printf(arena, "[{\"modelId\":\"%s\",\"scale\":0.8}]", model->id) : model->concepts;
}

static struct error find_parts(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                               const struct generation_request *request, struct plan *plan)
{
    TRY(check_epoch(arena, plan, request->model_epoch));
    if (request->concepts) {
        TRY(composition_check_list(tx, arena, caller, NULL, plan->base_type, "concepts", request->concepts));
        TRY(add_list(tx, arena, request->concepts, plan));
    } else if (plan->has_model) {
        TRY(add_list(tx, arena, own_concepts(arena, &plan->model), plan));
    }
    for (size_t i = 0; i < plan->part_count && request->model_epoch; i++)
        if (strcmp(plan->parts[i].model.id, plan->model.id) == 0)
            plan->parts[i].epoch = request->model_epoch;
    if (!request->loras)
        return OK;
    TRY(composition_check_list(tx, arena, caller, NULL, plan->base_type, "loras", request->loras));
    return add_list(tx, arena, request->loras, plan);
}

static struct error find_weights(struct db_tx *tx, struct arena *arena, struct plan *plan)
{
    plan->weights = arena_array(arena, plan->part_count + 1, sizeof *plan->weights);
    for (size_t i = 0; i < plan->part_count; i++) {
        const struct composition_part *part = &plan->parts[i];
        struct db_rows *rows;
        bool row;
        TRY(db_query(tx, &rows,
                     "SELECT blob_sha256 FROM model_file WHERE model_id = ?1 AND kind = 'weights' AND epoch = ?2 "
                     "ORDER BY name LIMIT 1",
                     DB_BIND(db_t(part->model.id), db_t(part->epoch ? part->epoch : ""))));
        TRY(db_next(rows, &row));
        if (!row)
            return error_make(ERR_INVALID, "Model %.64s has no weights%s%.64s: train it first", part->model.id,
                              part->epoch ? " of epoch " : "", part->epoch ? part->epoch : "");
        plan->weights[i] = db_text(arena, rows, 0);
        while (row)
            TRY(db_next(rows, &row));
    }
    return OK;
}

static struct error make_plan(struct db_tx *tx, const struct training_settings *settings, struct arena *arena,
                              const struct caller *caller, const struct generation_request *request, struct plan *plan)
{
    *plan = (struct plan){0};
    TRY(find_model(tx, arena, caller, request->model_id, plan));
    TRY(check_side("width", request->width, plan));
    TRY(check_side("height", request->height, plan));
    TRY(read_seed(request->seed, &plan->seed));
    TRY(find_parts(tx, arena, caller, request, plan));
    TRY(find_weights(tx, arena, plan));
    if (request->image)
        TRY(asset_find_readable(tx, arena, caller, request->image, &plan->image));
    return training_base(settings, plan->base_type, &plan->base);
}

struct error generation_check(const struct domain *domain, const struct training_settings *settings,
                              struct arena *arena, const struct caller *caller,
                              const struct generation_request *request)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct plan plan;
    TRY(db_read_begin(domain->db, &tx));
    return make_plan(tx, settings, arena, caller, request, &plan);
}

/* The job: what a client sees of it, and what the folder is made of. */

struct launch {
    const struct training_settings *settings;
    struct arena *arena;
    const struct caller *caller;
    const struct generation_request *request;
    const char *job_id;
    int64_t now_ms;
    struct job *job;
    struct plan_refusal *refusal;
};

/* What is always added to prompts of this model. */
static const char *with_embedding(struct arena *arena, const char *prompt, const char *embedding)
{
    if (!embedding || !*embedding)
        return prompt;
    return *prompt ? arena_printf(arena, "%s, %s", prompt, embedding) : embedding;
}

static void put_numbers(struct json_writer *writer, const struct generation_request *request)
{
    if (request->width)
        json_put_int(writer, "width", request->width);
    if (request->height)
        json_put_int(writer, "height", request->height);
    if (request->steps)
        json_put_int(writer, "numInferenceSteps", request->steps);
    if (request->guidance >= 0)
        json_put_number(writer, "guidance", request->guidance);
    if (request->scheduler)
        json_put_string(writer, "scheduler", request->scheduler);
    if (request->hide)
        json_put_bool(writer, "hideResults", true);
    if (request->image) {
        json_put_string(writer, "image", request->image);
        json_put_number(writer, "strength", request->strength);
    }
}

static void put_concepts(struct json_writer *writer, const struct plan *plan)
{
    json_open(writer, "concepts", '[');
    for (size_t i = 0; i < plan->part_count; i++) {
        json_open(writer, NULL, '{');
        json_put_string(writer, "modelId", plan->parts[i].model.id);
        json_put_number(writer, "scale", plan->parts[i].scale);
        if (plan->parts[i].epoch)
            json_put_string(writer, "modelEpoch", plan->parts[i].epoch);
        json_close(writer, '}');
    }
    json_close(writer, ']');
}

/* Under the names of the wire: the pictures' metadata is made of it too. */
static void put_input(struct json_writer *writer, const struct launch *launch, const struct plan *plan)
{
    const struct generation_request *request = launch->request;
    const struct model *model = &plan->model;
    const char *negative = request->negative_prompt ? request->negative_prompt : "";
    negative = with_embedding(launch->arena, negative, model->negative_prompt_embedding);
    json_open(writer, NULL, '{');
    json_put_string(writer, "modelId", request->model_id);
    json_put_string(writer, "modelType", plan->has_model ? model->type : plan->base_type->model_type);
    json_put_string(writer, "baseModelId", plan->base_type->model_type);
    json_put_string(writer, "prompt", with_embedding(launch->arena, request->prompt, model->prompt_embedding));
    if (*negative)
        json_put_string(writer, "negativePrompt", negative);
    json_put_int(writer, "numSamples", request->samples);
    json_put_string(writer, "seed", arena_printf(launch->arena, "%lld", (long long)plan->seed));
    put_numbers(writer, request);
    if (request->model_epoch)
        json_put_string(writer, "modelEpoch", request->model_epoch);
    put_concepts(writer, plan);
    json_close(writer, '}');
}

static struct error write_input(const struct launch *launch, const struct plan *plan, const char **input)
{
    struct buf text;
    buf_init(&text, input_bytes_max);
    put_input(&(struct json_writer){.out = &text}, launch, plan);
    const struct error error = buf_error(&text);
    *input = error.code ? NULL : arena_copy(launch->arena, text.data, text.len);
    buf_finish(&text);
    return error;
}

/* What runs needs to know besides what was asked. */
static const char *input_for_run(const struct launch *launch, const struct plan *plan, const char *input)
{
    struct arena *arena = launch->arena;
    const struct asset *image = &plan->image;
    char inference_id[id_size];
    const struct json_change inside[] = {
        {"base", json_quoted(arena, plan->base)},
        {"inferenceId", json_quoted(arena, id_make(inference_id, "inf_"))},
        {"weights", json_from_strings(arena, plan->weights, plan->part_count)},
    };
    input = json_object_with(arena, input, inside, sizeof inside / sizeof *inside);
    if (!launch->request->image)
        return input;
    const bool owned = strcmp(image->project_id, launch->caller->project_id) == 0;
    const struct json_change of_image[] = {
        {"imageSha256", json_quoted(arena, image->sha256)},
        {"rootParentId", json_quoted(arena, image->root_parent_id ? image->root_parent_id : image->id)},
    };
    return json_object_with(arena, input, of_image, owned ? 2 : 1); /* parents are of the same project */
}

static struct error fill_job(const struct launch *launch, const struct plan *plan)
{
    struct arena *arena = launch->arena;
    const char *input;
    TRY(write_input(launch, plan, &input));
    const bool owned = plan->has_model && strcmp(plan->model.project_id, launch->caller->project_id) == 0;
    *launch->job = (struct job){
        .id = launch->job_id,
        .project_id = launch->caller->project_id,
        .author_id = launch->caller->key_id,
        .model_id = owned ? plan->model.id : NULL, /* goes where its model goes, unless that is another project's */
        .type = job_type_generation,
        .status = "queued",
        .metadata = json_object_with(arena, "{}", &(struct json_change){"input", input}, 1),
        .input = input_for_run(launch, plan, input),
        .queued_at = launch->now_ms,
        .created_at = launch->now_ms,
        .updated_at = launch->now_ms,
    };
    return OK;
}

static struct error check_queue(struct db_tx *tx, struct plan_refusal *refusal)
{
    int64_t waiting;
    TRY(job_count_queued(tx, &waiting));
    if (waiting < job_queue_max)
        return OK;
    *refusal = (struct plan_refusal){"parallel-custom-jobs", "server", job_queue_max, waiting, 0, retry_queue_s};
    return error_make(ERR_PLAN_LIMIT, "%d jobs wait already: try again later", job_queue_max);
}

static struct error launch_work(struct db_tx *tx, void *context)
{
    const struct launch *launch = context;
    struct plan plan;
    TRY(make_plan(tx, launch->settings, launch->arena, launch->caller, launch->request, &plan));
    TRY(check_queue(tx, launch->refusal));
    TRY(fill_job(launch, &plan));
    TRY(job_insert(tx, launch->arena, launch->job));
    return job_find(tx, launch->arena, launch->job_id, launch->job);
}

struct error generation_launch(const struct domain *domain, const struct training_settings *settings,
                               struct arena *arena, const struct caller *caller,
                               const struct generation_request *request, struct job *job, struct plan_refusal *refusal)
{
    char id[id_size];
    struct launch launch = {settings, arena, caller, request, id_make(id, "job_"), clock_now_ms(), job, refusal};
    return db_write(domain->db, launch_work, &launch);
}
