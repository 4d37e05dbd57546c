/* Whether the store answers. */
#pragma once

#include "base/error.h"
#include "domain/domain.h"

/* ERR_UNAVAILABLE when it does not. */
struct error health_check(const struct domain *domain) __attribute__((warn_unused_result));
