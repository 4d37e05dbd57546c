#include "engine/lora_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/crypt.h"
#include "engine/safetensors.h"

enum { arena_bytes_max = 2047 << 20, notes_max = 64 };

struct writer {
    struct arena arena;
    struct tensor *tensors;
    size_t count;
    struct tensor_note notes[notes_max];
    size_t note_count;
};

__attribute__((format(printf, 3, 4))) static void note(struct writer *writer, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    writer->notes[writer->note_count++] =
        (struct tensor_note){.key = key, .text = arena_vprintf(&writer->arena, format, args)};
    va_end(args);
}

static struct tensor *add_tensor(struct writer *writer, const char *module, const char *suffix)
{
    struct tensor *tensor = &writer->tensors[writer->count++];
    tensor->name = arena_printf(&writer->arena, "%s%s", module, suffix);
    tensor->type = TENSOR_F16;
    return tensor;
}

/* [rows, columns], or [rows, columns, kernel, kernel] */
static void add_factor(struct writer *writer, const char *module, const char *suffix, const size_t shape[4], bool conv,
                       const float *values, float scale)
{
    struct tensor *tensor = add_tensor(writer, module, suffix);
    tensor->dimensions = conv ? 4 : 2;
    memcpy(tensor->shape, shape, tensor->dimensions * sizeof *shape);
    tensor->count = shape[0] * shape[1] * shape[2] * shape[3];
    tensor->bytes = tensor->count * sizeof(uint16_t);
    uint16_t *halves = arena_array(&writer->arena, tensor->count, sizeof *halves);
    for (size_t i = 0; i < tensor->count; i++)
        halves[i] = half_from_float(scale * values[i]);
    tensor->data = halves;
}

static void add_alpha(struct writer *writer, const char *module, float alpha)
{
    struct tensor *tensor = add_tensor(writer, module, ".alpha");
    uint16_t *half = ARENA_NEW(&writer->arena, uint16_t);
    *half = half_from_float(alpha);
    tensor->count = 1;
    tensor->bytes = sizeof *half;
    tensor->data = half;
}

static const char *kohya_module(struct writer *writer, const struct lora_delta *delta, bool xl)
{
    const char *prefix = delta->component == COMPONENT_UNET     ? "lora_unet_"
                         : delta->component == COMPONENT_TEXT_2 ? "lora_te2_"
                         : xl                                   ? "lora_te1_"
                                                                : "lora_te_";
    char *module = arena_printf(&writer->arena, "%s%s", prefix, delta->module);
    for (char *at = module; *at; at++)
        *at = *at == '.' ? '_' : *at;
    return module;
}

static const char *diffusers_module(struct writer *writer, const struct lora_delta *delta)
{
    static const char *const prefixes[COMPONENT_COUNT] = {
        [COMPONENT_UNET] = "unet", [COMPONENT_TEXT] = "text_encoder", [COMPONENT_TEXT_2] = "text_encoder_2"};
    return arena_printf(&writer->arena, "%s.%s", prefixes[delta->component], delta->module);
}

/* kohya keeps alpha beside the factors; diffusers takes it for the rank, so that its factors have it in them. */
static void add_delta(struct writer *writer, const struct lora_delta *delta, enum lora_format format, bool xl)
{
    const size_t down[4] = {delta->rank, delta->in, delta->kernel, delta->kernel},
                 up[4] = {delta->out, delta->rank, 1, 1};
    if (format == LORA_DIFFUSERS) {
        const char *module = diffusers_module(writer, delta);
        add_factor(writer, module, ".lora_A.weight", down, delta->conv, delta->a, 1);
        add_factor(writer, module, ".lora_B.weight", up, delta->conv, delta->b, delta->scale);
        return;
    }
    const char *module = kohya_module(writer, delta, xl);
    add_factor(writer, module, ".lora_down.weight", down, delta->conv, delta->a, 1);
    add_factor(writer, module, ".lora_up.weight", up, delta->conv, delta->b, 1);
    add_alpha(writer, module, delta->scale * (float)delta->rank);
}

static void add_deltas(struct writer *writer, const struct lora_delta *deltas, size_t count, enum lora_format format,
                       bool xl)
{
    writer->tensors = arena_array(&writer->arena, 3 * count, sizeof *writer->tensors);
    for (size_t i = 0; i < count; i++)
        add_delta(writer, &deltas[i], format, xl);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct tensor *)left)->name, ((const struct tensor *)right)->name);
}

/* kohya's model hash: SHA-256 of the tensors' bytes in file order, which for one type is the order of names. */
static const char *data_hash(struct writer *writer)
{
    uint8_t digest[sha256_size];
    char *hex = arena_alloc(&writer->arena, sha256_hex_size);
    struct sha256 *hash = sha256_create();
    qsort(writer->tensors, writer->count, sizeof *writer->tensors, by_name);
    for (size_t i = 0; i < writer->count; i++)
        sha256_update(hash, writer->tensors[i].data, writer->tensors[i].bytes);
    sha256_final(hash, digest);
    sha256_destroy(hash);
    return sha256_hex(digest, hex);
}

