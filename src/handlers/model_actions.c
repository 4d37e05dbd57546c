/* What happens to a whole model: it is copied, handed over, or rid of pictures. */
#include "domain/model_copy.h"

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
    TRY(model_copy(call->domain, call->arena, &call->caller, request->path.model_id, &options, &copy));
    answer->model = ARENA_NEW(call->arena, struct api_model);
    return render_model(call, &copy, answer->model);
}
