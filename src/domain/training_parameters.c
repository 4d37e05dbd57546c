/* The rules are tables: one row a model type, one row a parameter and family. Sources: the API's reference and guides;
 * where they disagree the wider bound holds for the families that train with Musubi. */
#include "domain/training_parameters.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/crypt.h"

enum { resolved_bytes_max = 256 << 10, concept_prompt_musubi_max = 20, concept_prompt_max = 200, pairs_min = 2 };

#define ALL_CAPABILITIES                                                                                               \
    "[\"txt2img\",\"img2img\",\"img2img_texture\",\"txt2img_texture\",\"controlnet\",\"controlnet_texture\","          \
    "\"controlnet_img2img\",\"controlnet_inpaint\",\"inpaint\",\"outpaint\",\"txt2img_ip_adapter\","                   \
    "\"img2img_ip_adapter\",\"controlnet_ip_adapter\"]"
#define EDIT_CAPABILITIES "[\"img2img\"]"

#define FLUX_JOB "flux-model-training"
#define MUSUBI_JOB "musubi-model-training"
#define SD_JOB "model-training"
#define MUSUBI(type, concepts)                                                                                         \
    {                                                                                                                  \
        type, FAMILY_MUSUBI, false, MUSUBI_JOB, ALL_CAPABILITIES, true, concepts                                       \
    }
#define MUSUBI_EDIT(type)                                                                                              \
    {                                                                                                                  \
        type, FAMILY_MUSUBI_EDIT, false, MUSUBI_JOB, EDIT_CAPABILITIES, false, type                                    \
    }
#define HOSTED(type)                                                                                                   \
    {                                                                                                                  \
        type, FAMILY_NONE, false, NULL, "[\"txt2img\"]", false, NULL                                                   \
    }
/* LoRAs fit the models of their own family only; those of Z-Image fit each other's. */
#define FLUX_CONCEPTS "flux.1-lora, flux.1-composition"
#define SD15_CONCEPTS "sd-1_5-lora, sd-1_5-composition"
#define SDXL_CONCEPTS "sd-xl-lora, sd-xl-composition"
#define ZIMAGE_CONCEPTS "zimage-lora, zimage-turbo-lora, zimage-de-turbo-lora"

static const struct training_type types[] = {
    {"sd-1_5-lora", FAMILY_SD15, true, SD_JOB, ALL_CAPABILITIES, true, SD15_CONCEPTS},
    {"sd-xl-lora", FAMILY_SDXL, true, SD_JOB, ALL_CAPABILITIES, true, SDXL_CONCEPTS},
    {"sd-1_5", FAMILY_SD15, false, SD_JOB, ALL_CAPABILITIES, false, SD15_CONCEPTS},
    {"sd-xl", FAMILY_SDXL, false, SD_JOB, ALL_CAPABILITIES, false, SDXL_CONCEPTS},
    {"flux.1-lora", FAMILY_FLUX, false, FLUX_JOB, ALL_CAPABILITIES, true, FLUX_CONCEPTS},
    {"flux.1-krea-lora", FAMILY_FLUX, false, FLUX_JOB, ALL_CAPABILITIES, true, "flux.1-krea-lora"},
    {"flux.1-kontext-lora", FAMILY_KONTEXT, false, FLUX_JOB, EDIT_CAPABILITIES, false, "flux.1-kontext-lora"},
    MUSUBI("flux.2-dev-lora", "flux.2-dev-lora"),
    MUSUBI("flux.2-klein-4b-lora", "flux.2-klein-4b-lora"),
    MUSUBI("flux.2-klein-9b-lora", "flux.2-klein-9b-lora"),
    MUSUBI("flux.2-klein-base-4b-lora", "flux.2-klein-base-4b-lora"),
    MUSUBI("flux.2-klein-base-9b-lora", "flux.2-klein-base-9b-lora"),
    MUSUBI("qwen-image-lora", "qwen-image-lora"),
    MUSUBI("qwen-image-2512-lora", "qwen-image-2512-lora"),
    MUSUBI("zimage-lora", ZIMAGE_CONCEPTS),
    MUSUBI("zimage-turbo-lora", ZIMAGE_CONCEPTS),
    MUSUBI("zimage-de-turbo-lora", ZIMAGE_CONCEPTS),
    MUSUBI_EDIT("flux.2-dev-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-4b-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-9b-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-base-4b-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-base-9b-edit-lora"),
    MUSUBI_EDIT("qwen-image-edit-lora"),
    MUSUBI_EDIT("qwen-image-edit-2509-lora"),
    MUSUBI_EDIT("qwen-image-edit-2511-lora"),
    {"elevenlabs-voice", FAMILY_VOICE, false, "custom", "[\"txt2audio\"]", false, NULL},
    {"flux.1-composition", FAMILY_COMPOSITION, false, FLUX_JOB, ALL_CAPABILITIES, false, FLUX_CONCEPTS},
    {"sd-1_5-composition", FAMILY_COMPOSITION, false, SD_JOB, ALL_CAPABILITIES, false, SD15_CONCEPTS},
    {"sd-xl-composition", FAMILY_COMPOSITION, false, SD_JOB, ALL_CAPABILITIES, false, SDXL_CONCEPTS},
    HOSTED("custom"),
    HOSTED("flux.1"),
    HOSTED("flux.1-kontext-dev"),
    HOSTED("flux.1-krea-dev"),
    HOSTED("flux.1-pro"),
    HOSTED("flux.1.1-pro-ultra"),
    HOSTED("flux1.1-pro"),
    HOSTED("gpt-image-1"),
};

