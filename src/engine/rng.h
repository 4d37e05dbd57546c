/* Random numbers by counter: a draw depends on (seed, purpose, step, index) and its place alone, never on what was
 * drawn before. A resumed training thereby sees the very numbers of an uninterrupted one. Philox4x32-10, Salmon et al.,
 * "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum rng_purpose {                     /* part of the format of results: values never change */
                   RNG_NOISE = 1,      /* added to latents in training: step, picture of the batch */
                   RNG_TIMESTEP = 2,   /* step, picture of the batch */
                   RNG_POSTERIOR = 3,  /* draw from the VAE's moments: step, picture of the batch */
                   RNG_INITIAL = 4,    /* LoRA down factors: component, module */
                   RNG_ORDER = 5,      /* shuffling of an epoch: epoch */
                   RNG_CROP = 6,       /* step, picture of the batch */
                   RNG_SAMPLE = 7,     /* first noise of a sampled picture */
                   RNG_CLASS = 8,      /* first noise of class pictures: 0, picture */
                   RNG_FRESH = 9,      /* first weights of a new network: component, hash of the tensor's name */
                   RNG_CAPTION = 10,   /* which of a picture's captions, if any: step, picture of the batch */
                   RNG_PROBE = 11,     /* the fixed pictures and noise that a base model is measured with */
                   RNG_ANCESTRAL = 12, /* noise that a sampler adds on its way: sampling step, picture */
                   RNG_AUGMENT = 13,   /* how a VAE's picture is varied: step, picture of the batch */
};

struct rng {
    uint64_t seed;
    enum rng_purpose purpose;
    uint32_t step, index;
};

void rng_block(const struct rng *rng, uint32_t block, uint32_t words[4]); /* the block-th four words */
void rng_normal(const struct rng *rng, size_t count, float *values);      /* N(0, 1), Box-Muller; count < 2^34 */
/* Uniform in [0, 1), the place-th number. */
double rng_uniform(const struct rng *rng, uint32_t place);
uint32_t rng_below(const struct rng *rng, uint32_t place, uint32_t bound); /* uniform in [0, bound), bound > 0 */
void rng_shuffle(const struct rng *rng, uint32_t count, uint32_t *items);  /* Fisher-Yates */
