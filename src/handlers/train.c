/* Start, price and cancel trainings. */
#include <string.h>

#include "domain/scheduler.h"
#include "domain/training.h"
#include "handlers/jobs.h"
#include "handlers/render.h"

/* What was sent, as JSON for the rules; secrets end here. */
static struct error read_parameters(struct call *call, const struct api_trigger_training_request *request,
                                    const struct json **parameters)
{
    const char *text;
    *parameters = NULL;
    TRY(parameters_text(call->arena, request->body.parameters, &text));
    return text ? json_parse(call->arena, text, strlen(text), parameters) : OK;
}

static struct error answer_quote(struct call *call, const struct api_trigger_training_request *request,
                                 const struct json *parameters)
{
    const struct api_trigger_training_query *query = &request->query;
    const int64_t count = query->has_training_images_count ? (int64_t)query->training_images_count : -1;
    struct training_quote quote;
    TRY(training_quote(call->domain, scheduler_settings(call->app->scheduler), call->arena, &call->caller,
                       request->path.model_id, parameters, count, &quote));
    return respond_quote(call, &quote, NULL);
}

struct error handle_trigger_training(struct call *call, const struct api_trigger_training_request *request,
                                     struct api_training_started *answer)
{
    const struct json *parameters;
    struct job job;
    struct model model;
    struct plan_refusal refusal = {0};
    TRY(read_parameters(call, request, &parameters));
    if (is_dry_run(request->query.dry_run))
        return answer_quote(call, request, parameters);
    const struct error error =
        training_launch(call->domain, scheduler_settings(call->app->scheduler), call->arena, &call->caller,
                        request->path.model_id, parameters, &job, &model, &refusal);
    TRY(explain_refusal(call, error, &refusal));
    scheduler_poke(call->app->scheduler);
    answer->job = ARENA_NEW(call->arena, struct api_job);
    answer->model = ARENA_NEW(call->arena, struct api_model);
    answer->has_creative_units_cost = answer->has_creative_units_discount = true; /* nothing: 0 */
    TRY(render_job(call, &job, answer->job));
    return render_model(call, &model, answer->model);
}

struct error handle_training_action(struct call *call, const struct api_training_action_request *request,
                                    struct api_model_answer *answer)
{
    struct model model; /* cancel is the one action that the contract has */
    TRY(training_cancel(call->domain, call->arena, &call->caller, request->path.model_id, &model));
    scheduler_poke(call->app->scheduler);
    answer->model = ARENA_NEW(call->arena, struct api_model);
    return render_model(call, &model, answer->model);
}