const struct training_type *training_type_find(const char *model_type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].model_type, model_type) == 0)
            return &types[i];
    return NULL;
}

bool training_type_wants_pairs(const struct training_type *type)
{
    return type->family == FAMILY_KONTEXT || type->family == FAMILY_MUSUBI_EDIT;
}

enum {
    SD15 = 1 << FAMILY_SD15,
    SDXL = 1 << FAMILY_SDXL,
    SD = SD15 | SDXL,
    KONTEXT = 1 << FAMILY_KONTEXT,
    FLUX = 1 << FAMILY_FLUX | KONTEXT,
    MUSUBI_PAIRS = 1 << FAMILY_MUSUBI_EDIT,
    MUSUBI = 1 << FAMILY_MUSUBI | MUSUBI_PAIRS,
    VOICE = 1 << FAMILY_VOICE,
    ANY = SD | FLUX | MUSUBI,
};

enum rule_kind {
    RULE_NUMBER, /* min to max */
    RULE_RATE,   /* above min, to max */
    RULE_COUNT,  /* a whole number, min to max */
    RULE_BOOL,
    RULE_TEXT,     /* at most max characters */
    RULE_CHOICE,   /* one of choices */
    RULE_LANGUAGE, /* two small letters */
    RULE_TEXTS,    /* a list of at most max texts */
};

static const char *const schedulers[] = {"constant", "constant-with-warmup", "cosine", "cosine-with-restarts",
                                         "linear",   "polynomial",           NULL};
static const char *const optimizations[] = {"likeness", NULL};
static const char *const clonings[] = {"instant", "professional", NULL};

/* The first row of a name that fits the family holds; a family without a row does not have the parameter, and what is
 * sent for it is left out. fallback is JSON; NULL: absent unless asked. */
