#include "engine/lora_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/crypt.h"
#include "engine/safetensors.h"

enum { arena_bytes_max = 2047 << 20, name_bytes_max = SAFETENSORS_NAME_MAX, notes_max = 32 };

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for this LoRA");
}

/* ---- names ---- */

enum factor { FACTOR_DOWN, FACTOR_UP, FACTOR_ALPHA, FACTOR_COUNT };

static const struct {
    const char *text;
    enum factor factor;
} suffixes[] = {
    {".lora_down.weight", FACTOR_DOWN},
    {".lora_up.weight", FACTOR_UP},
    {".lora_linear_layer.down.weight", FACTOR_DOWN},
    {".lora_linear_layer.up.weight", FACTOR_UP},
    {".lora.down.weight", FACTOR_DOWN},
    {".lora.up.weight", FACTOR_UP},
    {".lora_A.default.weight", FACTOR_DOWN},
    {".lora_B.default.weight", FACTOR_UP},
    {".lora_A.weight", FACTOR_DOWN},
    {".lora_B.weight", FACTOR_UP},
    {".alpha", FACTOR_ALPHA},
};

static const struct {
    const char *text;
    enum component component;
} prefixes[] = {
    {"lora_unet_", COMPONENT_UNET},    {"lora_te1_", COMPONENT_TEXT}, {"lora_te2_", COMPONENT_TEXT_2},
    {"lora_te_", COMPONENT_TEXT},      {"unet.", COMPONENT_UNET},     {"text_encoder_2.", COMPONENT_TEXT_2},
    {"text_encoder.", COMPONENT_TEXT},
};

struct factor_name {
    enum component component;
    enum factor factor;
    char module[name_bytes_max]; /* flattened: dots are underscores */
};

static void flatten(char *module)
{
    for (; *module; module++)
        *module = *module == '.' ? '_' : *module;
}

/* SDXL's original block names (two layers a block) to diffusers', flattened. */
static void rename_original_block(char *module)
{
    enum { layers = 2 };
    char renamed[name_bytes_max];
    unsigned block = 0, inner = 0;
    int used = 0;
    if (sscanf(module, "input_blocks_%u_%u_%n", &block, &inner, &used) == 2 && used && block > 0)
        snprintf(renamed, sizeof renamed, "down_blocks_%u_%s_%u_%s", (block - 1) / (layers + 1),
                 inner ? "attentions" : "resnets", (block - 1) % (layers + 1), module + used);
    else if (sscanf(module, "middle_block_%u_%n", &inner, &used) == 1 && used)
        snprintf(renamed, sizeof renamed, "mid_block_%s_%u_%s", inner == 1 ? "attentions" : "resnets", inner / 2,
                 module + used);
    else if (sscanf(module, "output_blocks_%u_%u_%n", &block, &inner, &used) == 2 && used)
        snprintf(renamed, sizeof renamed, "up_blocks_%u_%s_%u_%s", block / (layers + 1),
                 inner ? "attentions" : "resnets", block % (layers + 1), module + used);
    else
        return;
    snprintf(module, name_bytes_max, "%s", renamed);
}

static bool parse_name(const char *name, struct factor_name *out)
{
    size_t len = strlen(name), cut = 0, skip = 0;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && !cut; i++) {
        size_t size = strlen(suffixes[i].text);
        if (len > size && strcmp(name + len - size, suffixes[i].text) == 0) {
            cut = size;
            out->factor = suffixes[i].factor;
        }
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && !skip; i++) {
        if (strncmp(name, prefixes[i].text, strlen(prefixes[i].text)) == 0) {
            skip = strlen(prefixes[i].text);
            out->component = prefixes[i].component;
        }
    }
    if (!cut || !skip || skip + cut >= len)
        return false;
    snprintf(out->module, sizeof out->module, "%.*s", (int)(len - skip - cut), name + skip);
    flatten(out->module);
    if (out->component == COMPONENT_UNET)
        rename_original_block(out->module);
    return true;
}

static bool names_module(const struct parameter *parameter, const struct factor_name *name)
{
    const char *left = parameter->module, *right = name->module;
    if (parameter->component != name->component)
        return false;
    for (; *left && *right; left++, right++) {
        if ((*left == '.' ? '_' : *left) != *right)
            return false;
    }
    return !*left && !*right;
}

/* ---- reading ---- */

struct found { /* a module's tensors in the file */
    const struct tensor *factors[FACTOR_COUNT];
};

/* Rank-1 parameters of all modules: their table is the model's list of modules. */
static struct error list_modules(struct model *model, struct parameters **out)
{
    struct parameter_options options = {.targets = TARGETS_WIDE, .unet = true, .text = true, .rank = 1, .alpha = 1};
    return parameters_create(model, &options, out);
}

