/* Blobs as files. A put goes to new/N, is synced, renamed to ab/cdef... and its directory synced: a crash leaves either
 * no blob, or a whole one, or a file in new/, which the next start removes. The file's time says when it was last put.
 */
#include "blob/blob.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"

enum { name_size = 80, directories = 256 };

struct file_store {
    struct blob_store store;
    int root; /* of DIRECTORY */
    atomic_uint_fast64_t next_put;
    pthread_mutex_t lock; /* between marking a blob as fresh and removing a stale one */
};

struct blob_put {
    struct file_store *store;
    struct sha256 *hash;
    int fd;
    int64_t size;
    char name[name_size];
};

static void blob_name(char name[name_size], const char *sha256)
{
    snprintf(name, name_size, "%.2s/%.62s", sha256, sha256 + 2);
}

static bool is_sha256(const char *text)
{
    return strspn(text, "0123456789abcdef") == sha256_hex_size - 1 && !text[sha256_hex_size - 1];
}

static void file_cancel(struct blob_put *put)
{
    if (!put)
        return;
    unlinkat(put->store->root, put->name, 0);
    close(put->fd);
    sha256_destroy(put->hash);
    free(put);
}

static struct error file_begin(struct blob_store *face, struct blob_put **made)
{
    struct file_store *store = (struct file_store *)face;
    struct blob_put *put = calloc(1, sizeof *put);
    if (!put)
        return error_make(ERR_INTERNAL, "out of memory");
    snprintf(put->name, sizeof put->name, "new/%llu", (unsigned long long)atomic_fetch_add(&store->next_put, 1));
    put->fd = openat(store->root, put->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (put->fd < 0) {
        struct error error = error_errno("create a file to store");
        free(put);
        return error;
    }
    put->store = store;
    put->hash = sha256_create();
    *made = put;
    return OK;
}

static struct error file_append(struct blob_put *put, const void *bytes, size_t size)
{
    TRY(fs_write_all(put->fd, bytes, size));
    sha256_update(put->hash, bytes, size);
    put->size += (int64_t)size;
    return OK;
}

/* True when the blob was there already; then it counts as put just now. */
static bool refresh(struct file_store *store, const char *name)
{
    SCOPED_LOCK(&store->lock);
    return utimensat(store->root, name, NULL, 0) == 0;
}

static struct error sync_directory_of(struct file_store *store, const char *name)
{
    char directory[3] = {name[0], name[1], '\0'};
    CLEANUP_FD int fd = openat(store->root, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_errno("sync the directory of a stored file");
    return OK;
}

/* Also when the blob was there: whoever put it first may not have reached its sync of the directory yet. */
static struct error keep(struct blob_put *put, const char *name)
{
    struct file_store *store = put->store;
    if (refresh(store, name))
        return sync_directory_of(store, name);
    if (fsync(put->fd) < 0)
        return error_errno("sync a stored file");
    if (renameat(store->root, put->name, store->root, name) < 0)
        return error_errno("name a stored file");
    return sync_directory_of(store, name);
}

static struct error file_finish(struct blob_put **finished, char sha256[sha256_hex_size], int64_t *size)
{
    struct blob_put *put = *finished;
    uint8_t digest[sha256_size];
    char name[name_size];
    sha256_final(put->hash, digest);
    blob_name(name, sha256_hex(digest, sha256));
    TRY(keep(put, name));
    *size = put->size;
    file_cancel(put); /* what is still in new/, if anything */
    *finished = NULL;
    return OK;
}

static struct error file_open(struct blob_store *face, const char *sha256, int *opened, int64_t *size)
{
    struct file_store *store = (struct file_store *)face;
    char name[name_size];
    struct stat status;
    if (!is_sha256(sha256))
        return error_make(ERR_NOT_FOUND, "there is no stored file of that name");
    blob_name(name, sha256);
    int fd = openat(store->root, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return error_make(ERR_NOT_FOUND, "the stored file %.16s is missing", sha256);
    if (fd < 0)
        return error_errno("open the stored file %.16s", sha256);
    if (fstat(fd, &status) < 0) {
        struct error error = error_errno("look at the stored file %.16s", sha256);
        close(fd);
        return error;
    }
    *opened = fd;
    *size = status.st_size;
    return OK;
}

static struct error file_remove_stale(struct blob_store *face, const char *sha256, int64_t age_ms, bool *removed)
{
    struct file_store *store = (struct file_store *)face;
    char name[name_size];
    struct stat status;
    *removed = false;
    if (!is_sha256(sha256))
        return OK;
    blob_name(name, sha256);
    SCOPED_LOCK(&store->lock);
    if (fstatat(store->root, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? OK : error_errno("look at the stored file %.16s", sha256);
    int64_t put_ms = status.st_mtim.tv_sec * 1000LL + status.st_mtim.tv_nsec / 1000000;
    if (clock_now_ms() - put_ms < age_ms)
        return OK;
    if (unlinkat(store->root, name, 0) < 0 && errno != ENOENT)
        return error_errno("remove the stored file %.16s", sha256);
    *removed = true;
    return OK;
}

/* A copy of the names, since visit may remove what it is shown. */
static struct error list_names(struct arena *arena, int root, const char *directory, char ***names, size_t *count)
{
    int fd = openat(root, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    if (!listing) {
        struct error error = error_errno("list stored files");
        if (fd >= 0)
            close(fd);
        return error;
    }
    size_t capacity = 64;
    *names = arena_array(arena, capacity, sizeof **names);
    *count = 0;
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (entry->d_name[0] == '.')
            continue;
        if (*count == capacity) {
            char **more = arena_array(arena, capacity * 2, sizeof **names);
            memcpy(more, *names, capacity * sizeof **names);
            *names = more;
            capacity *= 2;
        }
        (*names)[(*count)++] = arena_strdup(arena, entry->d_name);
    }
    closedir(listing);
    return OK;
}

static struct error walk_directory(struct arena *arena, struct file_store *store, const char *directory,
                                   struct error (*visit)(void *context, const char *sha256), void *context)
{
    char **names;
    size_t count;
    TRY(list_names(arena, store->root, directory, &names, &count));
    for (size_t i = 0; i < count; i++) {
        char sha256[name_size];
        snprintf(sha256, sizeof sha256, "%s%.70s", directory, names[i]);
        if (is_sha256(sha256))
            TRY(visit(context, sha256));
    }
    return OK;
}

/* What a crash left of puts; at the start only, when none is under way. */
static void remove_leftovers(struct arena *arena, struct file_store *store)
{
    char **names, name[name_size];
    size_t count;
    struct error error = list_names(arena, store->root, "new", &names, &count);
    for (size_t i = 0; !error.code && i < count; i++) {
        snprintf(name, sizeof name, "new/%.70s", names[i]);
        unlinkat(store->root, name, 0);
    }
}

static struct error file_walk(struct blob_store *face, struct error (*visit)(void *context, const char *sha256),
                              void *context)
{
    enum { names_bytes_max = 256 << 20 }; /* of one of 256 directories: over a million blobs in each */
    struct file_store *store = (struct file_store *)face;
    struct error error = OK;
    for (int i = 0; i < directories && !error.code; i++) {
        struct arena arena;
        char directory[3];
        snprintf(directory, sizeof directory, "%02x", i & 0xff);
        arena_init(&arena, names_bytes_max);
        error = walk_directory(&arena, store, directory, visit, context);
        arena_finish(&arena);
    }
    return error;
}

static void file_destroy(struct blob_store *face)
{
    struct file_store *store = (struct file_store *)face;
    if (store->root >= 0)
        close(store->root);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

/* All of the directories at once, synced together, so that a put never has to make and sync one. */
static struct error make_directories(struct file_store *store, const char *directory)
{
    TRY(fs_make_dirs(directory));
    store->root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->root < 0)
        return error_errno("open %s", directory);
    bool made = mkdirat(store->root, "new", 0700) == 0;
    if (!made && errno != EEXIST)
        return error_errno("create %s/new", directory);
    for (int i = 0; i < directories; i++) {
        char name[3];
        snprintf(name, sizeof name, "%02x", i & 0xff);
        if (mkdirat(store->root, name, 0700) == 0)
            made = true;
        else if (errno != EEXIST)
            return error_errno("create %s/%s", directory, name);
    }
    if (made && fsync(store->root) < 0)
        return error_errno("sync %s", directory);
    return OK;
}

struct error blob_file_create(struct blob_store **made, const char *directory)
{
    enum { leftovers_bytes_max = 64 << 20 };
    struct file_store *store = calloc(1, sizeof *store);
    struct arena arena;
    if (!store)
        return error_make(ERR_INTERNAL, "out of memory");
    store->root = -1;
    store->store = (struct blob_store){file_begin, file_append,       file_finish, file_cancel,
                                       file_open,  file_remove_stale, file_walk,   file_destroy};
    pthread_mutex_init(&store->lock, NULL);
    struct error error = make_directories(store, directory);
    if (error.code) {
        file_destroy(&store->store);
        return error;
    }
    arena_init(&arena, leftovers_bytes_max);
    remove_leftovers(&arena, store);
    arena_finish(&arena);
    *made = &store->store;
    return OK;
}
