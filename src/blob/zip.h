/* A ZIP archive written to a descriptor as it is made: members are stored, not compressed (weights do not shrink). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct zip;

/* fd stays the caller's. */
struct error zip_begin(struct zip **zip, int fd) __attribute__((warn_unused_result));
/* From fd's current offset, size bytes. */
struct error zip_add_fd(struct zip *zip, const char *name, int fd, int64_t size, int64_t modified_ms)
    __attribute__((warn_unused_result));
struct error zip_add_bytes(struct zip *zip, const char *name, const void *bytes, size_t size, int64_t modified_ms)
    __attribute__((warn_unused_result));
/* Writes the directory, without which there is no archive. */
struct error zip_finish(struct zip *zip) __attribute__((warn_unused_result));
void zip_destroy(struct zip *zip); /* at the end, or when something failed */
