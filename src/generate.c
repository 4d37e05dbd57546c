/* maquette generate: one picture of a prompt, with LoRAs if asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "commands.h"
#include "default_base.h"
#include "engine/base_model.h"
#include "engine/lora_merge.h"
#include "interrupt.h"
#include "options.h"
#include "picture_files.h"

enum { loras_max = 16, arena_bytes_max = 16 << 20 };

static const struct option option_list[] = {
    {"prompt", "TEXT", NULL, "what to show"},
    {"negative", "TEXT", NULL, "what not to show"},
    {"out", "FILE", NULL, "PNG to write"},
    {"seed", "N", "0", "the same seed gives the same picture"},
    {"lora", "FILE:SCALE,...", NULL, "LoRAs and how strongly each counts (1 when left out)"},
    {"base", "DIR", NULL, "base model in diffusers layout (default: the one that ships)"},
    {"width", "PIXELS", "0", "0: the base model's own"},
    {"height", "PIXELS", "0", "0: the base model's own"},
    {"steps", "N", "0", "0: as the base model likes it"},
    {"guidance", "G", "0", "how much the prompt counts; 0: as the base model likes it"},
    {"image", "FILE", NULL, "a picture to begin on, of which the middle is taken"},
    {"strength", "S", "0.75", "how much of --image is changed, 0 to 1"},
    {"scheduler", "NAME", "ddim", "ddim, euler, euler_ancestral, dpmpp_2m or dpmpp_2m_karras"},
    {"threads", "N", "0", "0: one a core"},
    {0},
};

static const struct option_set option_set = {
    .usage = "maquette generate --prompt TEXT --out FILE [options]",
    .about = "Makes a picture of a prompt. The same options give the same bytes on any machine.",
    .list = option_list,
};

struct generation {
    struct picture_request request;
    struct picture_start start;
    const char *out, *loras, *base_path, *image;
    unsigned threads;
};

static struct error number_option(const struct options *options, const char *name, double *value)
{
    char *end;
    const char *text = options_text(options, name);
    *value = strtod(text, &end);
    if (end == text || *end || !(*value >= 0))
        return error_make(ERR_INVALID, "--%s must be a number of at least 0", name);
    return OK;
}

static struct error read_options(const struct options *options, struct arena *arena, struct generation *generation)
{
    long long width, height, steps, seed, threads;
    struct picture_request *request = &generation->request;
    TRY(options_int(options, "width", 0, 16384, &width));
    TRY(options_int(options, "height", 0, 16384, &height));
    TRY(options_int(options, "steps", 0, SAMPLER_STEPS_MAX, &steps));
    TRY(options_int(options, "seed", 0, INT64_MAX, &seed));
    TRY(options_int(options, "threads", 0, POOL_THREADS_MAX, &threads));
    TRY(number_option(options, "guidance", &request->guidance));
    TRY(number_option(options, "strength", &generation->start.strength));
    if (!(generation->start.strength > 0 && generation->start.strength <= 1))
        return error_make(ERR_INVALID, "--strength must be above 0 and at most 1");
    generation->image = options_text(options, "image");
    if (!sampler_kind_parse(options_text(options, "scheduler"), &request->sampler))
        return error_make(ERR_INVALID, "--scheduler must be ddim, euler, euler_ancestral, dpmpp_2m or dpmpp_2m_karras");
    request->prompt = options_text(options, "prompt");
    request->negative = options_text(options, "negative");
    generation->out = options_text(options, "out");
    if (!request->prompt || !generation->out)
        return error_make(ERR_INVALID, "--prompt and --out are needed");
    request->width = (size_t)width;
    request->height = (size_t)height;
    request->steps = (unsigned)steps;
    request->seed = (uint64_t)seed;
    generation->threads = (unsigned)threads;
    generation->loras = options_text(options, "lora");
    generation->base_path = options_text(options, "base");
    if (!generation->base_path)
        generation->base_path = default_base_path(arena);
    return generation->base_path ? OK : error_make(ERR_NOT_FOUND, "no base model: give one with --base DIR");
}

/* FILE or FILE:SCALE; the scale is cut off the text. */
static struct error split_scale(char *text, float *scale)
{
    char *colon = strrchr(text, ':'), *end;
    *scale = 1;
    if (!colon)
        return OK;
    *scale = strtof(colon + 1, &end);
    if (end == colon + 1 || *end || !(*scale >= -10 && *scale <= 10))
        return error_make(ERR_INVALID, "--lora %s: the scale must be a number from -10 to 10", text);
    *colon = '\0';
    return OK;
}

