/* The inside of a model, and the graph that predicts noise: the UNet and, when they are trained, the text encoders
 * before it. */
#pragma once

#include "engine/clip.h"
#include "engine/graph.h"
#include "engine/model.h"
#include "engine/unet.h"
#include "engine/vae.h"

struct denoiser {
    struct model *model;
    struct graph *graph;
    struct unet_input shape; /* batch, height, width, tokens, clip_skip; no arrays */
    bool with_text;
    struct clip_values text[2]; /* when with_text */
    struct unet_values values;
    struct value *prediction;
};

struct text_graph {
    struct graph *graph;
    size_t batch, tokens;
    unsigned clip_skip;
    struct clip_values text[2];
    struct value *context, *pooled;
};

struct image_graph { /* the VAE's encoder or decoder */
    struct graph *graph;
    size_t batch, height, width;
    struct value *input, *output;
};

struct model {
    struct pool *pool;
    bool half;   /* weights of UNet and text encoders as bfloat16 */
    size_t tile; /* latent pixels; larger pictures go through the VAE in tiles of it */
    struct model_info info;
    const uint64_t *fresh_seed;                /* while opening: for networks without weights; or NULL */
    struct network *networks[COMPONENT_COUNT]; /* COMPONENT_TEXT_2 only if xl */
    struct unet unet;
    struct vae vae;
    struct clip clips[2];
    /* for inference, each for the shape it was last used with */
    struct denoiser denoiser;
    struct text_graph text;
    struct image_graph encoder, decoder;
    struct memory_block memory; /* of all graphs, which run in turn */
};

/* Reads and checks the VAE's weights. */
struct error images_prepare(struct model *model) __attribute__((warn_unused_result));
/* Appends the text encoders: context, and pooled if xl. */
struct error text_build(struct graph *graph, const struct model *model, size_t batch, size_t tokens, unsigned clip_skip,
                        struct clip_values text[2], struct value **context, struct value **pooled)
    __attribute__((warn_unused_result));
/* Not planned yet: add to the graph, then graph_plan. denoiser->graph is the caller's to destroy, also after errors. */
struct error denoiser_build(struct denoiser *denoiser, struct model *model, struct parameters *parameters,
                            const struct unet_input *shape, bool with_text) __attribute__((warn_unused_result));
struct error denoiser_fill(struct denoiser *denoiser, const struct unet_input *input)
    __attribute__((warn_unused_result));
