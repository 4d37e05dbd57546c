/* What lists that are sorted by a date can be asked for: the order, and bounds of that date. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct list_query { /* as sent; NULL for what was not */
    const char *sort_by, *sort_direction;
    const char *created_after, *created_before, *updated_after, *updated_before;
};
struct list_order {
    bool ascending;
    int64_t after, before; /* 0 for none */
};
/* A date bounds the column that the list is sorted by, and no other. */
struct error list_query_read(const struct list_query *query, struct list_order *order)
    __attribute__((warn_unused_result));
