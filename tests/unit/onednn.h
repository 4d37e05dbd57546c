/* A convolution by oneDNN (API of version 2): the oracle of tests and the yardstick of benchmarks, never in the server.
 */
#pragma once

#include "engine/kernels.h"

struct onednn_conv;

/* Arrays as in engine/kernels.h: x, dy NHWC, weights [out, in, k, k]. NULL when oneDNN refuses. */
struct onednn_conv *onednn_conv_create(const struct conv *conv, float *x, float *weights, float *bias, float *dy);
void onednn_conv_destroy(struct onednn_conv *conv);

/* Results belong to the object; weight gradients come back in oneDNN's own order reordered to [out, in, k, k]. */
const float *onednn_conv_forward(struct onednn_conv *conv);
const float *onednn_conv_backward_data(struct onednn_conv *conv);
const float *onednn_conv_backward_weights(struct onednn_conv *conv);

enum onednn_pass { ONEDNN_FORWARD, ONEDNN_BACKWARD_DATA, ONEDNN_BACKWARD_WEIGHTS };
void onednn_conv_run(struct onednn_conv *conv, enum onednn_pass pass); /* only the primitive, for timing */
