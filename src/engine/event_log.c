#include "engine/event_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"

enum { line_bytes_max = 64 << 10, line_arena_max = 1 << 20 };

struct error folder_lock(const char *folder, int *lock)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/lock", folder) >= (int)sizeof path)
        return error_make(ERR_INVALID, "the job folder's path is too long");
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock < 0)
        return error_errno("open %s", path);
    if (flock(*lock, LOCK_EX | LOCK_NB) < 0)
        return error_make(ERR_UNAVAILABLE, "another trainer runs in %s", folder);
    return OK;
}

static void note_past_event(struct event_log *log, const struct json *event)
{
    const char *name = json_string(event, "event", "");
    unsigned epoch = (unsigned)json_int(event, "epoch", 0);
    int64_t sequence = json_int(event, "seq", 0);
    if (sequence > (int64_t)log->sequence)
        log->sequence = (uint64_t)sequence;
    if (strcmp(name, "checkpoint") == 0 && epoch > log->checkpoints) {
        log->checkpoints = epoch;
        log->samples = 0;
    }
    if (strcmp(name, "sample") == 0 && epoch == log->checkpoints)
        log->samples = (unsigned)json_int(event, "promptIndex", 0) + 1;
    log->done = log->done || strcmp(name, "done") == 0;
}

static struct error read_past(struct event_log *log, FILE *file)
{
    CLEANUP_FREE char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    bool torn = false;
    while ((size = getline(&line, &capacity, file)) > 0) {
        struct arena arena;
        const struct json *event;
        torn = line[size - 1] != '\n';
        arena_init(&arena, line_arena_max);
        if (size < line_bytes_max && json_parse(&arena, line, (size_t)size, &event).code == ERR_NONE)
            note_past_event(log, event);
        arena_finish(&arena);
    }
    if (ferror(file))
        return error_errno("read the events");
    return torn ? fs_write_all(log->fd, "\n", 1) : OK;
}

struct error event_log_open(const char *path, struct event_log *log)
{
    *log = (struct event_log){.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)};
    if (log->fd < 0)
        return error_errno("open %s", path);
    buf_init(&log->line, line_bytes_max);
    CLEANUP_FILE FILE *file = fopen(path, "re");
    if (!file)
        return error_errno("open %s", path);
    return read_past(log, file);
}

void event_log_close(struct event_log *log)
{
    cleanup_fd(&log->fd);
    log->fd = -1;
    buf_finish(&log->line);
}

struct json_writer *event_begin(struct event_log *log, const char *event)
{
    buf_clear(&log->line);
    log->writer = (struct json_writer){.out = &log->line};
    json_open(&log->writer, NULL, '{');
    json_put_int(&log->writer, "seq", (int64_t)++log->sequence);
    json_put_int(&log->writer, "time", clock_now_ms());
    json_put_string(&log->writer, "event", event);
    return &log->writer;
}

struct error event_end(struct event_log *log)
{
    json_close(&log->writer, '}');
    buf_putc(&log->line, '\n');
    TRY(buf_error(&log->line));
    return fs_write_all(log->fd, log->line.data, log->line.len);
}

struct error event_text(struct event_log *log, const char *event, const char *key, const char *text)
{
    json_put_string(event_begin(log, event), key, text);
    return event_end(log);
}
