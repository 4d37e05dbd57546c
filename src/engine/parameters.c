/* The flat vectors of trained numbers, and their way into a model's weights. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/denoiser.h"
#include "engine/lora_file.h"
#include "engine/parameters.h"

enum { ARENA_MAX = 64 << 20 };

struct home { /* where full training's values go: one of the three */
    struct layer *layer;
    struct norm *norm;
    struct table *table;
};

struct owner { /* parameters and what they own */
    struct parameters parameters;
    struct parameter *table;
    struct home *homes; /* [table_count], full training */
    struct arena arena;
};

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && !strcmp(text + length - end_length, end) &&
           (length == end_length || text[length - end_length - 1] == '.');
}

static bool is_target(const char *name, bool text, enum training_targets targets)
{
    static const char *const unet_names[] = {"to_q",    "to_k",     "to_v",          "to_out.0",
                                             "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
                                             "conv1",   "conv2",    "conv_shortcut"};
    static const char *const text_names[] = {"q_proj", "k_proj", "v_proj", "out_proj", "mlp.fc1", "mlp.fc2"};
    const char *const *names = text ? text_names : unet_names;
    size_t wide = text ? 6 : 11, count = targets == TARGETS_ATTENTION ? 4 : wide;
    for (size_t i = 0; i < count; i++) {
        if (ends_with(name, names[i]))
            return true;
    }
    return false;
}

static void append(struct owner *owner, struct parameter parameter)
{
    parameter.count = 1;
    for (size_t i = 0; i < parameter.dimensions; i++)
        parameter.count *= parameter.shape[i];
    parameter.offset = owner->parameters.count;
    owner->parameters.count += parameter.count;
    owner->table[owner->parameters.table_count++] = parameter;
}

static void append_lora(struct owner *owner, enum component kind, const struct layer *layer)
{
    const struct conv *conv = &layer->conv;
    size_t rank = owner->parameters.rank, dimensions = layer->source->dimensions == 4 ? 4 : 2;
    append(owner, (struct parameter){.component = kind,
                                     .module = layer->name,
                                     .role = PARAMETER_LORA_A,
                                     .dimensions = dimensions,
                                     .shape = {rank, conv->in, conv->kernel, conv->kernel}});
    append(owner, (struct parameter){.component = kind,
                                     .module = layer->name,
                                     .role = PARAMETER_LORA_B,
                                     .dimensions = dimensions,
                                     .shape = {conv->out, rank, 1, 1}});
}

static void append_loras(struct owner *owner, const struct network *network, enum training_targets targets)
{
    for (const struct layer *layer = network->layers; layer; layer = layer->next) {
        if (is_target(layer->name, network->kind != COMPONENT_UNET, targets))
            append_lora(owner, network->kind, layer);
    }
}

/* A weight [shape] and, if there is one, a bias [shape[0]]. */
static void append_whole(struct owner *owner, struct parameter weight, bool bias, struct home home)
{
    owner->homes[owner->parameters.table_count] = home;
    weight.role = PARAMETER_WEIGHT;
    append(owner, weight);
    if (!bias)
        return;
    owner->homes[owner->parameters.table_count] = home;
    append(owner, (struct parameter){.component = weight.component,
                                     .module = weight.module,
                                     .role = PARAMETER_BIAS,
                                     .dimensions = 1,
                                     .shape = {weight.shape[0]}});
}

static void append_everything(struct owner *owner, struct network *network)
{
    struct parameter weight = {.component = network->kind};
    for (struct layer *layer = network->layers; layer; layer = layer->next) {
        const struct conv *conv = &layer->conv;
        weight.module = layer->name;
        weight.dimensions = conv->kernel == 1 ? 2 : 4;
        memcpy(weight.shape, (size_t[]){conv->out, conv->in, conv->kernel, conv->kernel}, sizeof weight.shape);
        append_whole(owner, weight, layer->bias, (struct home){.layer = layer});
    }
    for (struct norm *norm = network->norms; norm; norm = norm->next) {
        weight.module = norm->name;
        weight.dimensions = 1;
        weight.shape[0] = norm->channels;
        append_whole(owner, weight, true, (struct home){.norm = norm});
    }
    for (struct table *table = network->tables; table; table = table->next) {
        weight.module = table->name;
        weight.dimensions = 2;
        memcpy(weight.shape, (size_t[]){table->rows, table->channels}, 2 * sizeof(size_t));
        append_whole(owner, weight, false, (struct home){.table = table});
    }
}

