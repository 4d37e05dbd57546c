#include "on_database.h"

#include <stdio.h>

#include "base/fs.h"
#include "commands.h"

enum { arena_bytes_max = 64 << 20 };

static struct error open_and_run(struct arena *arena, const struct options *options,
                                 struct error (*run)(struct db *db, struct arena *arena, const struct options *options))
{
    struct db *db;
    const char *data = options_text(options, "data");
    TRY(fs_make_dirs(data));
    const char *path = arena_printf(arena, "%s/maquette.db", data);
    TRY(db_open_sqlite(&db, &(struct db_options){.path = path, .readers = 1}));
    struct error error = run(db, arena, options);
    db_close(db);
    return error;
}

int command_on_database(const struct option_set *set, int argc, char **argv,
                        struct error (*run)(struct db *db, struct arena *arena, const struct options *options))
{
    struct options options;
    struct error error = options_parse(set, argc, argv, &options);
    if (!error.code && options.help) {
        options_print_help(set, stdout);
        return exit_ok;
    }
    struct arena arena;
    arena_init(&arena, arena_bytes_max);
    if (!error.code)
        error = open_and_run(&arena, &options, run);
    if (error.code)
        fprintf(stderr, "maquette %s: %s\n", argv[0], error.text);
    arena_finish(&arena);
    return !error.code ? exit_ok : error.code == ERR_INVALID ? exit_usage : exit_failed;
}

struct error print_document(struct buf *out)
{
    struct error error = buf_error(out);
    if (!error.code)
        printf("%.*s\n", (int)out->len, out->data);
    buf_finish(out);
    return error;
}
