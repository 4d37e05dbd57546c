/* Named bytes: each is stored once under the SHA-256 of its content, whole and durable or not at all.
 *
 * Who deletes: a collector that knows which rows refer to a blob. It may race with an upload of the same bytes, so
 * every put marks the blob as fresh, and remove_stale spares what is fresher than the age it is given. Whoever puts
 * must have committed the row that refers to the blob within that age. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/crypt.h"
#include "base/error.h"

struct blob_put; /* bytes on their way in */

struct blob_store {
    /* Append any number of times, then finish; cancel at any time (NULL is fine), also after a finish that failed.
     * A finish that succeeds ends the put: sha256 names the bytes, which are durable; *put becomes NULL. */
    struct error (*begin)(struct blob_store *store, struct blob_put **put);
    struct error (*append)(struct blob_put *put, const void *bytes, size_t size);
    struct error (*finish)(struct blob_put **put, char sha256[sha256_hex_size], int64_t *size);
    void (*cancel)(struct blob_put *put);

    /* fd is the caller's, open for reading. ERR_NOT_FOUND when there is no such blob. */
    struct error (*open)(struct blob_store *store, const char *sha256, int *fd, int64_t *size);
    /* Deletes it unless it was put within the last age_ms. Absent is fine. */
    struct error (*remove_stale)(struct blob_store *store, const char *sha256, int64_t age_ms, bool *removed);
    /* Calls visit for every blob until one fails. */
    struct error (*walk)(struct blob_store *store, struct error (*visit)(void *context, const char *sha256),
                         void *context);
    void (*destroy)(struct blob_store *store);
};

/* Files DIRECTORY/ab/cdef... The directory is made. One process at a time. */
struct error blob_file_create(struct blob_store **store, const char *directory) __attribute__((warn_unused_result));
void blob_destroy(struct blob_store *store); /* NULL is fine */

/* The usual calls, for any driver. */
struct error blob_put_bytes(struct blob_store *store, const void *bytes, size_t size, char sha256[sha256_hex_size])
    __attribute__((warn_unused_result));
struct error blob_put_fd(struct blob_store *store, int fd, char sha256[sha256_hex_size], int64_t *size)
    __attribute__((warn_unused_result)); /* from the current offset to the end */
struct error blob_read(struct blob_store *store, struct arena *arena, const char *sha256, size_t size_max, char **bytes,
                       size_t *size) __attribute__((warn_unused_result));
