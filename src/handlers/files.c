/* Bytes behind signed links. */
#include "domain/transform.h"

#include "domain/url.h"
#include "handlers/api.h"

static struct error send_file(struct call *call, const struct transformed *file, int64_t expires_s)
{
    /* An SVG is a document: opened by itself it must not run scripts in this origin. */
    http_add_header(call->response, "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; sandbox");
    int64_t seconds = expires_s - call->now_ms / 1000;
    http_respond_file(call->response, file->mime, file->fd, 0, (uint64_t)file->size);
    call->response->etag = file->etag;
    call->response->cache_control = arena_printf(call->arena, "private, max-age=%lld", (long long)seconds);
    return OK;
}

/* What was asked for without any change is the file as it came. */
static bool changes_nothing(const struct api_serve_asset_query *query)
{
    return !query->width && !query->height && !query->format && !query->has_quality && !query->rotate && !query->blur &&
           !query->greyscale && !query->flatten && !query->background;
}

struct error handle_serve_asset(struct call *call, const struct api_serve_asset_request *request)
{
    const struct api_serve_asset_query *query = &request->query;
    const char *id = request->path.asset_id;
    struct asset asset;
    struct media_transform transform;
    struct transformed file;
    TRY(url_verify(call->domain, "assets-transform", id, query->policy, query->signature, call->now_ms));
    const char *quality = query->has_quality ? arena_printf(call->arena, "%d", (int)query->quality) : NULL;
    TRY(media_transform_parse(&transform, query->width, query->height, query->fit, quality, query->format));
    TRY(media_effects_parse(&transform, &(struct media_effect_texts){query->rotate, query->blur, query->greyscale,
                                                                     query->flatten, query->background}));
    TRY(asset_get_any(call->domain, call->arena, id, &asset));
    if (changes_nothing(query))
        TRY(transform_none(call->domain, call->arena, &asset, &file));
    else
        TRY(transform_get(call->domain, call->arena, &asset, &transform, &file));
    return send_file(call, &file, url_expiry(call->now_ms));
}

struct error handle_serve_original(struct call *call, const struct api_serve_original_request *request)
{
    const struct api_serve_original_query *query = &request->query;
    struct asset asset;
    struct transformed file;
    TRY(url_verify(call->domain, "assets", request->path.asset_id, query->policy, query->signature, call->now_ms));
    TRY(asset_get_any(call->domain, call->arena, request->path.asset_id, &asset));
    TRY(transform_none(call->domain, call->arena, &asset, &file));
    return send_file(call, &file, url_expiry(call->now_ms));
}
