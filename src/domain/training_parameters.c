/* The rules are tables: one row a model type, one row a parameter and family. Sources: the API's reference and guides;
 * where they disagree the wider bound holds for the families that train with Musubi. */
#include "domain/training_parameters.h"

#include <math.h>
#include <stdint.h>
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
#define MUSUBI(type)                                                                                                   \
    {                                                                                                                  \
        type, FAMILY_MUSUBI, false, MUSUBI_JOB, ALL_CAPABILITIES, true                                                 \
    }
#define MUSUBI_EDIT(type)                                                                                              \
    {                                                                                                                  \
        type, FAMILY_MUSUBI_EDIT, false, MUSUBI_JOB, EDIT_CAPABILITIES, false                                          \
    }
#define HOSTED(type)                                                                                                   \
    {                                                                                                                  \
        type, FAMILY_NONE, false, NULL, "[]", false                                                                    \
    }

static const struct training_type types[] = {
    {"sd-1_5-lora", FAMILY_SD15, true, "model-training", ALL_CAPABILITIES, true},
    {"sd-xl-lora", FAMILY_SDXL, true, "model-training", ALL_CAPABILITIES, true},
    {"sd-1_5", FAMILY_SD15, false, "model-training", ALL_CAPABILITIES, false},
    {"sd-xl", FAMILY_SDXL, false, "model-training", ALL_CAPABILITIES, false},
    {"flux.1-lora", FAMILY_FLUX, false, FLUX_JOB, ALL_CAPABILITIES, true},
    {"flux.1-krea-lora", FAMILY_FLUX, false, FLUX_JOB, ALL_CAPABILITIES, true},
    {"flux.1-kontext-lora", FAMILY_KONTEXT, false, FLUX_JOB, EDIT_CAPABILITIES, false},
    MUSUBI("flux.2-dev-lora"),
    MUSUBI("flux.2-klein-4b-lora"),
    MUSUBI("flux.2-klein-9b-lora"),
    MUSUBI("flux.2-klein-base-4b-lora"),
    MUSUBI("flux.2-klein-base-9b-lora"),
    MUSUBI("qwen-image-lora"),
    MUSUBI("qwen-image-2512-lora"),
    MUSUBI("zimage-lora"),
    MUSUBI("zimage-turbo-lora"),
    MUSUBI("zimage-de-turbo-lora"),
    MUSUBI_EDIT("flux.2-dev-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-4b-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-9b-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-base-4b-edit-lora"),
    MUSUBI_EDIT("flux.2-klein-base-9b-edit-lora"),
    MUSUBI_EDIT("qwen-image-edit-lora"),
    MUSUBI_EDIT("qwen-image-edit-2509-lora"),
    MUSUBI_EDIT("qwen-image-edit-2511-lora"),
    {"elevenlabs-voice", FAMILY_VOICE, false, "custom", "[\"txt2audio\"]", false},
    {"flux.1-composition", FAMILY_COMPOSITION, false, FLUX_JOB, ALL_CAPABILITIES, false},
    {"sd-1_5-composition", FAMILY_COMPOSITION, false, "model-training", ALL_CAPABILITIES, false},
    {"sd-xl-composition", FAMILY_COMPOSITION, false, "model-training", ALL_CAPABILITIES, false},
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

enum {
    SD15 = 1 << FAMILY_SD15,
    SDXL = 1 << FAMILY_SDXL,
    SD = SD15 | SDXL,
    FLUX = 1 << FAMILY_FLUX | 1 << FAMILY_KONTEXT,
    MUSUBI = 1 << FAMILY_MUSUBI | 1 << FAMILY_MUSUBI_EDIT,
    VOICE = 1 << FAMILY_VOICE,
    ANY = SD | FLUX | MUSUBI,
};

/* The first row of a name that fits the family holds. fallback is JSON; NULL: absent unless asked. */
static const struct rule {
    const char *name;
    unsigned families;
    enum json_kind kind;
    double min, max; /* of a number, or characters of a string, or items of an array */
    const char *fallback;
} rules[] = {
    {"batchSize", MUSUBI, JSON_NUMBER, 1, 8, "1"},
    {"batchSize", SD | FLUX, JSON_NUMBER, 1, 4, "1"},
    {"nbEpochs", MUSUBI, JSON_NUMBER, 1, 100, "10"},
    {"nbEpochs", SD | FLUX, JSON_NUMBER, 1, 30, NULL},
    {"nbRepeats", MUSUBI, JSON_NUMBER, 1, 100, "20"},
    {"nbRepeats", SD | FLUX, JSON_NUMBER, 1, 30, NULL},
    {"learningRate", MUSUBI, JSON_NUMBER, 1e-5, 1e-3, "5e-05"},
    {"learningRate", FLUX, JSON_NUMBER, 1e-12, 1, "0.0001"},
    {"learningRate", SD, JSON_NUMBER, 1e-12, 1, "5e-06"},
    {"learningRateTextEncoder", FLUX, JSON_NUMBER, 1e-6, 1e-3, "1e-05"},
    {"learningRateTextEncoder", SDXL, JSON_NUMBER, 0, 1e-3, "5e-05"},
    {"learningRateTextEncoder", SD15, JSON_NUMBER, 0, 1e-3, NULL},
    {"learningRateUnet", SD, JSON_NUMBER, 1e-12, 1, NULL},
    {"lrScheduler", SD, JSON_STRING, 1, 64, "\"constant\""},
    {"rank", MUSUBI, JSON_NUMBER, 2, 128, "64"},
    {"rank", FLUX, JSON_NUMBER, 2, 64, "16"},
    {"rank", SDXL, JSON_NUMBER, 2, 128, "64"},
    {"rank", SD15, JSON_NUMBER, 2, 128, "16"},
    {"maxTrainSteps", FLUX, JSON_NUMBER, 0, 10000, NULL},
    {"maxTrainSteps", SD, JSON_NUMBER, 0, 40000, NULL},
    {"numTextTrainSteps", SD, JSON_NUMBER, 0, 40000, NULL},
    {"numUNetTrainSteps", SD, JSON_NUMBER, 0, 40000, NULL},
    {"conceptPrompt", MUSUBI, JSON_STRING, 0, concept_prompt_musubi_max, "\"\""},
    {"conceptPrompt", FLUX, JSON_STRING, 0, concept_prompt_max, "\"\""},
    {"conceptPrompt", SD, JSON_STRING, 0, concept_prompt_max, "\"daiton\""},
    {"classPrompt", SD, JSON_STRING, 0, 4096, NULL},
    {"priorLossWeight", SD, JSON_NUMBER, 1e-12, 1.7976931348623157, NULL},
    {"randomCrop", SD, JSON_BOOL, 0, 0, NULL},
    {"randomCropRatio", SD, JSON_NUMBER, 0, 1, NULL},
    {"randomCropScale", SD, JSON_NUMBER, 0, 1, NULL},
    {"samplePrompts", MUSUBI, JSON_ARRAY, 0, 4, NULL},
    {"samplePrompts", SD | FLUX, JSON_ARRAY, 0, 8, NULL},
    {"sampleSourceImages", FLUX | MUSUBI, JSON_ARRAY, 0, 8, NULL},
    {"optimizeFor", FLUX, JSON_STRING, 1, 64, NULL},
    {"scaleLr", SD, JSON_BOOL, 0, 0, NULL},
    {"seed", ANY, JSON_NUMBER, 0, 9007199254740991.0, NULL},
    {"textEncoderTrainingRatio", SD, JSON_NUMBER, 0, 0.99, NULL},
    {"validationFrequency", SD, JSON_NUMBER, 0, 40000, NULL},
    {"validationPrompt", SD, JSON_STRING, 0, 4096, NULL},
    {"age", VOICE, JSON_STRING, 0, 256, NULL},
    {"cloneType", VOICE, JSON_STRING, 0, 256, NULL},
    {"gender", VOICE, JSON_STRING, 0, 256, NULL},
    {"language", VOICE, JSON_STRING, 0, 256, NULL},
    {"removeBackgroundNoise", VOICE, JSON_BOOL, 0, 0, NULL},
    {"voiceDescription", VOICE, JSON_STRING, 0, 4096, NULL},
};
enum { rule_count = sizeof rules / sizeof *rules };

static bool is_first(size_t index, unsigned family)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(rules[i].name, rules[index].name) == 0 && rules[i].families & family)
            return false;
    return (rules[index].families & family) != 0;
}

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += (*text & 0xc0) != 0x80;
    return count;
}

