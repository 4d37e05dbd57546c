#include "handlers/render.h"

#include <string.h>

#include "api_fields.h"
#include "base/clock.h"
#include "base/json.h"
#include "domain/url.h"

enum { parameters_bytes_max = 256 * 1024 };

const char *date_text(struct arena *arena, int64_t ms)
{
    return clock_format_iso(arena_alloc(arena, clock_iso_size), ms);
}

static struct api_asset_link *asset_link(struct call *call, const char *asset_id)
{
    if (!asset_id)
        return NULL;
    struct api_asset_link *link = ARENA_NEW(call->arena, struct api_asset_link);
    link->asset_id = asset_id;
    link->url = url_asset(call->domain, call->arena, asset_id, call->original_assets, call->now_ms);
    return link;
}

void render_training_image(struct call *call, const struct training_image *image, struct api_training_image *out)
{
    *out = (struct api_training_image){
        .id = image->id,
        .automatic_captioning = image->automatic_captioning,
        .created_at = date_text(call->arena, image->created_at),
        .description = image->description,
        .download_url = url_asset(call->domain, call->arena, image->id, call->original_assets, call->now_ms),
        .name = image->name,
    };
}

static void render_images(struct call *call, const struct model *model, struct api_model *out)
{
    out->training_images = arena_array(call->arena, model->image_count + 1, sizeof *out->training_images);
    out->training_images_count = model->image_count;
    for (size_t i = 0; i < model->image_count; i++)
        render_training_image(call, &model->images[i], &out->training_images[i]);
}

static struct error render_concepts(struct call *call, const struct model *model, struct api_model *out)
{
    const struct json *concepts;
    if (!model->concepts)
        return OK;
    TRY(json_parse(call->arena, model->concepts, strlen(model->concepts), &concepts));
    out->concepts = arena_array(call->arena, concepts->count + 1, sizeof *out->concepts);
    JSON_EACH (item, concepts) {
        out->concepts[out->concepts_count++] = (struct api_model_concept){
            json_string(item, "modelId", ""), json_number(item, "scale", 0), json_string(item, "modelEpoch", NULL)};
    }
    return OK;
}

static const char *unless_empty(const char *text)
{
    return *text ? text : NULL;
}

void render_training_pair(const struct training_pair *pair, struct api_training_pair *out)
{
    *out = (struct api_training_pair){
        .instruction = unless_empty(pair->instruction),
        .source_id = pair->source_id,
        .target_id = pair->target_id,
    };
}

static void render_pairs(struct call *call, const struct model *model, struct api_model *out)
{
    out->training_image_pairs = arena_array(call->arena, model->pair_count + 1, sizeof *out->training_image_pairs);
    out->training_image_pairs_count = model->pair_count;
    for (size_t i = 0; i < model->pair_count; i++)
        render_training_pair(&model->pairs[i], &out->training_image_pairs[i]);
}

/* There is no catalogue of classes: the slug is what the caller said, and nothing is made up around it. */
static struct api_model_class *render_class(struct call *call, const struct model *model)
{
    static const char *none[1];
    if (!model->class_slug)
        return NULL;
    struct api_model_class *class = ARENA_NEW(call->arena, struct api_model_class);
    *class = (struct api_model_class){
        .category = "",
        .concept_prompt = "",
        .model_id = "",
        .name = model->class_slug,
        .prompt = "",
        .slug = model->class_slug,
        .status = "unpublished",
        .thumbnails = none,
    };
    return class;
}

/* The hosted models that a trained Flux.1 LoRA is known to run on. */
static void render_compliance(const struct model *model, struct api_model *out)
{
    static const char *flux[] = {"flux.1-dev", "flux.1-schnell"};
    if (strcmp(model->type, "flux.1-lora") != 0 || strcmp(model->status, "trained") != 0)
        return;
    out->compliant_model_ids = flux;
    out->compliant_model_ids_count = sizeof flux / sizeof *flux;
}

/* Kept as [{"epoch":"000001","assetIds":["asset_..."]}]. */
static struct error render_epochs(struct call *call, const struct model *model, struct api_model *out)
{
    const struct json *epochs;
    if (!model->epochs)
        return OK;
    TRY(json_parse(call->arena, model->epochs, strlen(model->epochs), &epochs));
    out->epochs = arena_array(call->arena, epochs->count + 1, sizeof *out->epochs);
    JSON_EACH (item, epochs) {
        struct api_model_epoch *epoch = &out->epochs[out->epochs_count++];
        const struct json *ids = json_get(item, "assetIds");
        epoch->epoch = json_string(item, "epoch", "");
        if (!ids)
            continue;
        epoch->assets = arena_array(call->arena, ids->count + 1, sizeof *epoch->assets);
        JSON_EACH (id, ids) {
            epoch->assets[epoch->assets_count++] = *asset_link(call, id->text);
        }
    }
    return OK;
}

