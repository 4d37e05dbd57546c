/* Options: the command line over the environment over the fallback. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "options.h"

static const struct option list[] = {
    {"data-dir", "DIR", NULL, "where things are"},
    {"workers", "N", "4", "how many"},
    {"log-json", NULL, NULL, "log as JSON"},
    {0},
};
static const struct option_set set = {"maquette test [options]", "A test.", list};

/* The literals are not written to. */
#define PARSE(options, ...)                                                                                            \
    options_parse(&set, (int)(sizeof((const char *[]){"test", __VA_ARGS__}) / sizeof(char *)),                         \
                  (char **)(const char *[]){"test", __VA_ARGS__}, (options))

static void the_command_line_wins_over_the_environment_over_the_fallback(void **state)
{
    (void)state;
    struct options options;
    long long workers;
    assert_ok(PARSE(&options, "x"));
    assert_ok(options_int(&options, "workers", 1, 64, &workers));
    assert_int_equal(workers, 4);
    assert_null(options_text(&options, "data-dir"));
    setenv("MAQUETTE_WORKERS", "8", 1);
    setenv("MAQUETTE_DATA_DIR", "/env", 1);
    assert_ok(PARSE(&options, "--data-dir=/line", "--log-json", "one", "--", "--two"));
    unsetenv("MAQUETTE_WORKERS");
    unsetenv("MAQUETTE_DATA_DIR");
    assert_ok(options_int(&options, "workers", 1, 64, &workers));
    assert_int_equal(workers, 8);
    assert_string_equal(options_text(&options, "data-dir"), "/line");
    assert_true(options_flag(&options, "log-json"));
    assert_int_equal(options.argument_count, 2);
    assert_string_equal(options.arguments[1], "--two");
}

static void what_is_wrong_is_refused_by_name(void **state)
{
    (void)state;
    struct options options;
    struct error error = PARSE(&options, "--nothing");
    assert_string_equal(error.text, "unknown option --nothing");
    error = PARSE(&options, "--data-dir");
    assert_string_equal(error.text, "--data-dir needs a value: DIR");
    error = PARSE(&options, "--log-json=1");
    assert_string_equal(error.text, "--log-json takes no value");
    static const char *const wrong[] = {"", "x", "0", "65", "4x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        long long workers;
        assert_ok(PARSE(&options, "--workers", wrong[i]));
        error = options_int(&options, "workers", 1, 64, &workers);
        assert_string_equal(error.text, "--workers must be a whole number from 1 to 64");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_line_wins_over_the_environment_over_the_fallback),
        cmocka_unit_test(what_is_wrong_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
