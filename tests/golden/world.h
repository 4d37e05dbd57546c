/* The base models of the golden numbers, as folders: small networks of the real kinds whose weights are a function of
 * their names, so that no weights need to be kept. See README.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/json.h"
#include "engine/model.h"

struct world {
    struct arena arena;
    const struct json *golden, *names;
    char folder[64];
    struct pool *pool;
    struct model *model;
};

/* Writes and opens the small SD or SDXL model. */
void world_init(struct world *world, bool xl, unsigned threads);
void world_finish(struct world *world);

/* count numbers of a tensor by its name: weights by the rule of their shape, inputs of unit variance. */
void fill_weight(const char *name, const size_t *shape, size_t dimensions, float *values);
void fill_input(const char *name, size_t count, float *values);
/* LoRA A and B of every module, prefix "unet." or "unetxl.". */
void fill_lora(const struct parameters *parameters, const char *prefix);

/* A picture in the file's order [batch, channels, pixels] to ours and back. */
void to_nhwc(size_t batch, size_t channels, size_t pixels, const float *nchw, float *nhwc);
void to_nchw(size_t batch, size_t channels, size_t pixels, const float *nhwc, float *nchw);

/* Mean, deviation, norm, first and last elements within tolerance of the expected record's deviation. */
void assert_record(const struct json *expected, const float *values, size_t count, double tolerance);
