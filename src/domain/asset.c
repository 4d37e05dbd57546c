#include "domain/asset.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "blob/blob.h"
#include "domain/access.h"
#include "domain/dataset.h"
#include "media/caption.h"

struct error picture_decode(struct arena *arena, const char *field, const char *text, size_t text_size, char **bytes,
                            size_t *size)
{
    enum { header_bytes_max = 256 };
    static const char encoding[] = ";base64";
    if (text_size >= 5 && !strncasecmp(text, "data:", 5)) {
        const char *comma = memchr(text, ',', text_size < header_bytes_max ? text_size : header_bytes_max);
        size_t length = strlen(encoding);
        if (!comma || comma - text < (ptrdiff_t)length || strncasecmp(comma - length, encoding, length))
            return error_field(field, "must be a data URL such as data:image/png;base64,...");
        text_size -= (size_t)(comma + 1 - text);
        text = comma + 1;
    }
    *bytes = arena_alloc(arena, base64_decoded_max(text_size) + 1);
    if (!text_size || !base64_decode(text, text_size, *bytes, size))
        return error_field(field, "must hold the picture in base64");
    return OK;
}

static struct error check_in_turn(const struct domain *domain, const void *bytes, size_t size, struct media_info *info)
{
    while (sem_wait(domain->decoding) < 0 && errno == EINTR)
        continue;
    struct error error = media_check(bytes, size, info);
    sem_post(domain->decoding);
    return error;
}

struct error picture_take(const struct domain *domain, struct arena *arena, const char *field, const void *bytes,
                          size_t size, const char *name, struct picture *picture)
{
    const char *warning;
    struct error error = check_in_turn(domain, bytes, size, &picture->info);
    if (error.code == ERR_INVALID)
        return error_field(field, "is refused: %s", error.text);
    TRY(error);
    TRY(blob_put_bytes(domain->blobs, bytes, size, picture->sha256));
    picture->size = (int64_t)size;
    picture->name = name ? name : "";
    return domain->captioner->caption(domain->captioner, arena, bytes, size, picture->info.mime, name,
                                      &picture->caption, &warning);
}

void asset_init(struct asset *asset, struct arena *arena, const char *project_id, const char *author_id,
                const struct picture *picture, const char *type, const char *source)
{
    char id[id_size];
    int64_t now_ms = clock_now_ms();
    *asset = (struct asset){
        .id = arena_strdup(arena, id_make(id, "asset_")),
        .project_id = project_id,
        .author_id = author_id,
        .sha256 = picture->sha256,
        .name = picture->name,
        .description = picture->caption,
        .automatic_captioning = picture->caption,
        .mime_type = picture->info.mime,
        .type = type,
        .source = source,
        .kind = "image",
        .privacy = "private",
        .size = picture->size,
        .width = picture->info.width,
        .height = picture->info.height,
        .tags = "[]",
        .created_at = now_ms,
        .updated_at = now_ms,
    };
}

struct error blob_row_insert(struct db_tx *tx, const char *sha256, int64_t size, int64_t now_ms)
{
    return db_execute(tx, NULL,
                      "INSERT INTO blob (sha256, size, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                      DB_BIND(db_t(sha256), db_i(size), db_i(now_ms)));
}

struct error asset_insert(struct db_tx *tx, const struct asset *asset)
{
    TRY(blob_row_insert(tx, asset->sha256, asset->size, asset->created_at));
    return db_execute(tx, NULL,
                      "INSERT INTO asset (id, project_id, author_id, blob_sha256, name, description, "
                      "automatic_captioning, mime_type, type, source, kind, parent_id, size, width, height, hide, "
                      "created_at, updated_at, tags, model_id, job_id, dataset_model_id) VALUES "
                      "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, "
                      "?21, ?22)",
                      DB_BIND(db_t(asset->id), db_t(asset->project_id), db_t(asset->author_id), db_t(asset->sha256),
                              db_t(asset->name), db_t(asset->description), db_t(asset->automatic_captioning),
                              db_t(asset->mime_type), db_t(asset->type), db_t(asset->source), db_t(asset->kind),
                              db_t(asset->parent_id), db_i(asset->size), db_i(asset->width), db_i(asset->height),
                              db_i(asset->hide), db_i(asset->created_at), db_i(asset->updated_at),
                              db_t(asset->tags ? asset->tags : "[]"), db_t(asset->model_id), db_t(asset->job_id),
                              db_t(asset->dataset_model_id)));
}

struct create_work {
    const struct asset *asset;
    struct arena *arena;
    const struct caller *caller;
};

static struct error create_asset(struct db_tx *tx, void *context)
{
    const struct create_work *work = context;
    struct asset parent;
    if (work->asset->parent_id)
        TRY(asset_find_owned(tx, work->arena, work->caller, work->asset->parent_id, &parent));
    return asset_insert(tx, work->asset);
}

struct error asset_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const struct picture *picture, bool hide, const char *parent_id, struct asset *asset)
{
    asset_init(asset, arena, caller->project_id, caller->key_id, picture, "uploaded", "uploaded");
    asset->hide = hide;
    asset->parent_id = parent_id;
    return db_write(domain->db, create_asset, &(struct create_work){asset, arena, caller});
}

