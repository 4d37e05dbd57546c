#include <stdlib.h>

#include "engine/denoiser.h"
#include "engine/parameters.h"

struct training {
    struct model *model;
    struct parameters *parameters;
    struct denoiser denoiser;
};

static bool has_text(const struct parameters *parameters)
{
    for (size_t i = 0; i < parameters->table_count; i++) {
        if (parameters->table[i].component != COMPONENT_UNET)
            return true;
    }
    return false;
}

static struct error build(struct training *training, const struct training_shape *shape, bool recompute)
{
    const struct unet_input input = {.batch = shape->batch,
                                     .height = shape->height,
                                     .width = shape->width,
                                     .tokens = shape->tokens,
                                     .clip_skip = shape->clip_skip};
    struct denoiser *denoiser = &training->denoiser;
    TRY(denoiser_build(denoiser, training->model, training->parameters, &input, has_text(training->parameters)));
    denoiser->graph->recompute = recompute;
    return graph_place(denoiser->graph, &denoiser->prediction, 1);
}

static bool too_large(const struct graph *graph, uint64_t bytes_max)
{
    return bytes_max && graph_bytes(graph) > bytes_max;
}

static struct error plan(struct training *training, const struct training_shape *shape)
{
    TRY(build(training, shape, shape->recompute == RECOMPUTE_ALWAYS));
    if (shape->recompute == RECOMPUTE_TO_FIT && too_large(training->denoiser.graph, shape->memory_max)) {
        graph_destroy(training->denoiser.graph);
        TRY(build(training, shape, true));
    }
    if (too_large(training->denoiser.graph, shape->memory_max))
        return error_make(ERR_INTERNAL, "not enough memory: a step needs %zu MB, %llu MB are free",
                          graph_bytes(training->denoiser.graph) >> 20, (unsigned long long)shape->memory_max >> 20);
    return graph_allocate(training->denoiser.graph);
}

struct error training_create(struct model *model, struct parameters *parameters, const struct training_shape *shape,
                             struct training **out)
{
    struct training *training = calloc(1, sizeof *training);
    if (!training)
        return error_make(ERR_INTERNAL, "out of memory");
    training->model = model;
    training->parameters = parameters;
    struct error error = plan(training, shape);
    if (error.code) {
        training_destroy(training);
        return error;
    }
    *out = training;
    return OK;
}

void training_destroy(struct training *training)
{
    if (!training)
        return;
    graph_destroy(training->denoiser.graph);
    free(training);
}

size_t training_bytes(const struct training *training)
{
    return training->denoiser.graph->floats * sizeof(float);
}

bool training_recomputes(const struct training *training)
{
    return training->denoiser.graph->recompute;
}

struct error training_step(struct training *training, const struct unet_input *input, const float *target,
                           const float *weights, float gradient_scale, double *loss, float *losses)
{
    struct pool *pool = training->model->pool;
    struct denoiser *denoiser = &training->denoiser;
    struct value *prediction = denoiser->prediction;
    float unused[MODEL_BATCH_MAX];
    if (parameters_are_weights(training->parameters))
        parameters_publish(training->model, training->parameters);
    TRY(denoiser_fill(denoiser, input));
    graph_forward(denoiser->graph);
    *loss = mse(pool, prediction->batch, value_floats(prediction) / prediction->batch, prediction->data, target,
                weights, losses ? losses : unused, prediction->gradient);
    if (gradient_scale != 1)
        scale_by(pool, value_floats(prediction), gradient_scale, prediction->gradient, prediction->gradient);
    graph_backward(denoiser->graph);
    return OK;
}
