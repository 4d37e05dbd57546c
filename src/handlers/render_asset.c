/* Assets and what is known of how they were made. */
#include <math.h>
#include <string.h>

#include "api_fields.h"
#include "base/json.h"
#include "domain/url.h"
#include "handlers/render.h"

/* A row keeps what was asked of a model under the names of the wire: the same text is read into either object. */
static struct error read_generation(struct call *call, const struct asset *asset, const struct fields *fields,
                                    void *object)
{
    if (!asset->generation)
        return OK;
    return fields_read(call->arena, fields, asset->generation, strlen(asset->generation), object);
}

static struct error render_metadata(struct call *call, const struct asset *asset, struct api_asset_metadata **out)
{
    struct api_asset_metadata *metadata = *out = ARENA_NEW(call->arena, struct api_asset_metadata);
    TRY(read_generation(call, asset, &api_asset_metadata_fields, metadata));
    metadata->kind = asset->kind;
    metadata->type = asset->type;
    metadata->name = asset->name;
    metadata->parent_id = asset->parent_id;
    metadata->root_parent_id = asset->root_parent_id;
    metadata->model_id = asset->model_id ? asset->model_id : metadata->model_id;
    metadata->inference_id = asset->inference_id;
    metadata->parent_job_id = asset->job_id;
    metadata->original_asset_id = asset->original_asset_id;
    metadata->source_project_id = asset->source_project_id;
    metadata->copied_at = asset->copied_at ? date_text(call->arena, asset->copied_at) : NULL;
    metadata->width = (double)asset->width;
    metadata->height = (double)asset->height;
    metadata->size = (double)asset->size;
    metadata->has_width = metadata->has_height = metadata->has_size = true;
    metadata->training_image = metadata->has_training_image = asset->is_training_image;
    fields_drop_invalid(&api_asset_metadata_fields, metadata);
    return OK;
}

struct api_asset_properties *render_asset_properties(struct call *call, const struct asset *asset)
{
    struct api_asset_properties *properties = ARENA_NEW(call->arena, struct api_asset_properties);
    *properties = (struct api_asset_properties){
        .size = (double)asset->size,
        .width = (double)asset->width,
        .has_width = true,
        .height = (double)asset->height,
        .has_height = true,
    };
    return properties;
}

struct error render_asset(struct call *call, const struct asset *asset, struct api_asset *out)
{
    static const char *const no_strings[1]; /* nothing here changes pixels: no editCapabilities */
    struct arena *arena = call->arena;
    *out = (struct api_asset){
        .id = asset->id,
        .author_id = asset->author_id,
        .owner_id = asset->project_id,
        .created_at = date_text(arena, asset->created_at),
        .updated_at = date_text(arena, asset->updated_at),
        .kind = asset->kind,
        .mime_type = asset->mime_type,
        .privacy = asset->privacy,
        .source = asset->source,
        .status = "success",
        .properties = render_asset_properties(call, asset),
        .url = url_asset(call->domain, arena, asset->id, call->original_assets, call->now_ms),
        .automatic_captioning = asset->automatic_captioning,
        .description = asset->description,
        .is_hidden = asset->hide,
        .has_is_hidden = asset->hide,
        .edit_capabilities = (const char **)no_strings,
    };
    TRY(render_metadata(call, asset, &out->metadata));
    out->output_index = out->metadata->output_index;
    out->has_output_index = out->metadata->has_output_index;
    TRY(json_to_strings(arena, asset->tags, &out->tags, &out->tags_count));
    return json_to_strings(arena, asset->collection_ids, &out->collection_ids, &out->collection_ids_count);
}

struct error render_assets(struct call *call, const struct asset *assets, size_t count, struct api_asset **out)
{
    *out = arena_array(call->arena, count + 1, sizeof **out);
    for (size_t i = 0; i < count; i++)
        TRY(render_asset(call, &assets[i], &(*out)[i]));
    return OK;
}

struct error render_inference(struct call *call, const struct asset *asset, struct api_inference_parameters **out)
{
    static const char prefix[] = "inference-";
    *out = NULL;
    if (!asset->generation || strncmp(asset->type, prefix, strlen(prefix)) != 0)
        return OK;
    struct api_inference_parameters *parameters = ARENA_NEW(call->arena, struct api_inference_parameters);
    TRY(read_generation(call, asset, &api_inference_parameters_fields, parameters));
    parameters->type = asset->type + strlen(prefix);
    parameters->width = (double)asset->width;
    parameters->has_width = asset->width % 8 == 0;
    parameters->height = (double)asset->height;
    parameters->has_height = asset->height % 8 == 0;
    fields_drop_invalid(&api_inference_parameters_fields, parameters);
    *out = parameters->prompt ? parameters : NULL;
    return OK;
}
