/* Tags of models and assets, by the same rules, and the list of a project's tags. */
#include "domain/tag.h"

#include "handlers/render.h"

enum { page_size_default = 50 };

static struct error update_tags(struct call *call, enum tag_kind kind, const char *id,
                                const struct api_tags_change *body, struct api_tags_changed *answer)
{
    const struct tag_change change = {
        .add = body->add,
        .add_count = body->add_count,
        .remove = body->delete_,
        .remove_count = body->delete__count,
        .strict = body->strict,
    };
    struct tags_changed changed;
    TRY(tag_update(call->domain, call->arena, &call->caller, kind, id, &change, &changed));
    *answer = (struct api_tags_changed){changed.added, changed.added_count, changed.deleted, changed.deleted_count};
    return OK;
}

struct error handle_update_model_tags(struct call *call, const struct api_update_model_tags_request *request,
                                      struct api_tags_changed *answer)
{
    return update_tags(call, TAG_MODEL, request->path.model_id, &request->body, answer);
}

struct error handle_update_asset_tags(struct call *call, const struct api_update_asset_tags_request *request,
                                      struct api_tags_changed *answer)
{
    return update_tags(call, TAG_ASSET, request->path.asset_id, &request->body, answer);
}

struct error handle_list_tags(struct call *call, const struct api_list_tags_request *request,
                              struct api_list_tags_answer *answer)
{
    const struct api_list_tags_query *query = &request->query;
    const int page_size = query->has_page_size ? (int)query->page_size : page_size_default;
    struct tag_page page;
    TRY(tag_list(call->domain, call->arena, &call->caller, page_size, query->pagination_token, &page));
    answer->tags = arena_array(call->arena, page.count + 1, sizeof *answer->tags);
    answer->tags_count = page.count;
    answer->next_pagination_token = page.next_token;
    for (size_t i = 0; i < page.count; i++) {
        const struct tag *tag = &page.tags[i];
        answer->tags[i] = (struct api_tag){
            .tag_name = tag->name,
            .item_count = (double)tag->item_count,
            .owner_id = tag->project_id,
            .created_at = date_text(call->arena, tag->created_at),
            .updated_at = date_text(call->arena, tag->updated_at),
        };
    }
    return OK;
}
