#include "../unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "engine/safetensors.h"
#include "world.h"

enum { ARENA_MAX = 256 << 20, FILE_MAX = 1 << 20 };

/* ---- numbers from names ---- */

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

/* The index-th number of a name, from 1, uniform in [-1, 1). */
static double noise(uint64_t hash, uint64_t index)
{
    uint64_t x = hash + index * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return 2 * ((double)(x >> 11) * 0x1p-53) - 1;
}

void fill_weight(const char *name, const size_t *shape, size_t dimensions, float *values)
{
    size_t length = strlen(name), count = 1;
    bool bias = length > 5 && !strcmp(name + length - 5, ".bias");
    for (size_t i = 0; i < dimensions; i++)
        count *= shape[i];
    uint64_t hash = hash_name(name);
    for (size_t i = 0; i < count; i++) {
        double v = noise(hash, i + 1);
        if (bias)
            values[i] = (float)(0.05 * v);
        else if (dimensions == 1)
            values[i] = (float)(1 + 0.1 * v);
        else
            values[i] = (float)(v * sqrt(3.0 / ((double)count / (double)shape[0])));
    }
}

void fill_input(const char *name, size_t count, float *values)
{
    uint64_t hash = hash_name(name);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(noise(hash, i + 1) * sqrt(3.0));
}

void fill_lora(const struct parameters *parameters, const char *prefix)
{
    for (size_t i = 0; i < parameters->table_count; i++) {
        const struct parameter *parameter = &parameters->table[i];
        bool down = parameter->role == PARAMETER_LORA_A;
        char name[512];
        snprintf(name, sizeof name, "lora.%s%s.%s", prefix, parameter->module, down ? "A" : "B");
        float *values = parameters->values + parameter->offset;
        fill_weight(name, parameter->shape, parameter->dimensions, values);
        for (size_t j = 0; !down && j < parameter->count; j++)
            values[j] *= 0.1f;
    }
}

/* ---- folders ---- */

struct file { /* one weight file being collected */
    struct arena *arena;
    const char *prefix; /* of the names that numbers come from */
    struct tensor tensors[1024];
    size_t count;
};

static void add_tensor(struct file *file, const char *name, const size_t *shape, size_t dimensions)
{
    struct tensor *tensor = &file->tensors[file->count++];
    *tensor = (struct tensor){.name = arena_strdup(file->arena, name), .type = TENSOR_F32, .dimensions = dimensions};
    tensor->count = 1;
    for (size_t i = 0; i < dimensions; i++)
        tensor->count *= tensor->shape[i] = shape[i];
    float *values = arena_array(file->arena, tensor->count, sizeof *values);
    fill_weight(arena_printf(file->arena, "%s%s", file->prefix, name), shape, dimensions, values);
    tensor->data = values;
}

static void add_listed(struct file *file, const struct json *list)
{
    JSON_EACH (entry, list) {
        size_t shape[TENSOR_DIMENSIONS_MAX], dimensions = 0;
        JSON_EACH (size, entry)
            shape[dimensions++] = (size_t)size->number;
        add_tensor(file, entry->key, shape, dimensions);
    }
}

static void add_pair(struct file *file, const char *module, size_t out, size_t in)
{
    add_tensor(file, arena_printf(file->arena, "%s.weight", module), (size_t[]){out, in}, in ? 2 : 1);
    add_tensor(file, arena_printf(file->arena, "%s.bias", module), &out, 1);
}

