/* What a convolution reads for each pixel it writes: the part of the convolutions that no CPU changes. */
#pragma once

#include "engine/kernels.h"

/* Target pixel (j * target_step + target_y, i * target_step + target_x) is the sum over taps of source pixel
 * (j * source_step + dy[t], i * source_step + dx[t]), zero outside, times the weights of tap t, for j, i in the grid.
 * Forward is one such gather; backward data is one for each parity of the stride. */
struct conv_gather {
    size_t grid_height, grid_width;
    size_t source_height, source_width, source_channels;
    size_t target_height, target_width, target_channels;
    size_t source_step, target_step, target_y, target_x;
    size_t taps;
    int dy[9], dx[9];
    size_t weight[9];     /* tap's place in [k, k] */
    size_t packed_offset; /* of this gather's panels [target_channels / 16][taps * source_channels][16] */
};

size_t conv_padding(const struct conv *conv); /* on top and left */
void conv_gather_forward(const struct conv *conv, struct conv_gather *gather);
size_t conv_gathers_backward(const struct conv *conv); /* 1 or 4 */
void conv_gather_backward(const struct conv *conv, size_t index, struct conv_gather *gather);

/* Of conv_backward_weights: the input padded, in groups of 12 channels, and dy in panels of 16. */
size_t conv_padded_height(const struct conv *conv);
size_t conv_padded_width(const struct conv *conv);
size_t conv_padded_floats(const struct conv *conv);
