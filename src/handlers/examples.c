#include "domain/example.h"

#include "handlers/jobs.h"
#include "handlers/render.h"

/* Many examples may come from one job: it is rendered once. */
static struct error render_maker(struct call *call, const struct example_list *list, size_t index,
                                 struct api_example *examples)
{
    const struct job *job = list->examples[index].job;
    for (size_t i = 0; i < index && job; i++)
        if (list->examples[i].job == job) {
            examples[index].job = examples[i].job;
            return OK;
        }
    examples[index].job = job ? ARENA_NEW(call->arena, struct api_job) : NULL;
    return job ? render_job(call, job, examples[index].job) : OK;
}

static struct error answer_examples(struct call *call, const struct example_list *list,
                                    struct api_examples_answer *answer)
{
    answer->examples = arena_array(call->arena, list->count + 1, sizeof *answer->examples);
    answer->examples_count = list->count;
    for (size_t i = 0; i < list->count; i++) {
        const struct asset *asset = &list->examples[i].asset;
        struct api_example *example = &answer->examples[i];
        example->asset = ARENA_NEW(call->arena, struct api_asset);
        example->model_id = asset->model_id ? asset->model_id : list->model_id;
        example->inference_id = asset->inference_id;
        TRY(render_asset(call, asset, example->asset));
        TRY(render_inference(call, asset, &example->inference_parameters));
        TRY(render_maker(call, list, i, answer->examples));
    }
    return OK;
}

struct error handle_list_examples(struct call *call, const struct api_list_examples_request *request,
                                  struct api_examples_answer *answer)
{
    struct example_list list;
    TRY(example_list(call->domain, call->arena, &call->caller, request->path.model_id, &list));
    return answer_examples(call, &list, answer);
}

struct error handle_update_examples(struct call *call, const struct api_update_examples_request *request,
                                    struct api_examples_answer *answer)
{
    struct example_list list;
    TRY(example_replace(call->domain, call->arena, &call->caller, request->path.model_id, request->body.asset_ids,
                        request->body.asset_ids_count, &list));
    return answer_examples(call, &list, answer);
}