static size_t count_entries(const struct model *model)
{
    size_t count = 0;
    for (int kind = 0; kind < COMPONENT_COUNT; kind++) {
        if (!model->networks[kind])
            continue;
        for (const struct layer *layer = model->networks[kind]->layers; layer; layer = layer->next)
            count += 2;
        for (const struct norm *norm = model->networks[kind]->norms; norm; norm = norm->next)
            count += 2;
        for (const struct table *table = model->networks[kind]->tables; table; table = table->next)
            count++;
    }
    return count;
}

static struct layer *find_layer(const struct model *model, enum component kind, const char *name)
{
    struct layer *layer = model->networks[kind] ? model->networks[kind]->layers : NULL;
    while (layer && layer->name != name && strcmp(layer->name, name))
        layer = layer->next;
    return layer;
}

/* Where a parameter other than a layer's weight lives in the model. */
static float *home_values(const struct home *home, enum parameter_role role)
{
    if (home->table)
        return home->table->values;
    if (home->norm)
        return role == PARAMETER_WEIGHT ? home->norm->gamma : home->norm->beta;
    return home->layer->bias;
}

static bool is_packed(const struct home *home, enum parameter_role role)
{
    return home->layer && role == PARAMETER_WEIGHT;
}

/* FULL: from the files into the vector. */
static struct error read_values(struct owner *owner)
{
    for (size_t i = 0; i < owner->parameters.table_count; i++) {
        const struct parameter *parameter = &owner->table[i];
        const struct home *home = &owner->homes[i];
        float *values = owner->parameters.values + parameter->offset;
        if (is_packed(home, parameter->role))
            TRY(layer_read(home->layer, values));
        else
            memcpy(values, home_values(home, parameter->role), parameter->count * sizeof *values);
    }
    return OK;
}

static struct error check_options(const struct parameter_options *options)
{
    if (options->targets != TARGETS_FULL && (!options->rank || options->rank > LORA_RANK_MAX))
        return error_make(ERR_INVALID, "the rank must be 1 to %d", LORA_RANK_MAX);
    if (options->vae && (options->unet || options->text || options->targets != TARGETS_FULL))
        return error_make(ERR_INVALID, "a VAE is trained in full and alone");
    if (!options->unet && !options->text && !options->vae)
        return error_make(ERR_INVALID, "there is nothing to train");
    return OK;
}

static struct error create(struct model *model, const struct parameter_options *options, struct owner *owner)
{
    struct parameters *parameters = &owner->parameters;
    bool full = options->targets == TARGETS_FULL;
    if (full && model->networks[COMPONENT_UNET]->half)
        return error_make(ERR_INVALID, "full training needs weights in single precision: maquette.json asks for bf16");
    owner->table = arena_array(&owner->arena, count_entries(model), sizeof *owner->table);
    owner->homes = full ? arena_array(&owner->arena, count_entries(model), sizeof *owner->homes) : NULL;
    parameters->table = owner->table;
    parameters->rank = full ? 0 : options->rank;
    parameters->alpha = options->alpha;
    for (int kind = 0; kind < COMPONENT_COUNT; kind++) {
        struct network *network = model->networks[kind];
        bool wanted = kind == COMPONENT_UNET ? options->unet : kind == COMPONENT_VAE ? options->vae : options->text;
        if (!network || !wanted)
            continue;
        if (full)
            append_everything(owner, network);
        else
            append_loras(owner, network, options->targets);
    }
    parameters->values = floats_create(parameters->count);
    parameters->gradients = floats_create(parameters->count);
    if (!parameters->values || !parameters->gradients)
        return error_make(ERR_INTERNAL, "out of memory");
    memset(parameters->values, 0, parameters->count * sizeof(float));
    memset(parameters->gradients, 0, parameters->count * sizeof(float));
    return full ? read_values(owner) : OK;
}

struct error parameters_create(struct model *model, const struct parameter_options *options, struct parameters **out)
{
    TRY(check_options(options));
    struct owner *owner = calloc(1, sizeof *owner);
    if (!owner)
        return error_make(ERR_INTERNAL, "out of memory");
    arena_init(&owner->arena, ARENA_MAX);
    struct error error = create(model, options, owner);
    if (error.code) {
        parameters_destroy(&owner->parameters);
        return error;
    }
    *out = &owner->parameters;
    return OK;
}

