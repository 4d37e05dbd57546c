#include "engine/lora_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "engine/safetensors.h"

enum { name_bytes_max = SAFETENSORS_NAME_MAX, settings_arena_max = 1 << 20 };

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
    {"_lora.down.weight", FACTOR_DOWN}, /* attention processors of 2023 */
    {"_lora.up.weight", FACTOR_UP},
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
    {"lora_unet_", COMPONENT_UNET},    {"lora_te1_", COMPONENT_TEXT},
    {"lora_te2_", COMPONENT_TEXT_2},   {"lora_te_", COMPONENT_TEXT},
    {"unet.", COMPONENT_UNET},         {"text_encoder_2.", COMPONENT_TEXT_2},
    {"text_encoder.", COMPONENT_TEXT}, {"base_model.model.", COMPONENT_UNET}, /* PEFT, of the UNet alone */
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

/* attn1.processor.to_q and, where the list of layers was left out, to_out. */
static void rename_processor(char *module)
{
    static const char part[] = "_processor_", out[] = "_to_out";
    char *found = strstr(module, part);
    if (!found)
        return;
    memmove(found + 1, found + strlen(part), strlen(found + strlen(part)) + 1);
    size_t len = strlen(module);
    if (len > strlen(out) && strcmp(module + len - strlen(out), out) == 0 && len + 2 < name_bytes_max)
        snprintf(module + len, name_bytes_max - len, "_0");
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
    if (out->component == COMPONENT_UNET) {
        rename_original_block(out->module);
        rename_processor(out->module);
    }
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

/* What diffusers keeps beside the tensors: {"unet.lora_alpha": 8, "unet.r": 4, ...} as text. */
static float alpha_of_settings(const struct safetensors *file, const struct lora_delta *delta)
{
    static const char *const keys[COMPONENT_COUNT] = {[COMPONENT_UNET] = "unet.lora_alpha",
                                                      [COMPONENT_TEXT] = "text_encoder.lora_alpha",
                                                      [COMPONENT_TEXT_2] = "text_encoder_2.lora_alpha"};
    const char *text = json_string(file->metadata, "lora_adapter_metadata", NULL);
    const struct json *settings = NULL;
    struct arena arena;
    arena_init(&arena, settings_arena_max);
    double alpha = (double)delta->rank;
    if (text && !json_parse(&arena, text, strlen(text), &settings).code)
        alpha = json_number(settings, keys[delta->component], alpha);
    arena_finish(&arena);
    return (float)alpha;
}

static struct error read_values(const struct safetensors *file, const struct found *found, struct lora_delta *delta,
                                float *values)
{
    const struct tensor *down = found->factors[FACTOR_DOWN], *up = found->factors[FACTOR_UP];
    const struct tensor *alpha = found->factors[FACTOR_ALPHA];
    float strength = alpha_of_settings(file, delta);
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

static struct error collect(const struct safetensors *file, const struct found *found, const struct parameters *modules,
                            struct lora *lora)
{
    float *values = lora->values;
    char *names = lora->modules;
    for (size_t i = 0; i < modules->table_count / 2; i++) {
        const struct parameter *parameter = &modules->table[2 * i];
        struct lora_delta *delta = &lora->deltas[lora->count];
        if (!found[i].factors[FACTOR_DOWN] && !found[i].factors[FACTOR_UP])
            continue;
        *delta =
            (struct lora_delta){.component = parameter->component, .module = names, .conv = parameter->dimensions == 4};
        names = stpcpy(names, parameter->module) + 1;
        TRY(read_shape(&found[i], delta->module, delta));
        TRY(read_values(file, &found[i], delta, values));
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
        error = collect(file, found, modules, lora);
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
            .conv = a->dimensions == 4,
            .a = parameters->values + a->offset,
            .b = parameters->values + b->offset,
            .scale = strength * parameters->alpha / (float)parameters->rank,
        };
    }
}
