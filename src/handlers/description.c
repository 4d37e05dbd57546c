#include "domain/description.h"

#include "domain/url.h"
#include "handlers/render.h"

static void render_mentioned_asset(struct call *call, const struct asset *asset, struct api_description_asset *out)
{
    *out = (struct api_description_asset){
        .id = asset->id,
        .author_id = asset->author_id,
        .kind = asset->kind,
        .mime_type = asset->mime_type,
        .owner_id = asset->project_id,
        .privacy = asset->privacy,
        .properties = render_asset_properties(call, asset),
        .source = asset->source,
        .url = url_asset(call->domain, call->arena, asset->id, call->original_assets, call->now_ms),
    };
}

static void render_mentioned_model(const struct model *model, struct api_description_model *out)
{
    *out = (struct api_description_model){
        .id = model->id,
        .privacy = model->privacy,
        .type = model->type,
        .author_id = model->author_id,
        .name = model->name[0] ? model->name : NULL,
        .owner_id = model->project_id,
        .short_description = model->short_description[0] ? model->short_description : NULL,
    };
}

static struct error answer_description(struct call *call, const struct description *description,
                                       struct api_description_answer *answer)
{
    struct api_model_description *out = answer->description = ARENA_NEW(call->arena, struct api_model_description);
    out->value = description->value;
    out->assets = arena_array(call->arena, description->asset_count + 1, sizeof *out->assets);
    out->models = arena_array(call->arena, description->model_count + 1, sizeof *out->models);
    for (size_t i = 0; i < description->asset_count; i++)
        render_mentioned_asset(call, &description->assets[i], &out->assets[out->assets_count++]);
    for (size_t i = 0; i < description->model_count; i++)
        render_mentioned_model(&description->models[i], &out->models[out->models_count++]);
    return OK;
}

struct error handle_retrieve_description(struct call *call, const struct api_retrieve_description_request *request,
                                         struct api_description_answer *answer)
{
    struct description description;
    TRY(description_get(call->domain, call->arena, &call->caller, request->path.model_id, &description));
    return answer_description(call, &description, answer);
}

struct error handle_update_description(struct call *call, const struct api_update_description_request *request,
                                       struct api_description_answer *answer)
{
    struct description description;
    TRY(description_put(call->domain, call->arena, &call->caller, request->path.model_id, request->body.description,
                        &description));
    return answer_description(call, &description, answer);
}
