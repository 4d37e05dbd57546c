#include "blob/blob.h"

#include <errno.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"

void blob_destroy(struct blob_store *store)
{
    if (store)
        store->destroy(store);
}

struct error blob_put_bytes(struct blob_store *store, const void *bytes, size_t size, char sha256[sha256_hex_size])
{
    struct blob_put *put = NULL;
    int64_t stored;
    TRY(store->begin(store, &put));
    struct error error = store->append(put, bytes, size);
    if (!error.code)
        error = store->finish(&put, sha256, &stored);
    store->cancel(put);
    return error;
}

static struct error append_fd(struct blob_store *store, struct blob_put *put, int fd)
{
    char chunk[65536];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got == 0)
            return OK;
        if (got < 0 && errno != EINTR)
            return error_errno("read the file to store");
        if (got > 0)
            TRY(store->append(put, chunk, (size_t)got));
    }
}

struct error blob_put_fd(struct blob_store *store, int fd, char sha256[sha256_hex_size], int64_t *size)
{
    struct blob_put *put = NULL;
    TRY(store->begin(store, &put));
    struct error error = append_fd(store, put, fd);
    if (!error.code)
        error = store->finish(&put, sha256, size);
    store->cancel(put);
    return error;
}

struct error blob_read(struct blob_store *store, struct arena *arena, const char *sha256, size_t size_max, char **bytes,
                       size_t *size)
{
    CLEANUP_FD int fd = -1;
    int64_t stored = 0;
    TRY(store->open(store, sha256, &fd, &stored));
    if (stored < 0 || (uint64_t)stored > size_max)
        return error_make(ERR_TOO_LARGE, "the stored file is larger than %zu bytes", size_max);
    *size = (size_t)stored;
    *bytes = arena_alloc(arena, *size + 1);
    for (size_t done = 0; done < *size;) {
        ssize_t got = read(fd, *bytes + done, *size - done);
        if (got == 0)
            return error_make(ERR_CORRUPT, "the stored file %.16s is shorter than it was", sha256);
        if (got < 0 && errno != EINTR)
            return error_errno("read the stored file %.16s", sha256);
        done += got > 0 ? (size_t)got : 0;
    }
    return OK;
}
