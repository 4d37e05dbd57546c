/* Events are a program's output: a line may be torn, unknown or wrong, and a path may point anywhere. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/run.h"
#include "media/media.h"

enum { epoch_digits = 6, sample_bytes_max = 32 << 20, generation_bytes_max = 64 << 10 };

/* Weights of the phases in the whole: 5 % to prepare, 90 % to train, 5 % to finish. */
static double whole_progress(double step, double steps)
{
    const double part = steps > 0 ? step / steps : 0;
    return 0.05 + 0.9 * (part < 0 ? 0 : part > 1 ? 1 : part);
}

static const char *status_of_phase(const char *phase)
{
    if (!strcmp(phase, "preparing"))
        return "warming-up";
    return !strcmp(phase, "finalizing") ? "finalizing" : "in-progress";
}

static const char *epoch_name(struct arena *arena, const struct json *event)
{
    const struct json *epoch = json_get(event, "epoch");
    if (epoch && epoch->kind == JSON_STRING && epoch->len <= 32)
        return epoch->text;
    return arena_printf(arena, "%0*lld", epoch_digits, (long long)json_int(event, "epoch", 0));
}

/* A file below out/, reached by no link. */
static struct error open_output(struct arena *arena, const char *dir, const char *path, int *fd)
{
    struct stat status;
    if (strncmp(path, "out/", 4) != 0 || strstr(path, "..") || strlen(path) > 256)
        return error_make(ERR_INVALID, "the runner names a file outside of its folder: %.100s", path);
    *fd = open(arena_printf(arena, "%s/%s", dir, path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd < 0)
        return error_errno("cannot open %s", path);
    if (fstat(*fd, &status) != 0 || !S_ISREG(status.st_mode))
        return error_make(ERR_INVALID, "the runner names something that is no file: %.100s", path);
    return OK;
}

static struct error probe_sample(struct arena *arena, const char *dir, const char *path, struct run_file *file)
{
    struct media_info info;
    char *bytes;
    size_t size;
    TRY(fs_read(arena, arena_printf(arena, "%s/%s", dir, path), sample_bytes_max, &bytes, &size));
    TRY(media_probe(bytes, size, &info));
    if (info.format != MEDIA_PNG)
        return error_make(ERR_INVALID, "the sample %.100s is no PNG", path);
    file->width = info.width;
    file->height = info.height;
    return OK;
}

/* What an asset keeps of the request behind a sample; seeds are text, since they may be larger than a double holds. */
static const char *describe_sample(struct arena *arena, const struct json *event, const char *epoch)
{
    struct buf text;
    const struct json *seed = json_get(event, "seed");
    const char *negative = json_string(event, "negativePrompt", "");
    const char *scheduler = json_string(event, "scheduler", NULL);
    buf_init(&text, generation_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "prompt", json_string(event, "prompt", ""));
    if (*negative)
        json_put_string(&writer, "negativePrompt", negative);
    if (seed && seed->kind == JSON_NUMBER)
        json_put_string(&writer, "seed", seed->text);
    if (json_get(event, "guidance"))
        json_put_number(&writer, "guidance", json_number(event, "guidance", 0));
    if (json_get(event, "strength"))
        json_put_number(&writer, "strength", json_number(event, "strength", 0));
    if (json_get(event, "steps"))
        json_put_int(&writer, "numInferenceSteps", json_int(event, "steps", 0));
    if (scheduler)
        json_put_string(&writer, "scheduler", scheduler);
    json_put_int(&writer, "outputIndex", json_int(event, "promptIndex", 0));
    if (epoch)
        json_put_string(&writer, "modelEpoch", epoch);
    json_close(&writer, '}');
    const char *copy = buf_error(&text).code ? NULL : arena_copy(arena, text.data, text.len);
    buf_finish(&text);
    return copy;
}

static struct error take_file(const struct domain *domain, struct arena *arena, const char *dir,
                              const struct json *event, bool is_sample, struct run_file *file)
{
    CLEANUP_FD int fd = -1;
    const char *path = json_string(event, "path", "");
    *file = (struct run_file){.epoch = epoch_name(arena, event), .is_sample = is_sample};
    TRY(open_output(arena, dir, path, &fd));
    file->name = arena_strdup(arena, path + 4);
    file->prompt = arena_strdup(arena, json_string(event, "prompt", ""));
    if (is_sample) {
        file->generation = describe_sample(arena, event, json_get(event, "epoch") ? file->epoch : NULL);
        TRY(probe_sample(arena, dir, path, file));
    }
    return blob_put_fd(domain->blobs, fd, file->sha256, &file->size);
}

static void read_file_event(const struct domain *domain, struct arena *arena, const char *dir, const struct json *event,
                            bool is_sample, struct run_batch *batch)
{
    const struct error error = take_file(domain, arena, dir, event, is_sample, &batch->files[batch->file_count]);
    if (error.code)
        batch->skipped = error;
    else
        batch->file_count++;
    batch->is_important = true;
}

static void read_event(const struct domain *domain, struct arena *arena, const char *dir, const struct json *event,
                       struct run_batch *batch)
{
    const char *kind = json_string(event, "event", "");
    if (!strcmp(kind, "progress")) {
        batch->progress = whole_progress(json_number(event, "step", 0), json_number(event, "steps", 0));
        batch->remaining_ms = json_int(event, "remainingMs", -1);
    } else if (!strcmp(kind, "phase")) {
        batch->status = status_of_phase(json_string(event, "phase", ""));
        batch->is_important = true;
    } else if (!strcmp(kind, "sample")) {
        read_file_event(domain, arena, dir, event, true, batch);
    } else if (!strcmp(kind, "checkpoint")) {
        read_file_event(domain, arena, dir, event, false, batch);
    } else if (!strcmp(kind, "done")) {
        batch->outcome = RUN_DONE;
    } else if (!strcmp(kind, "canceled")) {
        batch->outcome = RUN_CANCELED;
    } else if (!strcmp(kind, "failed")) {
        batch->outcome = RUN_FAILED;
        batch->error = json_string(event, "error", "the runner failed and did not say why");
        batch->hint = json_string(event, "hint", NULL);
    }
}

/* The bytes from offset on, up to a limit. No file yet is the same as nothing in it. */
static struct error read_tail(struct arena *arena, const char *path, int64_t offset, char **text, size_t *size)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat status;
    *size = 0;
    if (fd < 0)
        return errno == ENOENT ? OK : error_errno("cannot open the events of the runner");
    if (fstat(fd, &status) != 0)
        return error_errno("cannot look at the events of the runner");
    if (status.st_size <= offset)
        return OK;
    const int64_t left = status.st_size - offset;
    const size_t wanted = left < run_read_bytes ? (size_t)left : run_read_bytes;
    *text = arena_alloc(arena, wanted + 1);
    const ssize_t length = pread(fd, *text, wanted, offset);
    if (length < 0)
        return error_errno("cannot read the events of the runner");
    *size = (size_t)length;
    return OK;
}

struct error run_read(const struct domain *domain, struct arena *arena, const char *dir, int64_t offset,
                      struct run_batch *batch)
{
    char *text = NULL;
    size_t size, at = 0;
    *batch = (struct run_batch){.offset = offset, .progress = -1, .remaining_ms = -1};
    TRY(read_tail(arena, arena_printf(arena, "%s/events.ndjson", dir), offset, &text, &size));
    while (at < size && batch->file_count < run_files_max) {
        const char *end = memchr(text + at, '\n', size - at);
        const struct json *event;
        if (!end && size - at < run_read_bytes)
            break;
        const size_t length = end ? (size_t)(end - (text + at)) : size - at;
        if (end && !json_parse(arena, text + at, length, &event).code)
            read_event(domain, arena, dir, event, batch);
        at += length + (end != NULL);
    }
    batch->offset += (int64_t)at;
    batch->is_empty = at == 0;
    batch->is_important |= batch->outcome != RUN_GOES_ON;
    return OK;
}
