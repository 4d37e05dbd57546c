#include "domain/asset.h"

#include <string.h>

#include "domain/asset_copy.h"
#include "domain/asset_delete.h"
#include "domain/asset_list.h"
#include "domain/url.h"
#include "handlers/list_query.h"
#include "handlers/render.h"

enum { page_size_default = 50 };

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
    if (!body->image && !body->canvas)
        return error_make(ERR_INVALID, "Either 'image' or 'canvas' must be provided; only images are kept here");
    if (!body->image)
        return error_field("canvas", "is not supported: only images are kept here, send image");
    TRY(picture_decode(call->arena, "image", body->image, strlen(body->image), &bytes, &size));
    TRY(picture_take(call->domain, call->arena, "image", bytes, size, body->name, CAPTION_WHOLE, &picture));
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
    const struct api_update_asset_body *body = &request->body;
    const struct asset_change change = {body->name, body->description};
    struct asset asset;
    if (body->canvas || body->thumbnail)
        return error_field(body->canvas ? "canvas" : "thumbnail",
                           "is not supported: only images are kept here, and no canvas");
    TRY(asset_update(call->domain, call->arena, &call->caller, request->path.asset_id, &change, &asset));
    return answer_asset(call, &asset, answer);
}

static bool is(const char *text, const char *value)
{
    return text && !strcmp(text, value);
}

static struct error read_filter(const struct api_list_assets_query *query, struct asset_filter *filter)
{
    const struct list_query asked = {query->sort_by,        query->sort_direction, query->created_after,
                                     query->created_before, query->updated_after,  query->updated_before};
    struct list_order order;
    *filter = (struct asset_filter){
        .public = is(query->privacy, "public"),
        .author_id = query->author_id,
        .collection_id = query->collection_id,
        .inference_id = query->inference_id,
        .model_id = query->model_id,
        .parent_id = query->parent_asset_id,
        .root_parent_id = query->root_asset_id,
        .types = query->types_count ? query->types : &query->type,
        .type_count = query->types_count ? query->types_count : query->type != NULL,
        .tags = query->tags,
        .tag_count = query->tags_count,
        .by_update = is(query->sort_by, "updatedAt"),
        .page_size = query->has_page_size ? (int)query->page_size : page_size_default,
        .token = query->pagination_token,
    };
    if (query->type && query->types)
        return error_field("type", "cannot be used together with types");
    if (query->tags && !filter->public)
        return error_field("tags", "must be used together with privacy=public");
    TRY(list_query_read(&asked, &order));
    filter->ascending = order.ascending;
    filter->after = order.after;
    filter->before = order.before;
    return OK;
}

struct error handle_list_assets(struct call *call, const struct api_list_assets_request *request,
                                struct api_list_assets_answer *answer)
{
    struct asset_filter filter;
    struct asset_page page;
    TRY(read_filter(&request->query, &filter));
    TRY(asset_list(call->domain, call->arena, &call->caller, &filter, &page));
    answer->assets_count = page.count;
    answer->next_pagination_token = page.next_token;
    return render_assets(call, page.assets, page.count, &answer->assets);
}

struct error handle_get_bulk_assets(struct call *call, const struct api_get_bulk_assets_request *request,
                                    struct api_get_bulk_assets_answer *answer)
{
    struct asset *assets;
    TRY(asset_get_bulk(call->domain, call->arena, &call->caller, request->body.asset_ids, request->body.asset_ids_count,
                       &assets, &answer->assets_count));
    return render_assets(call, assets, answer->assets_count, &answer->assets);
}

struct error handle_delete_assets(struct call *call, const struct api_delete_assets_request *request)
{
    return asset_delete(call->domain, call->arena, &call->caller, request->body.asset_ids,
                        request->body.asset_ids_count);
}

struct error handle_copy_asset(struct call *call, const struct api_copy_asset_request *request,
                               struct api_asset_answer *answer)
{
    struct asset copy;
    TRY(asset_copy(call->domain, call->arena, &call->caller, request->path.asset_id, request->body.target_project_id,
                   &copy));
    return answer_asset(call, &copy, answer);
}

/* What the links' format can make; the others only come as they are. */
static bool can_become(const char *format)
{
    static const char *const formats[] = {"jpeg", "jpg", "png", "webp", "avif", "tiff", "tif", "gif"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(formats[i], format))
            return true;
    return false;
}

static bool is_already(const struct asset *asset, const char *format)
{
    const struct {
        const char *format, *mime_type;
    } names[] = {{"jpg", "image/jpeg"}, {"tif", "image/tiff"}, {"svg", "image/svg+xml"}, {"heif", "image/heic"}};
    const char *subtype = strchr(asset->mime_type, '/');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].format, format) && !strcmp(names[i].mime_type, asset->mime_type))
            return true;
    return subtype && !strcmp(subtype + 1, format);
}

struct error handle_download_asset(struct call *call, const struct api_download_asset_request *request,
                                   struct api_download_asset_answer *answer)
{
    const char *format = request->body.target_format;
    struct asset asset;
    TRY(asset_get(call->domain, call->arena, &call->caller, request->path.asset_id, &asset));
    if (!format || is_already(&asset, format)) {
        answer->url = url_asset(call->domain, call->arena, asset.id, true, call->now_ms);
        return OK;
    }
    if (!can_become(format))
        return error_make(ERR_INVALID, "Invalid target format");
    answer->url = arena_printf(call->arena, "%s&format=%s",
                               url_asset(call->domain, call->arena, asset.id, false, call->now_ms), format);
    return OK;
}