static const struct rule {
    const char *name;
    unsigned families;
    enum rule_kind kind;
    double min, max;
    const char *fallback;
    const char *const *choices;
} rules[] = {
    {"batchSize", MUSUBI, RULE_COUNT, 1, 8, "1"},
    {"batchSize", SD | FLUX, RULE_COUNT, 1, 4, "1"},
    {"nbEpochs", MUSUBI, RULE_COUNT, 1, 100, "10"},
    {"nbEpochs", SD | FLUX, RULE_COUNT, 1, 30, NULL},
    {"nbRepeats", MUSUBI, RULE_COUNT, 1, 100, "20"},
    {"nbRepeats", SD | FLUX, RULE_COUNT, 1, 30, NULL},
    {"learningRate", MUSUBI, RULE_NUMBER, 1e-5, 1e-3, "5e-05"},
    {"learningRate", FLUX, RULE_RATE, 0, 1, "0.0001"},
    {"learningRate", SD, RULE_RATE, 0, 1, "5e-06"},
    {"learningRateTextEncoder", FLUX, RULE_NUMBER, 1e-6, 1e-3, "1e-05"},
    {"learningRateTextEncoder", SDXL, RULE_NUMBER, 0, 1e-3, "5e-05"},
    {"learningRateTextEncoder", SD15, RULE_NUMBER, 0, 1e-3, NULL},
    {"learningRateUnet", SD, RULE_RATE, 0, 1, NULL},
    {"lrScheduler", SD, RULE_CHOICE, 0, 0, "\"constant\"", schedulers},
    {"rank", MUSUBI, RULE_COUNT, 2, 128, "64"},
    {"rank", FLUX, RULE_COUNT, 2, 64, "16"},
    {"rank", SDXL, RULE_COUNT, 2, 128, "64"},
    {"rank", SD15, RULE_COUNT, 2, 128, "16"},
    {"maxTrainSteps", FLUX, RULE_COUNT, 0, 10000, NULL},
    {"maxTrainSteps", SD, RULE_COUNT, 0, 40000, NULL},
    {"numTextTrainSteps", SD, RULE_COUNT, 0, 40000, NULL},
    {"numUNetTrainSteps", SD, RULE_COUNT, 0, 40000, NULL},
    {"conceptPrompt", MUSUBI, RULE_TEXT, 0, concept_prompt_musubi_max, "\"\""},
    {"conceptPrompt", FLUX, RULE_TEXT, 0, concept_prompt_max, "\"\""},
    {"conceptPrompt", SD, RULE_TEXT, 0, concept_prompt_max, "\"daiton\""},
    {"classPrompt", SD, RULE_TEXT, 0, 4096, NULL},
    {"priorLossWeight", SD, RULE_RATE, 0, 1.7976931348623157, NULL},
    {"randomCrop", SD, RULE_BOOL, 0, 0, NULL},
    {"randomCropRatio", SD, RULE_NUMBER, 0, 1, NULL},
    {"randomCropScale", SD, RULE_NUMBER, 0, 1, NULL},
    {"samplePrompts", MUSUBI, RULE_TEXTS, 0, 4, NULL},
    {"samplePrompts", SD | FLUX, RULE_TEXTS, 0, 8, NULL},
    {"sampleSourceImages", MUSUBI_PAIRS, RULE_TEXTS, 0, 4, NULL},
    {"sampleSourceImages", FLUX, RULE_TEXTS, 0, 8, NULL},
    {"optimizeFor", FLUX, RULE_CHOICE, 0, 0, NULL, optimizations},
    {"scaleLr", SD, RULE_BOOL, 0, 0, NULL},
    {"seed", ANY, RULE_COUNT, 0, 9007199254740991.0, NULL},
    {"textEncoderTrainingRatio", SD, RULE_NUMBER, 0, 0.99, NULL},
    {"validationFrequency", SD, RULE_COUNT, 0, 40000, NULL},
    {"validationPrompt", SD, RULE_TEXT, 0, 4096, NULL},
    {"age", VOICE, RULE_TEXT, 0, 256, NULL},
    {"cloneType", VOICE, RULE_CHOICE, 0, 0, NULL, clonings},
    {"gender", VOICE, RULE_TEXT, 0, 256, NULL},
    {"language", VOICE, RULE_LANGUAGE, 0, 0, NULL},
    {"removeBackgroundNoise", VOICE, RULE_BOOL, 0, 0, NULL},
    {"voiceDescription", VOICE, RULE_TEXT, 0, 4096, NULL},
};
enum { rule_count = sizeof rules / sizeof *rules };

static const struct rule *rule_of(const char *name, unsigned family)
{
    for (size_t i = 0; i < rule_count; i++)
        if (rules[i].families & family && strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += (*text & 0xc0) != 0x80;
    return count;
}

static bool is_asked(const struct json *value)
{
    return value && value->kind != JSON_NULL;
}

static const struct kind {
    enum json_kind json;
    const char *wanted;
} kinds[] = {
    [RULE_NUMBER] = {JSON_NUMBER, "must be a number"},   [RULE_RATE] = {JSON_NUMBER, "must be a number"},
    [RULE_COUNT] = {JSON_NUMBER, "must be a number"},    [RULE_BOOL] = {JSON_BOOL, "must be true or false"},
    [RULE_TEXT] = {JSON_STRING, "must be a string"},     [RULE_CHOICE] = {JSON_STRING, "must be a string"},
    [RULE_LANGUAGE] = {JSON_STRING, "must be a string"}, [RULE_TEXTS] = {JSON_ARRAY, "must be an array of strings"},
};

static struct error check_number(const struct rule *rule, const char *field, const char *musubi, double number)
{
    if (rule->kind == RULE_RATE && !(number > rule->min))
        return error_field(field, "must be greater than %.12g%s", rule->min, musubi);
    if (!(number >= rule->min))
        return error_field(field, "must be at least %.12g%s", rule->min, musubi);
    if (number > rule->max)
        return error_field(field, "must be at most %.16g%s", rule->max, musubi);
    if (rule->kind == RULE_COUNT && number != floor(number))
        return error_field(field, "must be a whole number%s", musubi);
    return OK;
}

static struct error check_choice(const struct rule *rule, const char *field, const char *text)
{
    char list[256] = "";
    for (const char *const *choice = rule->choices; *choice; choice++) {
        if (strcmp(*choice, text) == 0)
            return OK;
        const size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, "%s%s", length ? ", " : "", *choice);
    }
    return error_field(field, "must be one of %s", list);
}

