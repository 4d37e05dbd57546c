/* LoRA files. Writing: kohya's or diffusers' names with the ss_* and modelspec.* metadata that loaders look at, in half
 * precision as is usual; exact values are kept in a training's state. SDXL modules keep diffusers' paths, which kohya's
 * and diffusers' loaders both accept. Layers that are convolutions in the base's files, 1x1 ones too, have factors of
 * four dimensions.
 * Reading: kohya's (also with SDXL's original block names), diffusers' of all years and PEFT's names. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/model.h"

enum { LORA_FACTORS_MAX = 16384 }; /* tensors; SDXL's widest file has 8,000 */

struct lora {
    size_t count;
    struct lora_delta *deltas; /* scale is alpha / rank: strength 1 */
    size_t skipped;            /* tensors of the file that belong to no module of the model */
    float *values;
    char *modules;
};

/* Finds the model's modules by their flattened names. ERR_INVALID when nothing fits. */
struct error lora_open(struct model *model, const char *path, struct lora **out) __attribute__((warn_unused_result));
void lora_destroy(struct lora *lora);

/* The change that parameters in training make: parameters->table_count / 2 deltas, borrowed. */
void lora_deltas(const struct parameters *parameters, float strength, struct lora_delta *deltas);

struct lora_facts { /* all of it goes into the metadata */
    const char *title, *trigger, *software;
    bool xl;
    const char *prediction_type;
    uint64_t seed;
    unsigned epoch, epochs, steps, steps_max, pictures, batch;
    double learning_rate, text_learning_rate;
    const char *rate_schedule;
    size_t resolution;
};

enum lora_format {
    LORA_KOHYA,     /* lora_unet_..._to_q.lora_down.weight, .lora_up.weight, .alpha */
    LORA_DIFFUSERS, /* unet.....to_q.lora_A.weight, .lora_B.weight (PEFT's), alpha multiplied in */
};
/* One file of several sets of parameters (UNet, text encoders) of equal rank. */
struct error lora_write(const char *path, const struct parameters *const *sets, size_t set_count,
                        const struct lora_facts *facts, enum lora_format format) __attribute__((warn_unused_result));
/* The same LoRA under the other names, in half precision, with the file's metadata. */
struct error lora_convert(struct model *model, const char *from, const char *to, enum lora_format format)
    __attribute__((warn_unused_result));
