#include "domain/model.h"

#include <string.h>

#include "api_fields.h"
#include "domain/url.h"
#include "handlers/documents.h"
#include "handlers/render.h"

enum { list_text_bytes_max = 64 * 1024 };

static struct error concepts_text(struct arena *arena, const struct api_model_concept *concepts, size_t count,
                                  const char **text)
{
    *text = NULL;
    if (!concepts || !count)
        return OK;
    struct buf out;
    buf_init(&out, list_text_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(&writer, NULL, '{');
        json_put_string(&writer, "modelId", concepts[i].model_id);
        json_put_number(&writer, "scale", concepts[i].scale);
        if (concepts[i].model_epoch)
            json_put_string(&writer, "modelEpoch", concepts[i].model_epoch);
        json_close(&writer, '}');
    }
    json_close(&writer, ']');
    struct error error = buf_error(&out);
    if (!error.code)
        *text = arena_copy(arena, out.data, out.len);
    buf_finish(&out);
    return error;
}

static struct error answer_model(struct call *call, const struct model *model, struct api_model_answer *answer)
{
    answer->model = ARENA_NEW(call->arena, struct api_model);
    return render_model(call, model, answer->model);
}

struct error handle_create_model(struct call *call, const struct api_create_model_request *request,
                                 struct api_model_answer *answer)
{
    const struct api_create_model_body *body = &request->body;
    struct model_new values = {
        .type = body->type,
        .name = body->name,
        .short_description = body->short_description,
        .base_model_id = body->base_model_id,
        .class_slug = body->class_slug,
    };
    struct model model;
    if (body->collection_ids)
        values.collection_ids = json_from_strings(call->arena, body->collection_ids, body->collection_ids_count);
    TRY(concepts_text(call->arena, body->concepts, body->concepts_count, &values.concepts));
    TRY(model_create(call->domain, call->arena, &call->caller, &values, &model));
    return answer_model(call, &model, answer);
}

/* The call that clients poll: answered from memory until something was written. */
struct error handle_retrieve_model(struct call *call, const struct api_retrieve_model_request *request,
                                   struct api_model_answer *answer)
{
    const char *id = request->path.model_id;
    uint64_t generation = db_generation(call->domain->db);
    const char *key = arena_printf(call->arena, "%s/%s/%d/%lld", call->caller.project_id, id, call->original_assets,
                                   (long long)url_expiry(call->now_ms));
    struct model model;
    if (documents_recall(call, key, generation))
        return OK;
    TRY(model_get(call->domain, call->arena, &call->caller, id, &model));
    TRY(answer_model(call, &model, answer));
    return documents_answer(call, key, generation, &api_model_answer_fields, answer);
}

/* To everyone the same, the model's own project too: what is not public is not there. */
struct error handle_retrieve_public_model(struct call *call, const struct api_retrieve_public_model_request *request,
                                          struct api_model_answer *answer)
{
    const struct caller everyone = {.kind = CALLER_PUBLIC};
    struct model model;
    TRY(model_get(call->domain, call->arena, &everyone, request->path.model_id, &model));
    return answer_model(call, &model, answer);
}

static unsigned when(bool sent, enum model_set bit)
{
    return sent ? (unsigned)bit : 0;
}

struct error handle_update_model(struct call *call, const struct api_update_model_request *request,
                                 struct api_model_answer *answer)
{
    const struct api_update_model_body *body = &request->body;
    struct model_change change = {
        .set = when(body->name, MODEL_SET_NAME) | when(body->short_description, MODEL_SET_SHORT_DESCRIPTION) |
               when(body->type, MODEL_SET_TYPE) | when(body->has_class_slug, MODEL_SET_CLASS_SLUG) |
               when(body->concepts, MODEL_SET_CONCEPTS) | when(body->has_epoch, MODEL_SET_EPOCH) |
               when(body->prompt_embedding, MODEL_SET_PROMPT_EMBEDDING) |
               when(body->negative_prompt_embedding, MODEL_SET_NEGATIVE_PROMPT_EMBEDDING) |
               when(body->parameters, MODEL_SET_PARAMETERS) | when(body->has_thumbnail, MODEL_SET_THUMBNAIL) |
               when(body->privacy, MODEL_SET_PRIVACY),
        .name = body->name,
        .short_description = body->short_description,
        .type = body->type,
        .class_slug = body->class_slug,
        .epoch = body->epoch,
        .prompt_embedding = body->prompt_embedding,
        .negative_prompt_embedding = body->negative_prompt_embedding,
        .thumbnail_asset_id = body->thumbnail,
        .privacy = body->privacy,
    };
    struct model model;
    TRY(concepts_text(call->arena, body->concepts, body->concepts_count, &change.concepts));
    TRY(parameters_text(call->arena, body->parameters, &change.parameters));
    TRY(model_update(call->domain, call->arena, &call->caller, request->path.model_id, &change, &model));
    return answer_model(call, &model, answer);
}
