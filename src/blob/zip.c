#include "blob/zip.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <unistd.h>

static struct archive *archive_of(struct zip *zip)
{
    return (struct archive *)zip;
}

static struct error failed(struct archive *archive)
{
    if (archive_errno(archive) == ENOSPC)
        return error_make(ERR_NO_SPACE, "no space left to pack the archive");
    return error_make(ERR_IO, "cannot pack the archive: %s", archive_error_string(archive));
}

/* A member's bytes come out unpadded: the last block is as long as what is left. */
struct error zip_begin(struct zip **zip, int fd)
{
    struct archive *archive = archive_write_new();
    if (!archive)
        return error_make(ERR_INTERNAL, "out of memory");
    archive_write_set_format_zip(archive);
    archive_write_zip_set_compression_store(archive);
    archive_write_set_bytes_in_last_block(archive, 1);
    if (archive_write_open_fd(archive, fd) != ARCHIVE_OK) {
        const struct error error = failed(archive);
        archive_write_free(archive);
        return error;
    }
    *zip = (struct zip *)archive;
    return OK;
}

static struct error begin_member(struct archive *archive, const char *name, int64_t size, int64_t modified_ms)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return error_make(ERR_INTERNAL, "out of memory");
    archive_entry_set_pathname_utf8(entry, name);
    archive_entry_set_size(entry, size);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, (time_t)(modified_ms / 1000), 0);
    const int result = archive_write_header(archive, entry);
    archive_entry_free(entry);
    return result == ARCHIVE_OK ? OK : failed(archive);
}

static struct error write_data(struct archive *archive, const void *bytes, size_t size)
{
    return archive_write_data(archive, bytes, size) == (la_ssize_t)size ? OK : failed(archive);
}

struct error zip_add_fd(struct zip *zip, const char *name, int fd, int64_t size, int64_t modified_ms)
{
    char chunk[65536];
    TRY(begin_member(archive_of(zip), name, size, modified_ms));
    for (int64_t left = size; left > 0;) {
        const ssize_t got = read(fd, chunk, left < (int64_t)sizeof chunk ? (size_t)left : sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_make(ERR_IO, "cannot read %s to pack it", name);
        TRY(write_data(archive_of(zip), chunk, (size_t)got));
        left -= got;
    }
    return OK;
}

struct error zip_add_bytes(struct zip *zip, const char *name, const void *bytes, size_t size, int64_t modified_ms)
{
    TRY(begin_member(archive_of(zip), name, (int64_t)size, modified_ms));
    return write_data(archive_of(zip), bytes, size);
}

struct error zip_finish(struct zip *zip)
{
    return archive_write_close(archive_of(zip)) == ARCHIVE_OK ? OK : failed(archive_of(zip));
}

void zip_destroy(struct zip *zip)
{
    if (zip)
        archive_write_free(archive_of(zip));
}
