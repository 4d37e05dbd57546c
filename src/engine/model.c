#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "engine/denoiser.h"
#include "engine/ops.h"

enum { PATH_ARENA_MAX = 4 << 20, INDEX_BYTES_MAX = 1 << 20 };

const struct model_info *model_info(const struct model *model)
{
    return &model->info;
}

struct pool *model_pool(const struct model *model)
{
    return model->pool;
}

/* ---- text ---- */

static struct error prepare_text(struct model *model, size_t batch, size_t tokens, unsigned clip_skip)
{
    struct text_graph *text = &model->text;
    if (text->graph && text->batch == batch && text->tokens == tokens && text->clip_skip == clip_skip)
        return OK;
    graph_destroy(text->graph);
    *text = (struct text_graph){.batch = batch, .tokens = tokens, .clip_skip = clip_skip};
    TRY(graph_create(model->pool, NULL, &text->graph));
    text->graph->block = &model->memory;
    struct error error =
        text_build(text->graph, model, batch, tokens, clip_skip, text->text, &text->context, &text->pooled);
    if (!error.code)
        error = graph_plan(text->graph, (struct value *[]){text->context, text->pooled}, text->pooled ? 2 : 1);
    if (error.code) {
        graph_destroy(text->graph);
        text->graph = NULL;
    }
    return error;
}

struct error model_encode_text(struct model *model, size_t batch, size_t tokens, const int32_t *ids,
                               const int32_t *ids_2, unsigned clip_skip, float *context, float *pooled)
{
    if (!batch || batch > MODEL_BATCH_MAX)
        return error_make(ERR_INVALID, "the batch size must be 1 to %d", MODEL_BATCH_MAX);
    TRY(prepare_text(model, batch, tokens, clip_skip));
    struct text_graph *text = &model->text;
    graph_enter(text->graph);
    TRY(clip_fill(&model->clips[0], ids, &text->text[0]));
    if (model->info.xl)
        TRY(clip_fill(&model->clips[1], ids_2, &text->text[1]));
    graph_forward(text->graph);
    memcpy(context, text->context->data, value_floats(text->context) * sizeof(float));
    if (text->pooled)
        memcpy(pooled, text->pooled->data, value_floats(text->pooled) * sizeof(float));
    return OK;
}

/* ---- noise ---- */

static bool same_shape(const struct unet_input *a, const struct unet_input *b)
{
    return a->batch == b->batch && a->height == b->height && a->width == b->width && a->tokens == b->tokens;
}

static struct error prepare_denoiser(struct model *model, const struct unet_input *input)
{
    struct denoiser *denoiser = &model->denoiser;
    if (denoiser->graph && same_shape(&denoiser->shape, input))
        return OK;
    graph_destroy(denoiser->graph);
    struct error error = denoiser_build(denoiser, model, NULL, input, false);
    if (!error.code)
        error = graph_plan(denoiser->graph, &denoiser->prediction, 1);
    if (error.code) {
        graph_destroy(denoiser->graph);
        denoiser->graph = NULL;
    }
    return error;
}

struct error model_predict(struct model *model, const struct unet_input *input, float *prediction)
{
    TRY(prepare_denoiser(model, input));
    struct denoiser *denoiser = &model->denoiser;
    TRY(denoiser_fill(denoiser, input));
    graph_forward(denoiser->graph);
    memcpy(prediction, denoiser->prediction->data, value_floats(denoiser->prediction) * sizeof(float));
    return OK;
}

/* ---- opening ---- */

static const char *const part_names[][2] = {
    [COMPONENT_UNET] = {"unet", "diffusion_pytorch_model"},
    [COMPONENT_TEXT] = {"text_encoder", "model"},
    [COMPONENT_TEXT_2] = {"text_encoder_2", "model"},
    [COMPONENT_VAE] = {"vae", "diffusion_pytorch_model"},
};

static struct error open_network(struct model *model, struct arena *arena, const char *folder, enum component kind)
{
    TRY(network_open(arena_printf(arena, "%s/%s", folder, part_names[kind][0]), part_names[kind][1], kind,
                     model->fresh_seed, &model->networks[kind]));
    model->networks[kind]->half = model->half && kind != COMPONENT_VAE;
    return OK;
}

/* ---- memory ---- */

uint64_t model_weight_bytes(const struct model *model)
{
    uint64_t bytes = 0;
    for (int kind = 0; kind < COMPONENT_COUNT; kind++)
        bytes += model->networks[kind] ? model->networks[kind]->weight_bytes : 0;
    return bytes;
}

static struct error part_bytes(const char *path, enum component kind, bool half, bool training, uint64_t *bytes)
{
    struct network *network;
    uint64_t numbers = 0;
    TRY(network_open(path, part_names[kind][1], kind, NULL, &network));
    for (size_t i = 0; i < network->file_count; i++) {
        for (size_t j = 0; j < network->files[i]->count; j++)
            numbers += network->files[i]->tensors[j].count;
    }
    network_close(network);
    *bytes += numbers * (half && kind != COMPONENT_VAE ? 2 : 4) * (training && kind == COMPONENT_UNET ? 2 : 1);
    return OK;
}

struct error model_bytes_needed(const char *folder, bool half, bool training, uint64_t *bytes)
{
    struct arena arena;
    struct error error = OK;
    *bytes = 0;
    arena_init(&arena, PATH_ARENA_MAX);
    for (int kind = 0; kind < COMPONENT_COUNT && !error.code; kind++) {
        const char *path = arena_printf(&arena, "%s/%s", folder, part_names[kind][0]);
        if (kind != COMPONENT_TEXT_2 || fs_exists(path))
            error = part_bytes(path, (enum component)kind, half, training, bytes);
    }
    arena_finish(&arena);
    return error;
}

