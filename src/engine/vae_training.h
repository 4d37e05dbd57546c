/* Full training of a VAE as a plain autoencoder: noise of a fixed size on the latent instead of a drawn posterior, and
 * a loss that keeps the latent's mean at 0 and its covariance at the identity instead of a KL term, so that no channel
 * falls asleep. The log variance is left as it is. */
#pragma once

#include "engine/model.h"

struct vae_loss {
    float absolute, squared; /* weights of mean |y - x| and mean (y - x)^2 */
    float edges;             /* of mean |dy - dx| between neighbours, across and down */
    float moments;           /* of |Cov z - 1|^2 + |mean z|^2, z the latent before the noise */
};

struct vae_training;

/* parameters: of the VAE, TARGETS_FULL. height and width in pixels. */
struct error vae_training_create(struct model *model, struct parameters *parameters, size_t batch, size_t height,
                                 size_t width, const struct vae_loss *weights, struct vae_training **out)
    __attribute__((warn_unused_result));
void vae_training_destroy(struct vae_training *training);
/* Forward and backward; gradients are added to. rgb [batch, height, width, 3] in [-1, 1], noise [batch, height/f,
 * width/f, latent_channels]. Returns the loss. */
double vae_training_step(struct vae_training *training, const float *rgb, const float *noise);
