#include "engine/fresh.h"

#include <math.h>

#include "engine/rng.h"

/* FNV-1a */
static uint32_t name_hash(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

static void draw(const struct rng *rng, enum fresh_kind kind, size_t inputs, size_t count, float *values)
{
    double bound = 1 / sqrt((double)inputs);
    if (kind == FRESH_NORMAL)
        rng_normal(rng, count, values);
    for (size_t i = 0; i < count; i++) {
        switch (kind) {
        case FRESH_ZEROS:
            values[i] = 0;
            break;
        case FRESH_ONES:
            values[i] = 1;
            break;
        case FRESH_UNIFORM:
            values[i] = (float)((2 * rng_uniform(rng, (uint32_t)i) - 1) * bound);
            break;
        case FRESH_NORMAL:
            values[i] *= 0.02f;
            break;
        }
    }
}

const struct tensor *fresh_tensor(struct network *network, const char *name, const size_t *shape, size_t dimensions,
                                  enum fresh_kind kind)
{
    const struct rng rng = {network->seed, RNG_FRESH, (uint32_t)network->kind, name_hash(name)};
    struct tensor *tensor = ARENA_NEW(&network->arena, struct tensor);
    *tensor = (struct tensor){.name = name, .type = TENSOR_F32, .dimensions = dimensions, .count = 1};
    for (size_t i = 0; i < dimensions; i++) {
        tensor->shape[i] = shape[i];
        tensor->count *= shape[i];
    }
    tensor->bytes = tensor->count * sizeof(float);
    float *values = arena_alloc(&network->arena, tensor->bytes);
    draw(&rng, kind, tensor->count / shape[0], tensor->count, values);
    tensor->data = values;
    return tensor;
}
