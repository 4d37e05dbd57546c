/* Pictures of a prompt. */
#include <string.h>

#include "domain/generation.h"
#include "domain/scheduler.h"
#include "handlers/jobs.h"
#include "handlers/render.h"

enum { lists_bytes_max = 1 << 20 };

/* Lists of LoRAs under the names that rows of concepts have. */

static struct error end_list(struct call *call, struct buf *text, const char **list)
{
    const struct error error = buf_error(text);
    *list = error.code ? NULL : arena_copy(call->arena, text->data, text->len);
    buf_finish(text);
    return error;
}

static void put_concept(struct json_writer *writer, const char *id, double scale, const char *epoch)
{
    json_open(writer, NULL, '{');
    json_put_string(writer, "modelId", id);
    json_put_number(writer, "scale", scale);
    if (epoch)
        json_put_string(writer, "modelEpoch", epoch);
    json_close(writer, '}');
}

static struct error read_concepts(struct call *call, const struct api_generation_body *body, const char **list)
{
    struct buf text;
    *list = NULL;
    if (!body->concepts)
        return OK;
    buf_init(&text, lists_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < body->concepts_count; i++)
        put_concept(&writer, body->concepts[i].model_id, body->concepts[i].scale, body->concepts[i].model_epoch);
    json_close(&writer, ']');
    return end_list(call, &text, list);
}

static struct error read_loras(struct call *call, const struct api_generation_body *body, const char **list)
{
    struct buf text;
    *list = NULL;
    if (!body->loras)
        return OK;
    buf_init(&text, lists_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < body->loras_count; i++)
        put_concept(&writer, body->loras[i].model_id, body->loras[i].has_weight ? body->loras[i].weight : 1,
                    body->loras[i].model_epoch);
    json_close(&writer, ']');
    return end_list(call, &text, list);
}

static struct error read_request(struct call *call, const struct api_generation_body *body,
                                 struct generation_request *request)
{
    *request = (struct generation_request){
        .model_id = body->model_id,
        .model_epoch = body->model_epoch,
        .prompt = body->prompt,
        .negative_prompt = body->negative_prompt,
        .scheduler = body->scheduler,
        .seed = body->seed,
        .samples = body->has_num_samples ? (int)body->num_samples : generation_samples_default,
        .width = (int)body->width,
        .height = (int)body->height,
        .steps = (int)body->num_inference_steps,
        .guidance = body->has_guidance ? body->guidance : -1,
        .hide = body->hide_results,
    };
    TRY(read_concepts(call, body, &request->concepts));
    return read_loras(call, body, &request->loras);
}

static struct error generate(struct call *call, const char *dry_run, const struct generation_request *asked,
                             struct api_generation_started *answer)
{
    const struct training_settings *settings = scheduler_settings(call->app->scheduler);
    struct plan_refusal refusal = {0};
    struct job job;
    if (is_dry_run(dry_run)) {
        TRY(generation_check(call->domain, settings, call->arena, &call->caller, asked));
        return respond_quote(call, &(struct training_quote){0}, "custom-generation");
    }
    const struct error error =
        generation_launch(call->domain, settings, call->arena, &call->caller, asked, &job, &refusal);
    TRY(explain_refusal(call, error, &refusal));
    scheduler_poke(call->app->scheduler);
    answer->job = ARENA_NEW(call->arena, struct api_job);
    answer->has_creative_units_cost = answer->has_creative_units_discount = true; /* nothing: 0 */
    return render_job(call, &job, answer->job);
}

struct error handle_generate_txt2img(struct call *call, const struct api_generate_txt2img_request *request,
                                     struct api_generation_started *answer)
{
    struct generation_request asked;
    TRY(read_request(call, &request->body, &asked));
    return generate(call, request->query.dry_run, &asked, answer);
}

struct error handle_generate_img2img(struct call *call, const struct api_generate_img2img_request *request,
                                     struct api_generation_started *answer)
{
    const struct api_generation_body *body = &request->body;
    struct generation_request asked;
    TRY(read_request(call, body, &asked));
    if (!body->image)
        return error_field("image", "is required");
    asked.image = body->image;
    asked.strength = body->has_strength ? body->strength : generation_strength_default;
    return generate(call, request->query.dry_run, &asked, answer);
}
