#include "domain/asset.h"

#include <string.h>

#include "handlers/render.h"

static struct error answer_asset(struct call *call, const struct asset *asset, struct api_asset_answer *answer)
{
    answer->asset = ARENA_NEW(call->arena, struct api_asset);
    return render_asset(call, asset, answer->asset);
}

struct error handle_create_asset(struct call *call, const struct api_create_asset_request *request,
                                 struct api_asset_answer *answer)
{
    const struct api_create_asset_body *body = &request->body;
    struct picture picture;
    struct asset asset;
    char *bytes;
    size_t size;
    if (!body->image)
        return error_make(ERR_INVALID, "Either 'image' or 'canvas' must be provided; canvas is not supported here");
    TRY(picture_decode(call->arena, "image", body->image, strlen(body->image), &bytes, &size));
    TRY(picture_take(call->domain, call->arena, "image", bytes, size, body->name, &picture));
    const struct asset_options options = {body->hide, body->parent_id, body->collection_ids,
                                          body->collection_ids_count};
    TRY(asset_create(call->domain, call->arena, &call->caller, &picture, &options, &asset));
    return answer_asset(call, &asset, answer);
}

struct error handle_retrieve_asset(struct call *call, const struct api_retrieve_asset_request *request,
                                   struct api_asset_answer *answer)
{
    struct asset asset;
    TRY(asset_get(call->domain, call->arena, &call->caller, request->path.asset_id, &asset));
    return answer_asset(call, &asset, answer);
}

struct error handle_update_asset(struct call *call, const struct api_update_asset_request *request,
                                 struct api_asset_answer *answer)
{
    struct asset_change change = {request->body.name, request->body.description};
    struct asset asset;
    TRY(asset_update(call->domain, call->arena, &call->caller, request->path.asset_id, &change, &asset));
    return answer_asset(call, &asset, answer);
}
