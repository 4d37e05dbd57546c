#include "handlers/list_query.h"

#include <string.h>

#include "base/clock.h"

static bool is(const char *text, const char *value)
{
    return text && !strcmp(text, value);
}

/* A bound for the filter, where 0 means none. */
static struct error read_date(const char *name, const char *text, int64_t *bound)
{
    int64_t ms;
    if (!text)
        return OK;
    if (!clock_parse_iso(text, &ms))
        return error_field(name, "must be a date such as 2026-01-31T12:00:00.000Z");
    *bound = ms ? ms : 1;
    return OK;
}

static struct error read_dates(const char *column, const char *sort_by, const char *after_name, const char *after,
                               const char *before_name, const char *before, struct list_order *order)
{
    if ((after || before) && !is(sort_by, column))
        return error_field(after ? after_name : before_name, "must be used together with sortBy=%s", column);
    TRY(read_date(after_name, after, &order->after));
    return read_date(before_name, before, &order->before);
}

struct error list_query_read(const struct list_query *query, struct list_order *order)
{
    const bool by_date = is(query->sort_by, "createdAt") || is(query->sort_by, "updatedAt");
    *order = (struct list_order){.ascending = is(query->sort_direction, "asc")};
    if (query->sort_direction && !by_date)
        return error_field("sortDirection", "must be used together with sortBy to createdAt or updatedAt");
    TRY(read_dates("createdAt", query->sort_by, "createdAfter", query->created_after, "createdBefore",
                   query->created_before, order));
    return read_dates("updatedAt", query->sort_by, "updatedAfter", query->updated_after, "updatedBefore",
                      query->updated_before, order);
}
