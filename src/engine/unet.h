/* UNet2DConditionModel of diffusers: Stable Diffusion 1.x, 2.x and SDXL, and any size of them. */
#pragma once

#include "engine/graph.h"

enum {
    UNET_BLOCKS_MAX = 8,      /* SD has 4 */
    UNET_DEPTH_MAX = 32,      /* transformer layers or resnets of a block; SDXL has 10 */
    UNET_CHANNELS_MAX = 8192, /* SDXL: 1,280 */
    TIME_IDS = 6,             /* SDXL: original size, crop, target size */
};

struct unet_block {
    bool attention;      /* CrossAttnDownBlock2D, not DownBlock2D */
    size_t channels;     /* block_out_channels */
    size_t resnets;      /* layers_per_block */
    size_t transformers; /* transformer_layers_per_block */
    size_t heads;
};

struct unet {
    struct network *network;
    size_t in_channels, out_channels, sample_size, context_width;
    size_t block_count;
    struct unet_block down[UNET_BLOCKS_MAX]; /* up blocks are these, reversed, but for attention */
    bool up_attention[UNET_BLOCKS_MAX];      /* in the order of up_block_types */
    size_t groups;
    float epsilon;
    bool flip_sin_to_cos;
    double freq_shift;
    bool xl;              /* addition_embed_type text_time */
    size_t time_id_width; /* addition_time_embed_dim */
    size_t pooled_width;  /* projection_class_embeddings_input_dim less the time ids */
};

/* What the caller fills before a run, but for context and pooled when they come from a text encoder in the graph. */
struct unet_values {
    struct value *sample;   /* [b, h, w, in_channels] */
    struct value *time;     /* [b, 1, 1, block_out_channels[0]] */
    struct value *context;  /* [b, tokens, 1, context_width] */
    struct value *pooled;   /* xl: [b, 1, 1, pooled_width] */
    struct value *time_ids; /* xl: [b, 1, 1, TIME_IDS * time_id_width] */
};

struct error unet_init(struct unet *unet, struct network *network) __attribute__((warn_unused_result));
/* The prediction [b, h, w, in_channels]. */
struct value *unet_build(struct graph *graph, const struct unet *unet, const struct unet_values *values);
/* Sinusoids of number: [width]. */
void unet_sinusoids(const struct unet *unet, float number, size_t width, float *out);
