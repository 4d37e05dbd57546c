/* The server's object graph, built by serve.c and handed to every handler. All of it is thread-safe. */
#pragma once

#include "domain/domain.h"

struct documents;
struct key_ring;
struct metrics;
struct scheduler;

struct app {
    struct domain *domain;
    struct key_ring *keys;
    struct scheduler *scheduler;
    struct metrics *metrics;
    struct documents *documents;
    const char *version;
};
