/* maquette convert: a LoRA file under the names that another tool reads. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "commands.h"
#include "default_base.h"
#include "engine/lora_file.h"
#include "options.h"

enum { arena_bytes_max = 16 << 20 };

static const struct option option_list[] = {
    {"format", "NAME", "diffusers", "kohya (also read by ComfyUI and A1111) or diffusers (PEFT)"},
    {"base", "DIR", NULL, "the base model that the LoRA is for (default: the one that ships)"},
    {0},
};

static const struct option_set option_set = {
    .usage = "maquette convert FROM.safetensors TO.safetensors [options]",
    .about = "Writes the same LoRA under other names. All known names are read; see `maquette generate --lora` too.",
    .list = option_list,
};

static struct error convert(const char *base, const char *from, const char *to, enum lora_format format)
{
    struct pool *pool;
    struct model *model;
    TRY(pool_create(1, &pool));
    struct error error = model_open(base, pool, &model);
    if (!error.code) {
        error = lora_convert(model, from, to, format);
        model_destroy(model);
    }
    pool_destroy(pool);
    return error;
}

static struct error read_and_convert(const struct options *options, struct arena *arena)
{
    const char *format = options_text(options, "format"), *base = options_text(options, "base");
    if (strcmp(format, "kohya") != 0 && strcmp(format, "diffusers") != 0)
        return error_make(ERR_INVALID, "--format must be kohya or diffusers");
    base = base ? base : default_base_path(arena);
    if (!base)
        return error_make(ERR_NOT_FOUND, "no base model: give one with --base DIR");
    return convert(base, options->arguments[0], options->arguments[1],
                   strcmp(format, "kohya") == 0 ? LORA_KOHYA : LORA_DIFFUSERS);
}

int command_convert(int argc, char **argv)
{
    struct options options;
    struct arena arena;
    struct error error = options_parse(&option_set, argc, argv, &options);
    if (!error.code && options.help) {
        options_print_help(&option_set, stdout);
        return exit_ok;
    }
    if (!error.code && options.argument_count != 2)
        error = error_make(ERR_INVALID, "two files are needed: maquette convert --help");
    if (error.code) {
        fprintf(stderr, "maquette: %s\n", error.text);
        return exit_usage;
    }
    arena_init(&arena, arena_bytes_max);
    error = read_and_convert(&options, &arena);
    if (error.code)
        fprintf(stderr, "maquette: %s\n", error.text);
    arena_finish(&arena);
    return error.code ? exit_failed : exit_ok;
}