static void add_notes(struct writer *writer, const struct parameters *set, const struct lora_facts *facts)
{
    note(writer, "ss_network_module", "networks.lora");
    note(writer, "ss_network_dim", "%u", set->rank);
    note(writer, "ss_network_alpha", "%g", (double)set->alpha);
    note(writer, "ss_base_model_version", "%s", facts->xl ? "sdxl_base_v1-0" : "sd_v1");
    note(writer, "ss_v2", "False");
    note(writer, "ss_output_name", "%s", facts->title);
    note(writer, "ss_seed", "%llu", (unsigned long long)facts->seed);
    note(writer, "ss_epoch", "%u", facts->epoch);
    note(writer, "ss_num_epochs", "%u", facts->epochs);
    note(writer, "ss_steps", "%u", facts->steps);
    note(writer, "ss_max_train_steps", "%u", facts->steps_max);
    note(writer, "ss_num_train_images", "%u", facts->pictures);
    note(writer, "ss_batch_size_per_device", "%u", facts->batch);
    note(writer, "ss_learning_rate", "%.17g", facts->learning_rate);
    note(writer, "ss_unet_lr", "%.17g", facts->learning_rate);
    note(writer, "ss_text_encoder_lr", "%.17g", facts->text_learning_rate);
    note(writer, "ss_lr_scheduler", "%s", facts->rate_schedule);
    note(writer, "ss_optimizer", "AdamW");
    note(writer, "ss_training_comment", "%s", facts->software);
    note(writer, "sshs_model_hash", "%s", data_hash(writer));
    note(writer, "modelspec.sai_model_spec", "1.0.1");
    note(writer, "modelspec.architecture", "%s/lora",
         facts->xl ? "stable-diffusion-xl-v1-base" : "stable-diffusion-v1");
    note(writer, "modelspec.implementation", "diffusers");
    note(writer, "modelspec.title", "%s", facts->title);
    note(writer, "modelspec.trigger_phrase", "%s", facts->trigger);
    note(writer, "modelspec.resolution", "%zux%zu", facts->resolution, facts->resolution);
    note(writer, "modelspec.prediction_type", "%s", facts->prediction_type);
}

struct error lora_write(const char *path, const struct parameters *const *sets, size_t set_count,
                        const struct lora_facts *facts, enum lora_format format)
{
    struct writer writer = {.tensors = NULL};
    size_t count = 0, total = 0;
    for (size_t i = 0; i < set_count; i++)
        total += sets[i]->table_count / 2;
    CLEANUP_FREE struct lora_delta *deltas = calloc(total + 1, sizeof *deltas);
    if (!deltas)
        return error_make(ERR_INTERNAL, "not enough memory for this LoRA");
    for (size_t i = 0; i < set_count; i++) {
        lora_deltas(sets[i], 1, deltas + count);
        count += sets[i]->table_count / 2;
    }
    arena_init(&writer.arena, arena_bytes_max);
    add_deltas(&writer, deltas, count, format, facts->xl);
    add_notes(&writer, sets[0], facts);
    struct error error = safetensors_write(path, writer.tensors, writer.count, writer.notes, writer.note_count);
    arena_finish(&writer.arena);
    return error;
}

/* ---- converting ---- */

/* All that the file says of itself; the hash of its tensors is made anew. */
static void copy_notes(struct writer *writer, const struct safetensors *file)
{
    JSON_EACH (entry, file->metadata) {
        bool stale = !strcmp(entry->key, "sshs_model_hash") || !strcmp(entry->key, "sshs_legacy_hash") ||
                     !strcmp(entry->key, "lora_adapter_metadata");
        if (!stale && writer->note_count < notes_max - 1)
            note(writer, entry->key, "%s", entry->text);
    }
    note(writer, "sshs_model_hash", "%s", data_hash(writer));
}

struct error lora_convert(struct model *model, const char *from, const char *to, enum lora_format format)
{
    struct writer writer = {.tensors = NULL};
    struct lora *lora;
    struct safetensors *file;
    TRY(lora_open(model, from, &lora));
    struct error error = safetensors_open(from, &file);
    if (error.code) {
        lora_destroy(lora);
        return error;
    }
    arena_init(&writer.arena, arena_bytes_max);
    add_deltas(&writer, lora->deltas, lora->count, format, model_info(model)->xl);
    copy_notes(&writer, file);
    error = safetensors_write(to, writer.tensors, writer.count, writer.notes, writer.note_count);
    arena_finish(&writer.arena);
    safetensors_close(file);
    lora_destroy(lora);
    return error;
}
