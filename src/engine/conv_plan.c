#include "engine/conv_plan.h"

#include <string.h>

#include "engine/winograd.h"

#define PANEL 16
#define GROUP 12

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

size_t conv_padding(const struct conv *conv)
{
    return conv->kernel == 3 && !conv->pad_after_only ? 1 : 0;
}

static size_t out_size(const struct conv *conv, size_t size)
{
    if (conv->kernel == 1)
        return size;
    return (size + conv_padding(conv) + 1 - 3) / conv->stride + 1;
}

size_t conv_out_height(const struct conv *conv)
{
    return out_size(conv, conv->height);
}

size_t conv_out_width(const struct conv *conv)
{
    return out_size(conv, conv->width);
}

void conv_gather_forward(const struct conv *conv, struct conv_gather *gather)
{
    size_t height = conv_out_height(conv), width = conv_out_width(conv);
    *gather = (struct conv_gather){.grid_height = height,
                                   .grid_width = width,
                                   .source_height = conv->height,
                                   .source_width = conv->width,
                                   .source_channels = conv->in,
                                   .target_height = height,
                                   .target_width = width,
                                   .target_channels = conv->out,
                                   .source_step = conv->stride,
                                   .target_step = 1};
    int padding = (int)conv_padding(conv);
    for (size_t t = 0; t < (size_t)conv->kernel * conv->kernel; t++) {
        gather->dy[t] = (int)(t / conv->kernel) - padding;
        gather->dx[t] = (int)(t % conv->kernel) - padding;
        gather->weight[t] = t;
    }
    gather->taps = (size_t)conv->kernel * conv->kernel;
}

size_t conv_gathers_backward(const struct conv *conv)
{
    return (size_t)conv->stride * conv->stride;
}

/* Input pixel y got y = oy * stride + ky - padding, so it reads oy = (y + padding - ky) / stride where that is whole.
 */
static void gather_of_parity(const struct conv *conv, size_t index, struct conv_gather *gather)
{
    int stride = (int)conv->stride, padding = (int)conv_padding(conv), kernel = (int)conv->kernel;
    int py = (int)index / stride, px = (int)index % stride;
    *gather = (struct conv_gather){.grid_height = ceil_div(conv->height - (size_t)py, conv->stride),
                                   .grid_width = ceil_div(conv->width - (size_t)px, conv->stride),
                                   .source_height = conv_out_height(conv),
                                   .source_width = conv_out_width(conv),
                                   .source_channels = conv->out,
                                   .target_height = conv->height,
                                   .target_width = conv->width,
                                   .target_channels = conv->in,
                                   .source_step = 1,
                                   .target_step = conv->stride,
                                   .target_y = (size_t)py,
                                   .target_x = (size_t)px};
    for (int ky = 0; ky < kernel; ky++) {
        for (int kx = 0; kx < kernel; kx++) {
            int y = py + padding - ky, x = px + padding - kx;
            if (y % stride != 0 || x % stride != 0)
                continue;
            gather->dy[gather->taps] = y / stride;
            gather->dx[gather->taps] = x / stride;
            gather->weight[gather->taps++] = (size_t)ky * (size_t)kernel + (size_t)kx;
        }
    }
}

static size_t gather_floats(const struct conv_gather *gather)
{
    return ceil_div(gather->target_channels, PANEL) * PANEL * gather->taps * gather->source_channels;
}

void conv_gather_backward(const struct conv *conv, size_t index, struct conv_gather *gather)
{
    size_t offset = 0;
    for (size_t before = 0; before < index; before++) {
        gather_of_parity(conv, before, gather);
        offset += gather_floats(gather);
    }
    gather_of_parity(conv, index, gather);
    gather->packed_offset = offset;
}

bool conv_suits_winograd(const struct conv *conv)
{
    const size_t pairs_max = 640 * 640; /* 26 MB. Of more, SD 1.5 has few pixels: reading weights is the work there */
    return conv->kernel == 3 && conv->stride == 1 && !conv->pad_after_only && conv->in % PANEL == 0 &&
           conv->out % PANEL == 0 && conv->in * conv->out <= pairs_max;
}

size_t winograd_packed_floats(const struct conv *conv)
{
    return 16 * conv->in * conv->out;
}

