/* Files: whole reads with a limit, durable writes, directories. Descriptors are close-on-exec from birth. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

/* The whole file in the arena, NUL added. ERR_NOT_FOUND when absent, ERR_TOO_LARGE over size_max. */
struct error fs_read(struct arena *arena, const char *path, size_t size_max, char **data, size_t *size)
    __attribute__((warn_unused_result));
/* Temporary name, fsync, rename, fsync of the directory: after OK the file is there whole and durable, else it is as
 * it was. */
struct error fs_write_atomic(const char *path, const void *data, size_t size) __attribute__((warn_unused_result));
struct error fs_write_all(int fd, const void *data, size_t size) __attribute__((warn_unused_result));
struct error fs_sync_dir(const char *path) __attribute__((warn_unused_result));
struct error fs_make_dirs(const char *path) __attribute__((warn_unused_result));   /* mkdir -p, mode 0700 */
struct error fs_remove_tree(const char *path) __attribute__((warn_unused_result)); /* absent is OK; follows no link */
bool fs_exists(const char *path);
