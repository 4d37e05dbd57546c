/* Lists of models and models in bulk: what a query may ask of which list, and pages as answers. */
#include "domain/model_list.h"

#include <string.h>

#include "api_fields.h"
#include "handlers/list_query.h"
#include "handlers/render.h"

enum { page_size_default = 100, public_page_size_default = 50, bulk_bytes_max = 64 << 20 };

static bool is(const char *text, const char *value)
{
    return text && !strcmp(text, value);
}

/* What both lists can be asked for. */
static struct error read_asked(const struct list_query *asked, const char *const *type, struct model_filter *filter)
{
    struct list_order order;
    TRY(list_query_read(asked, &order));
    filter->ascending = order.ascending;
    filter->after = order.after;
    filter->before = order.before;
    if (*type && filter->type_count)
        return error_field("type", "cannot be used together with types");
    if (*type) {
        filter->types = type;
        filter->type_count = 1;
    }
    return OK;
}

static struct error check_public(const struct api_list_models_query *query)
{
    if (query->collection_id)
        return error_field("collectionId", "is for privacy=private: public models are filtered by collectionIds");
    if (is(query->status, "deleted"))
        return error_field("status", "can be deleted for privacy=private only");
    return OK;
}

static struct error check_private(const struct api_list_models_query *query)
{
    const struct {
        const char *name;
        bool sent;
    } public_only[] = {
        {"collectionIds", query->collection_ids},
        {"tags", query->tags},
        {"type", query->type},
        {"types", query->types},
        {"updatedAfter", query->updated_after},
        {"updatedBefore", query->updated_before},
    };
    for (size_t i = 0; i < sizeof public_only / sizeof public_only[0]; i++)
        if (public_only[i].sent)
            return error_field(public_only[i].name, "must be used together with privacy=public");
    if (is(query->sort_by, "updatedAt"))
        return error_field("sortBy", "can be updatedAt for privacy=public only");
    if (is(query->sort_by, "score") && (!query->privacy || !query->status))
        return error_field("sortBy", "score must be used together with privacy and status when models are private");
    return OK;
}

static struct error answer_page(struct call *call, const struct model_filter *filter, struct api_model_page *answer)
{
    struct model_page page;
    TRY(model_list(call->domain, call->arena, &call->caller, filter, &page));
    answer->models = arena_array(call->arena, page.count + 1, sizeof *answer->models);
    for (size_t i = 0; i < page.count; i++)
        TRY(render_model(call, &page.models[i], &answer->models[answer->models_count++]));
    answer->next_pagination_token = page.next_token;
    return OK;
}

static enum model_order order_of(const char *sort_by, enum model_order other)
{
    if (!sort_by)
        return other;
    return is(sort_by, "createdAt") ? MODEL_BY_CREATED : is(sort_by, "updatedAt") ? MODEL_BY_UPDATED : MODEL_BY_SCORE;
}

struct error handle_list_models(struct call *call, const struct api_list_models_request *request,
                                struct api_model_page *answer)
{
    const struct api_list_models_query *query = &request->query;
    bool public = is(query->privacy, "public");
    struct model_filter filter = {
        .public = public,
        .status = query->status,
        .types = query->types,
        .type_count = query->types_count,
        .tags = query->tags,
        .tag_count = query->tags_count,
        .collection_ids = public ? query->collection_ids : &query->collection_id,
        .collection_count = public ? query->collection_ids_count : query->collection_id != NULL,
        .order = order_of(query->sort_by, public ? MODEL_BY_SCORE : MODEL_BY_CREATED),
        .page_size = query->has_page_size ? (int)query->page_size : page_size_default,
        .token = query->pagination_token,
    };
    const struct list_query asked = {query->sort_by,        query->sort_direction, query->created_after,
                                     query->created_before, query->updated_after,  query->updated_before};
    if (call->caller.kind == CALLER_PUBLIC && !public)
        return error_make(ERR_FORBIDDEN, "public-auth-token lists public models only: send privacy=public");
    TRY(public ? check_public(query) : check_private(query));
    TRY(read_asked(&asked, &query->type, &filter));
    return query->loaded_only ? OK : answer_page(call, &filter, answer);
}

struct error handle_list_public_models(struct call *call, const struct api_list_public_models_request *request,
                                       struct api_model_page *answer)
{
    const struct api_list_public_models_query *query = &request->query;
    struct model_filter filter = {
        .public = true,
        .types = query->types,
        .type_count = query->types_count,
        .tags = query->tags,
        .tag_count = query->tags_count,
        .collection_ids = query->collection_ids,
        .collection_count = query->collection_ids_count,
        .order = order_of(query->sort_by, MODEL_BY_CREATED),
        .page_size = query->has_page_size ? (int)query->page_size : public_page_size_default,
        .token = query->pagination_token,
    };
    const struct list_query asked = {query->sort_by,        query->sort_direction, query->created_after,
                                     query->created_before, query->updated_after,  query->updated_before};
    TRY(read_asked(&asked, &query->type, &filter));
    return query->loaded_only ? OK : answer_page(call, &filter, answer);
}

/* Bulk. */

static void choose(struct call *call, const struct api_get_bulk_models_body *body, struct api_model *row)
{
    if (!body->settings)
        row->prompt_embedding = row->negative_prompt_embedding = NULL;
    if (body->thumbnail && !row->thumbnail && row->training_images_count) {
        row->thumbnail = ARENA_NEW(call->arena, struct api_asset_link);
        *row->thumbnail = (struct api_asset_link){row->training_images[0].id, row->training_images[0].download_url};
    }
    if (!body->thumbnail)
        row->thumbnail = NULL;
}

static void write_minimal(struct json_writer *writer, const struct model *model)
{
    json_open(writer, NULL, '{');
    json_put_string(writer, "id", model->id);
    json_put_string(writer, "privacy", model->privacy);
    json_put_string(writer, "type", model->type);
    if (*model->name)
        json_put_string(writer, "name", model->name);
    json_close(writer, '}');
}

static struct error write_row(struct call *call, const struct api_get_bulk_models_body *body,
                              struct json_writer *writer, const struct model *model)
{
    struct api_model row;
    if (body->minimal) {
        write_minimal(writer, model);
        return OK;
    }
    TRY(render_model(call, model, &row));
    choose(call, body, &row);
    fields_write(writer, NULL, &api_model_fields, &row);
    return OK;
}

static struct error write_rows(struct call *call, const struct api_get_bulk_models_body *body,
                               struct json_writer *writer, const struct model *models, size_t count)
{
    json_open(writer, NULL, '{');
    json_open(writer, "models", '[');
    for (size_t i = 0; i < count; i++)
        TRY(write_row(call, body, writer, &models[i]));
    json_close(writer, ']');
    json_close(writer, '}');
    return buf_error(writer->out);
}

struct error handle_get_bulk_models(struct call *call, const struct api_get_bulk_models_request *request)
{
    const struct api_get_bulk_models_body *body = &request->body;
    struct model *models;
    size_t count;
    struct buf out;
    TRY(model_get_bulk(call->domain, call->arena, &call->caller, body->model_ids, body->model_ids_count,
                       body->all_training_images && !body->minimal, &models, &count));
    buf_init(&out, bulk_bytes_max);
    struct error error = write_rows(call, body, &(struct json_writer){.out = &out}, models, count);
    if (!error.code)
        http_respond_buf(call->response, call->status, "application/json", &out);
    buf_finish(&out);
    return error;
}