static size_t match_tensors(const struct safetensors *file, const struct parameters *modules, struct found *found)
{
    size_t skipped = 0, hint = 0, module_count = modules->table_count / 2;
    for (size_t i = 0; i < file->count; i++) {
        struct factor_name name;
        size_t tried = 0;
        if (!parse_name(file->tensors[i].name, &name)) {
            skipped++;
            continue;
        }
        while (tried < module_count && !names_module(&modules->table[2 * hint], &name)) {
            hint = (hint + 1) % module_count; /* neighbours in the file are often of one module */
            tried++;
        }
        if (tried < module_count)
            found[hint].factors[name.factor] = &file->tensors[i];
        else
            skipped++;
    }
    return skipped;
}

/* Down is [rank, in(, k, k)], up [out, rank(, 1, 1)]. */
static struct error read_shape(const struct found *found, const char *module, struct lora_delta *delta)
{
    const struct tensor *down = found->factors[FACTOR_DOWN], *up = found->factors[FACTOR_UP];
    if (!down || !up)
        return error_make(ERR_CORRUPT, "the LoRA has only one factor of %s", module);
    bool flat = down->dimensions == 2, conv = down->dimensions == 4 && down->shape[2] == down->shape[3];
    bool up_fits = (up->dimensions == 2 || (up->dimensions == 4 && up->shape[2] == 1 && up->shape[3] == 1)) &&
                   up->shape[1] == down->shape[0];
    if (!(flat || conv) || !up_fits || !down->shape[0] || down->shape[0] > LORA_RANK_MAX)
        return error_make(ERR_CORRUPT, "the LoRA's factors of %s do not fit each other", module);
    delta->rank = down->shape[0];
    delta->in = down->shape[1];
    delta->out = up->shape[0];
    delta->kernel = conv ? down->shape[2] : 1;
    return OK;
}

static struct error read_values(const struct found *found, struct lora_delta *delta, float *values)
{
    const struct tensor *down = found->factors[FACTOR_DOWN], *up = found->factors[FACTOR_UP];
    const struct tensor *alpha = found->factors[FACTOR_ALPHA];
    float strength = (float)delta->rank;
    if (alpha && alpha->count != 1)
        return error_make(ERR_CORRUPT, "the LoRA's alpha of %s is not one number", delta->module);
    TRY(tensor_read(down, values));
    TRY(tensor_read(up, values + down->count));
    if (alpha)
        TRY(tensor_read(alpha, &strength));
    delta->a = values;
    delta->b = values + down->count;
    delta->scale = strength / (float)delta->rank;
    return OK;
}

static struct error collect(const struct found *found, const struct parameters *modules, struct lora *lora)
{
    float *values = lora->values;
    char *names = lora->modules;
    for (size_t i = 0; i < modules->table_count / 2; i++) {
        const struct parameter *parameter = &modules->table[2 * i];
        struct lora_delta *delta = &lora->deltas[lora->count];
        if (!found[i].factors[FACTOR_DOWN] && !found[i].factors[FACTOR_UP])
            continue;
        *delta = (struct lora_delta){.component = parameter->component, .module = names};
        names = stpcpy(names, parameter->module) + 1;
        TRY(read_shape(&found[i], delta->module, delta));
        TRY(read_values(&found[i], delta, values));
        values += found[i].factors[FACTOR_DOWN]->count + found[i].factors[FACTOR_UP]->count;
        lora->count++;
    }
    return OK;
}

static struct error read_file(const struct safetensors *file, const struct parameters *modules, struct lora *lora)
{
    size_t module_count = modules->table_count / 2, numbers = 0, letters = 1;
    if (file->count > LORA_FACTORS_MAX)
        return error_make(ERR_TOO_LARGE, "a LoRA must have at most %d tensors", LORA_FACTORS_MAX);
    for (size_t i = 0; i < file->count; i++)
        numbers += file->tensors[i].count;
    for (size_t i = 0; i < module_count; i++)
        letters += strlen(modules->table[2 * i].module) + 1;
    lora->deltas = calloc(module_count + 1, sizeof *lora->deltas);
    lora->values = malloc((numbers + 1) * sizeof(float));
    lora->modules = malloc(letters);
    struct found *found = calloc(module_count + 1, sizeof *found);
    struct error error = no_memory();
    if (lora->deltas && lora->values && lora->modules && found) {
        lora->skipped = match_tensors(file, modules, found);
        error = collect(found, modules, lora);
    }
    free(found);
    if (!error.code && !lora->count)
        error = error_make(ERR_INVALID, "nothing in this LoRA fits the base model: it was made for another kind");
    return error;
}

