/* maquette pretrain: trains a small base model from nothing. */
#include <stdio.h>

#include "commands.h"
#include "engine/pretrain.h"
#include "interrupt.h"
#include "options.h"
#include "picture_files.h"

static const struct option option_list[] = {
    {"threads", "N", "0", "0: what job.json says, or one a core"},
    {"kernels", "NAME", NULL, "avx512, avx2 or portable (default: the fastest of this CPU). The results are the same"},
    {0},
};

static const struct option_set option_set = {
    .usage = "maquette pretrain FOLDER [--threads N]",
    .about = "Trains the UNet and the text encoder of a base model as FOLDER/job.json says, or goes on where it was\n"
             "stopped. Progress is in FOLDER/events.ndjson, the weights and the curve so far are in FOLDER/out.\n"
             "SIGTERM saves the state and ends it. base-models/README.md tells how the base model that ships was made.",
    .list = option_list,
};

int command_pretrain(int argc, char **argv)
{
    struct options options;
    long long threads = 0;
    struct error error = options_parse(&option_set, argc, argv, &options);
    if (!error.code && options.help) {
        options_print_help(&option_set, stdout);
        return exit_ok;
    }
    if (!error.code)
        error = options_int(&options, "threads", 0, POOL_THREADS_MAX, &threads);
    if (!error.code && options.argument_count != 1)
        error = error_make(ERR_INVALID, "one folder is needed: maquette pretrain --help");
    if (error.code) {
        fprintf(stderr, "maquette: %s\n", error.text);
        return exit_usage;
    }
    struct trainer_options trainer = {
        .folder = options.arguments[0],
        .software = "maquette " MAQUETTE_VERSION,
        .threads = (unsigned)threads,
        .kernels = options_text(&options, "kernels"),
        .stop = interrupt_flag(),
        .io = picture_files(),
    };
    enum trainer_exit outcome = pretrain_run(&trainer, &error);
    if (outcome == TRAINER_FAILED)
        fprintf(stderr, "maquette: %s\n", error.text);
    return outcome;
}
