/* Images to latents and back, in tiles when they are large: activations of the VAE at 2,048 px would take 20 GB. Tiles
 * of one size overlap by a quarter and are blended by weights that fall to their edges; group norms see a tile at a
 * time, so that tones may differ a little from the untiled picture's. */
#include "engine/denoiser.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* ---- whole ---- */

static struct error prepare_image(struct model *model, struct image_graph *image,
                                  struct value *(*build)(struct graph *graph, const struct vae *vae,
                                                         struct value *input),
                                  size_t batch, size_t height, size_t width, size_t channels)
{
    if (image->graph && image->batch == batch && image->height == height && image->width == width)
        return OK;
    graph_destroy(image->graph);
    *image = (struct image_graph){.batch = batch, .height = height, .width = width};
    TRY(graph_create(model->pool, NULL, &image->graph));
    image->graph->block = &model->memory;
    image->input = graph_value(image->graph, batch, height, width, channels);
    image->output = build(image->graph, &model->vae, image->input);
    struct error error = graph_plan(image->graph, &image->output, 1);
    if (error.code) {
        graph_destroy(image->graph);
        image->graph = NULL;
    }
    return error;
}

static struct error check_image(const struct model *model, size_t batch, size_t height, size_t width)
{
    if (!batch || batch > MODEL_BATCH_MAX)
        return error_make(ERR_INVALID, "the batch size must be 1 to %d", MODEL_BATCH_MAX);
    size_t factor = model->vae.factor;
    if (!height || !width || height % factor || width % factor)
        return error_make(ERR_INVALID, "a picture's sides must be multiples of %zu pixels", factor);
    if (height / factor > MODEL_LATENT_MAX || width / factor > MODEL_LATENT_MAX)
        return error_make(ERR_INVALID, "a picture's sides must be at most %zu pixels", MODEL_LATENT_MAX * factor);
    return OK;
}

struct error images_prepare(struct model *model)
{
    TRY(prepare_image(model, &model->encoder, vae_build_encoder, 1, model->vae.factor, model->vae.factor, 3));
    return prepare_image(model, &model->decoder, vae_build_decoder, 1, 1, 1, model->vae.latent_channels);
}

/* moments [batch, height / f, width / f, 2 latent_channels], borrowed from the graph. */
static struct error encode(struct model *model, size_t batch, size_t height, size_t width, const float *rgb,
                           const float **moments)
{
    struct image_graph *encoder = &model->encoder;
    TRY(prepare_image(model, encoder, vae_build_encoder, batch, height, width, 3));
    graph_enter(encoder->graph);
    memcpy(encoder->input->data, rgb, value_floats(encoder->input) * sizeof *rgb);
    graph_forward(encoder->graph);
    *moments = encoder->output->data;
    return OK;
}

static struct error decode(struct model *model, size_t batch, size_t height, size_t width, const float *latents,
                           const float **rgb)
{
    struct image_graph *decoder = &model->decoder;
    TRY(prepare_image(model, decoder, vae_build_decoder, batch, height, width, model->vae.latent_channels));
    graph_enter(decoder->graph);
    memcpy(decoder->input->data, latents, value_floats(decoder->input) * sizeof *latents);
    graph_forward(decoder->graph);
    *rgb = decoder->output->data;
    return OK;
}

/* ---- in tiles ---- */

struct axis { /* one direction of the latent, and how many pixels of the source and the target lie on one of its */
    size_t size, tile, count;
    size_t source, target;
};

struct tiling {
    struct axis down, across;
    size_t batch, source_channels, target_channels;
    struct error (*run)(struct model *model, size_t batch, size_t height, size_t width, const float *source,
                        const float **target); /* sizes of the source */
};

static struct axis axis_of(size_t size, size_t tile, size_t source, size_t target)
{
    size_t overlap = tile / 4, count = size > tile ? (size - overlap + tile - overlap - 1) / (tile - overlap) : 1;
    return (struct axis){size, size < tile ? size : tile, count, source, target};
}

static size_t start_of(const struct axis *axis, size_t index)
{
    return axis->count > 1 ? (axis->size - axis->tile) * index / (axis->count - 1) : 0;
}

/* 1 in the middle of a tile, falling to its edges over a quarter of it. */
static float weight_at(const struct axis *axis, size_t place)
{
    float length = (float)(axis->tile * axis->target), ramp = length / 4;
    float from_start = (float)place + 0.5f, from_end = length - from_start;
    float edge = from_start < from_end ? from_start : from_end;
    return edge < ramp ? edge / ramp : 1;
}

static void cut(const struct tiling *tiling, size_t top, size_t left, const float *source, float *tile)
{
    const struct axis *down = &tiling->down, *across = &tiling->across;
    size_t channels = tiling->source_channels, row = across->tile * across->source * channels;
    for (size_t b = 0; b < tiling->batch; b++) {
        for (size_t y = 0; y < down->tile * down->source; y++, tile += row) {
            size_t line = b * down->size * down->source + top * down->source + y;
            memcpy(tile, source + (line * across->size + left) * across->source * channels, row * sizeof *tile);
        }
    }
}

