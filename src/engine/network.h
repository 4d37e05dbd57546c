/* One part of a base model (UNet, VAE, a text encoder): its config.json, its weight files, and the layers that graphs
 * have asked for. Layers are read, checked against the shape asked for and packed once, at the first request. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/safetensors.h"

enum { NETWORK_FILES_MAX = 64 }; /* shards */

/* A convolution, or a linear layer as kernel 1. */
struct layer {
    const char *name;               /* "down_blocks.0.resnets.0.conv1" */
    struct conv conv;               /* in, out, kernel, stride, pad_after_only; batch 1, a size of 8 x 8 */
    const struct tensor *source;    /* in the file: what merging starts from */
    float *bias;                    /* [out] or NULL */
    float *packed;                  /* NULL in a half network, unless merged */
    float *packed_backward;         /* NULL until a training graph needs it */
    uint16_t *half, *half_backward; /* instead of these, in a half network */
    bool merged;                    /* packed holds more than the file's weights */
    struct layer *next;             /* in the order of first use */
};

/* A group or layer norm. */
struct norm {
    const char *name;
    size_t channels;
    float *gamma, *beta;
    struct norm *next;
};

/* A table of vectors: token and position embeddings. */
struct table {
    const char *name;
    size_t rows, channels;
    float *values;
    struct table *next;
};

struct network {
    enum component kind;
    const char *label; /* the folder, for messages */
    const struct json *config;
    size_t file_count;
    struct safetensors *files[NETWORK_FILES_MAX];
    bool direct;   /* no convolution by transforms: weights that train would be transformed at every step */
    bool fresh;    /* no files: tensors get first values, drawn by their names from seed */
    uint64_t seed; /* of fresh ones */
    const char *const (*aliases)[2]; /* {part of our name, what older files call it}, ended by NULL; or NULL */
    struct layer *layers, **last_layer;
    struct norm *norms, **last_norm;
    struct table *tables;
    size_t parameters;   /* numbers read so far */
    bool half;           /* keeps packed weights as bfloat16, in half the memory. Set it before the first layer */
    size_t weight_bytes; /* that layers, norms and tables take */
    struct arena arena;
};

/* folder/config.json and folder/stem[.fp16|.bf16].safetensors, or the shards of folder/stem.safetensors.index.json.
 * With a seed, the network is direct, and fresh where the folder has no weights, instead of ERR_NOT_FOUND. */
struct error network_open(const char *folder, const char *stem, enum component kind, const uint64_t *fresh_seed,
                          struct network **out) __attribute__((warn_unused_result));
void network_close(struct network *network);

/* NULL when absent under its name and its aliases. */
const struct tensor *network_find(const struct network *network, const char *module, const char *leaf);

/* The bias is there when the file has it, or ERR_CORRUPT if needs_bias and it has not. */
struct error network_layer(struct network *network, const char *name, const struct conv *conv, bool needs_bias,
                           struct layer **out) __attribute__((warn_unused_result));
struct error network_norm(struct network *network, const char *name, size_t channels, struct norm **out)
    __attribute__((warn_unused_result));
struct error network_table(struct network *network, const char *name, size_t rows, size_t channels, struct table **out)
    __attribute__((warn_unused_result));
/* Packs for the backward pass, once. */
struct error layer_pack_backward(struct network *network, struct layer *layer) __attribute__((warn_unused_result));
size_t layer_bytes_to_pack_backward(const struct layer *layer); /* 0 when that is done */
/* What kernels read: the packed weights, or floats made of them in workspace. */
const float *layer_weights(struct pool *pool, const struct layer *layer, float *workspace);
const float *layer_weights_backward(struct pool *pool, const struct layer *layer, float *workspace);
size_t layer_workspace(const struct layer *layer); /* for either */
/* The layer computes with these weights [out, in, k, k] from now on, or with the file's again (NULL). */
struct error layer_merge(struct layer *layer, const float *weights) __attribute__((warn_unused_result));
/* weights [out, in, k, k], as floats, of the file. */
struct error layer_read(const struct layer *layer, float *weights) __attribute__((warn_unused_result));
size_t layer_weight_count(const struct layer *layer);

float *floats_create(size_t count); /* aligned to a cache line; NULL when out of memory; free() it */

/* ---- reading config.json ---- */

/* A key that must be absent, null or the one value that is implemented. */
struct fixed_setting {
    const char *key, *text; /* text: a string's value, or a number, true or false as JSON writes it; NULL: only null */
};
struct error config_check(const struct network *network, const struct fixed_setting *settings, size_t count)
    __attribute__((warn_unused_result));
/* An integer in [least, most], or of a list the index-th; fallback when absent or null. */
struct error config_size(const struct network *network, const char *key, size_t index, size_t fallback, size_t least,
                         size_t most, size_t *out) __attribute__((warn_unused_result));
