#include "domain/dataset.h"

#include <ctype.h>
#include <string.h>

#include "handlers/render.h"

/* A path or a link in the place of an id is a mistake that a "not found" would not explain. */
static struct error check_id(const char *field, const char *id)
{
    for (const char *at = id; *at; at++)
        if (!isascii(*at) || !(isalnum(*at) || *at == '_' || *at == '-'))
            return error_field(field, "must be the id of an asset, not a path, a URL or data");
    return OK;
}

static struct error check_ids(struct call *call, const struct api_add_training_image_body *body)
{
    if (body->asset_id)
        TRY(check_id("assetId", body->asset_id));
    for (size_t i = 0; body->asset_ids && i < body->asset_ids_count; i++)
        TRY(check_id(arena_printf(call->arena, "assetIds[%zu]", i), body->asset_ids[i]));
    return OK;
}

/* The three ways to say which picture: one asset, several, or its bytes and a name. */
static struct error check_modes(struct call *call, const struct api_add_training_image_body *body)
{
    if (body->asset_ids && (body->asset_id || body->data || body->name))
        return error_field("assetIds", "cannot be used together with assetId, data or name");
    if (!body->asset_ids && !body->asset_id && !body->data)
        return error_make(ERR_INVALID, "One of assetId, assetIds or data with name is required");
    if (body->data && !body->asset_id && !body->name)
        return error_field("name", "is required with data");
    if (body->asset_ids && !body->asset_ids_count)
        return error_field("assetIds", "must have at least 1 item");
    return check_ids(call, body);
}

static enum caption_focus focus_of(const char *preset)
{
    if (!preset || strcmp(preset, "default") == 0)
        return CAPTION_WHOLE;
    return strcmp(preset, "style") == 0 ? CAPTION_STYLE : CAPTION_SUBJECT;
}

static struct error take_data(struct call *call, const struct api_add_training_image_body *body,
                              struct picture *picture)
{
    char *bytes;
    size_t size;
    TRY(picture_decode(call->arena, "data", body->data, strlen(body->data), &bytes, &size));
    return picture_take(call->domain, call->arena, "data", bytes, size, body->name, focus_of(body->preset), picture);
}

static struct error add_images(struct call *call, const char *model_id, const struct api_add_training_image_body *body,
                               struct training_image *added, size_t count, struct plan_refusal *refusal)
{
    if (body->asset_ids)
        return dataset_add_assets(call->domain, call->arena, &call->caller, model_id, body->asset_ids, count, added,
                                  refusal);
    if (body->asset_id)
        return dataset_add_assets(call->domain, call->arena, &call->caller, model_id, &body->asset_id, 1, added,
                                  refusal);
    struct picture picture;
    TRY(dataset_check_room(call->domain, call->arena, &call->caller, model_id, 1, refusal));
    TRY(take_data(call, body, &picture));
    return dataset_add_picture(call->domain, call->arena, &call->caller, model_id, &picture, added, refusal);
}

static void answer_images(struct call *call, const struct training_image *images, size_t count, bool as_list,
                          struct api_training_image_answer *answer)
{
    struct api_training_image *rendered = arena_array(call->arena, count, sizeof *rendered);
    for (size_t i = 0; i < count; i++)
        render_training_image(call, &images[i], &rendered[i]);
    answer->training_image = rendered;
    if (!as_list)
        return;
    answer->training_images = rendered;
    answer->training_images_count = count;
}

struct error handle_add_training_image(struct call *call, const struct api_add_training_image_request *request,
                                       struct api_training_image_answer *answer)
{
    const struct api_add_training_image_body *body = &request->body;
    TRY(check_modes(call, body));
    size_t count = body->asset_ids ? body->asset_ids_count : 1;
    struct training_image *added = arena_array(call->arena, count, sizeof *added);
    struct plan_refusal refusal = {0};
    const struct error error = add_images(call, request->path.model_id, body, added, count, &refusal);
    TRY(explain_refusal(call, error, &refusal));
    answer_images(call, added, count, body->asset_ids, answer);
    return OK;
}

struct error handle_replace_training_image(struct call *call, const struct api_replace_training_image_request *request,
                                           struct api_training_image_answer *answer)
{
    const struct api_replace_training_image_body *body = &request->body;
    struct api_add_training_image_body same = {body->asset_id, body->asset_ids, body->asset_ids_count,
                                               body->data,     body->name,      body->preset};
    const char *asset_id = body->asset_ids_count == 1 ? body->asset_ids[0] : body->asset_id;
    struct picture picture;
    struct training_image replaced;
    TRY(check_modes(call, &same));
    if (body->asset_ids_count > 1)
        return error_field("assetIds", "must have 1 item to replace one image");
    TRY(dataset_check_room(call->domain, call->arena, &call->caller, request->path.model_id, 0, NULL));
    if (!asset_id)
        TRY(take_data(call, &same, &picture));
    TRY(dataset_replace(call->domain, call->arena, &call->caller, request->path.model_id,
                        request->path.training_image_id, asset_id, &picture, &replaced));
    answer_images(call, &replaced, 1, false, answer);
    return OK;
}

struct error handle_delete_training_image(struct call *call, const struct api_delete_training_image_request *request)
{
    return dataset_remove(call->domain, call->arena, &call->caller, request->path.model_id,
                          request->path.training_image_id);
}

struct error handle_replace_training_pairs(struct call *call, const struct api_replace_training_pairs_request *request,
                                           struct api_replace_training_pairs_answer *answer)
{
    const struct api_replace_training_pairs_body *body = &request->body;
    struct training_pair *pairs = arena_array(call->arena, body->items_count + 1, sizeof *pairs);
    answer->pairs = arena_array(call->arena, body->items_count + 1, sizeof *answer->pairs);
    for (size_t i = 0; i < body->items_count; i++) {
        const struct api_replace_training_pairs_item *item = &body->items[i];
        pairs[i] = (struct training_pair){item->source_id, item->target_id, item->instruction ? item->instruction : ""};
        render_training_pair(&pairs[i], &answer->pairs[i]);
    }
    answer->count = (double)(answer->pairs_count = body->items_count);
    return training_pairs_replace(call->domain, call->arena, &call->caller, request->path.model_id, pairs,
                                  body->items_count);
}