/* G g for three numbers: rows of G are (1 0 0), (1 1 1) / 2, (1 -1 1) / 2, (0 0 1). */
static void transform_three(const float g[3], float out[4])
{
    out[0] = g[0];
    out[1] = 0.5f * (g[0] + g[2] + g[1]);
    out[2] = 0.5f * (g[0] + g[2] - g[1]);
    out[3] = g[2];
}

/* G g G^T of a kernel, turned by half a circle for the adjoint. */
static void transform_kernel(const float *kernel, bool turned, float out[16])
{
    float columns[3][4];
    for (size_t x = 0; x < 3; x++) {
        float g[3];
        for (size_t y = 0; y < 3; y++)
            g[y] = kernel[turned ? 8 - (3 * y + x) : 3 * y + x];
        transform_three(g, columns[x]);
    }
    for (size_t y = 0; y < 4; y++)
        transform_three((const float[3]){columns[0][y], columns[1][y], columns[2][y]}, out + 4 * y);
}

void winograd_pack(const struct conv *conv, const float *weights, bool backward, float *packed)
{
    size_t targets = backward ? conv->in : conv->out, sources = backward ? conv->out : conv->in;
    for (size_t target = 0; target < targets; target++) {
        for (size_t source = 0; source < sources; source++) {
            size_t out = backward ? source : target, in = backward ? target : source;
            float points[16];
            transform_kernel(weights + (out * conv->in + in) * 9, backward, points);
            float *to = packed + (target / PANEL * sources + source) * PANEL + target % PANEL;
            for (size_t point = 0; point < 16; point++)
                to[point * sources * targets] = points[point];
        }
    }
}

size_t conv_packed_floats(const struct conv *conv)
{
    if (conv->winograd)
        return winograd_packed_floats(conv);
    return ceil_div(conv->out, PANEL) * PANEL * conv->kernel * conv->kernel * conv->in;
}

size_t conv_packed_backward_floats(const struct conv *conv)
{
    if (conv->winograd)
        return winograd_packed_floats(conv);
    return ceil_div(conv->in, PANEL) * PANEL * conv->kernel * conv->kernel * conv->out;
}

void conv_pack(const struct conv *conv, const float *weights, float *packed)
{
    size_t taps = (size_t)conv->kernel * conv->kernel;
    if (conv->winograd) {
        winograd_pack(conv, weights, false, packed);
        return;
    }
    for (size_t panel = 0; panel < conv->out; panel += PANEL) {
        for (size_t t = 0; t < taps; t++) {
            for (size_t in = 0; in < conv->in; in++) {
                for (size_t j = 0; j < PANEL; j++)
                    *packed++ = panel + j < conv->out ? weights[((panel + j) * conv->in + in) * taps + t] : 0.0f;
            }
        }
    }
}

void conv_pack_backward(const struct conv *conv, const float *weights, float *packed)
{
    size_t all = (size_t)conv->kernel * conv->kernel;
    if (conv->winograd) {
        winograd_pack(conv, weights, true, packed);
        return;
    }
    for (size_t index = 0; index < conv_gathers_backward(conv); index++) {
        struct conv_gather gather;
        gather_of_parity(conv, index, &gather);
        for (size_t panel = 0; panel < conv->in; panel += PANEL) {
            for (size_t k = 0; k < gather.taps * conv->out; k++) {
                size_t t = gather.weight[k / conv->out], out = k % conv->out;
                for (size_t j = 0; j < PANEL; j++)
                    *packed++ = panel + j < conv->in ? weights[(out * conv->in + panel + j) * all + t] : 0.0f;
            }
        }
    }
}

size_t conv_padded_height(const struct conv *conv)
{
    return conv->kernel == 1 ? conv->height : (conv_out_height(conv) - 1) * conv->stride + 3;
}

size_t conv_padded_width(const struct conv *conv)
{
    return conv->kernel == 1 ? conv->width : (conv_out_width(conv) - 1) * conv->stride + 3;
}

size_t conv_padded_floats(const struct conv *conv)
{
    return ceil_div(conv->in, GROUP) * GROUP * conv->batch * conv_padded_height(conv) * conv_padded_width(conv);
}

size_t conv_workspace(const struct conv *conv)
{
    size_t pixels = conv->batch * conv_out_height(conv) * conv_out_width(conv);
    return conv_padded_floats(conv) + ceil_div(conv->out, PANEL) * PANEL * pixels;
}
