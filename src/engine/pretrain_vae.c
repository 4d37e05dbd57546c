/* The VAE: an autoencoder trained on the pictures themselves, and at the end its latent made white. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/mathd.h"
#include "engine/pretrain_subject.h"
#include "engine/vae_training.h"
#include "engine/whiten.h"

static const struct vae_loss loss_weights = {.absolute = 1, .squared = 2, .edges = 0.5f, .moments = 0.05f};
static const double latent_noise = 0.1, recolour_share = 0.2;
static const uint32_t shift_max = 3; /* pixels, each way */

struct own {
    size_t picture, latent; /* floats of one */
    float *pictures;        /* [items, picture] */
    float *batch, *noise;   /* [batch, picture], [batch, latent] */
    float *mean, *logvar;   /* [latent] of one picture */
    struct vae_training *training;
};

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

static struct error vae_load(struct pretrain *run)
{
    const struct pretrain_job *job = &run->job;
    const struct model_info *info = run->base->info;
    size_t side = run->data.side;
    struct own *own = run->own = calloc(1, sizeof *own);
    if (!own)
        return no_memory();
    own->picture = side * side * 3;
    own->latent = info->sample_size * info->sample_size * info->latent_channels;
    own->pictures = calloc(job->item_count, own->picture * sizeof(float));
    own->batch = calloc(job->batch_size, own->picture * sizeof(float));
    own->noise = calloc(job->batch_size, own->latent * sizeof(float));
    own->mean = calloc(own->latent, sizeof(float));
    own->logvar = calloc(own->latent, sizeof(float));
    if (!own->pictures || !own->batch || !own->noise || !own->mean || !own->logvar)
        return no_memory();
    for (size_t i = 0; i < job->item_count; i++)
        TRY(pretrain_data_picture(&run->data, run->options->folder, &run->options->io, i,
                                  own->pictures + i * own->picture));
    return vae_training_create(run->base->model, run->parameters, job->batch_size, side, side, &loss_weights,
                               &own->training);
}

static void vae_unload(struct pretrain *run)
{
    struct own *own = run->own;
    if (!own)
        return;
    vae_training_destroy(own->training);
    free(own->pictures);
    free(own->batch);
    free(own->noise);
    free(own->mean);
    free(own->logvar);
    free(own);
}

/* ---- a batch: mirrored, shifted round the edges, now and then in other colours ---- */

static void vary(const struct rng *rng, size_t side, const float *from, float *to)
{
    bool mirrored = rng_uniform(rng, 0) < 0.5, recoloured = rng_uniform(rng, 1) < recolour_share;
    size_t down = side + rng_below(rng, 2, 2 * shift_max + 1) - shift_max;
    size_t right = side + rng_below(rng, 3, 2 * shift_max + 1) - shift_max;
    uint32_t colours[3] = {0, 1, 2};
    if (recoloured)
        rng_shuffle(&(struct rng){rng->seed, rng->purpose, rng->step, rng->index | 1u << 16}, 3, colours);
    for (size_t y = 0; y < side; y++) {
        for (size_t x = 0; x < side; x++) {
            size_t source_y = (y + down) % side, source_x = (x + right) % side;
            const float *pixel = from + (source_y * side + (mirrored ? side - 1 - source_x : source_x)) * 3;
            for (int c = 0; c < 3; c++)
                to[(y * side + x) * 3 + (size_t)c] = pixel[colours[c]];
        }
    }
}

static struct error vae_step(struct pretrain *run, double *loss)
{
    const struct pretrain_job *job = &run->job;
    struct own *own = run->own;
    for (size_t place = 0; place < job->batch_size; place++) {
        size_t item = pretrain_data_item(&run->data, run->step, place);
        const struct rng augment = {job->seed, RNG_AUGMENT, run->step, (uint32_t)place};
        const struct rng noise = {job->seed, RNG_NOISE, run->step, (uint32_t)place};
        float *at = own->noise + place * own->latent;
        vary(&augment, run->data.side, own->pictures + item * own->picture, own->batch + place * own->picture);
        rng_normal(&noise, own->latent, at);
        for (size_t i = 0; i < own->latent; i++)
            at[i] *= (float)latent_noise;
    }
    *loss = vae_training_step(own->training, own->batch, own->noise);
    return OK;
}

