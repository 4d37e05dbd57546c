/* AutoencoderKL of diffusers: images to the moments of a latent, and back. */
#pragma once

#include "engine/graph.h"

enum { VAE_BLOCKS_MAX = 8, VAE_CHANNELS_MAX = 8192, VAE_LATENT_MAX = 64, VAE_DEPTH_MAX = 16 };

struct vae {
    struct network *network;
    size_t block_count, channels[VAE_BLOCKS_MAX], resnets; /* block_out_channels, layers_per_block */
    size_t latent_channels, groups;
    size_t factor; /* image pixels a latent pixel */
    double scaling_factor, shift_factor;
    float mean[VAE_LATENT_MAX], deviation[VAE_LATENT_MAX]; /* latents_mean, latents_std */
    bool has_statistics;
    bool mid_attention, quantize, post_quantize; /* mid_block_add_attention, use_quant_conv, use_post_quant_conv */
};

struct error vae_init(struct vae *vae, struct network *network) __attribute__((warn_unused_result));
/* image [b, h, w, 3] -> [b, h/f, w/f, 2 latent_channels]: mean, then logvar. */
struct value *vae_build_encoder(struct graph *graph, const struct vae *vae, struct value *image);
struct value *vae_build_decoder(struct graph *graph, const struct vae *vae, struct value *latent);
