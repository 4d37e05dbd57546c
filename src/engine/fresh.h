/* First values of a network that is trained from nothing. A tensor's values depend on the seed, its component and its
 * name alone. */
#pragma once

#include "engine/network.h"

enum fresh_kind {
    FRESH_ZEROS,   /* biases */
    FRESH_ONES,    /* gains of norms */
    FRESH_UNIFORM, /* layers: U(-1, 1) / sqrt(inputs) */
    FRESH_NORMAL,  /* embeddings: N(0, 0.02^2) */
};

/* In the network's arena. */
const struct tensor *fresh_tensor(struct network *network, const char *name, const size_t *shape, size_t dimensions,
                                  enum fresh_kind kind);
