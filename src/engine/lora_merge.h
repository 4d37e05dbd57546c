/* LoRA files put into a model for drawing, each as strongly as asked. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "engine/model.h"

struct lora_choice {
    const char *path;
    float scale;
    size_t skipped; /* set: tensors of the file that belong to no module of the model */
};

/* The weights become those of the model's files plus all of these. Errors name the file. */
struct error lora_merge(struct model *model, struct lora_choice *choices, size_t count)
    __attribute__((warn_unused_result));
