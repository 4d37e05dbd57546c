/* Counters of what was answered, for Prometheus (text format 0.0.4). Thread-safe, without locks. */
#pragma once

#include <stdint.h>

#include "base/buf.h"

struct metrics;

struct metrics *metrics_create(void);
void metrics_destroy(struct metrics *metrics);
/* route is an index into api_routes; api_route_count stands for requests that no route fits. */
void metrics_count(struct metrics *metrics, int route, int status, int64_t duration_ms);
void metrics_write(const struct metrics *metrics, struct buf *out);
