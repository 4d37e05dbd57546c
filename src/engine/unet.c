/* Names and order follow diffusers' unet_2d_condition.py, unet_2d_blocks.py, resnet.py and attention.py. */
#include "engine/unet.h"

#include <string.h>

#include "engine/mathd.h"
#include "engine/ops.h"

/* ---- config.json ---- */

static const struct fixed_setting fixed[] = {
    {"center_input_sample", "false"},
    {"mid_block_type", "UNetMidBlock2DCrossAttn"},
    {"only_cross_attention", "false"},
    {"mid_block_only_cross_attention", "false"},
    {"downsample_padding", "1"},
    {"mid_block_scale_factor", "1"},
    {"dropout", "0"},
    {"act_fn", "silu"},
    {"encoder_hid_dim", NULL},
    {"encoder_hid_dim_type", NULL},
    {"dual_cross_attention", "false"},
    {"class_embed_type", NULL},
    {"num_class_embeds", NULL},
    {"class_embeddings_concat", "false"},
    {"resnet_time_scale_shift", "default"},
    {"resnet_skip_time_act", "false"},
    {"resnet_out_scale_factor", "1"},
    {"time_embedding_type", "positional"},
    {"time_embedding_dim", NULL},
    {"time_embedding_act_fn", NULL},
    {"timestep_post_act", NULL},
    {"time_cond_proj_dim", NULL},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"attention_type", "default"},
    {"cross_attention_norm", NULL},
    {"reverse_transformer_layers_per_block", NULL},
};

static struct error read_block_type(const struct unet *unet, const char *key, size_t index, const char *plain,
                                    const char *with_attention, bool *attention)
{
    const struct json *type = json_item(json_get(unet->network->config, key), index);
    if (!type || type->kind != JSON_STRING || (strcmp(type->text, plain) && strcmp(type->text, with_attention)))
        return error_make(ERR_INVALID, "%s/config.json: %s must be %s or %s", unet->network->label, key, plain,
                          with_attention);
    *attention = !strcmp(type->text, with_attention);
    return OK;
}

static struct error read_block(struct unet *unet, size_t k)
{
    const struct network *network = unet->network;
    struct unet_block *block = &unet->down[k];
    TRY(read_block_type(unet, "down_block_types", k, "DownBlock2D", "CrossAttnDownBlock2D", &block->attention));
    TRY(read_block_type(unet, "up_block_types", k, "UpBlock2D", "CrossAttnUpBlock2D", &unet->up_attention[k]));
    TRY(config_size(network, "block_out_channels", k, 0, 1, UNET_CHANNELS_MAX, &block->channels));
    TRY(config_size(network, "layers_per_block", k, 2, 1, UNET_DEPTH_MAX, &block->resnets));
    TRY(config_size(network, "transformer_layers_per_block", k, 1, 1, UNET_DEPTH_MAX, &block->transformers));
    size_t heads;
    TRY(config_size(network, "attention_head_dim", k, 8, 1, UNET_CHANNELS_MAX, &heads));
    return config_size(network, "num_attention_heads", k, heads, 1, UNET_CHANNELS_MAX, &block->heads);
}

static struct error read_addition(struct unet *unet)
{
    const struct network *network = unet->network;
    const char *type = json_string(network->config, "addition_embed_type", NULL);
    unet->xl = type && !strcmp(type, "text_time");
    if (type && !unet->xl)
        return error_make(ERR_INVALID, "%s/config.json: addition_embed_type %s is not supported", network->label, type);
    if (!unet->xl)
        return OK;
    size_t input;
    TRY(config_size(network, "addition_time_embed_dim", 0, 256, 2, UNET_CHANNELS_MAX, &unet->time_id_width));
    size_t least = TIME_IDS * unet->time_id_width + 1;
    TRY(config_size(network, "projection_class_embeddings_input_dim", 0, 0, least, 8 * UNET_CHANNELS_MAX, &input));
    unet->pooled_width = input - TIME_IDS * unet->time_id_width;
    return OK;
}