/* Objects that rows keep as JSON; an empty one is absent here and {} on the wire. */
static struct error read_object(struct arena *arena, const char *text, const struct fields *fields, void **object)
{
    *object = NULL;
    if (!text || !strcmp(text, "{}"))
        return OK;
    *object = arena_alloc(arena, fields->size);
    return fields_read(arena, fields, text, strlen(text), *object);
}

static struct error render_objects(struct call *call, const struct model *model, struct api_model *out)
{
    struct arena *arena = call->arena;
    TRY(read_object(arena, model->parameters, &api_training_parameters_fields, (void **)&out->parameters));
    TRY(read_object(arena, model->training_progress, &api_training_progress_fields, (void **)&out->training_progress));
    TRY(read_object(arena, model->training_stats, &api_training_stats_fields, (void **)&out->training_stats));
    TRY(render_concepts(call, model, out));
    return render_epochs(call, model, out);
}

static struct error render_lists(struct call *call, const struct model *model, struct api_model *out)
{
    struct arena *arena = call->arena;
    TRY(json_to_strings(arena, model->capabilities, &out->capabilities, &out->capabilities_count));
    TRY(json_to_strings(arena, model->tags, &out->tags, &out->tags_count));
    TRY(json_to_strings(arena, model->collection_ids, &out->collection_ids, &out->collection_ids_count));
    return json_to_strings(arena, model->example_asset_ids, &out->example_asset_ids, &out->example_asset_ids_count);
}

struct error render_model(struct call *call, const struct model *model, struct api_model *out)
{
    *out = (struct api_model){
        .id = model->id,
        .created_at = date_text(call->arena, model->created_at),
        .updated_at = date_text(call->arena, model->updated_at),
        .privacy = model->privacy,
        .source = model->source,
        .status = model->status,
        .type = model->type,
        .training_images_number = (double)model->training_image_count,
        .author_id = model->author_id,
        .user_id = model->author_id,
        .owner_id = model->project_id,
        .class_ = render_class(call, model),
        .epoch = model->epoch,
        .name = unless_empty(model->name),
        .short_description = unless_empty(model->short_description),
        .parent_model_id = model->parent_model_id,
        .prompt_embedding = model->prompt_embedding,
        .negative_prompt_embedding = model->negative_prompt_embedding,
        .thumbnail = asset_link(call, model->thumbnail_asset_id),
    };
    render_images(call, model, out);
    render_pairs(call, model, out);
    render_compliance(model, out);
    TRY(render_lists(call, model, out));
    return render_objects(call, model, out);
}

struct error parameters_text(struct arena *arena, const struct api_training_parameters *parameters, const char **text)
{
    *text = NULL;
    if (!parameters)
        return OK;
    struct api_training_parameters kept = *parameters;
    kept.wandb_key = NULL;
    struct buf out;
    buf_init(&out, parameters_bytes_max);
    struct json_writer writer = {.out = &out};
    fields_write(&writer, NULL, &api_training_parameters_fields, &kept);
    struct error error = buf_error(&out);
    if (!error.code)
        *text = arena_copy(arena, out.data, out.len);
    buf_finish(&out);
    return error;
}

struct error explain_refusal(struct call *call, struct error error, const struct plan_refusal *refusal)
{
    if (error.code != ERR_PLAN_LIMIT || !refusal->action)
        return error;
    const char *remaining = "";
    if (refusal->remaining_s)
        remaining = arena_printf(call->arena, ",\"remainingSeconds\":%lld", (long long)refusal->remaining_s);
    call->error_details = arena_printf(
        call->arena, "{\"actionLimit\":%lld,\"actionName\":\"%s\",\"actionValue\":%lld,\"limitScope\":\"%s\"%s}",
        (long long)refusal->limit, refusal->action, (long long)refusal->value, refusal->scope, remaining);
    call->retry_s = refusal->retry_s;
    return error;
}

bool is_dry_run(const char *dry_run)
{
    return dry_run && strcmp(dry_run, "false") != 0;
}

struct error respond_quote(struct call *call, const struct training_quote *quote, const char *label)
{
    enum { status_dry_run = 269, quote_bytes_max = 4096 };
    struct buf out;
    buf_init(&out, quote_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '{');
    json_put_number(&writer, "creativeUnitsCost", quote->cost);
    json_put_number(&writer, "creativeUnitsDiscount", quote->discount);
    if (label) {
        json_open(&writer, "costDetails", '{');
        json_put_number(&writer, label, quote->cost);
        json_close(&writer, '}');
    }
    json_close(&writer, '}');
    const struct error error = buf_error(&out);
    if (!error.code)
        http_respond_buf(call->response, status_dry_run, "application/json", &out);
    buf_finish(&out);
    return error;
}
