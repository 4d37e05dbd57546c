#include "engine/rng.h"

#include <math.h>

#include "engine/mathd.h"

static const double word_step = 1.0 / 4294967296.0;

static void philox_round(uint32_t counter[4], const uint32_t key[2])
{
    uint64_t product_0 = (uint64_t)0xD2511F53 * counter[0], product_1 = (uint64_t)0xCD9E8D57 * counter[2];
    uint32_t next[4] = {
        (uint32_t)(product_1 >> 32) ^ counter[1] ^ key[0],
        (uint32_t)product_1,
        (uint32_t)(product_0 >> 32) ^ counter[3] ^ key[1],
        (uint32_t)product_0,
    };
    for (int i = 0; i < 4; i++)
        counter[i] = next[i];
}

void rng_block(const struct rng *rng, uint32_t block, uint32_t words[4])
{
    enum { rounds = 10 };
    uint32_t key[2] = {(uint32_t)rng->seed, (uint32_t)(rng->seed >> 32)};
    words[0] = block;
    words[1] = rng->index;
    words[2] = rng->step;
    words[3] = rng->purpose;
    for (int i = 0; i < rounds; i++) {
        philox_round(words, key);
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
}

static void normal_pair(uint32_t first, uint32_t second, double pair[2])
{
    double radius = sqrt(-2 * mathd_log((first + 0.5) * word_step)); /* never log 0 */
    pair[0] = radius * mathd_cos_turn(second * word_step);
    pair[1] = radius * mathd_sin_turn(second * word_step);
}

void rng_normal(const struct rng *rng, size_t count, float *values)
{
    for (size_t at = 0; at < count; at += 4) {
        uint32_t words[4];
        double four[4];
        rng_block(rng, (uint32_t)(at / 4), words);
        normal_pair(words[0], words[1], four);
        normal_pair(words[2], words[3], four + 2);
        for (size_t i = 0; i < 4 && at + i < count; i++)
            values[at + i] = (float)four[i];
    }
}

double rng_uniform(const struct rng *rng, uint32_t place)
{
    uint32_t words[4];
    rng_block(rng, place / 4, words);
    return words[place % 4] * word_step;
}

/* The bias of scaling 32 bits to a bound below 2^20 is under 2^-12 of a chance in a million: no rejection is needed. */
uint32_t rng_below(const struct rng *rng, uint32_t place, uint32_t bound)
{
    uint32_t words[4];
    rng_block(rng, place / 4, words);
    return (uint32_t)((uint64_t)words[place % 4] * bound >> 32);
}

void rng_shuffle(const struct rng *rng, uint32_t count, uint32_t *items)
{
    for (uint32_t left = count; left > 1; left--) {
        uint32_t chosen = rng_below(rng, left, left);
        uint32_t kept = items[left - 1];
        items[left - 1] = items[chosen];
        items[chosen] = kept;
    }
}