void asset_read(struct arena *arena, struct db_rows *rows, int first, struct asset *asset)
{
    static const char *const privacies[] = {"private", "unlisted", "public"};
    *asset = (struct asset){
        .id = db_text(arena, rows, first),
        .project_id = db_text(arena, rows, first + 1),
        .author_id = db_text(arena, rows, first + 2),
        .sha256 = db_text(arena, rows, first + 3),
        .name = db_text(arena, rows, first + 4),
        .description = db_text(arena, rows, first + 5),
        .automatic_captioning = db_text(arena, rows, first + 6),
        .mime_type = db_text(arena, rows, first + 7),
        .type = db_text(arena, rows, first + 8),
        .source = db_text(arena, rows, first + 9),
        .kind = db_text(arena, rows, first + 10),
        .parent_id = db_text(arena, rows, first + 11),
        .size = db_int(rows, first + 12),
        .width = db_int(rows, first + 13),
        .height = db_int(rows, first + 14),
        .hide = db_int(rows, first + 15) != 0,
        .created_at = db_int(rows, first + 16),
        .updated_at = db_int(rows, first + 17),
        .tags = db_text(arena, rows, first + 18),
        .model_id = db_text(arena, rows, first + 19),
        .job_id = db_text(arena, rows, first + 20),
        .dataset_model_id = db_text(arena, rows, first + 21),
        .privacy = privacies[db_int(rows, first + 22)],
    };
}

static struct error read_found(struct db_rows *rows, struct arena *arena, const char *id, struct asset *asset)
{
    bool row;
    TRY(db_next(rows, &row));
    if (!row)
        return error_make(ERR_NOT_FOUND, "Asset %.64s not found", id);
    asset_read(arena, rows, 0, asset);
    return OK;
}

static struct error find_any(struct db_tx *tx, struct arena *arena, const char *id, struct asset *asset)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT " ASSET_COLUMNS " FROM asset a WHERE a.id = ?1 AND a.deleted_at = 0",
                 DB_BIND(db_t(id))));
    return read_found(rows, arena, id, asset);
}

static struct error find_for(enum access_action action, struct db_tx *tx, struct arena *arena,
                             const struct caller *caller, const char *id, struct asset *asset)
{
    TRY(find_any(tx, arena, id, asset));
    struct access_thing thing = {asset->project_id, asset->privacy, false};
    return access_check(caller, action, &thing, "Asset", id);
}

struct error asset_find_readable(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                                 struct asset *asset)
{
    return find_for(ACCESS_READ, tx, arena, caller, id, asset);
}

struct error asset_find_owned(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *id,
                              struct asset *asset)
{
    return find_for(ACCESS_CHANGE, tx, arena, caller, id, asset);
}

struct error asset_get(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                       struct asset *asset)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(domain->db, &tx));
    return asset_find_readable(tx, arena, caller, id, asset);
}

struct error asset_get_any(const struct domain *domain, struct arena *arena, const char *id, struct asset *asset)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(domain->db, &tx));
    return find_any(tx, arena, id, asset);
}

struct update_work {
    struct arena *arena;
    const struct caller *caller;
    const char *id;
    const struct asset_change *change;
    struct asset *asset;
};

static struct error update_asset(struct db_tx *tx, void *context)
{
    struct update_work *work = context;
    struct asset *asset = work->asset;
    TRY(asset_find_owned(tx, work->arena, work->caller, work->id, asset));
    if (work->change->name)
        asset->name = work->change->name;
    if (work->change->description)
        asset->description = work->change->description;
    asset->updated_at = clock_now_ms();
    TRY(db_execute(tx, NULL, "UPDATE asset SET name = ?2, description = ?3, updated_at = ?4 WHERE id = ?1",
                   DB_BIND(db_t(asset->id), db_t(asset->name), db_t(asset->description), db_i(asset->updated_at))));
    return dataset_asset_changed(tx, work->arena, asset->id);
}

struct error asset_update(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                          const struct asset_change *change, struct asset *asset)
{
    return db_write(domain->db, update_asset, &(struct update_work){arena, caller, id, change, asset});
}
