#include "handlers/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "api_routes.h"

/* Statuses that handlers give; anything else is counted as the last, 0. */
static const int statuses[] = {200, 269, 400, 401, 403, 404, 405, 413, 429, 500, 503, 507, 0};
static const int bucket_ms[] = {1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000};
enum {
    status_count = sizeof statuses / sizeof *statuses,
    bucket_count = sizeof bucket_ms / sizeof *bucket_ms,
    route_count = api_route_count + 1,
};

struct metrics {
    atomic_uint_fast64_t answers[route_count][status_count];
    atomic_uint_fast64_t buckets[bucket_count + 1]; /* not yet summed up; the last is for what took longer */
    atomic_uint_fast64_t total_ms;
};

struct metrics *metrics_create(void)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        abort();
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    free(metrics);
}

void metrics_count(struct metrics *metrics, int route, int status, int64_t duration_ms)
{
    int at = 0, bucket = 0;
    while (statuses[at] != status && statuses[at])
        at++;
    while (bucket < bucket_count && duration_ms > bucket_ms[bucket])
        bucket++;
    atomic_fetch_add_explicit(&metrics->answers[route][at], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->total_ms, (uint64_t)duration_ms, memory_order_relaxed);
}

static unsigned long long load(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void write_answers(const struct metrics *metrics, struct buf *out)
{
    buf_puts(out, "# HELP maquette_requests_total Answers by operation and status.\n"
                  "# TYPE maquette_requests_total counter\n");
    for (int route = 0; route < route_count; route++) {
        const char *operation = route < api_route_count ? api_routes[route].operation : "none";
        for (int status = 0; status < status_count; status++) {
            unsigned long long count = load(&metrics->answers[route][status]);
            if (count)
                buf_printf(out, "maquette_requests_total{operation=\"%s\",status=\"%d\"} %llu\n", operation,
                           statuses[status], count);
        }
    }
}

void metrics_write(const struct metrics *metrics, struct buf *out)
{
    write_answers(metrics, out);
    buf_puts(out, "# HELP maquette_request_seconds From the header to the handler's end.\n"
                  "# TYPE maquette_request_seconds histogram\n");
    unsigned long long sum = 0;
    for (int i = 0; i < bucket_count; i++) {
        sum += load(&metrics->buckets[i]);
        buf_printf(out, "maquette_request_seconds_bucket{le=\"%g\"} %llu\n", bucket_ms[i] / 1000.0, sum);
    }
    sum += load(&metrics->buckets[bucket_count]);
    buf_printf(out, "maquette_request_seconds_bucket{le=\"+Inf\"} %llu\n", sum);
    buf_printf(out, "maquette_request_seconds_sum %g\n", (double)load(&metrics->total_ms) / 1000.0);
    buf_printf(out, "maquette_request_seconds_count %llu\n", sum);
}
