/* maquette train: runs a job folder, or makes one of local pictures. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "commands.h"
#include "default_base.h"
#include "engine/generation_folder.h"
#include "engine/generator.h"
#include "interrupt.h"
#include "job_make.h"
#include "options.h"
#include "picture_files.h"

enum { arena_bytes_max = 16 << 20 };

static const struct option option_list[] = {
    {"init", "JOBDIR", NULL, "make this job folder instead of running one"},
    {"images", "DIR", NULL, "for --init: pictures, each with a caption in a .txt of the same name"},
    {"type", "TYPE", "sd-1_5-lora", "for --init: sd-1_5-lora or sd-xl-lora"},
    {"parameters", "JSON", NULL,
     "for --init: training parameters by the API's names, and gradientAccumulationSteps, gradientCheckpointing, "
     "minSnrGamma, aspectBuckets, loraFormat (kohya or diffusers)"},
    {"base", "DIR", NULL, "for --init: base model in diffusers layout (default: the one that ships)"},
    {"name", "TEXT", "lora", "for --init: the LoRA's name"},
    {"threads", "N", "0", "0: what job.json says, or one a core"},
    {"kernels", "NAME", NULL, "avx512, avx2 or portable (default: the fastest of this CPU). The results are the same"},
    {0},
};

static const struct option_set option_set = {
    .usage = "maquette train JOBDIR [--threads N]\n"
             "       maquette train --init JOBDIR --images DIR [options]",
    .about = "Runs one training from its job folder, or goes on where it was stopped; draws the pictures of a folder "
             "whose\n"
             "job.json says kind generation. Progress is in JOBDIR/events.ndjson, the results are in JOBDIR/out. "
             "SIGTERM\n"
             "saves the state and ends it.",
    .list = option_list,
};

static struct error base_path(const struct options *options, struct arena *arena, const char **base)
{
    char real[PATH_MAX];
    const char *given = options_text(options, "base");
    *base = given ? given : default_base_path(arena);
    if (!*base || !realpath(*base, real))
        return error_make(ERR_NOT_FOUND, "no base model%s%s: give one with --base DIR", given ? " at " : "",
                          given ? given : "");
    *base = arena_strdup(arena, real);
    return OK;
}

static struct error make_folder(const struct options *options, struct arena *arena)
{
    long long threads;
    unsigned count;
    struct job_request request = {
        .folder = options_text(options, "init"),
        .images = options_text(options, "images"),
        .type = options_text(options, "type"),
        .parameters = options_text(options, "parameters"),
        .name = options_text(options, "name"),
    };
    if (!request.images)
        return error_make(ERR_INVALID, "--init needs --images DIR");
    TRY(options_int(options, "threads", 0, POOL_THREADS_MAX, &threads));
    TRY(base_path(options, arena, &request.base));
    request.threads = (unsigned)threads;
    TRY(job_make(&request, &count));
    printf("%s: %u pictures. Train with: maquette train %s\n", request.folder, count, request.folder);
    return OK;
}

static int run_folder(const struct options *options, const char *folder)
{
    long long threads;
    struct error error = options_int(options, "threads", 0, POOL_THREADS_MAX, &threads);
    if (error.code) {
        fprintf(stderr, "maquette: %s\n", error.text);
        return exit_usage;
    }
    struct trainer_options trainer = {
        .folder = folder,
        .software = "maquette " MAQUETTE_VERSION,
        .threads = (unsigned)threads,
        .kernels = options_text(options, "kernels"),
        .stop = interrupt_flag(),
        .io = picture_files(),
    };
    enum trainer_exit outcome = generation_is(folder) ? generator_run(&trainer, &error) : trainer_run(&trainer, &error);
    if (outcome == TRAINER_FAILED)
        fprintf(stderr, "maquette: %s\n", error.text);
    return outcome;
}

static int make_or_complain(const struct options *options)
{
    struct arena arena;
    arena_init(&arena, arena_bytes_max);
    struct error error = make_folder(options, &arena);
    arena_finish(&arena);
    if (error.code)
        fprintf(stderr, "maquette: %s\n", error.text);
    return error.code ? exit_failed : exit_ok;
}

int command_train(int argc, char **argv)
{
    struct options options;
    struct error error = options_parse(&option_set, argc, argv, &options);
    if (!error.code && options.help) {
        options_print_help(&option_set, stdout);
        return exit_ok;
    }
    bool init = !error.code && options_text(&options, "init");
    if (!error.code && options.argument_count != (init ? 0 : 1))
        error = error_make(ERR_INVALID, "one job folder is needed: maquette train --help");
    if (error.code) {
        fprintf(stderr, "maquette: %s\n", error.text);
        return exit_usage;
    }
    return init ? make_or_complain(&options) : run_folder(&options, options.arguments[0]);
}
