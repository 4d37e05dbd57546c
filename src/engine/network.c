#include "engine/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "engine/fresh.h"

enum {
    CONFIG_BYTES_MAX = 1 << 20, /* real ones are 2 KB */
    INDEX_BYTES_MAX = 4 << 20,  /* names of all tensors */
    ARENA_MAX = 256 << 20,
};

float *floats_create(size_t count)
{
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

/* ---- files ---- */

static struct error open_file(struct network *network, const char *path)
{
    if (network->file_count == NETWORK_FILES_MAX)
        return error_make(ERR_TOO_LARGE, "%s has more than %d weight files", network->label, NETWORK_FILES_MAX);
    TRY(safetensors_open(path, &network->files[network->file_count]));
    network->file_count++;
    return OK;
}

static bool seen_before(const struct json *map, const struct json *item)
{
    for (const struct json *other = map->first; other != item; other = other->next) {
        if (!strcmp(other->text, item->text))
            return true;
    }
    return false;
}

static struct error open_shards(struct network *network, const char *folder, const char *index_path)
{
    const struct json *index;
    TRY(json_read_file(&network->arena, index_path, INDEX_BYTES_MAX, &index));
    const struct json *map = json_get(index, "weight_map");
    JSON_EACH (item, map) {
        if (item->kind != JSON_STRING || strchr(item->text, '/'))
            return error_make(ERR_CORRUPT, "%s: weight_map does not name files of its folder", index_path);
        if (!seen_before(map, item))
            TRY(open_file(network, arena_printf(&network->arena, "%s/%s", folder, item->text)));
    }
    return OK;
}

static struct error open_weights(struct network *network, const char *folder, const char *stem)
{
    static const char *const variants[] = {"", ".fp16", ".bf16"};
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const char *path = arena_printf(&network->arena, "%s/%s%s.safetensors", folder, stem, variants[i]);
        if (fs_exists(path))
            return open_file(network, path);
        const char *index = arena_printf(&network->arena, "%s/%s.safetensors.index%s.json", folder, stem, variants[i]);
        if (fs_exists(index))
            return open_shards(network, folder, index);
    }
    return error_make(ERR_NOT_FOUND, "%s/%s.safetensors does not exist; weights in other formats must be converted",
                      folder, stem);
}

struct error network_open(const char *folder, const char *stem, enum component kind, const uint64_t *fresh_seed,
                          struct network **out)
{
    struct network *network = calloc(1, sizeof *network);
    if (!network)
        return error_make(ERR_INTERNAL, "out of memory");
    arena_init(&network->arena, ARENA_MAX);
    network->kind = kind;
    network->label = arena_strdup(&network->arena, folder);
    network->last_layer = &network->layers;
    network->last_norm = &network->norms;
    network->direct = fresh_seed != NULL;
    const char *config = arena_printf(&network->arena, "%s/config.json", folder);
    struct error error = json_read_file(&network->arena, config, CONFIG_BYTES_MAX, &network->config);
    if (!error.code)
        error = open_weights(network, folder, stem);
    if (error.code == ERR_NOT_FOUND && network->config && fresh_seed) {
        network->fresh = true;
        network->seed = *fresh_seed;
        error = OK;
    }
    if (error.code) {
        network_close(network);
        return error;
    }
    *out = network;
    return OK;
}

void network_close(struct network *network)
{
    if (!network)
        return;
    for (struct layer *layer = network->layers; layer; layer = layer->next) {
        free(layer->bias);
        free(layer->packed);
        free(layer->packed_backward);
        free(layer->half);
        free(layer->half_backward);
    }
    for (struct norm *norm = network->norms; norm; norm = norm->next) {
        free(norm->gamma);
        free(norm->beta);
    }
    for (struct table *table = network->tables; table; table = table->next)
        free(table->values);
    for (size_t i = 0; i < network->file_count; i++)
        safetensors_close(network->files[i]);
    arena_finish(&network->arena);
    free(network);
}

/* ---- tensors ---- */

static const struct tensor *find_exactly(const struct network *network, const char *name)
{
    const struct tensor *tensor = NULL;
    for (size_t i = 0; i < network->file_count && !tensor; i++)
        tensor = safetensors_find(network->files[i], name);
    return tensor;
}

const struct tensor *network_find(const struct network *network, const char *module, const char *leaf)
{
    char name[SAFETENSORS_NAME_MAX];
    snprintf(name, sizeof name, "%s.%s", module, leaf);
    const struct tensor *tensor = find_exactly(network, name);
    for (size_t i = 0; !tensor && network->aliases && network->aliases[i][0]; i++) {
        const char *part = strstr(name, network->aliases[i][0]);
        if (!part)
            continue;
        char old_name[2 * SAFETENSORS_NAME_MAX];
        snprintf(old_name, sizeof old_name, "%.*s%s%s", (int)(part - name), name, network->aliases[i][1],
                 part + strlen(network->aliases[i][0]));
        tensor = find_exactly(network, old_name);
    }
    return tensor;
}

