/* Smaller copies of pictures, made when first asked for and kept in a directory of bounded size. What is evicted is
 * what was used longest ago; all of it can be deleted at any time. */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "domain/asset.h"
#include "domain/domain.h"
#include "media/media.h"

struct transform_cache;

struct error transform_cache_create(struct transform_cache **cache, const char *directory, int64_t bytes_max)
    __attribute__((warn_unused_result));
void transform_cache_destroy(struct transform_cache *cache);

/* A file to send. fd is the caller's. */
struct transformed {
    int fd;
    int64_t size;
    const char *mime; /* static or in the arena */
    const char *etag; /* with quotes, in the arena */
};

/* The bytes as they were uploaded. */
struct error transform_none(const struct domain *domain, struct arena *arena, const struct asset *asset,
                            struct transformed *file) __attribute__((warn_unused_result));
/* ERR_INVALID when the picture cannot be had that way. */
struct error transform_get(const struct domain *domain, struct arena *arena, const struct asset *asset,
                           const struct media_transform *transform, struct transformed *file)
    __attribute__((warn_unused_result));