static struct error check_value(const struct rule *rule, unsigned family, const struct json *value)
{
    char field[64] = "parameters.";
    strncat(field, rule->name, sizeof field - strlen(field) - 1);
    if (value->kind != rule->kind)
        return error_field(field, "must be a %s",
                           rule->kind == JSON_NUMBER   ? "number"
                           : rule->kind == JSON_STRING ? "string"
                           : rule->kind == JSON_BOOL   ? "boolean"
                                                       : "list");
    if (rule->kind == JSON_NUMBER && !(value->number >= rule->min))
        return rule->min < 1e-6 && rule->min > 0 ? error_field(field, "must be greater than 0")
                                                 : error_field(field, "must be at least %.12g", rule->min);
    if (rule->kind == JSON_NUMBER && value->number > rule->max)
        return error_field(field, "must be at most %.17g", rule->max);
    if (rule->kind == JSON_STRING && characters(value->text) > rule->max)
        return error_field(field, "must be at most %.0f characters long%s", rule->max,
                           family & MUSUBI ? " (Musubi validation error)" : "");
    if (rule->kind == JSON_ARRAY && value->count > rule->max)
        return error_field(field, "must be at most %.0f items long", rule->max);
    return OK;
}

static struct error check_together(const struct json *asked)
{
    const struct json *prompts = json_get(asked, "samplePrompts"), *sources = json_get(asked, "sampleSourceImages");
    const double steps = json_number(asked, "maxTrainSteps", 0);
    if (prompts && sources && prompts->kind == JSON_ARRAY && prompts->count != sources->count)
        return error_field("parameters.sampleSourceImages", "must be as long as samplePrompts");
    if (steps > 0 && json_number(asked, "validationFrequency", 0) > steps)
        return error_field("parameters.validationFrequency", "must be at most maxTrainSteps");
    return OK;
}

