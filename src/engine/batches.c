#include "engine/batches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/rng.h"

enum { BATCH_ORDER = 1 }; /* index of the draws that put batches in order; 0 puts items in order */

/* ---- shapes ---- */

static void add_bucket(struct bucket *buckets, size_t *count, size_t height, size_t width)
{
    for (size_t i = 0; i < *count; i++) {
        if (buckets[i].height == height && buckets[i].width == width)
            return;
    }
    if (*count < BUCKETS_MAX)
        buckets[(*count)++] = (struct bucket){height, width};
}

size_t buckets_make(size_t side, size_t step, bool all_aspects, struct bucket buckets[BUCKETS_MAX])
{
    size_t count = 0, least = (side / 2 + step - 1) / step * step, most = 2 * side;
    add_bucket(buckets, &count, side, side);
    for (size_t width = least; all_aspects && width && width <= most; width += step) {
        size_t height = side * side / width / step * step;
        height = height < most ? height : most / step * step;
        if (height < least)
            continue;
        add_bucket(buckets, &count, height, width);
        add_bucket(buckets, &count, width, height);
    }
    return count;
}

size_t buckets_choose(const struct bucket *buckets, size_t count, size_t width, size_t height)
{
    size_t best = 0;
    double least = INFINITY, wanted = (double)width / (double)height;
    for (size_t i = 0; i < count; i++) {
        double away = fabs((double)buckets[i].width / (double)buckets[i].height - wanted);
        if (away < least) {
            least = away;
            best = i;
        }
    }
    return best;
}

/* ---- the batches of an epoch ---- */

struct span {
    size_t first, count; /* in cards */
};

struct batches {
    size_t items, card_count, batch_size, bucket_count;
    unsigned batch_count, epoch;
    uint64_t seed;
    size_t *buckets;
    uint32_t *drawn, *cards; /* [card_count] an item for each of its repeats: as drawn, and bucket by bucket */
    struct span *spans;      /* [batch_count] */
    uint32_t *order;         /* [batch_count] of spans */
};

static size_t count_of(const struct batches *batches, size_t bucket, unsigned repeats)
{
    size_t count = 0;
    for (size_t i = 0; i < batches->items; i++)
        count += batches->buckets[i] == bucket ? repeats : 0;
    return count;
}

/* The batches of each bucket lie behind one another in cards, the same in every epoch. */
static void lay_out(struct batches *batches, unsigned repeats)
{
    size_t first = 0;
    for (size_t bucket = 0; bucket < batches->bucket_count; bucket++) {
        size_t left = count_of(batches, bucket, repeats);
        while (left) {
            size_t count = left < batches->batch_size ? left : batches->batch_size;
            batches->spans[batches->batch_count++] = (struct span){first, count};
            first += count;
            left -= count;
        }
    }
}

struct error batches_create(const size_t *buckets, size_t items, unsigned repeats, unsigned batch_size, uint64_t seed,
                            struct batches **out)
{
    struct batches *batches = calloc(1, sizeof *batches);
    if (!batches)
        return error_make(ERR_INTERNAL, "not enough memory for the order of pictures");
    size_t cards = items * repeats;
    *batches = (struct batches){.items = items,
                                .card_count = cards,
                                .batch_size = batch_size,
                                .epoch = UINT32_MAX,
                                .seed = seed,
                                .buckets = malloc(items * sizeof *buckets),
                                .drawn = malloc(cards * sizeof(uint32_t)),
                                .cards = malloc(cards * sizeof(uint32_t)),
                                .spans = malloc(cards * sizeof(struct span)),
                                .order = malloc(cards * sizeof(uint32_t))};
    if (!batches->buckets || !batches->drawn || !batches->cards || !batches->spans || !batches->order) {
        batches_destroy(batches);
        return error_make(ERR_INTERNAL, "not enough memory for the order of pictures");
    }
    memcpy(batches->buckets, buckets, items * sizeof *buckets);
    for (size_t i = 0; i < items; i++)
        batches->bucket_count = buckets[i] >= batches->bucket_count ? buckets[i] + 1 : batches->bucket_count;
    lay_out(batches, repeats);
    *out = batches;
    return OK;
}

void batches_destroy(struct batches *batches)
{
    if (!batches)
        return;
    free(batches->buckets);
    free(batches->drawn);
    free(batches->cards);
    free(batches->spans);
    free(batches->order);
    free(batches);
}

unsigned batches_count(const struct batches *batches)
{
    return batches->batch_count;
}

static void shuffle(struct batches *batches, unsigned epoch)
{
    struct rng rng = {.seed = batches->seed, .purpose = RNG_ORDER, .step = epoch};
    size_t at = 0;
    for (size_t i = 0; i < batches->card_count; i++)
        batches->drawn[i] = (uint32_t)(i % batches->items);
    rng_shuffle(&rng, (uint32_t)batches->card_count, batches->drawn);
    for (size_t bucket = 0; bucket < batches->bucket_count; bucket++) {
        for (size_t i = 0; i < batches->card_count; i++) {
            if (batches->buckets[batches->drawn[i]] == bucket)
                batches->cards[at++] = batches->drawn[i];
        }
    }
    for (unsigned i = 0; i < batches->batch_count; i++)
        batches->order[i] = i;
    rng.index = BATCH_ORDER;
    if (batches->bucket_count > 1)
        rng_shuffle(&rng, batches->batch_count, batches->order);
    batches->epoch = epoch;
}

const uint32_t *batches_get(struct batches *batches, unsigned epoch, unsigned index, size_t *count)
{
    if (batches->epoch != epoch)
        shuffle(batches, epoch);
    const struct span *span = &batches->spans[batches->order[index]];
    *count = span->count;
    return batches->cards + span->first;
}
