#include "default_base.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

static char *executable_folder(struct arena *arena)
{
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size <= 0)
        return arena_strdup(arena, ".");
    path[size] = '\0';
    *strrchr(path, '/') = '\0';
    return arena_strdup(arena, path);
}

char *default_base_path(struct arena *arena)
{
    const char *folder = executable_folder(arena);
    const char *const candidates[] = {
        arena_printf(arena, "%s/../base-models/tiny", folder),
        arena_printf(arena, "%s/../../base-models/tiny", folder),
        arena_printf(arena, "%s/../share/maquette/base-models/tiny", folder),
        MAQUETTE_SOURCE "/base-models/tiny",
    };
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        char real[PATH_MAX];
        if (fs_exists(arena_printf(arena, "%s/model_index.json", candidates[i])) && realpath(candidates[i], real))
            return arena_strdup(arena, real);
    }
    return NULL;
}
