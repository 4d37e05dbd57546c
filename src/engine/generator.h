/* Draws the pictures of a generation's folder, from the first or from where it stopped. In: job.json, loras/; out:
 * events.ndjson, out/samples/00.png and so on, each placed by rename, and out/result.json. The same folder gives the
 * same pictures for any number of threads and of interruptions. */
#pragma once

#include "engine/trainer.h"

/* state_interval_ms is not used: a picture is the unit of what is saved. */
enum trainer_exit generator_run(const struct trainer_options *options, struct error *error);