static struct error open_networks(struct model *model, struct arena *arena, const char *folder)
{
    TRY(open_network(model, arena, folder, COMPONENT_UNET));
    TRY(unet_init(&model->unet, model->networks[COMPONENT_UNET]));
    TRY(open_network(model, arena, folder, COMPONENT_VAE));
    TRY(vae_init(&model->vae, model->networks[COMPONENT_VAE]));
    TRY(open_network(model, arena, folder, COMPONENT_TEXT));
    TRY(clip_init(&model->clips[0], model->networks[COMPONENT_TEXT], false));
    if (!model->unet.xl)
        return OK;
    TRY(open_network(model, arena, folder, COMPONENT_TEXT_2));
    return clip_init(&model->clips[1], model->networks[COMPONENT_TEXT_2], true);
}

static struct error check_fit(const struct model *model, const char *folder)
{
    if (model->clips[0].width + model->clips[1].width != model->unet.context_width)
        return error_make(ERR_CORRUPT, "%s: the text encoders' width is not the UNet's cross_attention_dim", folder);
    if (model->unet.xl && model->clips[1].projection != model->unet.pooled_width)
        return error_make(ERR_CORRUPT, "%s: text_encoder_2's projection_dim does not fit the UNet", folder);
    if (model->vae.latent_channels != model->unet.in_channels)
        return error_make(ERR_INVALID,
                          "%s: the UNet takes %zu channels and the VAE makes %zu; only plain text-to-image "
                          "models are supported",
                          folder, model->unet.in_channels, model->vae.latent_channels);
    return OK;
}

static struct error read_index(struct model *model, struct arena *arena, const char *folder)
{
    const char *path = arena_printf(arena, "%s/model_index.json", folder);
    const struct json *index = NULL;
    if (fs_exists(path))
        TRY(json_read_file(arena, path, INDEX_BYTES_MAX, &index));
    model->info.zero_for_empty_prompt = json_bool(index, "force_zeros_for_empty_prompt", model->unet.xl);
    return OK;
}

/* SDXL does not use the first text encoder's last layer; LoRA files change it all the same. */
static struct error read_last_layer(struct model *model)
{
    struct graph *graph;
    TRY(graph_create(model->pool, NULL, &graph));
    clip_build(graph, &model->clips[0], 1, 2, 1, true, false);
    struct error error = graph_error(graph);
    graph_destroy(graph);
    return error;
}

/* Building the smallest graphs reads and checks every layer. */
static struct error read_weights(struct model *model)
{
    TRY(read_last_layer(model));
    size_t side = (size_t)1 << (model->unet.block_count - 1);
    const struct unet_input smallest = {.batch = 1, .height = side, .width = side, .tokens = 1};
    TRY(prepare_denoiser(model, &smallest));
    TRY(prepare_text(model, 1, 2, 0));
    return images_prepare(model);
}

static void describe(struct model *model)
{
    struct model_info *info = &model->info;
    info->xl = model->unet.xl;
    info->latent_channels = model->unet.in_channels;
    info->vae_factor = model->vae.factor;
    info->sample_size = model->unet.sample_size;
    info->unet_factor = (size_t)1 << (model->unet.block_count - 1);
    info->context_width = model->unet.context_width;
    info->pooled_width = model->unet.pooled_width;
    for (size_t i = 0; i < 2; i++) {
        info->tokens_max[i] = model->clips[i].positions;
        info->vocabulary[i] = model->clips[i].vocabulary;
    }
    info->scaling_factor = model->vae.scaling_factor;
    info->shift_factor = model->vae.shift_factor;
    info->latents_mean = model->vae.has_statistics ? model->vae.mean : NULL;
    info->latents_std = model->vae.has_statistics ? model->vae.deviation : NULL;
}

static struct error open_model(struct model *model, struct arena *arena, const char *folder)
{
    TRY(open_networks(model, arena, folder));
    TRY(check_fit(model, folder));
    TRY(read_index(model, arena, folder));
    describe(model);
    TRY(read_weights(model));
    for (int kind = 0; kind < COMPONENT_COUNT; kind++)
        model->info.parameters += model->networks[kind] ? model->networks[kind]->parameters : 0;
    return OK;
}

static struct error open_with(const char *folder, const uint64_t *fresh_seed, bool half, struct pool *pool,
                              struct model **out)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return error_make(ERR_INTERNAL, "out of memory");
    model->pool = pool;
    model->fresh_seed = fresh_seed;
    model->half = half;
    model->tile = MODEL_TILE;
    struct arena arena;
    arena_init(&arena, PATH_ARENA_MAX);
    struct error error = open_model(model, &arena, folder);
    arena_finish(&arena);
    if (error.code) {
        model_destroy(model);
        return error;
    }
    model->fresh_seed = NULL;
    *out = model;
    return OK;
}

struct error model_open(const char *folder, struct pool *pool, struct model **out)
{
    return open_with(folder, NULL, false, pool, out);
}

struct error model_open_half(const char *folder, struct pool *pool, struct model **out)
{
    return open_with(folder, NULL, true, pool, out);
}

struct error model_open_fresh(const char *folder, uint64_t seed, struct pool *pool, struct model **out)
{
    return open_with(folder, &seed, false, pool, out);
}

void model_destroy(struct model *model)
{
    if (!model)
        return;
    graph_destroy(model->denoiser.graph);
    graph_destroy(model->text.graph);
    graph_destroy(model->encoder.graph);
    graph_destroy(model->decoder.graph);
    for (int kind = 0; kind < COMPONENT_COUNT; kind++)
        network_close(model->networks[kind]);
    free(model->memory.floats);
    free(model);
}
