#include "domain/transform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "blob/blob.h"

struct transform_cache {
    char *directory;
    int64_t bytes_max;
    pthread_mutex_t lock; /* of bytes, and held while evicting */
    int64_t bytes;
};

struct cached_file {
    char name[sha256_hex_size];
    int64_t size, used_ms;
};

static struct error list_files(const struct transform_cache *cache, struct arena *arena, struct cached_file **files,
                               size_t *count)
{
    struct cached_file *list = NULL;
    size_t capacity = 0;
    DIR *directory = opendir(cache->directory);
    *count = 0;
    if (!directory)
        return error_errno("list %s", cache->directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat status;
        if (entry->d_name[0] == '.' || fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (strlen(entry->d_name) >= sha256_hex_size) { /* a temporary name that a crash left */
            unlinkat(dirfd(directory), entry->d_name, 0);
            continue;
        }
        if (*count == capacity) {
            struct cached_file *more = arena_array(arena, capacity = capacity ? capacity * 2 : 256, sizeof *more);
            if (*count)
                memcpy(more, list, *count * sizeof *more);
            list = more;
        }
        struct cached_file *file = &list[(*count)++];
        snprintf(file->name, sizeof file->name, "%.64s", entry->d_name);
        file->size = status.st_size;
        file->used_ms = status.st_mtim.tv_sec * 1000LL + status.st_mtim.tv_nsec / 1000000;
    }
    closedir(directory);
    *files = list;
    return OK;
}

static int by_use(const void *left, const void *right)
{
    int64_t a = ((const struct cached_file *)left)->used_ms, b = ((const struct cached_file *)right)->used_ms;
    return (a > b) - (a < b);
}

/* Down to nine tenths, so that the directory is not read for every new file. */
static struct error evict(struct transform_cache *cache, struct arena *arena)
{
    struct cached_file *files;
    size_t count;
    char path[4096];
    TRY(list_files(cache, arena, &files, &count));
    cache->bytes = 0;
    for (size_t i = 0; i < count; i++)
        cache->bytes += files[i].size;
    if (count)
        qsort(files, count, sizeof *files, by_use);
    for (size_t i = 0; i < count && cache->bytes > cache->bytes_max / 10 * 9; i++) {
        snprintf(path, sizeof path, "%s/%s", cache->directory, files[i].name);
        if (unlink(path) == 0)
            cache->bytes -= files[i].size;
    }
    return OK;
}

static struct error count_in(struct transform_cache *cache, struct arena *arena, int64_t size)
{
    SCOPED_LOCK(&cache->lock);
    cache->bytes += size;
    return cache->bytes > cache->bytes_max ? evict(cache, arena) : OK;
}

struct error transform_cache_create(struct transform_cache **made, const char *directory, int64_t bytes_max)
{
    enum { listing_bytes_max = 256 << 20 };
    TRY(fs_make_dirs(directory));
    struct transform_cache *cache = calloc(1, sizeof *cache);
    if (!cache || !(cache->directory = strdup(directory))) {
        free(cache);
        return error_make(ERR_INTERNAL, "out of memory");
    }
    cache->bytes_max = bytes_max;
    pthread_mutex_init(&cache->lock, NULL);
    struct arena arena;
    arena_init(&arena, listing_bytes_max);
    struct error error = evict(cache, &arena);
    arena_finish(&arena);
    if (error.code)
        transform_cache_destroy(cache);
    else
        *made = cache;
    return error;
}

void transform_cache_destroy(struct transform_cache *cache)
{
    if (!cache)
        return;
    pthread_mutex_destroy(&cache->lock);
    free(cache->directory);
    free(cache);
}

struct error transform_none(const struct domain *domain, struct arena *arena, const struct asset *asset,
                            struct transformed *file)
{
    file->mime = asset->mime_type;
    file->etag = arena_printf(arena, "\"%s\"", asset->sha256);
    return domain->blobs->open(domain->blobs, asset->sha256, &file->fd, &file->size);
}

/* What media_apply will make of it. */
static const char *result_mime(const struct asset *asset, enum media_target target)
{
    switch (target) {
    case MEDIA_AS_ORIGIN:
        if (!strcmp(asset->mime_type, media_mime(MEDIA_HEIC)))
            return media_mime(MEDIA_JPEG);
        if (!strcmp(asset->mime_type, media_mime(MEDIA_SVG)))
            return media_mime(MEDIA_PNG);
        return asset->mime_type;
    case MEDIA_AS_JPEG:
        return media_mime(MEDIA_JPEG);
    case MEDIA_AS_PNG:
        return media_mime(MEDIA_PNG);
    case MEDIA_AS_AVIF:
        return media_mime(MEDIA_AVIF);
    case MEDIA_AS_TIFF:
        return media_mime(MEDIA_TIFF);
    case MEDIA_AS_GIF:
        return media_mime(MEDIA_GIF);
    case MEDIA_AS_AUTO:
    case MEDIA_AS_WEBP:
        break;
    }
    return media_mime(MEDIA_WEBP);
}

static void cache_name(const struct asset *asset, const struct media_transform *transform, char name[sha256_hex_size])
{
    char text[320];
    uint8_t digest[sha256_size];
    int length = snprintf(text, sizeof text, "%s %d %d %d %d %d %g %g %d %d %d %d %d", asset->sha256, transform->width,
                          transform->height, (int)transform->fit, transform->quality, (int)transform->target,
                          transform->rotate, transform->blur, transform->greyscale, transform->flatten,
                          transform->background[0], transform->background[1], transform->background[2]);
    sha256_of(text, (size_t)length, digest);
    sha256_hex(digest, name);
}

/* ERR_NOT_FOUND when it is not there. An opened file stays readable even when it is evicted now. */
static struct error open_cached(const char *path, struct transformed *file)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return error_make(ERR_NOT_FOUND, "not made yet");
    if (fd < 0)
        return error_errno("open a transformed picture");
    if (fstat(fd, &status) < 0) {
        close(fd);
        return error_errno("look at a transformed picture");
    }
    futimens(fd, NULL); /* used now; a failure only makes it look older */
    file->fd = fd;
    file->size = status.st_size;
    return OK;
}

