/* Names and order follow transformers' modeling_clip.py. */
#include "engine/clip.h"

#include <string.h>

#include "engine/ops.h"

/* Newer files drop the prefix. */
static const char *const aliases[][2] = {{"text_model.", ""}, {NULL, NULL}};

static const struct fixed_setting fixed[] = {{"attention_dropout", "0"}, {"dropout", "0"}};

static struct error read_activation(struct clip *clip)
{
    const char *name = json_string(clip->network->config, "hidden_act", "quick_gelu");
    clip->activation = !strcmp(name, "gelu") ? ACTIVATION_GELU : ACTIVATION_QUICK_GELU;
    if (!strcmp(name, "gelu") || !strcmp(name, "quick_gelu"))
        return OK;
    return error_make(ERR_INVALID, "%s/config.json: hidden_act %s is not supported", clip->network->label, name);
}

struct error clip_init(struct clip *clip, struct network *network, bool with_projection)
{
    *clip = (struct clip){.network = network};
    network->aliases = aliases;
    TRY(config_check(network, fixed, sizeof fixed / sizeof fixed[0]));
    TRY(config_size(network, "vocab_size", 0, 49408, 1, CLIP_VOCABULARY_MAX, &clip->vocabulary));
    TRY(config_size(network, "hidden_size", 0, 512, 1, CLIP_WIDTH_MAX, &clip->width));
    TRY(config_size(network, "intermediate_size", 0, 2048, 1, 4 * CLIP_WIDTH_MAX, &clip->hidden));
    TRY(config_size(network, "num_hidden_layers", 0, 12, 1, CLIP_LAYERS_MAX, &clip->layers));
    TRY(config_size(network, "num_attention_heads", 0, 8, 1, CLIP_WIDTH_MAX, &clip->heads));
    TRY(config_size(network, "max_position_embeddings", 0, 77, 2, MODEL_TOKENS_MAX, &clip->positions));
    if (with_projection)
        TRY(config_size(network, "projection_dim", 0, 512, 1, CLIP_WIDTH_MAX, &clip->projection));
    TRY(read_activation(clip));
    clip->epsilon = (float)json_number(network->config, "layer_norm_eps", 1e-5);
    clip->eos = (int32_t)json_int(network->config, "eos_token_id", 49407);
    clip->legacy_eos = clip->eos == 2;
    TRY(network_table(network, "text_model.embeddings.token_embedding", clip->vocabulary, clip->width, &clip->tokens));
    return network_table(network, "text_model.embeddings.position_embedding", clip->positions, clip->width,
                         &clip->places);
}

static struct value *attention(struct graph *g, const struct clip *clip, struct value *x, const char *path)
{
    struct value *q = op_linear(g, x, clip->width, at(g, "%s.q_proj", path));
    struct value *k = op_linear(g, x, clip->width, at(g, "%s.k_proj", path));
    struct value *v = op_linear(g, x, clip->width, at(g, "%s.v_proj", path));
    return op_linear(g, op_attention(g, q, k, v, clip->heads, true), clip->width, at(g, "%s.out_proj", path));
}

static struct value *encoder_layer(struct graph *g, const struct clip *clip, struct value *x, const char *path)
{
    graph_segment(g);
    struct value *h = op_layer_norm(g, x, clip->epsilon, at(g, "%s.layer_norm1", path));
    x = op_add(g, x, attention(g, clip, h, at(g, "%s.self_attn", path)));
    h = op_layer_norm(g, x, clip->epsilon, at(g, "%s.layer_norm2", path));
    h = op_activation(g, op_linear(g, h, clip->hidden, at(g, "%s.mlp.fc1", path)), clip->activation);
    return op_add(g, x, op_linear(g, h, clip->width, at(g, "%s.mlp.fc2", path)));
}

struct clip_values clip_build(struct graph *g, const struct clip *clip, size_t batch, size_t tokens, size_t from_end,
                              bool normalized, bool pooled)
{
    g->network = clip->network;
    struct clip_values values = {.batch = batch,
                                 .tokens = tokens,
                                 .ids = arena_array(&g->arena, batch * tokens, sizeof(int32_t)),
                                 .ends = arena_array(&g->arena, batch, sizeof(int32_t))};
    struct value *h = op_embed(g, clip->tokens, clip->places, batch, tokens, values.ids);
    size_t wanted = clip->layers + 1 - from_end, last = pooled ? clip->layers : wanted;
    values.hidden = h; /* hidden_states[0] */
    for (size_t i = 0; i < last; i++) {
        h = encoder_layer(g, clip, h, at(g, "text_model.encoder.layers.%zu", i));
        values.hidden = i + 1 <= wanted ? h : values.hidden;
    }
    graph_segment(g);
    if (pooled) {
        h = op_layer_norm(g, op_gather(g, h, values.ends), clip->epsilon, "text_model.final_layer_norm");
        values.pooled = op_projection(g, h, clip->projection, "text_projection");
    }
    if (normalized)
        values.hidden = op_layer_norm(g, values.hidden, clip->epsilon, "text_model.final_layer_norm");
    return values;
}

/* The position that stands for the whole text: the first end, or by the old rule the first largest id. */
static int32_t end_position(const struct clip *clip, const int32_t *ids, size_t tokens)
{
    size_t best = 0;
    for (size_t i = 0; i < tokens; i++) {
        if (!clip->legacy_eos && ids[i] == clip->eos)
            return (int32_t)i;
        if (clip->legacy_eos && ids[i] > ids[best])
            best = i;
    }
    return (int32_t)best;
}

struct error clip_fill(const struct clip *clip, const int32_t *ids, const struct clip_values *values)
{
    for (size_t i = 0; i < values->batch * values->tokens; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= clip->vocabulary)
            return error_make(ERR_INVALID, "token %d is not in the text encoder's vocabulary of %zu", ids[i],
                              clip->vocabulary);
        values->ids[i] = ids[i];
    }
    for (size_t b = 0; b < values->batch; b++)
        values->ends[b] = end_position(clip, ids + b * values->tokens, values->tokens);
    return OK;
}
