/* LoRA files. Writing: kohya's names (lora_unet_down_blocks_0_...lora_down.weight, .lora_up.weight, .alpha) with the
 * ss_* and modelspec.* metadata that loaders look at, in half precision as is usual; exact values are kept in a
 * training's state. SDXL modules keep diffusers' paths, which kohya's and diffusers' loaders both accept.
 * Reading: kohya's (also with SDXL's original block names), diffusers' (.lora.down.) and PEFT's (.lora_A.) names. */
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

/* One file of several sets of parameters (UNet, text encoders) of equal rank. */
struct error lora_write(const char *path, const struct parameters *const *sets, size_t set_count,
                        const struct lora_facts *facts) __attribute__((warn_unused_result));