/* Trailing dimensions of 1 do not matter: a 1x1 convolution is a linear layer. */
static bool has_shape(const struct tensor *tensor, const size_t *shape, size_t dimensions)
{
    for (size_t i = 0; i < tensor->dimensions || i < dimensions; i++) {
        if ((i < tensor->dimensions ? tensor->shape[i] : 1) != (i < dimensions ? shape[i] : 1))
            return false;
    }
    return true;
}

static struct error find_checked(struct network *network, const char *module, const char *leaf, const size_t *shape,
                                 size_t dimensions, enum fresh_kind kind, const struct tensor **out)
{
    if (network->fresh) {
        *out = fresh_tensor(network, arena_printf(&network->arena, "%s.%s", module, leaf), shape, dimensions, kind);
        return OK;
    }
    const struct tensor *tensor = network_find(network, module, leaf);
    if (!tensor)
        return error_make(ERR_CORRUPT, "%s has no tensor %s.%s, which its config.json asks for", network->label, module,
                          leaf);
    if (!has_shape(tensor, shape, dimensions))
        return error_make(ERR_CORRUPT, "%s: tensor %s.%s has not the shape that config.json asks for", network->label,
                          module, leaf);
    *out = tensor;
    return OK;
}

static struct error read_floats(struct network *network, const struct tensor *tensor, float **out)
{
    float *values = floats_create(tensor->count);
    if (!values)
        return error_make(ERR_INTERNAL, "out of memory");
    struct error error = tensor_read(tensor, values);
    if (error.code) {
        free(values);
        return error;
    }
    network->parameters += tensor->count;
    network->weight_bytes += tensor->count * sizeof *values;
    *out = values;
    return OK;
}

size_t layer_weight_count(const struct layer *layer)
{
    return layer->conv.out * layer->conv.in * layer->conv.kernel * layer->conv.kernel;
}

struct error layer_read(const struct layer *layer, float *weights)
{
    return tensor_read(layer->source, weights);
}

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "out of memory for the base model's weights");
}

/* What is in a file can be read again. */
static void forget(const struct network *network, const struct layer *layer)
{
    if (!network->fresh)
        tensor_forget(layer->source);
}

/* Takes packed floats over: as they are, or rounded to half their size. */
static struct error keep(struct network *network, float *packed, size_t count, float **floats, uint16_t **halves)
{
    network->weight_bytes += count * (network->half ? sizeof **halves : sizeof **floats);
    if (!network->half) {
        *floats = packed;
        return OK;
    }
    *halves = malloc(count * sizeof **halves);
    for (size_t i = 0; *halves && i < count; i++)
        (*halves)[i] = bfloat_from_float(packed[i]);
    free(packed);
    return *halves ? OK : no_memory();
}

static struct error pack(struct network *network, struct layer *layer)
{
    size_t count = conv_packed_floats(&layer->conv);
    CLEANUP_FREE float *weights = floats_create(layer_weight_count(layer));
    float *packed = floats_create(count);
    struct error error = weights && packed ? layer_read(layer, weights) : no_memory();
    if (error.code) {
        free(packed);
        return error;
    }
    network->parameters += layer_weight_count(layer);
    conv_pack(&layer->conv, weights, packed);
    forget(network, layer);
    return keep(network, packed, count, &layer->packed, &layer->half);
}

struct error layer_pack_backward(struct network *network, struct layer *layer)
{
    size_t count = conv_packed_backward_floats(&layer->conv);
    if (layer->packed_backward || layer->half_backward)
        return OK;
    CLEANUP_FREE float *weights = floats_create(layer_weight_count(layer));
    float *packed = floats_create(count);
    struct error error = weights && packed ? layer_read(layer, weights) : no_memory();
    if (error.code) {
        free(packed);
        return error;
    }
    conv_pack_backward(&layer->conv, weights, packed);
    forget(network, layer);
    return keep(network, packed, count, &layer->packed_backward, &layer->half_backward);
}

size_t layer_bytes_to_pack_backward(const struct layer *layer)
{
    if (layer->packed_backward || layer->half_backward)
        return 0;
    return conv_packed_backward_floats(&layer->conv) * (layer->half ? sizeof(uint16_t) : sizeof(float));
}

const float *layer_weights(struct pool *pool, const struct layer *layer, float *workspace)
{
    if (layer->packed)
        return layer->packed;
    unpack_bfloats(pool, conv_packed_floats(&layer->conv), layer->half, workspace);
    return workspace;
}

const float *layer_weights_backward(struct pool *pool, const struct layer *layer, float *workspace)
{
    if (layer->packed_backward)
        return layer->packed_backward;
    unpack_bfloats(pool, conv_packed_backward_floats(&layer->conv), layer->half_backward, workspace);
    return workspace;
}

size_t layer_workspace(const struct layer *layer)
{
    size_t forward = conv_packed_floats(&layer->conv), backward = conv_packed_backward_floats(&layer->conv);
    return !layer->half ? 0 : forward > backward ? forward : backward;
}