struct error unet_init(struct unet *unet, struct network *network)
{
    *unet = (struct unet){.network = network};
    const struct json *config = network->config, *blocks = json_get(config, "block_out_channels");
    TRY(config_check(network, fixed, sizeof fixed / sizeof fixed[0]));
    TRY(config_size(network, "in_channels", 0, 4, 1, 64, &unet->in_channels));
    TRY(config_size(network, "out_channels", 0, 4, 1, 128, &unet->out_channels));
    TRY(config_size(network, "sample_size", 0, 64, 1, MODEL_LATENT_MAX, &unet->sample_size));
    TRY(config_size(network, "cross_attention_dim", 0, 1280, 1, UNET_CHANNELS_MAX, &unet->context_width));
    TRY(config_size(network, "norm_num_groups", 0, 32, 1, 1024, &unet->groups));
    if (unet->out_channels != unet->in_channels && unet->out_channels != 2 * unet->in_channels)
        return error_make(ERR_INVALID, "%s/config.json: out_channels must be in_channels, or twice that",
                          network->label);
    unet->epsilon = (float)json_number(config, "norm_eps", 1e-5);
    unet->flip_sin_to_cos = json_bool(config, "flip_sin_to_cos", true);
    unet->freq_shift = json_number(config, "freq_shift", 0);
    unet->block_count = blocks ? blocks->count : 0;
    if (!unet->block_count || unet->block_count > UNET_BLOCKS_MAX)
        return error_make(ERR_INVALID, "%s/config.json: block_out_channels must have 1 to %d entries", network->label,
                          UNET_BLOCKS_MAX);
    for (size_t k = 0; k < unet->block_count; k++)
        TRY(read_block(unet, k));
    if (unet->down[0].channels % 2)
        return error_make(ERR_INVALID, "%s/config.json: block_out_channels must start with an even number",
                          network->label);
    return read_addition(unet);
}

/* Timesteps.get_timestep_embedding, whose arithmetic is in single precision. */
void unet_sinusoids(const struct unet *unet, float number, size_t width, float *out)
{
    static const double turn = 6.283185307179586;
    size_t half = width / 2;
    for (size_t i = 0; i < half; i++) {
        float exponent = (float)(-9.210340371976184 * (double)i) / (float)((double)half - unet->freq_shift);
        float angle = number * (float)mathd_exp((double)exponent);
        float cosine = (float)mathd_cos_turn((double)angle / turn), sine = (float)mathd_sin_turn((double)angle / turn);
        out[i] = unet->flip_sin_to_cos ? cosine : sine;
        out[half + i] = unet->flip_sin_to_cos ? sine : cosine;
    }
    if (width % 2)
        out[width - 1] = 0;
}

/* ---- the network ---- */

/* What all blocks share. */
struct build {
    struct graph *graph;
    const struct unet *unet;
    struct value *temb; /* SiLU of the time embedding */
    struct value *context;
};

static struct value *resnet(const struct build *b, struct value *x, size_t out, const char *path)
{
    struct graph *g = b->graph;
    graph_segment(g);
    struct value *h = op_group_norm(g, x, b->unet->groups, b->unet->epsilon, true, at(g, "%s.norm1", path));
    h = op_conv3x3(g, h, out, at(g, "%s.conv1", path));
    h = op_add_vector(g, h, op_linear(g, b->temb, out, at(g, "%s.time_emb_proj", path)));
    h = op_group_norm(g, h, b->unet->groups, b->unet->epsilon, true, at(g, "%s.norm2", path));
    h = op_conv3x3(g, h, out, at(g, "%s.conv2", path));
    if (x->channels != out)
        x = op_linear(g, x, out, at(g, "%s.conv_shortcut", path));
    return op_add(g, x, h);
}

static struct value *attention(const struct build *b, struct value *x, struct value *context, size_t heads,
                               const char *path)
{
    struct graph *g = b->graph;
    struct value *q = op_projection(g, x, x->channels, at(g, "%s.to_q", path));
    struct value *k = op_projection(g, context, x->channels, at(g, "%s.to_k", path));
    struct value *v = op_projection(g, context, x->channels, at(g, "%s.to_v", path));
    struct value *h = op_attention(g, q, k, v, heads, false);
    return op_linear(g, h, x->channels, at(g, "%s.to_out.0", path));
}

static struct value *transformer_block(const struct build *b, struct value *x, size_t heads, const char *path)
{
    struct graph *g = b->graph;
    const float epsilon = 1e-5f;
    graph_segment(g);
    struct value *h = op_layer_norm(g, x, epsilon, at(g, "%s.norm1", path));
    x = op_add(g, x, attention(b, h, h, heads, at(g, "%s.attn1", path)));
    h = op_layer_norm(g, x, epsilon, at(g, "%s.norm2", path));
    x = op_add(g, x, attention(b, h, b->context, heads, at(g, "%s.attn2", path)));
    h = op_layer_norm(g, x, epsilon, at(g, "%s.norm3", path));
    h = op_geglu(g, op_linear(g, h, 8 * x->channels, at(g, "%s.ff.net.0.proj", path)));
    return op_add(g, x, op_linear(g, h, x->channels, at(g, "%s.ff.net.2", path)));
}

