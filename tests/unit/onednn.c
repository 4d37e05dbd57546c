#include "onednn.h"

#include <dnnl.h>
#include <stdlib.h>

struct pass {
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_memory_t source, weights, bias, target;
};

struct onednn_conv {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct pass passes[3];
    dnnl_memory_desc_t plain_weights;
    float *y, *dx, *dw;
    void *blocked[3]; /* weights in the order each pass likes */
};

static dnnl_memory_t wrap(struct onednn_conv *c, const dnnl_memory_desc_t *description, void *data)
{
    dnnl_memory_t memory = NULL;
    dnnl_memory_create(&memory, description, c->engine, data);
    return memory;
}

static void reorder(struct onednn_conv *c, const dnnl_memory_desc_t *from, void *from_data,
                    const dnnl_memory_desc_t *to, void *to_data)
{
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_reorder_primitive_desc_create(&description, from, c->engine, to, c->engine, NULL);
    dnnl_primitive_create(&primitive, description);
    dnnl_memory_t source = wrap(c, from, from_data), target = wrap(c, to, to_data);
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
    dnnl_primitive_execute(primitive, c->stream, 2, arguments);
    dnnl_stream_wait(c->stream);
    dnnl_memory_destroy(source);
    dnnl_memory_destroy(target);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(description);
}

static bool describe(struct onednn_conv *c, const struct conv *conv, const dnnl_memory_desc_t md[3],
                     const dnnl_memory_desc_t *bias)
{
    dnnl_dim_t before = conv->kernel == 3 && !conv->pad_after_only, after = conv->kernel == 3;
    dnnl_dims_t strides = {conv->stride, conv->stride}, low = {before, before}, high = {after, after};
    dnnl_convolution_desc_t d[3];
    dnnl_convolution_forward_desc_init(&d[0], dnnl_forward_training, dnnl_convolution_direct, &md[0], &md[1], bias,
                                       &md[2], strides, low, high);
    dnnl_convolution_backward_data_desc_init(&d[1], dnnl_convolution_direct, &md[0], &md[1], &md[2], strides, low,
                                             high);
    dnnl_convolution_backward_weights_desc_init(&d[2], dnnl_convolution_direct, &md[0], &md[1], NULL, &md[2], strides,
                                                low, high);
    for (int i = 0; i < 3; i++) {
        dnnl_primitive_desc_t hint = i ? c->passes[0].description : NULL;
        if (dnnl_primitive_desc_create(&c->passes[i].description, &d[i], NULL, c->engine, hint) != dnnl_success ||
            dnnl_primitive_create(&c->passes[i].primitive, c->passes[i].description) != dnnl_success)
            return false;
    }
    return true;
}

static void attach(struct onednn_conv *c, const dnnl_memory_desc_t md[3], const dnnl_memory_desc_t *bias_md, float *x,
                   float *weights, float *bias, float *dy)
{
    float *sources[3] = {x, c->dx, x}, *targets[3] = {c->y, dy, dy};
    static const dnnl_query_t query[3] = {dnnl_query_weights_md, dnnl_query_weights_md, dnnl_query_diff_weights_md};
    for (int i = 0; i < 3; i++) {
        struct pass *pass = &c->passes[i];
        const dnnl_memory_desc_t *blocked = dnnl_primitive_desc_query_md(pass->description, query[i], 0);
        c->blocked[i] = calloc(1, dnnl_memory_desc_get_size(blocked));
        if (i < 2)
            reorder(c, &c->plain_weights, weights, blocked, c->blocked[i]);
        pass->weights = wrap(c, blocked, c->blocked[i]);
        pass->source = wrap(c, &md[0], sources[i]);
        pass->target = wrap(c, &md[2], targets[i]);
        pass->bias = i == 0 ? wrap(c, bias_md, bias) : NULL;
    }
}

