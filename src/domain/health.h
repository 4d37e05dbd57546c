/* What operators ask about the state behind the server. */
#pragma once

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"

/* ERR_UNAVAILABLE when the store does not answer. */
struct error health_check(const struct domain *domain) __attribute__((warn_unused_result));

struct health_jobs {
    const char *status; /* those that are not final, in no order; a status without jobs is left out */
    int64_t count;
};
enum { health_statuses_max = 8 };
/* Jobs of all projects that wait or run. jobs has room for health_statuses_max. */
struct error health_count_jobs(const struct domain *domain, struct arena *arena, struct health_jobs *jobs,
                               size_t *count) __attribute__((warn_unused_result));