/* Transformer2DModel. Pixels are tokens in NHWC, so that proj_in is the same as a linear layer and as a convolution. */
static struct value *transformer(const struct build *b, struct value *x, const struct unet_block *block,
                                 const char *path)
{
    struct graph *g = b->graph;
    graph_segment(g);
    struct value *h = op_group_norm(g, x, b->unet->groups, 1e-6f, false, at(g, "%s.norm", path));
    h = op_linear(g, h, x->channels, at(g, "%s.proj_in", path));
    for (size_t i = 0; i < block->transformers; i++)
        h = transformer_block(b, h, block->heads, at(g, "%s.transformer_blocks.%zu", path, i));
    graph_segment(g);
    return op_add(g, x, op_linear(g, h, x->channels, at(g, "%s.proj_out", path)));
}

static struct value *time_embedding(struct graph *g, struct value *x, size_t width, const char *path)
{
    struct value *h = op_linear(g, x, width, at(g, "%s.linear_1", path));
    h = op_activation(g, h, ACTIVATION_SILU);
    return op_linear(g, h, width, at(g, "%s.linear_2", path));
}

/* Outputs that the up blocks take, last in first out. */
struct skips {
    struct value *values[UNET_BLOCKS_MAX * (UNET_DEPTH_MAX + 1) + 1];
    size_t count;
};

static void push(struct skips *skips, struct value *value)
{
    skips->values[skips->count++] = value;
}

static struct value *down_blocks(const struct build *b, struct value *h, struct skips *skips)
{
    struct graph *g = b->graph;
    for (size_t k = 0; k < b->unet->block_count; k++) {
        const struct unet_block *block = &b->unet->down[k];
        for (size_t j = 0; j < block->resnets; j++) {
            h = resnet(b, h, block->channels, at(g, "down_blocks.%zu.resnets.%zu", k, j));
            if (block->attention)
                h = transformer(b, h, block, at(g, "down_blocks.%zu.attentions.%zu", k, j));
            push(skips, h);
        }
        if (k + 1 < b->unet->block_count) {
            h = op_downsample(g, h, false, at(g, "down_blocks.%zu.downsamplers.0.conv", k));
            push(skips, h);
        }
    }
    return h;
}

static struct value *mid_block(const struct build *b, struct value *h)
{
    const struct unet_block *last = &b->unet->down[b->unet->block_count - 1];
    h = resnet(b, h, last->channels, "mid_block.resnets.0");
    h = transformer(b, h, last, "mid_block.attentions.0");
    return resnet(b, h, last->channels, "mid_block.resnets.1");
}

static struct value *up_blocks(const struct build *b, struct value *h, struct skips *skips)
{
    struct graph *g = b->graph;
    for (size_t k = 0; k < b->unet->block_count; k++) {
        const struct unet_block *block = &b->unet->down[b->unet->block_count - 1 - k];
        for (size_t j = 0; j < block->resnets + 1; j++) {
            h = op_concat(g, h, skips->values[--skips->count]);
            h = resnet(b, h, block->channels, at(g, "up_blocks.%zu.resnets.%zu", k, j));
            if (b->unet->up_attention[k])
                h = transformer(b, h, block, at(g, "up_blocks.%zu.attentions.%zu", k, j));
        }
        if (k + 1 < b->unet->block_count) {
            const struct value *next = skips->values[skips->count - 1];
            h = op_upsample(g, h, next->height, next->width);
            h = op_conv3x3(g, h, block->channels, at(g, "up_blocks.%zu.upsamplers.0.conv", k));
        }
    }
    return h;
}

struct value *unet_build(struct graph *g, const struct unet *unet, const struct unet_values *values)
{
    g->network = unet->network;
    struct value *temb = time_embedding(g, values->time, 4 * unet->down[0].channels, "time_embedding");
    if (unet->xl) {
        struct value *addition = op_concat(g, values->pooled, values->time_ids);
        addition = time_embedding(g, addition, 4 * unet->down[0].channels, "add_embedding");
        temb = op_add(g, temb, addition);
    }
    temb = op_activation(g, temb, ACTIVATION_SILU);
    struct build build = {.graph = g, .unet = unet, .temb = temb, .context = values->context};
    struct skips skips = {.count = 0};
    struct value *h = op_conv3x3(g, values->sample, unet->down[0].channels, "conv_in");
    push(&skips, h);
    h = down_blocks(&build, h, &skips);
    h = mid_block(&build, h);
    h = up_blocks(&build, h, &skips);
    graph_segment(g);
    h = op_group_norm(g, h, unet->groups, unet->epsilon, true, "conv_norm_out");
    h = op_conv3x3(g, h, unet->out_channels, "conv_out");
    return unet->out_channels == unet->in_channels ? h : op_take_channels(g, h, unet->in_channels);
}
