/* JOBDIR/events.ndjson: one JSON object a line, appended with one write each. Readers tail it; a trainer that comes
 * back goes on with the next sequence number. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

struct event_log {
    int fd;
    uint64_t sequence; /* of the last event */
    /* What earlier runs have already announced: */
    unsigned checkpoints; /* highest epoch of a checkpoint event */
    unsigned samples;     /* sample events of that epoch: prompts below this index are done */
    bool done;
    struct buf line; /* under construction */
    struct json_writer writer;
};

/* One trainer at a time: *lock is a descriptor that holds FOLDER/lock until it is closed. ERR_UNAVAILABLE when another
 * one has it. */
struct error folder_lock(const char *folder, int *lock) __attribute__((warn_unused_result));

/* Reads what is there; a torn last line gets its line end and is ignored. */
struct error event_log_open(const char *path, struct event_log *log) __attribute__((warn_unused_result));
void event_log_close(struct event_log *log);

/* Between begin and end, members are written with json_put_* on the writer that begin gives. */
struct json_writer *event_begin(struct event_log *log, const char *event);
struct error event_end(struct event_log *log) __attribute__((warn_unused_result));
/* An event with one text: phase, warning, log. */
struct error event_text(struct event_log *log, const char *event, const char *key, const char *text)
    __attribute__((warn_unused_result));
