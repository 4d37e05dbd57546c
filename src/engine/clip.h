/* CLIPTextModel and CLIPTextModelWithProjection of transformers. */
#pragma once

#include "engine/graph.h"

enum { CLIP_LAYERS_MAX = 128, CLIP_WIDTH_MAX = 8192, CLIP_VOCABULARY_MAX = 1 << 20 };

struct clip {
    struct network *network;
    size_t vocabulary, width, hidden, layers, heads, positions; /* hidden: intermediate_size */
    size_t projection;                                          /* 0 without text_projection */
    enum activation activation;
    float epsilon;
    int32_t eos;
    bool legacy_eos; /* eos_token_id 2: files from before transformers 4.24; the pooled position is the largest id's */
    struct table *tokens, *places;
};

/* What a graph takes of a text encoder. */
struct clip_values {
    size_t batch, tokens;
    int32_t *ids;         /* [b, tokens]: clip_fill sets them */
    struct value *hidden; /* [b, tokens, 1, width] */
    struct value *pooled; /* [b, 1, 1, projection] or NULL */
    int32_t *ends;        /* [b], the pooled positions, likewise */
};

struct error clip_init(struct clip *clip, struct network *network, bool with_projection)
    __attribute__((warn_unused_result));
/* hidden is hidden_states[-from_end], 1 being the last layer's output; normalized: through final_layer_norm. */
struct clip_values clip_build(struct graph *graph, const struct clip *clip, size_t batch, size_t tokens,
                              size_t from_end, bool normalized, bool pooled);
/* Sets the ids [batch, tokens] of a run; ERR_INVALID for one outside the vocabulary. */
struct error clip_fill(const struct clip *clip, const int32_t *ids, const struct clip_values *values)
    __attribute__((warn_unused_result));