/* The small text encoder: hidden 32, intermediate 37, 5 layers, 1,000 tokens. */
static void add_text_encoder(struct file *file, bool projection)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                        "self_attn.out_proj"};
    add_tensor(file, "text_model.embeddings.token_embedding.weight", (size_t[]){1000, 32}, 2);
    add_tensor(file, "text_model.embeddings.position_embedding.weight", (size_t[]){77, 32}, 2);
    for (int i = 0; i < 5; i++) {
        const char *layer = arena_printf(file->arena, "text_model.encoder.layers.%d", i);
        for (int j = 0; j < 4; j++)
            add_pair(file, arena_printf(file->arena, "%s.%s", layer, names[j]), 32, 32);
        add_pair(file, arena_printf(file->arena, "%s.layer_norm1", layer), 32, 0);
        add_pair(file, arena_printf(file->arena, "%s.layer_norm2", layer), 32, 0);
        add_pair(file, arena_printf(file->arena, "%s.mlp.fc1", layer), 37, 32);
        add_pair(file, arena_printf(file->arena, "%s.mlp.fc2", layer), 32, 37);
    }
    add_pair(file, "text_model.final_layer_norm", 32, 0);
    if (projection)
        add_tensor(file, "text_projection.weight", (size_t[]){32, 32}, 2);
}

static void write_part(struct world *world, struct file *file, const char *part, const char *stem, const char *config)
{
    const char *folder = arena_printf(&world->arena, "%s/%s", world->folder, part);
    assert_ok(fs_make_dirs(folder));
    assert_ok(fs_write_atomic(arena_printf(&world->arena, "%s/config.json", folder), config, strlen(config)));
    assert_ok(safetensors_write(arena_printf(&world->arena, "%s/%s.safetensors", folder, stem), file->tensors,
                                file->count, NULL, 0));
    file->count = 0;
}

#define UNET_CONFIG                                                                                                    \
    "{\"sample_size\":32,\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[32,64],\"layers_per_block\":2,"  \
    "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\"],"                                                 \
    "\"up_block_types\":[\"CrossAttnUpBlock2D\",\"UpBlock2D\"],"
#define CLIP_CONFIG                                                                                                    \
    "{\"vocab_size\":1000,\"hidden_size\":32,\"intermediate_size\":37,\"num_hidden_layers\":5,"                        \
    "\"num_attention_heads\":4,\"max_position_embeddings\":77,\"bos_token_id\":0,\"eos_token_id\":2,"                  \
    "\"projection_dim\":32,"

static void write_text(struct world *world, const char *part, const char *name, const char *text)
{
    const char *folder = arena_printf(&world->arena, "%s/%s", world->folder, part);
    assert_ok(fs_make_dirs(folder));
    assert_ok(fs_write_atomic(arena_printf(&world->arena, "%s/%s", folder, name), text, strlen(text)));
}

/* The symbols of single bytes, alone and at the end of a word: words are spelt. */
static void write_tokenizer(struct world *world, const char *part)
{
    struct buf vocabulary;
    unsigned id = 0, others = 256;
    buf_init(&vocabulary, 1 << 20);
    buf_putc(&vocabulary, '{');
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        unsigned symbol = printable ? byte : others++;
        buf_printf(&vocabulary, "\"\\u%04x\":%u,\"\\u%04x</w>\":%u,", symbol, id, symbol, id + 256);
        id++;
    }
    buf_puts(&vocabulary, "\"<|startoftext|>\":998,\"<|endoftext|>\":999}");
    buf_putc(&vocabulary, '\0');
    assert_ok(buf_error(&vocabulary));
    write_text(world, part, "vocab.json", vocabulary.data);
    write_text(world, part, "merges.txt", "#version: 0.2\n");
    write_text(world, part, "tokenizer_config.json", "{\"pad_token\":\"<|endoftext|>\",\"model_max_length\":77}");
    buf_finish(&vocabulary);
}