static struct error check_texts(const struct rule *rule, const char *field, const char *musubi, const struct json *list)
{
    if (list->count > rule->max)
        return error_field(field, "must be at most %.0f items long%s", rule->max, musubi);
    JSON_EACH (item, list) {
        if (item->kind != JSON_STRING)
            return error_field(field, "must be an array of strings");
    }
    return OK;
}

static bool is_language(const char *text)
{
    return strlen(text) == 2 && text[0] >= 'a' && text[0] <= 'z' && text[1] >= 'a' && text[1] <= 'z';
}

static struct error check_value(const struct rule *rule, unsigned family, const struct json *value)
{
    const char *musubi = family & MUSUBI ? " (Musubi validation error)" : "";
    char field[64];
    snprintf(field, sizeof field, "parameters.%s", rule->name);
    if (value->kind != kinds[rule->kind].json)
        return error_field(field, "%s", kinds[rule->kind].wanted);
    switch (rule->kind) {
    case RULE_NUMBER:
    case RULE_RATE:
    case RULE_COUNT:
        return check_number(rule, field, musubi, value->number);
    case RULE_TEXT:
        if (characters(value->text) > rule->max)
            return error_field(field, "must be at most %.0f characters long%s", rule->max, musubi);
        return OK;
    case RULE_CHOICE:
        return check_choice(rule, field, value->text);
    case RULE_LANGUAGE:
        return is_language(value->text) ? OK : error_field(field, "must be an ISO 639-1 code such as en");
    case RULE_TEXTS:
        return check_texts(rule, field, musubi, value);
    case RULE_BOOL:
        break;
    }
    return OK;
}

static struct error check_sources(const struct json *asked, unsigned family)
{
    const struct json *prompts = json_get(asked, "samplePrompts"), *sources = json_get(asked, "sampleSourceImages");
    if (!rule_of("sampleSourceImages", family) || !is_asked(sources))
        return OK;
    if (sources->count != (is_asked(prompts) ? prompts->count : 0))
        return error_field("parameters.sampleSourceImages", "must be the same length as samplePrompts");
    return OK;
}

/* steps is 0 while their number is open. */
static struct error check_frequency(const struct json *asked, unsigned family, int64_t steps)
{
    if (steps > 0 && rule_of("validationFrequency", family) && json_number(asked, "validationFrequency", 0) > steps)
        return error_field("parameters.validationFrequency", "must be at most maxTrainSteps, which is %lld",
                           (long long)steps);
    return OK;
}

struct error training_parameters_check(const struct training_type *type, const struct json *asked)
{
    const unsigned family = 1U << type->family;
    JSON_EACH (value, asked) {
        const struct rule *rule = rule_of(value->key, family);
        if (rule && is_asked(value))
            TRY(check_value(rule, family, value));
    }
    TRY(check_sources(asked, family));
    return check_frequency(asked, family, json_int(asked, "maxTrainSteps", 0));
}

static struct error check_data(const struct training_type *type, const struct training_data *data)
{
    if (type->family == FAMILY_NONE)
        return error_make(ERR_INVALID, "Models of type %s cannot be trained", type->model_type);
    if (type->family == FAMILY_COMPOSITION)
        return data->concepts ? OK : error_make(ERR_INVALID, "The composition needs at least 1 concept");
    if (training_type_wants_pairs(type) && data->pairs < pairs_min)
        return error_make(ERR_INVALID, "The model needs at least %d training image pairs", pairs_min);
    if (data->images < 1)
        return error_make(ERR_INVALID, "The model needs at least 1 training image: add some first");
    return OK;
}

