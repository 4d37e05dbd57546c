/* Inside the room: the files that a download is made of. */
#pragma once

#include "domain/download.h"
#include "domain/model.h"

struct weights {
    const char *name, *epoch, *sha256; /* epoch "": the end of the training */
    int64_t size;
};

/* One LoRA: the model itself, or a part of a composition. */
struct download_part {
    struct model model;
    double scale; /* in the composition */
    struct weights *files;
    size_t count;
    const struct weights *chosen;
};

struct download_contents {
    struct model model;
    bool is_composition;
    struct download_part *parts;
    size_t part_count;
    const char *record; /* of the training, JSON; NULL: none */
    const char *format;
    int64_t made_at;
};

/* What model, format and epoch (NULL: the end of the training) give: is_composition, parts. model and format are set
 * already. ERR_INVALID: an epoch or format that is not to be had, weights that are not there; ERR_FORBIDDEN: a part of
 * another project's. */
struct error download_find_parts(struct db_tx *tx, struct arena *arena, const char *epoch,
                                 struct download_contents *contents) __attribute__((warn_unused_result));