struct onednn_conv *onednn_conv_create(const struct conv *conv, float *x, float *weights, float *bias, float *dy)
{
    struct onednn_conv *c = calloc(1, sizeof *c);
    dnnl_engine_create(&c->engine, dnnl_cpu, 0);
    dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags);
    dnnl_dim_t n = (dnnl_dim_t)conv->batch, in = (dnnl_dim_t)conv->in, out = (dnnl_dim_t)conv->out, k = conv->kernel;
    dnnl_dim_t oh = (dnnl_dim_t)conv_out_height(conv), ow = (dnnl_dim_t)conv_out_width(conv);
    dnnl_dims_t x_dims = {n, in, (dnnl_dim_t)conv->height, (dnnl_dim_t)conv->width}, y_dims = {n, out, oh, ow};
    dnnl_dims_t w_dims = {out, in, k, k}, b_dims = {out};
    dnnl_memory_desc_t md[3], bias_md;
    dnnl_memory_desc_init_by_tag(&md[0], 4, x_dims, dnnl_f32, dnnl_nhwc);
    dnnl_memory_desc_init_by_tag(&md[1], 4, w_dims, dnnl_f32, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&md[2], 4, y_dims, dnnl_f32, dnnl_nhwc);
    dnnl_memory_desc_init_by_tag(&bias_md, 1, b_dims, dnnl_f32, dnnl_x);
    dnnl_memory_desc_init_by_tag(&c->plain_weights, 4, w_dims, dnnl_f32, dnnl_oihw);
    c->y = calloc((size_t)(n * out * oh * ow), sizeof(float));
    c->dx = calloc(conv->batch * conv->in * conv->height * conv->width, sizeof(float));
    c->dw = calloc((size_t)(out * in * k * k), sizeof(float));
    if (!describe(c, conv, md, &bias_md)) {
        onednn_conv_destroy(c);
        return NULL;
    }
    attach(c, md, &bias_md, x, weights, bias, dy);
    return c;
}

void onednn_conv_destroy(struct onednn_conv *c)
{
    for (int i = 0; i < 3; i++) {
        struct pass *pass = &c->passes[i];
        dnnl_memory_destroy(pass->source);
        dnnl_memory_destroy(pass->weights);
        dnnl_memory_destroy(pass->target);
        dnnl_memory_destroy(pass->bias);
        dnnl_primitive_destroy(pass->primitive);
        dnnl_primitive_desc_destroy(pass->description);
        free(c->blocked[i]);
    }
    dnnl_stream_destroy(c->stream);
    dnnl_engine_destroy(c->engine);
    free(c->y);
    free(c->dx);
    free(c->dw);
    free(c);
}

void onednn_conv_run(struct onednn_conv *c, enum onednn_pass which)
{
    struct pass *pass = &c->passes[which];
    static const int roles[3][3] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                                    {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                                    {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    const int *role = roles[which];
    dnnl_exec_arg_t arguments[] = {
        {role[0], pass->source}, {role[1], pass->weights}, {role[2], pass->target}, {DNNL_ARG_BIAS, pass->bias}};
    dnnl_primitive_execute(pass->primitive, c->stream, which == ONEDNN_FORWARD ? 4 : 3, arguments);
    dnnl_stream_wait(c->stream);
}

const float *onednn_conv_forward(struct onednn_conv *c)
{
    onednn_conv_run(c, ONEDNN_FORWARD);
    return c->y;
}

const float *onednn_conv_backward_data(struct onednn_conv *c)
{
    onednn_conv_run(c, ONEDNN_BACKWARD_DATA);
    return c->dx;
}

const float *onednn_conv_backward_weights(struct onednn_conv *c)
{
    onednn_conv_run(c, ONEDNN_BACKWARD_WEIGHTS);
    const dnnl_memory_desc_t *blocked =
        dnnl_primitive_desc_query_md(c->passes[2].description, dnnl_query_diff_weights_md, 0);
    reorder(c, blocked, c->blocked[2], &c->plain_weights, c->dw);
    return c->dw;
}
