#include "engine/lora_merge.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "engine/lora_file.h"

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the LoRAs");
}

static struct error merge_opened(struct model *model, struct lora *const *loras, const struct lora_choice *choices,
                                 size_t count)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < count; i++)
        total += loras[i]->count;
    CLEANUP_FREE struct lora_delta *deltas = calloc(total + 1, sizeof *deltas);
    if (!deltas)
        return no_memory();
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < loras[i]->count; j++) {
            deltas[at] = loras[i]->deltas[j];
            deltas[at++].scale *= choices[i].scale;
        }
    }
    return model_merge(model, deltas, total);
}

struct error lora_merge(struct model *model, struct lora_choice *choices, size_t count)
{
    struct error error = OK;
    size_t opened = 0;
    if (!count)
        return OK;
    CLEANUP_FREE struct lora **loras = calloc(count, sizeof *loras);
    if (!loras)
        return no_memory();
    while (opened < count && !error.code) {
        error = lora_open(model, choices[opened].path, &loras[opened]);
        if (!error.code) {
            choices[opened].skipped = loras[opened]->skipped;
            opened++;
        }
    }
    if (!error.code)
        error = merge_opened(model, loras, choices, count);
    for (size_t i = 0; i < opened; i++)
        lora_destroy(loras[i]);
    return error;
}