static struct error apply_loras(struct model *model, const char *list)
{
    struct lora_choice choices[loras_max];
    size_t count = 0;
    char *rest;
    CLEANUP_FREE char *copy = strdup(list ? list : "");
    if (!copy)
        return error_make(ERR_INTERNAL, "not enough memory for the LoRAs");
    for (char *item = strtok_r(copy, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        if (count == loras_max)
            return error_make(ERR_INVALID, "at most %d LoRAs", loras_max);
        choices[count] = (struct lora_choice){.path = item};
        TRY(split_scale(item, &choices[count++].scale));
    }
    TRY(lora_merge(model, choices, count));
    for (size_t i = 0; i < count; i++)
        if (choices[i].skipped)
            fprintf(stderr, "maquette: %s: %zu tensors belong to no layer of this base model\n", choices[i].path,
                    choices[i].skipped);
    return OK;
}

static struct error render(struct base_model *base, struct generation *generation)
{
    CLEANUP_FREE uint8_t *rgb = NULL, *image = NULL;
    struct picture_io io = picture_files();
    struct picture_start *begin_on = &generation->start;
    int64_t start = clock_monotonic_ms();
    if (generation->image) {
        TRY(io.load_rgb(io.context, generation->image, &image, &begin_on->width, &begin_on->height));
        begin_on->rgb = image;
        generation->request.start = begin_on;
    }
    TRY(apply_loras(base->model, generation->loras));
    TRY(picture_resolve(base, &generation->request));
    TRY(picture_render(base, &generation->request, NULL, interrupt_flag(), &rgb));
    TRY(io.save_png(io.context, generation->out, rgb, generation->request.width, generation->request.height));
    fprintf(stderr, "maquette: %s: %zux%zu, %u steps, guidance %g, %.2f s\n", generation->out,
            generation->request.width, generation->request.height, generation->request.steps,
            generation->request.guidance, (double)(clock_monotonic_ms() - start) / 1000);
    return OK;
}

static struct error generate(struct generation *generation)
{
    struct pool *pool;
    struct base_model *base = NULL;
    TRY(pool_create(generation->threads, &pool));
    struct error error = base_model_open(generation->base_path, pool, &base);
    if (!error.code)
        error = render(base, generation);
    base_model_destroy(base);
    pool_destroy(pool);
    return error;
}

static struct error parse_and_generate(const struct options *options, struct arena *arena)
{
    struct generation generation = {0};
    TRY(read_options(options, arena, &generation));
    return generate(&generation);
}

int command_generate(int argc, char **argv)
{
    struct options options;
    struct arena arena;
    struct error error = options_parse(&option_set, argc, argv, &options);
    if (options.help && !error.code) {
        options_print_help(&option_set, stdout);
        return exit_ok;
    }
    arena_init(&arena, arena_bytes_max);
    if (!error.code && options.argument_count)
        error = error_make(ERR_INVALID, "%.200s: what is this? maquette generate --help", options.arguments[0]);
    if (!error.code)
        error = parse_and_generate(&options, &arena);
    arena_finish(&arena);
    if (!error.code)
        return exit_ok;
    fprintf(stderr, "maquette: %s\n", error.text);
    return error.code == ERR_CANCELED ? 128 + SIGTERM : exit_failed;
}
