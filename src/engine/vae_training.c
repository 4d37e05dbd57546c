#include "engine/vae_training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/denoiser.h"
#include "engine/ops.h"
#include "engine/parameters.h"

struct vae_training {
    struct model *model;
    struct parameters *parameters;
    struct graph *graph;
    struct value *image, *latent, *noise, *output;
    struct vae_loss weights;
    double sample_losses[MODEL_BATCH_MAX];
};

/* ---- moments: y = x, and a gradient of its own ---- */

struct moments {
    double mean[VAE_LATENT_MAX], covariance[VAE_LATENT_MAX][VAE_LATENT_MAX]; /* minus the identity */
};

static void take_moments(const struct value *x, struct moments *moments)
{
    size_t rows = value_rows(x), channels = x->channels;
    *moments = (struct moments){0};
    for (size_t i = 0; i < rows * channels; i++)
        moments->mean[i % channels] += (double)x->data[i] / (double)rows;
    for (size_t row = 0; row < rows; row++) {
        const float *z = x->data + row * channels;
        for (size_t a = 0; a < channels; a++) {
            for (size_t b = 0; b < channels; b++)
                moments->covariance[a][b] +=
                    ((double)z[a] - moments->mean[a]) * ((double)z[b] - moments->mean[b]) / (double)rows;
        }
    }
    for (size_t a = 0; a < channels; a++)
        moments->covariance[a][a] -= 1;
}

static double moments_loss(const struct value *x)
{
    struct moments moments;
    double sum = 0;
    take_moments(x, &moments);
    for (size_t a = 0; a < x->channels; a++) {
        sum += moments.mean[a] * moments.mean[a];
        for (size_t b = 0; b < x->channels; b++)
            sum += moments.covariance[a][b] * moments.covariance[a][b];
    }
    return sum;
}

static void moments_forward(struct graph *g, struct node *n)
{
    scale_by(g->pool, value_floats(n->output), 1, n->inputs[0]->data, n->output->data);
}

/* dz += weight (4 (Cov - 1) (z - mean) + 2 mean) / rows; node->epsilon is the weight. The sums of z - mean vanish, so
 * that the mean inside Cov adds nothing. */
static void moments_backward(struct graph *g, struct node *n)
{
    (void)g;
    const struct value *x = n->inputs[0];
    size_t channels = x->channels, rows = value_rows(x);
    double scale = (double)n->epsilon / (double)rows;
    struct moments moments;
    take_moments(x, &moments);
    for (size_t row = 0; row < rows; row++) {
        const float *z = x->data + row * channels, *dy = n->output->gradient + row * channels;
        for (size_t a = 0; a < channels; a++) {
            double sum = 2 * moments.mean[a];
            for (size_t b = 0; b < channels; b++)
                sum += 4 * moments.covariance[a][b] * ((double)z[b] - moments.mean[b]);
            x->gradient[row * channels + a] = (float)((double)dy[a] + scale * sum);
        }
    }
}

static const struct op moments_op = {"moments", moments_forward, moments_backward};

static struct value *add_moments(struct graph *g, struct value *x, float weight)
{
    struct value *y = graph_value(g, x->batch, x->height, x->width, x->channels);
    struct node *n = graph_node(g, &moments_op, y, 1, &x);
    n->epsilon = weight;
    n->keeps = 1;
    return y;
}

/* ---- building ---- */

static struct error build(struct vae_training *training, size_t batch, size_t height, size_t width)
{
    const struct vae *vae = &training->model->vae;
    TRY(graph_create(training->model->pool, training->parameters, &training->graph));
    struct graph *g = training->graph;
    size_t channels = vae->latent_channels;
    training->image = graph_value(g, batch, height, width, 3);
    training->noise = graph_value(g, batch, height / vae->factor, width / vae->factor, channels);
    struct value *both = vae_build_encoder(g, vae, training->image);
    training->latent = op_take_channels(g, both, channels);
    struct value *z = add_moments(g, training->latent, training->weights.moments);
    training->output = vae_build_decoder(g, vae, op_add(g, z, training->noise));
    return graph_plan(g, &training->output, 1);
}

