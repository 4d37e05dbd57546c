/* Trains a base model's UNet and text encoder from nothing, as a folder that is complete in itself: job.json, pictures,
 * events.ndjson, state/, out/. The same folder gives the same bytes in out/ for any number of threads and of
 * interruptions. Plain mean squared error of the velocity (or what the schedule predicts), AdamW, averaged weights. */
#pragma once

#include "engine/trainer.h"

/* options as for trainer_run. A folder that has been trained to its last step only writes out/ again; with more steps
 * in job.json it goes on, unless the learning rate had begun to fall. */
enum trainer_exit pretrain_run(const struct trainer_options *options, struct error *error);
