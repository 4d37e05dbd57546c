/* Which asset stands for which: what copying, transferring and deleting give to whatever names assets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

struct asset_map_entry {
    const char *from; /* NULL: a free place */
    const char *to;   /* NULL: it leaves */
};

struct asset_map {
    struct arena *arena;
    struct asset_map_entry *places; /* a hash table; walk all of them to visit each entry */
    size_t capacity, count;
};

/* A map starts as {.arena = arena}. Ids are borrowed. Putting an id again changes what stands for it. */
void asset_map_put(struct asset_map *map, const char *from, const char *to);
const struct asset_map_entry *asset_map_find(const struct asset_map *map, const char *from); /* NULL: not in it */
/* What stands for an id: the id itself when it is not in the map, NULL when it leaves. NULL stays NULL. */
const char *asset_map_get(const struct asset_map *map, const char *id);

/* [{"epoch":"000001","assetIds":["asset_..."]}] with what stands for its samples. NULL stays NULL. */
const char *asset_map_epochs(const struct asset_map *map, const char *epochs);
/* Any text, such as JSON or Markdown: a word that is an id in the map becomes what stands for it, and stays when that
 * leaves. NULL stays NULL. */
const char *asset_map_text(const struct asset_map *map, const char *text);
