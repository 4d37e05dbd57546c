/* Deletes stored bytes that no row refers to. First the row of the blob goes, in a transaction that sees that nothing
 * refers to it, then its file, and only when it has not been put again since (blob.h). A crash between the two leaves a
 * file without a row, which the sweep of the next start finds. */
#pragma once

#include "base/error.h"
#include "domain/domain.h"
#include "domain/purge.h"

/* Rows first, then files. removed counts files; may be NULL. age_ms spares what was put later than that. */
struct error collector_run(const struct domain *domain, int64_t age_ms, int64_t *removed)
    __attribute__((warn_unused_result));

/* A thread that purges what was deleted and then runs it, at the start and every ten minutes. */
struct collector;
struct collector_options {
    const struct domain *domain;
    const char *jobs_dir;
    void (*failed)(struct error error);          /* called with each error, on that thread */
    void (*purged)(const struct purged *purged); /* and when something was */
};
struct error collector_start(struct collector **collector, const struct collector_options *options)
    __attribute__((warn_unused_result));
void collector_stop(struct collector *collector); /* NULL is fine */