static bool wants_pairs(enum training_family family)
{
    return family == FAMILY_KONTEXT || family == FAMILY_MUSUBI_EDIT;
}

static struct error check_data(const struct training_type *type, const struct training_data *data)
{
    if (type->family == FAMILY_NONE)
        return error_make(ERR_INVALID, "Models of type %s cannot be trained", type->model_type);
    if (type->family == FAMILY_COMPOSITION)
        return data->concepts ? OK : error_make(ERR_INVALID, "The composition needs at least 1 concept");
    if (wants_pairs(type->family) && data->pairs < pairs_min)
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

static bool is_asked(const struct json *value)
{
    return value && value->kind != JSON_NULL;
}

/* maxTrainSteps 0 and absence both leave the number to the rule. */
static bool wants_default_steps(const struct training_type *type, const struct json *asked)
{
    return json_number(asked, "maxTrainSteps", 0) == 0 && !is_asked(json_get(asked, "nbEpochs")) &&
           default_steps(type, 1) > 0;
}

static struct error write_rules(struct json_writer *writer, const struct training_type *type, const struct json *asked)
{
    const unsigned family = 1U << type->family;
    for (size_t i = 0; i < rule_count; i++) {
        const struct rule *rule = &rules[i];
        const struct json *value = json_get(asked, rule->name);
        if (!is_first(i, family))
            continue;
        if (is_asked(value))
            TRY(check_value(rule, family, value));
        if (is_asked(value) && !(strcmp(rule->name, "maxTrainSteps") == 0 && value->number == 0))
            json_put_tree(writer, rule->name, value);
        else if (rule->fallback)
            json_put_raw(writer, rule->name, rule->fallback);
    }
    return OK;
}

struct error training_parameters_resolve(struct arena *arena, const struct training_type *type,
                                         const struct training_data *data, const struct json *asked,
                                         const char **resolved)
{
    struct buf text;
    TRY(check_data(type, data));
    TRY(check_together(asked));
    buf_init(&text, resolved_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    struct error error = write_rules(&writer, type, asked);
    if (wants_default_steps(type, asked))
        json_put_int(&writer, "maxTrainSteps", default_steps(type, data->images));
    if (!is_asked(json_get(asked, "seed")) && ANY & 1U << type->family)
        json_put_int(&writer, "seed", draw_seed());
    if (is_asked(json_get(asked, "classPrompt")) && !is_asked(json_get(asked, "priorLossWeight")))
        json_put_int(&writer, "priorLossWeight", 1);
    json_close(&writer, '}');
    if (!error.code)
        error = buf_error(&text);
    if (!error.code)
        *resolved = arena_copy(arena, text.data, text.len);
    buf_finish(&text);
    return error;
}