struct error vae_training_create(struct model *model, struct parameters *parameters, size_t batch, size_t height,
                                 size_t width, const struct vae_loss *weights, struct vae_training **out)
{
    if (!batch || batch > MODEL_BATCH_MAX || height % model->vae.factor || width % model->vae.factor)
        return error_make(ERR_INVALID, "a batch has 1 to %d pictures, their sides are multiples of %zu pixels",
                          MODEL_BATCH_MAX, model->vae.factor);
    struct vae_training *training = calloc(1, sizeof *training);
    if (!training)
        return error_make(ERR_INTERNAL, "out of memory");
    training->model = model;
    training->parameters = parameters;
    training->weights = *weights;
    struct error error = build(training, batch, height, width);
    if (error.code)
        vae_training_destroy(training);
    else
        *out = training;
    return error;
}

void vae_training_destroy(struct vae_training *training)
{
    if (!training)
        return;
    graph_destroy(training->graph);
    free(training);
}

/* ---- the loss of the picture ---- */

static float sign(float x)
{
    return (float)(x > 0) - (float)(x < 0);
}

/* Differences d = y - x to their neighbours `step` floats further on, along lines of `length` of them. Returns the sum
 * of |e|, e = d[i + step] - d[i], and adds scale sign(e) to the gradient there, and takes it here. */
static double edges(const float *d, size_t count, size_t step, size_t period, float scale, float *gradient)
{
    double sum = 0;
    for (size_t i = 0; i + step < count; i++) {
        if (i % period + step >= period)
            continue;
        float e = d[i + step] - d[i];
        sum += (double)fabsf(e);
        gradient[i + step] += scale * sign(e);
        gradient[i] -= scale * sign(e);
    }
    return sum;
}

/* One sample. d lies where y was. */
static void sample_loss(void *context, size_t sample, float *scratch)
{
    (void)scratch;
    struct vae_training *training = context;
    const struct vae_loss *weights = &training->weights;
    const struct value *y = training->output;
    size_t count = y->height * y->width * 3, line = y->width * 3;
    size_t across = y->batch * y->height * (y->width - 1) * 3, down = y->batch * (y->height - 1) * y->width * 3;
    const float *x = training->image->data + sample * count;
    float *d = y->data + sample * count, *gradient = y->gradient + sample * count;
    float each = 1.0f / (float)(y->batch * count);
    double absolute = 0, squared = 0;
    for (size_t i = 0; i < count; i++) {
        d[i] -= x[i];
        absolute += (double)fabsf(d[i]);
        squared += (double)d[i] * (double)d[i];
        gradient[i] = each * (weights->absolute * sign(d[i]) + 2 * weights->squared * d[i]);
    }
    double horizontal = edges(d, count, 3, line, weights->edges / (float)across, gradient);
    double vertical = edges(d, count, line, count, weights->edges / (float)down, gradient);
    training->sample_losses[sample] =
        (double)each * ((double)weights->absolute * absolute + (double)weights->squared * squared) +
        (double)weights->edges * (horizontal / (double)across + vertical / (double)down);
}

double vae_training_step(struct vae_training *training, const float *rgb, const float *noise)
{
    struct graph *g = training->graph;
    memcpy(training->image->data, rgb, value_floats(training->image) * sizeof *rgb);
    memcpy(training->noise->data, noise, value_floats(training->noise) * sizeof *noise);
    parameters_publish(training->model, training->parameters);
    graph_forward(g);
    pool_run(g->pool, training->output->batch, sample_loss, training);
    double loss = (double)training->weights.moments * moments_loss(training->latent);
    for (size_t sample = 0; sample < training->output->batch; sample++)
        loss += training->sample_losses[sample];
    graph_backward(g);
    return loss;
}
