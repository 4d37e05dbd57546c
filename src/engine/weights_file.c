#include "engine/weights_file.h"

#include <string.h>

#include "base/arena.h"
#include "engine/safetensors.h"

/* Layers that are 1x1 convolutions there and linear layers here: their files have four dimensions. */
static bool is_convolution(const char *module)
{
    static const char *const names[] = {"conv_shortcut", "proj_in", "proj_out", "quant_conv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t length = strlen(module), end = strlen(names[i]);
        if (length >= end && !strcmp(module + length - end, names[i]))
            return true;
    }
    return false;
}

static const uint16_t *to_half(struct arena *arena, const float *values, size_t count)
{
    uint16_t *halves = arena_array(arena, count, sizeof *halves);
    for (size_t i = 0; i < count; i++)
        halves[i] = half_from_float(values[i]);
    return halves;
}

static struct tensor to_tensor(struct arena *arena, const struct parameter *parameter, const float *values)
{
    bool weight = parameter->role == PARAMETER_WEIGHT;
    struct tensor tensor = {.name = arena_printf(arena, "%s.%s", parameter->module, weight ? "weight" : "bias"),
                            .type = TENSOR_F16,
                            .dimensions = parameter->dimensions,
                            .count = parameter->count,
                            .bytes = parameter->count * sizeof(uint16_t),
                            .data = to_half(arena, values + parameter->offset, parameter->count)};
    memcpy(tensor.shape, parameter->shape, parameter->dimensions * sizeof *tensor.shape);
    if (tensor.dimensions == 2 && is_convolution(parameter->module)) {
        tensor.dimensions = 4;
        tensor.shape[2] = tensor.shape[3] = 1;
    }
    return tensor;
}

struct error weights_file_write(const char *path, const struct parameters *parameters, enum component component,
                                const float *values)
{
    static const struct tensor_note note = {"format", "pt"};
    struct arena arena;
    size_t count = 0;
    arena_init(&arena, parameters->count * sizeof(uint16_t) + (parameters->table_count + 1) * 1024);
    struct tensor *tensors = arena_array(&arena, parameters->table_count, sizeof *tensors);
    for (size_t i = 0; i < parameters->table_count; i++) {
        if (parameters->table[i].component == component)
            tensors[count++] = to_tensor(&arena, &parameters->table[i], values);
    }
    struct error error = safetensors_write(path, tensors, count, &note, 1);
    arena_finish(&arena);
    return error;
}
