/* Where the base model that ships is. */
#pragma once

#include "base/arena.h"

/* The folder base-models/tiny beside the executable's tree, or in the source tree; NULL when it is nowhere. */
char *default_base_path(struct arena *arena);
