/* Subcommands that work on the database file itself, also while a server runs. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "options.h"
#include "store/db.h"

/* Parses, opens what --data names, runs, and says what went wrong. Returns an exit status. */
int command_on_database(const struct option_set *set, int argc, char **argv,
                        struct error (*run)(struct db *db, struct arena *arena, const struct options *options));
/* Prints a JSON document, or nothing when it outgrew its buffer, which is the error then. Finishes the buffer. */
struct error print_document(struct buf *out) __attribute__((warn_unused_result));
