/* 3x3 convolutions of stride 1 by F(2x2, 3x3) of Winograd (Lavin, Gray, arXiv 1509.09308): two by two outputs take 16
 * products a pair of channels instead of 36, at the price of sums before and after, and of 16 instead of 9 numbers kept
 * of each kernel. */
#pragma once

#include "engine/kernels.h"

/* Weights as [16][target_channels / 16][source_channels][16]. backward: those of the adjoint, out and in exchanged. */
size_t winograd_packed_floats(const struct conv *conv);
void winograd_pack(const struct conv *conv, const float *weights, bool backward, float *packed);

#ifdef KERNEL_SET
#include "engine/kernels_table.h"
/* target (+)= conv(source) + bias, of height x width pixels both; backward: the adjoint. */
void KERNEL(winograd)(struct pool *pool, const struct conv *conv, bool backward, const float *source,
                      const float *packed, const float *bias, bool accumulate, float *target);
#endif
