/* The weights of full training as a file of diffusers' or transformers' layout, in half precision. */
#pragma once

#include "base/error.h"
#include "engine/model.h"

/* values stand in for the parameters' own: [count], the same offsets. */
struct error weights_file_write(const char *path, const struct parameters *parameters, enum component component,
                                const float *values) __attribute__((warn_unused_result));