/* ---- what comes back of a picture ---- */

static struct error signal_to_noise(struct pretrain *run, const float *picture, float *rgb, double *decibels)
{
    const struct own *own = run->own;
    size_t latent_side = run->base->info->sample_size;
    double sum = 0;
    TRY(model_decode_latents(run->base->model, 1, latent_side, latent_side, own->mean, rgb));
    for (size_t i = 0; i < own->picture; i++) {
        double difference = (fmin(fmax((double)rgb[i], -1), 1) - (double)picture[i]) / 2;
        sum += difference * difference;
    }
    *decibels = -10 * mathd_log(sum / (double)own->picture + 1e-12) / mathd_log(10);
    return OK;
}

static struct error encode(struct pretrain *run, const float *picture)
{
    struct own *own = run->own;
    return model_encode_image(run->base->model, 1, run->data.side, run->data.side, picture, own->mean, own->logvar);
}

/* Signal to noise without and with noise on the latent, and how far the latent is from white. */
static struct error vae_measure(struct pretrain *run, float numbers[SUBJECT_NUMBERS])
{
    const struct own *own = run->own;
    size_t channels = run->base->info->latent_channels;
    double clean = 0, noisy = 0, each;
    struct latent_moments moments;
    CLEANUP_FREE float *rgb = malloc(own->picture * sizeof *rgb);
    if (!rgb)
        return no_memory();
    latent_moments_init(&moments, channels);
    for (unsigned i = 0; i < run->job.probe_pictures; i++) {
        const float *picture = own->pictures + pretrain_data_probe(&run->data, i) * own->picture;
        TRY(encode(run, picture));
        latent_moments_add(&moments, own->latent / channels, own->mean);
        TRY(signal_to_noise(run, picture, rgb, &each));
        clean += each / run->job.probe_pictures;
        rng_normal(&(struct rng){run->job.seed, RNG_PROBE, 0, i}, own->latent, own->logvar);
        for (size_t k = 0; k < own->latent; k++)
            own->mean[k] += (float)latent_noise * own->logvar[k];
        TRY(signal_to_noise(run, picture, rgb, &each));
        noisy += each / run->job.probe_pictures;
    }
    numbers[0] = (float)clean;
    numbers[1] = (float)noisy;
    numbers[2] = (float)latent_moments_distance(&moments);
    return OK;
}

/* ---- the result ---- */

/* Over all pictures, once each. */
static struct error all_moments(struct pretrain *run, struct latent_moments *moments)
{
    const struct own *own = run->own;
    size_t channels = run->base->info->latent_channels;
    latent_moments_init(moments, channels);
    for (size_t i = 0; i < run->job.item_count; i++) {
        TRY(encode(run, own->pictures + i * own->picture));
        latent_moments_add(moments, own->latent / channels, own->mean);
    }
    return OK;
}

/* The files are of the finished VAE alone: its latent has mean 0 and covariance 1 over the pictures, its deviation is
 * that of the noise it was trained with. */
static struct error vae_publish(struct pretrain *run)
{
    struct latent_moments moments;
    if (run->step < run->job.steps)
        return OK;
    CLEANUP_FREE float *values = malloc(run->parameters->count * sizeof *values);
    if (!values)
        return no_memory();
    memcpy(values, run->average, run->parameters->count * sizeof *values);
    TRY(all_moments(run, &moments));
    TRY(whiten(run->parameters, values, &moments, 2 * mathd_log(latent_noise)));
    return pretrain_write_weights(run, "vae", "diffusion_pytorch_model.safetensors", COMPONENT_VAE, values);
}

const struct subject vae_subject = {
    .type = "vae",
    .columns = "psnr,psnr_noisy,moments",
    .parameters = {.targets = TARGETS_FULL, .vae = true},
    .load = vae_load,
    .unload = vae_unload,
    .step = vae_step,
    .measure = vae_measure,
    .publish = vae_publish,
};
