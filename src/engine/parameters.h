/* What training needs of the flat vectors beside model.h. */
#pragma once

#include "engine/model.h"

/* Full training: the vector holds weights, not LoRAs. */
bool parameters_are_weights(const struct parameters *parameters);
/* Full training: copies the vector into the model's layers, packed for both passes. */
void parameters_publish(struct model *model, const struct parameters *parameters);
