/* What a training needs to go on exactly where it stopped: JOBDIR/state/step-NNNNNN.safetensors, the last two of them.
 */
#pragma once

#include "base/error.h"
#include "engine/optimizer.h"

enum { STATE_LEARNERS_MAX = 2 };

struct state {
    struct learner
        *learners[STATE_LEARNERS_MAX]; /* UNet, text; NULL for none. Values and moments are read and written */
    unsigned step;                     /* optimizer steps done */
    float *losses;                     /* [step], room for losses_max */
    unsigned losses_max;               /* steps of the whole training */
    double seconds;                    /* trained so far */
    const char *fingerprint;           /* of the job */
};

/* Durable when OK; older ones than the last two are removed. path (of the new file, relative to folder) may be NULL. */
struct error state_save(const char *folder, const struct state *state, char path[64])
    __attribute__((warn_unused_result));
/* The newest whole state of this very job; one that cannot be read is passed over for the one before. step is 0 when
 * there is none. */
struct error state_load(const char *folder, struct state *state) __attribute__((warn_unused_result));
