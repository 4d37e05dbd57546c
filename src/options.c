#include "options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { variable_bytes_max = 64, help_column = 28 };

static const char *const prefix = "MAQUETTE_";

static void variable_name(const char *option, char name[variable_bytes_max])
{
    size_t length = strlen(prefix);
    assert(length + strlen(option) < variable_bytes_max);
    memcpy(name, prefix, length);
    for (; *option; option++)
        name[length++] = *option == '-' ? '_' : (char)toupper((unsigned char)*option);
    name[length] = '\0';
}

static void take_defaults(struct options *options)
{
    for (int i = 0; options->list[i].name; i++) {
        assert(i < options_max);
        char variable[variable_bytes_max];
        variable_name(options->list[i].name, variable);
        const char *value = getenv(variable);
        options->values[i] = value && *value ? value : options->list[i].fallback;
    }
}

/* -1 when the table has no such name. */
static int find(const struct option *list, const char *name, size_t length)
{
    for (int i = 0; list[i].name; i++)
        if (strncmp(list[i].name, name, length) == 0 && !list[i].name[length])
            return i;
    return -1;
}

/* Takes argv[*at], which begins with "--", and the value after it when it has one. */
static struct error take_option(struct options *options, int argc, char **argv, int *at)
{
    const char *text = argv[*at] + 2;
    size_t length = strcspn(text, "=");
    int index = find(options->list, text, length);
    if (index < 0)
        return error_make(ERR_INVALID, "unknown option --%.*s", (int)length, text);
    bool wants_value = options->list[index].value;
    if (!wants_value && text[length])
        return error_make(ERR_INVALID, "--%.*s takes no value", (int)length, text);
    if (!wants_value)
        options->values[index] = "1";
    else if (text[length])
        options->values[index] = text + length + 1;
    else if (*at + 1 < argc)
        options->values[index] = argv[++*at];
    else
        return error_make(ERR_INVALID, "--%s needs a value: %s", text, options->list[index].value);
    return OK;
}

struct error options_parse(const struct option_set *set, int argc, char **argv, struct options *options)
{
    *options = (struct options){.list = set->list};
    take_defaults(options);
    bool only_arguments = false;
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        if (!only_arguments && strcmp(text, "--") == 0) {
            only_arguments = true;
        } else if (!only_arguments && (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)) {
            options->help = true;
        } else if (!only_arguments && strncmp(text, "--", 2) == 0) {
            TRY(take_option(options, argc, argv, &i));
        } else {
            if (options->argument_count == arguments_max)
                return error_make(ERR_INVALID, "more than %d arguments", arguments_max);
            options->arguments[options->argument_count++] = text;
        }
    }
    return OK;
}

void options_print_help(const struct option_set *set, FILE *out)
{
    fprintf(out, "usage: %s\n\n%s\n\noptions:\n", set->usage, set->about);
    for (const struct option *option = set->list; option->name; option++) {
        const char *value = option->value ? option->value : "";
        int width = fprintf(out, "  --%s%s%s", option->name, *value ? " " : "", value);
        fprintf(out, "%*s%s", width < help_column ? help_column - width : 1, "", option->help);
        if (option->fallback)
            fprintf(out, " (default %s)", option->fallback);
        fputc('\n', out);
    }
    fprintf(out, "  --%-*s%s\n\n", help_column - 4, "help", "print this");
    fputs("Each option has an environment twin: --some-name is MAQUETTE_SOME_NAME.\n", out);
}

const char *options_text(const struct options *options, const char *name)
{
    int index = find(options->list, name, strlen(name));
    assert(index >= 0);
    return options->values[index];
}

bool options_flag(const struct options *options, const char *name)
{
    const char *value = options_text(options, name);
    return value && strcmp(value, "0") != 0 && strcmp(value, "false") != 0;
}

struct error options_int(const struct options *options, const char *name, long long min, long long max,
                         long long *value)
{
    const char *text = options_text(options, name);
    char *end = NULL;
    errno = 0;
    *value = text ? strtoll(text, &end, 10) : 0;
    if (!text || end == text || *end || errno || *value < min || *value > max)
        return error_make(ERR_INVALID, "--%s must be a whole number from %lld to %lld", name, min, max);
    return OK;
}