static void blend(const struct tiling *tiling, size_t top, size_t left, const float *tile, float *target, float *sums)
{
    const struct axis *down = &tiling->down, *across = &tiling->across;
    size_t channels = tiling->target_channels, width = across->size * across->target;
    for (size_t b = 0; b < tiling->batch; b++) {
        for (size_t y = 0; y < down->tile * down->target; y++) {
            size_t line = b * down->size * down->target + top * down->target + y;
            for (size_t x = 0; x < across->tile * across->target; x++, tile += channels) {
                size_t pixel = line * width + left * across->target + x;
                float weight = weight_at(down, y) * weight_at(across, x);
                sums[pixel] += weight;
                for (size_t c = 0; c < channels; c++)
                    target[pixel * channels + c] += weight * tile[c];
            }
        }
    }
}

static struct error run_tiles(struct model *model, const struct tiling *tiling, const float *source, float *tile,
                              float *target, float *sums)
{
    const struct axis *down = &tiling->down, *across = &tiling->across;
    for (size_t i = 0; i < down->count * across->count; i++) {
        size_t top = start_of(down, i / across->count), left = start_of(across, i % across->count);
        const float *out;
        cut(tiling, top, left, source, tile);
        TRY(tiling->run(model, tiling->batch, down->tile * down->source, across->tile * across->source, tile, &out));
        blend(tiling, top, left, out, target, sums);
    }
    return OK;
}

static struct error run_tiling(struct model *model, const struct tiling *tiling, const float *source, float *target)
{
    const struct axis *down = &tiling->down, *across = &tiling->across;
    size_t pixels = tiling->batch * down->size * down->target * across->size * across->target;
    size_t floats = tiling->batch * down->tile * down->source * across->tile * across->source * tiling->source_channels;
    CLEANUP_FREE float *tile = malloc(floats * sizeof *tile), *sums = calloc(pixels, sizeof *sums);
    if (!tile || !sums)
        return error_make(ERR_INTERNAL, "not enough memory for a picture of this size");
    memset(target, 0, pixels * tiling->target_channels * sizeof *target);
    TRY(run_tiles(model, tiling, source, tile, target, sums));
    for (size_t i = 0; i < pixels * tiling->target_channels; i++)
        target[i] /= sums[i / tiling->target_channels];
    return OK;
}

/* ---- the interface ---- */

void model_set_tile(struct model *model, size_t latent_pixels)
{
    model->tile = latent_pixels;
}

struct error model_encode_image(struct model *model, size_t batch, size_t height, size_t width, const float *rgb,
                                float *mean, float *logvar)
{
    TRY(check_image(model, batch, height, width));
    size_t factor = model->vae.factor, channels = model->vae.latent_channels;
    size_t rows = batch * (height / factor) * (width / factor);
    const float *moments;
    CLEANUP_FREE float *blended = NULL;
    if (height / factor <= model->tile && width / factor <= model->tile) {
        TRY(encode(model, batch, height, width, rgb, &moments));
    } else {
        struct tiling tiling = {.down = axis_of(height / factor, model->tile, factor, 1),
                                .across = axis_of(width / factor, model->tile, factor, 1),
                                .batch = batch,
                                .source_channels = 3,
                                .target_channels = 2 * channels,
                                .run = encode};
        blended = floats_create(rows * 2 * channels);
        if (!blended)
            return error_make(ERR_INTERNAL, "not enough memory for a picture of this size");
        TRY(run_tiling(model, &tiling, rgb, blended));
        moments = blended;
    }
    concat_backward(model->pool, rows, channels, channels, moments, false, mean, logvar);
    for (size_t i = 0; i < rows * channels; i++)
        logvar[i] = logvar[i] < -30 ? -30 : logvar[i] > 20 ? 20 : logvar[i];
    return OK;
}

struct error model_decode_latents(struct model *model, size_t batch, size_t height, size_t width, const float *latents,
                                  float *rgb)
{
    size_t factor = model->vae.factor;
    TRY(check_image(model, batch, height * factor, width * factor));
    if (height > model->tile || width > model->tile) {
        struct tiling tiling = {.down = axis_of(height, model->tile, 1, factor),
                                .across = axis_of(width, model->tile, 1, factor),
                                .batch = batch,
                                .source_channels = model->vae.latent_channels,
                                .target_channels = 3,
                                .run = decode};
        return run_tiling(model, &tiling, latents, rgb);
    }
    const float *picture;
    TRY(decode(model, batch, height, width, latents, &picture));
    memcpy(rgb, picture, batch * height * width * factor * factor * 3 * sizeof *rgb);
    return OK;
}
