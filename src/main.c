/* Finds the subcommand. What each does is in the file of its name. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct command {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "answer the API over HTTP and run its trainings", command_serve},
    {"keys", "create, list and revoke API keys", command_keys},
    {"teams", "list teams and set what they allow", command_teams},
    {"train", "run one training, or make a job folder of local images", command_train},
    {"pretrain", "train a small base model from nothing", command_pretrain},
    {"convert", "write a LoRA file under the names of other tools", command_convert},
    {"generate", "make a picture of a prompt, with or without a LoRA", command_generate},
};
enum { command_count = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fputs("usage: maquette SUBCOMMAND [options]\n\n"
          "A server for models, data sets and trainings, with a training engine inside.\n\n",
          out);
    for (int i = 0; i < command_count; i++)
        fprintf(out, "  %-10s%s\n", commands[i].name, commands[i].about);
    fputs("\nmaquette SUBCOMMAND --help says more. maquette --version prints the version.\n", out);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (int i = 0; i < command_count; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0) {
        puts("maquette " MAQUETTE_VERSION);
        return exit_ok;
    }
    bool asked = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    print_help(asked ? stdout : stderr);
    return asked ? exit_ok : exit_usage;
}
