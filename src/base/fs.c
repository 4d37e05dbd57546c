#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { path_bytes_max = 4096 };

struct error fs_read(struct arena *arena, const char *path, size_t size_max, char **data, size_t *size)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 && errno == ENOENT)
        return error_make(ERR_NOT_FOUND, "%s does not exist", path);
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_errno("open %s", path);
    if (!S_ISREG(status.st_mode))
        return error_make(ERR_IO, "%s is not a regular file", path);
    if ((size_t)status.st_size > size_max)
        return error_make(ERR_TOO_LARGE, "%s is larger than %zu bytes", path, size_max);
    *size = (size_t)status.st_size;
    *data = arena_alloc(arena, *size + 1);
    for (size_t done = 0; done < *size;) {
        ssize_t got = read(fd, *data + done, *size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno("read %s", path);
        if (got == 0)
            return error_make(ERR_IO, "%s became shorter while it was read", path);
        done += (size_t)got;
    }
    return OK;
}

struct error fs_write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t written = write(fd, (const char *)data + done, size - done);
        if (written < 0 && errno != EINTR)
            return error_errno("write");
        done += written > 0 ? (size_t)written : 0;
    }
    return OK;
}

struct error fs_sync_dir(const char *path)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_errno("sync %s", path);
    return OK;
}

static struct error write_temporary(const char *temporary, const void *data, size_t size)
{
    CLEANUP_FD int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno("create %s", temporary);
    TRY(fs_write_all(fd, data, size));
    if (fsync(fd) < 0)
        return error_errno("sync %s", temporary);
    return OK;
}

struct error fs_write_atomic(const char *path, const void *data, size_t size)
{
    char temporary[path_bytes_max];
    if (snprintf(temporary, sizeof temporary, "%s.tmp%d", path, (int)gettid()) >= (int)sizeof temporary)
        return error_make(ERR_IO, "the path %.60s... is too long", path);
    struct error error = write_temporary(temporary, data, size);
    if (!error.code && rename(temporary, path) < 0)
        error = error_errno("rename %s", temporary);
    if (error.code) {
        unlink(temporary);
        return error;
    }
    char *slash = strrchr(temporary, '/');
    if (slash)
        *(slash == temporary ? slash + 1 : slash) = '\0';
    return fs_sync_dir(slash ? temporary : ".");
}

struct error fs_make_dirs(const char *path)
{
    char partial[path_bytes_max];
    if (snprintf(partial, sizeof partial, "%s", path) >= (int)sizeof partial)
        return error_make(ERR_IO, "the path %.60s... is too long", path);
    for (char *at = partial + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdir(partial, 0700) < 0 && errno != EEXIST)
            return error_errno("create %s", partial);
        *at = '/';
    }
    if (mkdir(partial, 0700) < 0 && errno != EEXIST)
        return error_errno("create %s", partial);
    return OK;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

struct error fs_remove_tree(const char *path)
{
    enum { descriptors = 16 };
    if (nftw(path, remove_entry, descriptors, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
        return error_errno("remove %s", path);
    return OK;
}

bool fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
