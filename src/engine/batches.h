/* The shapes that pictures are trained in, and which pictures make which batch of an epoch.
 *
 * Shapes are kohya's aspect buckets: widths from half to twice the base's side in steps that the UNet can halve, each
 * with the largest height that keeps the area, and the base's own square. A batch has pictures of one shape. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { BUCKETS_MAX = 256 };

struct bucket {
    size_t height, width; /* latent pixels */
};

/* The square of this side comes first; it is the only one unless all aspects are wanted. Returns how many there are. */
size_t buckets_make(size_t side, size_t step, bool all_aspects, struct bucket buckets[BUCKETS_MAX]);
/* The index of the bucket whose width to height is nearest to the picture's. */
size_t buckets_choose(const struct bucket *buckets, size_t count, size_t width, size_t height);

struct batches;

/* buckets[items] is each item's. An item comes `repeats` times an epoch, in an order drawn from (seed, epoch). */
struct error batches_create(const size_t *buckets, size_t items, unsigned repeats, unsigned batch_size, uint64_t seed,
                            struct batches **out) __attribute__((warn_unused_result));
void batches_destroy(struct batches *batches);
unsigned batches_count(const struct batches *batches); /* of an epoch; the last one of a bucket may be short */
/* The items of a batch: *count of them, valid until the next call. */
const uint32_t *batches_get(struct batches *batches, unsigned epoch, unsigned index, size_t *count);
