/* What happens to a whole model: it is copied, handed over, rid of pictures, deleted and brought back. */
#include "domain/model_assets.h"
#include "domain/model_copy.h"
#include "domain/model_delete.h"
#include "domain/model_transfer.h"

#include "domain/scheduler.h"
#include "handlers/render.h"

struct error handle_copy_model(struct call *call, const struct api_copy_model_request *request,
                               struct api_model_answer *answer)
{
    const struct api_copy_model_body *body = &request->body;
    const struct model_copy_options options = {
        .as_trained = body->copy_as_trained,
        .examples = !body->has_copy_examples || body->copy_examples,
    };
    struct model copy;
    struct plan_refusal refusal = {0};
    const struct error error =
        model_copy(call->domain, call->arena, &call->caller, request->path.model_id, &options, &copy, &refusal);
    TRY(explain_refusal(call, error, &refusal));
    answer->model = ARENA_NEW(call->arena, struct api_model);
    return render_model(call, &copy, answer->model);
}

struct error handle_transfer_model(struct call *call, const struct api_transfer_model_request *request,
                                   struct api_model_answer *answer)
{
    const struct model_transfer_options options = {
        .project_id = request->body.destination_project_id,
        .team_id = request->body.destination_team_id,
    };
    struct model model;
    TRY(model_transfer(call->domain, call->arena, &call->caller, request->path.model_id, &options, &model));
    answer->model = ARENA_NEW(call->arena, struct api_model);
    return render_model(call, &model, answer->model);
}

struct error handle_delete_model_images(struct call *call, const struct api_delete_model_images_request *request)
{
    const struct api_delete_model_images_query *query = &request->query;
    for (size_t i = 0; i < query->ids_count; i++)
        if (!query->ids[i][0])
            return error_field("ids", "must be ids of assets, joined with commas");
    return model_images_delete(call->domain, call->arena, &call->caller, request->path.model_id, query->ids,
                               query->ids_count);
}

struct error handle_delete_model(struct call *call, const struct api_delete_model_request *request)
{
    TRY(model_delete(call->domain, call->arena, &call->caller, request->path.model_id));
    scheduler_poke(call->app->scheduler); /* it may have trained */
    return OK;
}

struct error handle_restore_model(struct call *call, const struct api_restore_model_request *request,
                                  struct api_model_answer *answer)
{
    struct model model;
    TRY(model_restore(call->domain, call->arena, &call->caller, request->path.model_id, &model));
    answer->model = ARENA_NEW(call->arena, struct api_model);
    return render_model(call, &model, answer->model);
}
