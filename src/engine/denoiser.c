#include "engine/denoiser.h"

#include <string.h>

#include "engine/ops.h"

struct error text_build(struct graph *graph, const struct model *model, size_t batch, size_t tokens, unsigned clip_skip,
                        struct clip_values text[2], struct value **context, struct value **pooled)
{
    bool xl = model->info.xl;
    size_t usual = xl ? 2 : 1, from_end = clip_skip > usual ? clip_skip : usual;
    for (size_t i = 0; i < (xl ? 2u : 1u); i++) {
        const struct clip *clip = &model->clips[i];
        if (!tokens || tokens > clip->positions)
            return error_make(ERR_INVALID, "the text encoder takes 1 to %zu tokens, not %zu", clip->positions, tokens);
        if (from_end > clip->layers)
            return error_make(ERR_INVALID, "clip skip is %zu; the text encoder has %zu layers", from_end, clip->layers);
        text[i] = clip_build(graph, clip, batch, tokens, from_end, !xl, i == 1);
    }
    *context = xl ? op_concat(graph, text[0].hidden, text[1].hidden) : text[0].hidden;
    *pooled = text[1].pooled;
    return OK;
}

static struct error check_shape(const struct unet_input *shape)
{
    if (!shape->batch || shape->batch > MODEL_BATCH_MAX)
        return error_make(ERR_INVALID, "the batch size must be 1 to %d", MODEL_BATCH_MAX);
    if (!shape->height || !shape->width || shape->height > MODEL_LATENT_MAX || shape->width > MODEL_LATENT_MAX)
        return error_make(ERR_INVALID, "a latent's sides must be 1 to %d", MODEL_LATENT_MAX);
    if (!shape->tokens || shape->tokens > MODEL_TOKENS_MAX)
        return error_make(ERR_INVALID, "the text must have 1 to %d tokens", MODEL_TOKENS_MAX);
    return OK;
}

struct error denoiser_build(struct denoiser *denoiser, struct model *model, struct parameters *parameters,
                            const struct unet_input *shape, bool with_text)
{
    *denoiser = (struct denoiser){.model = model, .with_text = with_text};
    denoiser->shape = (struct unet_input){.batch = shape->batch,
                                          .height = shape->height,
                                          .width = shape->width,
                                          .tokens = shape->tokens,
                                          .clip_skip = shape->clip_skip};
    TRY(check_shape(shape));
    TRY(graph_create(model->pool, parameters, &denoiser->graph));
    struct graph *graph = denoiser->graph;
    graph->block = &model->memory;
    const struct unet *unet = &model->unet;
    struct unet_values *values = &denoiser->values;
    size_t batch = shape->batch;
    values->sample = graph_value(graph, batch, shape->height, shape->width, unet->in_channels);
    values->time = graph_value(graph, batch, 1, 1, unet->down[0].channels);
    if (unet->xl)
        values->time_ids = graph_value(graph, batch, 1, 1, TIME_IDS * unet->time_id_width);
    if (with_text) {
        TRY(text_build(graph, model, batch, shape->tokens, shape->clip_skip, denoiser->text, &values->context,
                       &values->pooled));
    } else {
        values->context = graph_value(graph, batch, shape->tokens, 1, unet->context_width);
        values->pooled = unet->xl ? graph_value(graph, batch, 1, 1, unet->pooled_width) : NULL;
    }
    denoiser->prediction = unet_build(graph, unet, values);
    return graph_error(graph);
}

static void fill(struct value *value, const float *data)
{
    memcpy(value->data, data, value_floats(value) * sizeof *data);
}

static struct error fill_text(struct denoiser *denoiser, const struct unet_input *input)
{
    bool xl = denoiser->model->info.xl;
    if (!denoiser->with_text) {
        fill(denoiser->values.context, input->context);
        if (xl)
            fill(denoiser->values.pooled, input->pooled);
        return OK;
    }
    TRY(clip_fill(&denoiser->model->clips[0], input->ids, &denoiser->text[0]));
    if (xl)
        TRY(clip_fill(&denoiser->model->clips[1], input->ids_2, &denoiser->text[1]));
    return OK;
}

struct error denoiser_fill(struct denoiser *denoiser, const struct unet_input *input)
{
    const struct unet *unet = &denoiser->model->unet;
    struct unet_values *values = &denoiser->values;
    graph_enter(denoiser->graph);
    fill(values->sample, input->sample);
    for (size_t b = 0; b < input->batch; b++) {
        unet_sinusoids(unet, input->timesteps[b], unet->down[0].channels,
                       values->time->data + b * unet->down[0].channels);
        for (size_t i = 0; unet->xl && i < TIME_IDS; i++)
            unet_sinusoids(unet, input->time_ids[b * TIME_IDS + i], unet->time_id_width,
                           values->time_ids->data + (b * TIME_IDS + i) * unet->time_id_width);
    }
    return fill_text(denoiser, input);
}
