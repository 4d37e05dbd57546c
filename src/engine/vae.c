/* Names and order follow diffusers' autoencoder_kl.py and vae.py. */
#include "engine/vae.h"

#include <string.h>

#include "engine/ops.h"

static const float epsilon = 1e-6f;

/* What files from before 2023 call the attention's layers. */
static const char *const aliases[][2] = {
    {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}, {NULL, NULL}};

static const struct fixed_setting fixed[] = {
    {"in_channels", "3"},
    {"out_channels", "3"},
    {"act_fn", "silu"},
};

static struct error check_types(const struct network *network, const char *key, const char *type)
{
    JSON_EACH (item, json_get(network->config, key)) {
        if (item->kind != JSON_STRING || strcmp(item->text, type))
            return error_make(ERR_INVALID, "%s/config.json: only %s in %s is supported", network->label, type, key);
    }
    return OK;
}

static struct error read_statistics(struct vae *vae, const char *key, float *out)
{
    const struct json *list = json_get(vae->network->config, key);
    vae->has_statistics = list && list->kind == JSON_ARRAY;
    if (!vae->has_statistics)
        return OK;
    if (list->count != vae->latent_channels)
        return error_make(ERR_INVALID, "%s/config.json: %s must have a number for each latent channel",
                          vae->network->label, key);
    for (size_t i = 0; i < list->count; i++)
        out[i] = (float)json_item(list, i)->number;
    return OK;
}

struct error vae_init(struct vae *vae, struct network *network)
{
    const struct json *config = network->config, *blocks = json_get(config, "block_out_channels");
    *vae = (struct vae){.network = network};
    network->aliases = aliases;
    TRY(config_check(network, fixed, sizeof fixed / sizeof fixed[0]));
    TRY(check_types(network, "down_block_types", "DownEncoderBlock2D"));
    TRY(check_types(network, "up_block_types", "UpDecoderBlock2D"));
    TRY(config_size(network, "latent_channels", 0, 4, 1, VAE_LATENT_MAX, &vae->latent_channels));
    TRY(config_size(network, "layers_per_block", 0, 1, 1, VAE_DEPTH_MAX, &vae->resnets));
    TRY(config_size(network, "norm_num_groups", 0, 32, 1, 1024, &vae->groups));
    vae->block_count = blocks ? blocks->count : 0;
    if (!vae->block_count || vae->block_count > VAE_BLOCKS_MAX)
        return error_make(ERR_INVALID, "%s/config.json: block_out_channels must have 1 to %d entries", network->label,
                          VAE_BLOCKS_MAX);
    for (size_t k = 0; k < vae->block_count; k++)
        TRY(config_size(network, "block_out_channels", k, 0, 1, VAE_CHANNELS_MAX, &vae->channels[k]));
    vae->factor = (size_t)1 << (vae->block_count - 1);
    vae->scaling_factor = json_number(config, "scaling_factor", 0.18215);
    vae->shift_factor = json_number(config, "shift_factor", 0);
    vae->mid_attention = json_bool(config, "mid_block_add_attention", true);
    vae->quantize = json_bool(config, "use_quant_conv", true);
    vae->post_quantize = json_bool(config, "use_post_quant_conv", true);
    TRY(read_statistics(vae, "latents_mean", vae->mean));
    return read_statistics(vae, "latents_std", vae->deviation);
}

static struct value *resnet(struct graph *g, const struct vae *vae, struct value *x, size_t out, const char *path)
{
    struct value *h = op_group_norm(g, x, vae->groups, epsilon, true, at(g, "%s.norm1", path));
    h = op_conv3x3(g, h, out, at(g, "%s.conv1", path));
    h = op_group_norm(g, h, vae->groups, epsilon, true, at(g, "%s.norm2", path));
    h = op_conv3x3(g, h, out, at(g, "%s.conv2", path));
    if (x->channels != out)
        x = op_linear(g, x, out, at(g, "%s.conv_shortcut", path));
    return op_add(g, x, h);
}

/* One head as wide as the block. */
static struct value *attention(struct graph *g, const struct vae *vae, struct value *x, const char *path)
{
    size_t channels = x->channels;
    struct value *h = op_group_norm(g, x, vae->groups, epsilon, false, at(g, "%s.group_norm", path));
    struct value *q = op_linear(g, h, channels, at(g, "%s.to_q", path));
    struct value *k = op_linear(g, h, channels, at(g, "%s.to_k", path));
    struct value *v = op_linear(g, h, channels, at(g, "%s.to_v", path));
    h = op_attention(g, q, k, v, 1, false);
    return op_add(g, x, op_linear(g, h, channels, at(g, "%s.to_out.0", path)));
}

static struct value *mid_block(struct graph *g, const struct vae *vae, struct value *h, const char *side)
{
    h = resnet(g, vae, h, h->channels, at(g, "%s.mid_block.resnets.0", side));
    if (vae->mid_attention)
        h = attention(g, vae, h, at(g, "%s.mid_block.attentions.0", side));
    return resnet(g, vae, h, h->channels, at(g, "%s.mid_block.resnets.1", side));
}

struct value *vae_build_encoder(struct graph *g, const struct vae *vae, struct value *image)
{
    g->network = vae->network;
    struct value *h = op_conv3x3(g, image, vae->channels[0], "encoder.conv_in");
    for (size_t k = 0; k < vae->block_count; k++) {
        for (size_t j = 0; j < vae->resnets; j++)
            h = resnet(g, vae, h, vae->channels[k], at(g, "encoder.down_blocks.%zu.resnets.%zu", k, j));
        if (k + 1 < vae->block_count)
            h = op_downsample(g, h, true, at(g, "encoder.down_blocks.%zu.downsamplers.0.conv", k));
    }
    h = mid_block(g, vae, h, "encoder");
    h = op_group_norm(g, h, vae->groups, epsilon, true, "encoder.conv_norm_out");
    h = op_conv3x3(g, h, 2 * vae->latent_channels, "encoder.conv_out");
    return vae->quantize ? op_linear(g, h, 2 * vae->latent_channels, "quant_conv") : h;
}

struct value *vae_build_decoder(struct graph *g, const struct vae *vae, struct value *latent)
{
    g->network = vae->network;
    struct value *h = vae->post_quantize ? op_linear(g, latent, vae->latent_channels, "post_quant_conv") : latent;
    h = op_conv3x3(g, h, vae->channels[vae->block_count - 1], "decoder.conv_in");
    h = mid_block(g, vae, h, "decoder");
    for (size_t k = 0; k < vae->block_count; k++) {
        size_t channels = vae->channels[vae->block_count - 1 - k];
        for (size_t j = 0; j < vae->resnets + 1; j++)
            h = resnet(g, vae, h, channels, at(g, "decoder.up_blocks.%zu.resnets.%zu", k, j));
        if (k + 1 < vae->block_count) {
            h = op_upsample(g, h, 2 * h->height, 2 * h->width);
            h = op_conv3x3(g, h, channels, at(g, "decoder.up_blocks.%zu.upsamplers.0.conv", k));
        }
    }
    h = op_group_norm(g, h, vae->groups, epsilon, true, "decoder.conv_norm_out");
    return op_conv3x3(g, h, 3, "decoder.conv_out");
}