static void write_model(struct world *world, bool xl)
{
    struct file *file = ARENA_NEW(&world->arena, struct file);
    *file = (struct file){.arena = &world->arena, .prefix = xl ? "unetxl." : "unet."};
    add_listed(file, json_get(world->names, xl ? "unet_sdxl" : "unet_sd"));
    write_part(world, file, "unet", "diffusion_pytorch_model",
               xl ? UNET_CONFIG
                   "\"cross_attention_dim\":64,\"attention_head_dim\":[2,4],\"use_linear_projection\":true,"
                   "\"transformer_layers_per_block\":[1,2],\"addition_embed_type\":\"text_time\","
                   "\"addition_time_embed_dim\":8,\"projection_class_embeddings_input_dim\":80}"
                  : UNET_CONFIG "\"cross_attention_dim\":32}");
    file->prefix = "vae.";
    add_listed(file, json_get(world->names, "vae"));
    write_part(world, file, "vae", "diffusion_pytorch_model",
               "{\"block_out_channels\":[32,64],\"layers_per_block\":1,\"latent_channels\":4}");
    file->prefix = "te.";
    add_text_encoder(file, false);
    write_part(world, file, "text_encoder", "model", CLIP_CONFIG "\"hidden_act\":\"quick_gelu\"}");
    write_tokenizer(world, "tokenizer");
    write_text(world, "scheduler", "scheduler_config.json", "{\"beta_schedule\":\"scaled_linear\",\"steps_offset\":1}");
    if (!xl)
        return;
    write_tokenizer(world, "tokenizer_2");
    file->prefix = "te2.";
    add_text_encoder(file, true);
    write_part(world, file, "text_encoder_2", "model", CLIP_CONFIG "\"hidden_act\":\"gelu\"}");
}

void world_init(struct world *world, bool xl, unsigned threads)
{
    const char *source = getenv("MAQUETTE_SOURCE");
    assert_non_null(source);
    *world = (struct world){.folder = "/tmp/maquette-golden-XXXXXX"};
    arena_init(&world->arena, ARENA_MAX);
    assert_ok(json_read_file(&world->arena, arena_printf(&world->arena, "%s/tests/golden/diffusers.json", source),
                             FILE_MAX, &world->golden));
    assert_ok(json_read_file(&world->arena, arena_printf(&world->arena, "%s/tests/golden/parameter-names.json", source),
                             FILE_MAX, &world->names));
    assert_non_null(mkdtemp(world->folder));
    write_model(world, xl);
    assert_ok(pool_create(threads, &world->pool));
    assert_ok(model_open(world->folder, world->pool, &world->model));
}

void world_finish(struct world *world)
{
    model_destroy(world->model);
    pool_destroy(world->pool);
    assert_ok(fs_remove_tree(world->folder));
    arena_finish(&world->arena);
}

/* ---- comparing ---- */

void to_nhwc(size_t batch, size_t channels, size_t pixels, const float *nchw, float *nhwc)
{
    for (size_t b = 0; b < batch; b++)
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; p < pixels; p++)
                nhwc[(b * pixels + p) * channels + c] = nchw[(b * channels + c) * pixels + p];
}

void to_nchw(size_t batch, size_t channels, size_t pixels, const float *nhwc, float *nchw)
{
    to_nhwc(batch, pixels, channels, nhwc, nchw);
}

static void assert_close(const char *what, double value, double expected, double allowed)
{
    if (!(fabs(value - expected) <= allowed))
        fail_msg("%s is %.9g, not %.9g within %.3g", what, value, expected, allowed);
}

void assert_record(const struct json *expected, const float *values, size_t count, double tolerance)
{
    assert_non_null(expected);
    double sum = 0, squares = 0, deviation = json_number(expected, "std", NAN), norm = json_number(expected, "l2", NAN);
    for (size_t i = 0; i < count; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    double mean = sum / (double)count, allowed = tolerance * deviation;
    assert_close("mean", mean, json_number(expected, "mean", NAN), allowed);
    assert_close("deviation", sqrt(squares / (double)count - mean * mean), deviation, allowed);
    assert_close("norm", sqrt(squares), norm, tolerance * norm);
    const struct json *first = json_get(expected, "first"), *last = json_get(expected, "last");
    for (size_t i = 0; i < first->count; i++)
        assert_close("a first element", (double)values[i], json_item(first, i)->number, 4 * allowed);
    for (size_t i = 0; i < last->count; i++)
        assert_close("a last element", (double)values[count - last->count + i], json_item(last, i)->number,
                     4 * allowed);
}
