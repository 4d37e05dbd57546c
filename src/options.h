/* Command-line options with environment twins: --data DIR is MAQUETTE_DATA, --log-json is MAQUETTE_LOG_JSON=1. The
 * command line wins over the environment, which wins over the fallback. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

enum { options_max = 32, arguments_max = 64 };

struct option {
    const char *name;     /* without the dashes */
    const char *value;    /* what stands for it in the help, such as "DIR"; NULL: a flag, on when given */
    const char *fallback; /* NULL: none */
    const char *help;
};

/* A subcommand's options as a table; ends with a row without a name. */
struct option_set {
    const char *usage; /* "maquette serve [options]" */
    const char *about; /* one or more sentences */
    const struct option *list;
};

struct options {
    const struct option *list;
    const char *values[options_max];      /* in the order of list; NULL when not given and without a fallback */
    const char *arguments[arguments_max]; /* what is no option, in order */
    int argument_count;
    bool help; /* --help or -h was given */
};

/* argv[0] is the subcommand. `--name VALUE`, `--name=VALUE`, `--flag`, and `--` before arguments that begin with a
 * dash. ERR_INVALID for what is unknown or lacks its value. Texts are borrowed from argv, the environment and the
 * table. */
struct error options_parse(const struct option_set *set, int argc, char **argv, struct options *options)
    __attribute__((warn_unused_result));
void options_print_help(const struct option_set *set, FILE *out);

/* name must be in the table. */
const char *options_text(const struct options *options, const char *name); /* or NULL */
bool options_flag(const struct options *options, const char *name);
/* A whole number from min to max; needs a value or a fallback. */
struct error options_int(const struct options *options, const char *name, long long min, long long max,
                         long long *value) __attribute__((warn_unused_result));