void parameters_destroy(struct parameters *parameters)
{
    if (!parameters)
        return;
    struct owner *owner = (struct owner *)parameters; /* its first member */
    free(parameters->values);
    free(parameters->gradients);
    arena_finish(&owner->arena);
    free(owner);
}

/* ---- into the weights ---- */

bool parameters_are_weights(const struct parameters *parameters)
{
    return parameters->rank == 0;
}

static void publish_one(void *context, size_t index, float *scratch)
{
    (void)scratch;
    const struct owner *owner = context;
    const struct parameter *parameter = &owner->table[index];
    const struct home *home = &owner->homes[index];
    const float *values = owner->parameters.values + parameter->offset;
    if (!is_packed(home, parameter->role)) {
        memcpy(home_values(home, parameter->role), values, parameter->count * sizeof *values);
        return;
    }
    conv_pack(&home->layer->conv, values, home->layer->packed);
    if (home->layer->packed_backward)
        conv_pack_backward(&home->layer->conv, values, home->layer->packed_backward);
}

void parameters_publish(struct model *model, const struct parameters *parameters)
{
    struct owner *owner = (struct owner *)(uintptr_t)parameters; /* its first member */
    pool_run(model->pool, parameters->table_count, publish_one, owner);
}

/* weights[out, in k k] += scale B[out, rank] A[rank, in k k] */
static void add_delta(struct pool *pool, const struct lora_delta *delta, float *weights)
{
    size_t columns = delta->in * delta->kernel * delta->kernel;
    gemm(pool, &(struct gemm){.m = delta->out,
                              .n = columns,
                              .k = delta->rank,
                              .a = delta->b,
                              .lda = delta->rank,
                              .b = delta->a,
                              .ldb = columns,
                              .c = weights,
                              .ldc = columns,
                              .alpha = delta->scale,
                              .beta = 1});
}

static struct error check_delta(const struct model *model, const struct lora_delta *delta)
{
    const struct layer *layer =
        delta->component < COMPONENT_COUNT ? find_layer(model, delta->component, delta->module) : NULL;
    if (!layer)
        return error_make(ERR_INVALID, "the LoRA changes %s, which the base model does not have", delta->module);
    const struct conv *conv = &layer->conv;
    if (conv->in != delta->in || conv->out != delta->out || conv->kernel != delta->kernel)
        return error_make(ERR_INVALID, "the LoRA was made for another base model: %s has other sizes", delta->module);
    if (!delta->rank || delta->rank > 4 * LORA_RANK_MAX)
        return error_make(ERR_INVALID, "the LoRA's rank at %s is not 1 to %d", delta->module, 4 * LORA_RANK_MAX);
    return OK;
}

/* From the file, so that merging twice or in another order leaves no trace. */
static struct error merge_layer(struct model *model, struct layer *layer, enum component kind,
                                const struct lora_delta *deltas, size_t count)
{
    CLEANUP_FREE float *weights = NULL;
    bool merged = false;
    for (size_t i = 0; i < count; i++) {
        if (deltas[i].component != kind || strcmp(deltas[i].module, layer->name))
            continue;
        if (!weights) {
            weights = floats_create(layer_weight_count(layer));
            if (!weights)
                return error_make(ERR_INTERNAL, "out of memory");
            TRY(layer_read(layer, weights));
        }
        add_delta(model->pool, &deltas[i], weights);
        merged = true;
    }
    return merged || layer->merged ? layer_merge(layer, weights) : OK;
}

struct error model_merge(struct model *model, const struct lora_delta *deltas, size_t count)
{
    for (size_t i = 0; i < count; i++)
        TRY(check_delta(model, &deltas[i]));
    for (int kind = 0; kind < COMPONENT_COUNT; kind++) {
        struct layer *layer = model->networks[kind] ? model->networks[kind]->layers : NULL;
        for (; layer; layer = layer->next)
            TRY(merge_layer(model, layer, (enum component)kind, deltas, count));
    }
    return OK;
}

struct error model_merge_parameters(struct model *model, const struct parameters *parameters, float strength)
{
    if (parameters_are_weights(parameters)) {
        parameters_publish(model, parameters);
        return OK;
    }
    CLEANUP_FREE struct lora_delta *deltas = calloc(parameters->table_count / 2 + 1, sizeof *deltas);
    if (!deltas)
        return error_make(ERR_INTERNAL, "out of memory");
    lora_deltas(parameters, strength, deltas);
    return model_merge(model, deltas, parameters->table_count / 2);
}
