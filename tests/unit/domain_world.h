/* A domain of its own for a test: a database and blobs in a temporary folder, and the callers of two projects of a
 * team. */
#pragma once

#include "unit.h"

#include "domain/asset.h"
#include "domain/domain.h"
#include "domain/model.h"

struct world {
    struct arena arena;
    char directory[64];
    struct domain domain;
    sem_t decoding;
    struct caller caller, stranger;
};

int setup(void **state); /* *state becomes a struct world */
int teardown(void **state);

const char *path_in(struct world *world, const char *name);
void make_caller(struct world *world, const char *project, struct caller *caller);
struct picture take_picture(struct world *world, int shade, const char *name); /* each shade is one of its own */
struct model make_model(struct world *world); /* the caller's, of type sd-1_5-lora, named icons */
struct model get_model(struct world *world, const char *id);