static struct error make(const struct domain *domain, struct arena *arena, const struct asset *asset,
                         const struct media_transform *transform, const char *path)
{
    struct buf out;
    struct media_info info;
    char *bytes;
    size_t size;
    TRY(blob_read(domain->blobs, arena, asset->sha256, media_bytes_max, &bytes, &size));
    buf_init(&out, media_transform_bytes_max);
    struct error error = media_apply(bytes, size, transform, &out, &info);
    if (!error.code)
        error = buf_error(&out);
    if (!error.code)
        error = fs_write_atomic(path, out.data, out.len);
    if (!error.code)
        error = count_in(domain->transforms, arena, (int64_t)out.len);
    buf_finish(&out);
    return error;
}

static struct error make_in_turn(const struct domain *domain, struct arena *arena, const struct asset *asset,
                                 const struct media_transform *transform, const char *path)
{
    while (sem_wait(domain->decoding) < 0 && errno == EINTR)
        continue;
    struct error error = fs_exists(path) ? OK : make(domain, arena, asset, transform, path);
    sem_post(domain->decoding);
    return error;
}

struct error transform_get(const struct domain *domain, struct arena *arena, const struct asset *asset,
                           const struct media_transform *transform, struct transformed *file)
{
    char name[sha256_hex_size];
    cache_name(asset, transform, name);
    const char *path = arena_printf(arena, "%s/%s", domain->transforms->directory, name);
    file->mime = result_mime(asset, transform->target);
    file->etag = arena_printf(arena, "\"%s\"", name);
    struct error error = open_cached(path, file);
    if (error.code != ERR_NOT_FOUND)
        return error;
    TRY(make_in_turn(domain, arena, asset, transform, path));
    return open_cached(path, file);
}