/* What the families' guides say of the number of steps for n images; 0 when epochs decide. */
static int64_t default_steps(const struct training_type *type, int64_t images)
{
    const double n = (double)images;
    switch (type->family) {
    case FAMILY_SD15:
        return (int64_t)fmin(round(n * 225 / 3), 40000);
    case FAMILY_SDXL:
        return (int64_t)fmin(n * 175, 40000);
    case FAMILY_FLUX:
    case FAMILY_KONTEXT:
        return (int64_t)fmin(n * 100, 10000);
    default:
        return 0;
    }
}

static int64_t draw_seed(void)
{
    uint64_t bits;
    random_bytes(&bits, sizeof bits);
    return (int64_t)(bits >> 11);
}

/* maxTrainSteps 0 and absence both leave the number to the rule. */
static int64_t steps_in_force(const struct training_type *type, const struct json *asked, int64_t images)
{
    const int64_t steps = json_int(asked, "maxTrainSteps", 0);
    if (steps > 0 || is_asked(json_get(asked, "nbEpochs")))
        return steps;
    return default_steps(type, images);
}

/* The trigger of SD 1.5 is empty where a class says what the images show. */
static const char *fallback_of(const struct rule *rule, unsigned family, const struct training_data *data)
{
    const bool by_class = family == SD15 && data->has_class && strcmp(rule->name, "conceptPrompt") == 0;
    return by_class ? "\"\"" : rule->fallback;
}

static void put_values(struct json_writer *writer, const struct training_type *type, const struct training_data *data,
                       const struct json *asked)
{
    const unsigned family = 1U << type->family;
    const int64_t steps = steps_in_force(type, asked, data->images);
    for (size_t i = 0; i < rule_count; i++) {
        const struct rule *rule = &rules[i];
        const struct json *value = json_get(asked, rule->name);
        if (rule_of(rule->name, family) != rule)
            continue;
        if (strcmp(rule->name, "maxTrainSteps") == 0) {
            if (steps > 0)
                json_put_int(writer, rule->name, steps);
        } else if (is_asked(value)) {
            json_put_tree(writer, rule->name, value);
        } else if (rule->fallback) {
            json_put_raw(writer, rule->name, fallback_of(rule, family, data));
        }
    }
    if (!is_asked(json_get(asked, "seed")) && ANY & family)
        json_put_int(writer, "seed", draw_seed());
    if (SD & family && is_asked(json_get(asked, "classPrompt")) && !is_asked(json_get(asked, "priorLossWeight")))
        json_put_int(writer, "priorLossWeight", 1);
}

struct error training_parameters_resolve(struct arena *arena, const struct training_type *type,
                                         const struct training_data *data, const struct json *asked,
                                         const char **resolved)
{
    struct buf text;
    TRY(check_data(type, data));
    TRY(training_parameters_check(type, asked));
    TRY(check_frequency(asked, 1U << type->family, steps_in_force(type, asked, data->images)));
    buf_init(&text, resolved_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    put_values(&writer, type, data, asked);
    json_close(&writer, '}');
    const struct error error = buf_error(&text);
    if (!error.code)
        *resolved = arena_copy(arena, text.data, text.len);
    buf_finish(&text);
    return error;
}

static void put_prompt(struct json_writer *writer, const char *text, int64_t seed)
{
    json_open(writer, NULL, '{');
    json_put_string(writer, "text", text);
    json_put_string(writer, "negative", "");
    json_put_int(writer, "seed", seed);
    json_put_int(writer, "width", 0);
    json_put_int(writer, "height", 0);
    json_put_int(writer, "steps", 0);
    json_put_int(writer, "guidance", 0);
    json_close(writer, '}');
}

void training_prompts_put(struct json_writer *writer, const struct json *parameters)
{
    const int64_t seed = json_int(parameters, "seed", 0);
    const char *validation = json_string(parameters, "validationPrompt", "");
    json_open(writer, "prompts", '[');
    JSON_EACH (prompt, json_get(parameters, "samplePrompts")) {
        if (prompt->kind == JSON_STRING && prompt->text[0])
            put_prompt(writer, prompt->text, seed);
    }
    if (validation[0])
        put_prompt(writer, validation, seed);
    json_close(writer, ']');
}
