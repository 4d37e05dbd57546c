#include "engine/run_end.h"

enum trainer_exit run_conclude(const struct run_end *end, struct arena *arena, struct error *error)
{
    if (!error->code)
        return TRAINER_DONE;
    if (error->code == ERR_CANCELED) {
        *error = end->canceled(end->run);
        if (!error->code)
            return TRAINER_CANCELED;
    }
    const struct error kept = error_keep(arena, *error), unsaid = end->failed(end->run, kept);
    *error = unsaid.code ? error_make(kept.code, "%s (and the event log: %s)", kept.text, unsaid.text)
                         : error_make(kept.code, "%s", kept.text); /* out of the arena that ends with the run */
    return TRAINER_FAILED;
}