struct error layer_merge(struct layer *layer, const float *weights)
{
    CLEANUP_FREE float *own = NULL;
    layer->merged = weights != NULL;
    if (!weights && layer->half) {
        free(layer->packed);
        layer->packed = NULL;
        return OK;
    }
    if (!weights) {
        own = floats_create(layer_weight_count(layer));
        if (!own)
            return no_memory();
        TRY(layer_read(layer, own));
        weights = own;
    }
    if (!layer->packed) /* in full: a change may be too small for a half */
        layer->packed = floats_create(conv_packed_floats(&layer->conv));
    if (!layer->packed)
        return no_memory();
    conv_pack(&layer->conv, weights, layer->packed);
    return OK;
}

static bool same_conv(const struct conv *a, const struct conv *b)
{
    return a->in == b->in && a->out == b->out && a->kernel == b->kernel && a->stride == b->stride &&
           a->pad_after_only == b->pad_after_only;
}

struct error network_layer(struct network *network, const char *name, const struct conv *conv, bool needs_bias,
                           struct layer **out)
{
    for (struct layer *layer = network->layers; layer; layer = layer->next) {
        if (!strcmp(layer->name, name) && same_conv(&layer->conv, conv)) {
            *out = layer;
            return OK;
        }
    }
    struct layer *layer = ARENA_NEW(&network->arena, struct layer);
    const size_t shape[4] = {conv->out, conv->in, conv->kernel, conv->kernel};
    const struct tensor *bias = network_find(network, name, "bias");
    TRY(find_checked(network, name, "weight", shape, 4, FRESH_UNIFORM, &layer->source));
    if (needs_bias || bias)
        TRY(find_checked(network, name, "bias", shape, 1, FRESH_ZEROS, &bias));
    layer->name = arena_strdup(&network->arena, name);
    layer->conv = *conv;
    layer->conv.batch = 1;
    layer->conv.height = layer->conv.width = 8;
    layer->conv.winograd = !network->direct && !network->half && conv_suits_winograd(conv);
    *network->last_layer = layer;
    network->last_layer = &layer->next;
    if (bias)
        TRY(read_floats(network, bias, &layer->bias));
    TRY(pack(network, layer));
    *out = layer;
    return OK;
}

struct error network_norm(struct network *network, const char *name, size_t channels, struct norm **out)
{
    for (struct norm *norm = network->norms; norm; norm = norm->next) {
        if (!strcmp(norm->name, name)) {
            *out = norm;
            return OK;
        }
    }
    struct norm *norm = ARENA_NEW(&network->arena, struct norm);
    const struct tensor *gamma, *beta;
    TRY(find_checked(network, name, "weight", &channels, 1, FRESH_ONES, &gamma));
    TRY(find_checked(network, name, "bias", &channels, 1, FRESH_ZEROS, &beta));
    norm->name = arena_strdup(&network->arena, name);
    norm->channels = channels;
    *network->last_norm = norm;
    network->last_norm = &norm->next;
    TRY(read_floats(network, gamma, &norm->gamma));
    TRY(read_floats(network, beta, &norm->beta));
    *out = norm;
    return OK;
}

struct error network_table(struct network *network, const char *name, size_t rows, size_t channels, struct table **out)
{
    for (struct table *table = network->tables; table; table = table->next) {
        if (!strcmp(table->name, name)) {
            *out = table;
            return OK;
        }
    }
    const struct tensor *tensor;
    const size_t shape[2] = {rows, channels};
    TRY(find_checked(network, name, "weight", shape, 2, FRESH_NORMAL, &tensor));
    struct table *table = ARENA_NEW(&network->arena, struct table);
    *table = (struct table){.name = arena_strdup(&network->arena, name), .rows = rows, .channels = channels};
    TRY(read_floats(network, tensor, &table->values));
    table->next = network->tables;
    network->tables = table;
    *out = table;
    return OK;
}

/* ---- config.json ---- */

static bool is_value(const struct json *item, const char *text)
{
    switch (item->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return text && !strcmp(text, item->truth ? "true" : "false");
    case JSON_NUMBER:
        return text && *text && item->number == strtod(text, NULL);
    case JSON_STRING:
        return text && !strcmp(text, item->text);
    default:
        return false;
    }
}

struct error config_check(const struct network *network, const struct fixed_setting *settings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct json *item = json_get(network->config, settings[i].key);
        if (item && !is_value(item, settings[i].text))
            return error_make(ERR_INVALID, "%s/config.json: only %s for %s is supported", network->label,
                              settings[i].text ? settings[i].text : "null", settings[i].key);
    }
    return OK;
}

struct error config_size(const struct network *network, const char *key, size_t index, size_t fallback, size_t least,
                         size_t most, size_t *out)
{
    const struct json *item = json_get(network->config, key);
    if (item && item->kind == JSON_ARRAY)
        item = json_item(item, index);
    if (!item || item->kind == JSON_NULL) {
        *out = fallback;
        if (fallback >= least)
            return OK;
        return error_make(ERR_INVALID, "%s/config.json: %s is missing", network->label, key);
    }
    if (item->kind != JSON_NUMBER || !(item->number >= (double)least && item->number <= (double)most) ||
        item->number != (double)(size_t)item->number)
        return error_make(ERR_INVALID, "%s/config.json: %s must be whole numbers from %zu to %zu", network->label, key,
                          least, most);
    *out = (size_t)item->number;
    return OK;
}
