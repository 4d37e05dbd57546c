/* Deletes stored bytes that no row refers to. First the row of the blob goes, in a transaction that sees that nothing
 * refers to it, then its file, and only when it has not been put again since (blob.h). A crash between the two leaves a
 * file without a row, which the sweep of the next start finds. */
#pragma once

#include "domain/domain.h"
#include "base/error.h"

/* Rows first, then files. removed counts files; may be NULL. age_ms spares what was put later than that. */
struct error collector_run(const struct domain *domain, int64_t age_ms, int64_t *removed)
    __attribute__((warn_unused_result));

/* A thread that runs it at the start and every ten minutes. failed is called with each error, on that thread. */
struct collector;
struct error collector_start(struct collector **collector, const struct domain *domain,
                             void (*failed)(struct error error)) __attribute__((warn_unused_result));
void collector_stop(struct collector *collector); /* NULL is fine */
