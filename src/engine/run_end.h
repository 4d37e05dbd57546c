/* How every run of a folder ends, a training's as a generation's: its last event, and the error for the caller. */
#pragma once

#include "base/arena.h"
#include "engine/trainer.h"

struct run_end {
    void *run;
    /* Keep what a resume needs, and write the event. What fails here makes a failed run of a canceled one. */
    struct error (*canceled)(void *run);
    struct error (*failed)(void *run, struct error error);
};

/* error: of the run. Afterwards OK unless TRAINER_FAILED is the answer, and not in the arena, which may end. */
enum trainer_exit run_conclude(const struct run_end *end, struct arena *arena, struct error *error);
