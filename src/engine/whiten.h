/* Making a VAE's latent white: mean 0, covariance the identity. Folded into quant_conv and post_quant_conv, so that
 * what the VAE decodes from its own latents is as before. */
#pragma once

#include "engine/model.h"
#include "engine/vae.h"

struct latent_moments { /* sums over all pixels added */
    size_t channels;
    double count, sums[VAE_LATENT_MAX], products[VAE_LATENT_MAX][VAE_LATENT_MAX];
};

void latent_moments_init(struct latent_moments *moments, size_t channels);
void latent_moments_add(struct latent_moments *moments, size_t pixels, const float *latent);
/* |Cov - 1|^2 + |mean|^2 */
double latent_moments_distance(const struct latent_moments *moments);

/* Changes values, in parameters' order. The log variance becomes a constant. ERR_INVALID when the VAE has no such
 * layers or the covariance is singular. */
struct error whiten(const struct parameters *parameters, float *values, const struct latent_moments *moments,
                    double logvar) __attribute__((warn_unused_result));
