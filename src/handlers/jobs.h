/* Jobs as the contract's objects, for the answers of several resources. */
#pragma once

#include "domain/job.h"
#include "handlers/api.h"

struct error render_job(struct call *call, const struct job *job, struct api_job *out)
    __attribute__((warn_unused_result));
