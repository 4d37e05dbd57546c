/* Assets: pictures that belong to a project. The bytes are a blob; the row says what they are. A training image is an
 * asset too, and its caption is the asset's description. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"
#include "media/caption.h"
#include "media/media.h"
#include "store/db.h"

struct asset {
    const char *id, *project_id, *author_id;
    const char *sha256; /* of the blob */
    const char *name, *description, *automatic_captioning;
    const char *mime_type, *type, *source, *kind;      /* "image/png", "uploaded", "uploaded", "image" */
    const char *parent_id, *root_parent_id;            /* these may be NULL */
    const char *model_id, *inference_id, *job_id;      /* what made it; NULL */
    const char *generation;                            /* JSON object, what was asked for; NULL */
    const char *original_asset_id, *source_project_id; /* of a copy; NULL */
    const char *dataset_model_id;                      /* into whose data set it was uploaded; NULL */
    const char *collection_ids, *tags;                 /* JSON arrays of strings; NULL when made: none */
    const char *privacy;                               /* that of the most open model that shows it; else "private" */
    int64_t size, width, height;
    bool hide;
    bool is_training_image; /* of any model; read only */
    int64_t copied_at;      /* 0: no copy */
    int64_t created_at, updated_at;
};

/* A picture on its way in: checked, stored and captioned, but in no row yet. */
struct picture {
    struct media_info info;
    char sha256[sha256_hex_size];
    int64_t size;
    const char *name, *caption;
};

/* "data:image/png;base64,..." or bare base64. field names it in errors. */
struct error picture_decode(struct arena *arena, const char *field, const char *text, size_t text_size, char **bytes,
                            size_t *size) __attribute__((warn_unused_result));
/* Every pixel is decoded once; what is refused leaves nothing behind. name may be NULL. */
struct error picture_take(const struct domain *domain, struct arena *arena, const char *field, const void *bytes,
                          size_t size, const char *name, enum caption_focus focus, struct picture *picture)
    __attribute__((warn_unused_result));

/* What an asset made of this picture will be; not in the database yet. type and source as in struct asset. */
void asset_init(struct asset *asset, struct arena *arena, const char *project_id, const char *author_id,
                const struct picture *picture, const char *type, const char *source);
/* Writes it, in a transaction of the caller's. */
struct error asset_insert(struct db_tx *tx, const struct asset *asset) __attribute__((warn_unused_result));
/* Both at once, for uploads. */
struct asset_options {
    bool hide;
    const char *parent_id;             /* NULL: none */
    const char *const *collection_ids; /* to put it in */
    size_t collection_count;
};
struct error asset_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const struct picture *picture, const struct asset_options *options, struct asset *asset)
    __attribute__((warn_unused_result));

/* In a transaction. ERR_NOT_FOUND "Asset ID not found" when it is not there or hidden from the caller, ERR_FORBIDDEN
 * when it can be read but not changed; access.h has the rule. */
struct error asset_find_readable(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                                 struct asset *asset) __attribute__((warn_unused_result));
struct error asset_find_owned(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                              struct asset *asset) __attribute__((warn_unused_result));
/* One that the caller may read. */
struct error asset_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                       struct asset *asset) __attribute__((warn_unused_result));
/* Whoever holds a signed link sees the asset of any project. */
struct error asset_get_any(const struct domain *domain, struct arena *arena, const char *id, struct asset *asset)
    __attribute__((warn_unused_result));

struct asset_change {
    const char *name, *description; /* NULL leaves as it is */
};
struct error asset_update(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                          const struct asset_change *change, struct asset *asset) __attribute__((warn_unused_result));

/* The row that a blob's references point at; safe to call when it is there. */
struct error blob_row_insert(struct db_tx *tx, const char *sha256, int64_t size, int64_t now_ms)
    __attribute__((warn_unused_result));

/* For other queries that give assets of the table asset a: columns in this order, read from column `first` on. */
#define ASSET_COLUMNS                                                                                                  \
    "a.id, a.project_id, a.author_id, a.blob_sha256, a.name, a.description, a.automatic_captioning, a.mime_type, "     \
    "a.type, a.source, a.kind, a.parent_id, a.root_parent_id, a.model_id, a.inference_id, a.job_id, a.generation, "    \
    "a.original_asset_id, a.source_project_id, a.dataset_model_id, a.collection_ids, a.tags, a.size, a.width, "        \
    "a.height, a.hide, EXISTS (SELECT 1 FROM training_image t WHERE t.asset_id = a.id), a.copied_at, a.created_at, "   \
    "a.updated_at, " ASSET_OPENNESS
/* 2 when a public model shows the asset as its thumbnail, a training image or an example, 1 when only an unlisted one
 * does, else 0 or NULL: an asset has no privacy of its own. */
#define ASSET_OPENNESS                                                                                                 \
    "CASE WHEN EXISTS (SELECT 1 FROM shown_asset s WHERE s.asset_id = a.id) THEN 2 "                                   \
    "WHEN EXISTS (SELECT 1 FROM model o WHERE o.thumbnail_asset_id = a.id AND " ASSET_UNLISTED ") "                    \
    "OR EXISTS (SELECT 1 FROM training_image t JOIN model o ON o.id = t.model_id WHERE t.asset_id = a.id "             \
    "AND " ASSET_UNLISTED ") OR EXISTS (SELECT 1 FROM model_example e JOIN model o ON o.id = e.model_id "              \
    "WHERE e.asset_id = a.id AND " ASSET_UNLISTED ") THEN 1 ELSE 0 END"
#define ASSET_UNLISTED "o.privacy = 'unlisted' AND o.deleted_at = 0"
void asset_read(struct arena *arena, struct db_rows *rows, int first, struct asset *asset);