struct error lora_open(struct model *model, const char *path, struct lora **out)
{
    struct safetensors *file;
    struct parameters *modules = NULL;
    struct lora *lora = calloc(1, sizeof *lora);
    if (!lora)
        return no_memory();
    struct error error = safetensors_open(path, &file);
    if (error.code) {
        free(lora);
        return error;
    }
    error = list_modules(model, &modules);
    if (!error.code)
        error = read_file(file, modules, lora);
    parameters_destroy(modules);
    safetensors_close(file);
    if (error.code)
        lora_destroy(lora);
    else
        *out = lora;
    return error;
}

void lora_destroy(struct lora *lora)
{
    if (!lora)
        return;
    free(lora->deltas);
    free(lora->values);
    free(lora->modules);
    free(lora);
}

void lora_deltas(const struct parameters *parameters, float strength, struct lora_delta *deltas)
{
    for (size_t i = 0; i < parameters->table_count / 2; i++) {
        const struct parameter *a = &parameters->table[2 * i], *b = a + 1;
        deltas[i] = (struct lora_delta){
            .component = a->component,
            .module = a->module,
            .rank = parameters->rank,
            .in = a->shape[1],
            .out = b->shape[0],
            .kernel = a->dimensions == 4 ? a->shape[2] : 1,
            .a = parameters->values + a->offset,
            .b = parameters->values + b->offset,
            .scale = strength * parameters->alpha / (float)parameters->rank,
        };
    }
}

/* ---- writing ---- */

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

static const uint16_t *to_half(struct writer *writer, const float *values, size_t count)
{
    uint16_t *halves = arena_array(&writer->arena, count, sizeof *halves);
    for (size_t i = 0; i < count; i++)
        halves[i] = half_from_float(values[i]);
    return halves;
}

static struct tensor *add_tensor(struct writer *writer, const char *module, const char *suffix)
{
    struct tensor *tensor = &writer->tensors[writer->count++];
    tensor->name = arena_printf(&writer->arena, "%s%s", module, suffix);
    tensor->type = TENSOR_F16;
    return tensor;
}

static void add_factor(struct writer *writer, const char *module, const struct parameters *set,
                       const struct parameter *parameter)
{
    bool down = parameter->role == PARAMETER_LORA_A;
    struct tensor *tensor = add_tensor(writer, module, down ? ".lora_down.weight" : ".lora_up.weight");
    tensor->dimensions = parameter->dimensions;
    for (size_t i = 0; i < parameter->dimensions; i++)
        tensor->shape[i] = parameter->shape[i];
    tensor->count = parameter->count;
    tensor->bytes = parameter->count * sizeof(uint16_t);
    tensor->data = to_half(writer, set->values + parameter->offset, parameter->count);
}

static void add_alpha(struct writer *writer, const char *module, float alpha)
{
    struct tensor *tensor = add_tensor(writer, module, ".alpha");
    tensor->count = 1;
    tensor->bytes = sizeof(uint16_t);
    tensor->data = to_half(writer, &alpha, 1);
}

static const char *file_module(struct writer *writer, const struct parameter *parameter, bool xl)
{
    const char *prefix = parameter->component == COMPONENT_UNET     ? "lora_unet_"
                         : parameter->component == COMPONENT_TEXT_2 ? "lora_te2_"
                         : xl                                       ? "lora_te1_"
                                                                    : "lora_te_";
    char *module = arena_printf(&writer->arena, "%s%s", prefix, parameter->module);
    flatten(module);
    return module;
}

static void add_tensors(struct writer *writer, const struct parameters *const *sets, size_t set_count, bool xl)
{
    size_t count = 0;
    for (size_t s = 0; s < set_count; s++)
        count += sets[s]->table_count / 2 * 3;
    writer->tensors = arena_array(&writer->arena, count, sizeof *writer->tensors);
    for (size_t s = 0; s < set_count; s++) {
        for (size_t i = 0; i + 1 < sets[s]->table_count; i += 2) {
            const char *module = file_module(writer, &sets[s]->table[i], xl);
            add_factor(writer, module, sets[s], &sets[s]->table[i]);
            add_factor(writer, module, sets[s], &sets[s]->table[i + 1]);
            add_alpha(writer, module, sets[s]->alpha);
        }
    }
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
                        const struct lora_facts *facts)
{
    struct writer writer = {.tensors = NULL};
    arena_init(&writer.arena, arena_bytes_max);
    add_tensors(&writer, sets, set_count, facts->xl);
    add_notes(&writer, sets[0], facts);
    struct error error = safetensors_write(path, writer.tensors, writer.count, writer.notes, writer.note_count);
    arena_finish(&writer.arena);
    return error;
}
