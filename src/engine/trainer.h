/* Runs a job folder from beginning, or from where it stopped, to end. All that goes in and out is files of the folder:
 * job.json, dataset/, events.ndjson, state/, out/. The same folder gives the same out/ weights for any number of
 * threads and of interruptions. */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/pictures.h"

enum trainer_exit { TRAINER_DONE = 0, TRAINER_FAILED = 1, TRAINER_CANCELED = 143 };

struct trainer_options {
    const char *folder;
    const char *software;              /* "maquette 1.2.3", for the record */
    unsigned threads;                  /* 0: what job.json says; 0 there: one a core */
    const char *kernels;               /* "avx512", "avx2" or "portable"; NULL: the fastest of this CPU */
    const volatile sig_atomic_t *stop; /* nonzero: save the state, say "canceled" and return, within a second */
    struct picture_io io;
    uint64_t memory_bytes;      /* what may be used; 0: what the machine has free */
    unsigned state_interval_ms; /* 0: ten seconds of training between states */
};

/* A finished folder is left as it is. On TRAINER_FAILED, *error says what was wrong; the last event does too, unless
 * another trainer holds the folder's lock or nothing can be written. */
enum trainer_exit trainer_run(const struct trainer_options *options, struct error *error);
