#include "domain/asset.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "blob/blob.h"
#include "domain/access.h"
#include "domain/dataset.h"

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
                          size_t size, const char *name, enum caption_focus focus, struct picture *picture)
{
    const char *warning;
    struct error error = check_in_turn(domain, bytes, size, &picture->info);
    if (error.code == ERR_INVALID)
        return error_field(field, "is refused: %s", error.text);
    TRY(error);
    TRY(blob_put_bytes(domain->blobs, bytes, size, picture->sha256));
    picture->size = (int64_t)size;
    picture->name = name ? name : "";
    return domain->captioner->caption(domain->captioner, arena, bytes, size, picture->info.mime, name, focus,
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
        .collection_ids = "[]",
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
    return db_execute(
        tx, NULL,
        "INSERT INTO asset (id, project_id, author_id, blob_sha256, name, description, automatic_captioning, "
        "mime_type, type, source, kind, parent_id, size, width, height, hide, created_at, updated_at, root_parent_id, "
        "model_id, inference_id, job_id, generation, original_asset_id, source_project_id, copied_at, collection_ids, "
        "tags, "
        "dataset_model_id) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, "
        "?23, ?24, ?25, ?26, ?27, ?28, ?29)",
        DB_BIND(db_t(asset->id), db_t(asset->project_id), db_t(asset->author_id), db_t(asset->sha256),
                db_t(asset->name), db_t(asset->description), db_t(asset->automatic_captioning), db_t(asset->mime_type),
                db_t(asset->type), db_t(asset->source), db_t(asset->kind), db_t(asset->parent_id), db_i(asset->size),
                db_i(asset->width), db_i(asset->height), db_i(asset->hide), db_i(asset->created_at),
                db_i(asset->updated_at), db_t(asset->root_parent_id), db_t(asset->model_id), db_t(asset->inference_id),
                db_t(asset->job_id), db_t(asset->generation), db_t(asset->original_asset_id),
                db_t(asset->source_project_id), db_i(asset->copied_at),
                db_t(asset->collection_ids ? asset->collection_ids : "[]"), db_t(asset->tags ? asset->tags : "[]"),
                db_t(asset->dataset_model_id)));
}

struct create_work {
    struct asset *asset;
    struct arena *arena;
    const struct caller *caller;
    const struct asset_options *options;
};

static struct error find_ancestors(struct db_tx *tx, const struct create_work *work)
{
    struct asset parent = {0}, *asset = work->asset;
    TRY(asset_find_owned(tx, work->arena, work->caller, work->options->parent_id, &parent));
    asset->parent_id = parent.id;
    asset->root_parent_id = parent.root_parent_id ? parent.root_parent_id : parent.id;
    return OK;
}

static struct error join_collections(struct db_tx *tx, const struct create_work *work)
{
    const struct asset *asset = work->asset;
    for (size_t i = 0; i < work->options->collection_count; i++)
        TRY(db_execute(tx, NULL,
                       "INSERT INTO collection_asset (collection_id, asset_id, created_at, updated_at) "
                       "VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                       DB_BIND(db_t(work->options->collection_ids[i]), db_t(asset->id), db_i(asset->created_at),
                               db_i(asset->updated_at))));
    return OK;
}

static struct error create_asset(struct db_tx *tx, void *context)
{
    const struct create_work *work = context;
    if (work->options->parent_id)
        TRY(find_ancestors(tx, work));
    TRY(asset_insert(tx, work->asset));
    return join_collections(tx, work);
}

/* Each id once, in order. */
static const char *unique_array(struct arena *arena, const char *const *ids, size_t count)
{
    const char **unique = arena_array(arena, count + 1, sizeof *unique);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < kept && strcmp(unique[at], ids[i]) != 0)
            at++;
        unique[at] = ids[i];
        kept += at == kept;
    }
    return json_from_strings(arena, unique, kept);
}

struct error asset_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                          const struct picture *picture, const struct asset_options *options, struct asset *asset)
{
    asset_init(asset, arena, caller->project_id, caller->key_id, picture, "uploaded", "uploaded");
    asset->hide = options->hide;
    asset->collection_ids = unique_array(arena, options->collection_ids, options->collection_count);
    return db_write(domain->db, create_asset, &(struct create_work){asset, arena, caller, options});
}

void asset_read(struct arena *arena, struct db_rows *rows, int first, struct asset *asset)
{
    static const char *const privacies[] = {"private", "unlisted", "public"};
    *asset = (struct asset){0};
    const char **const texts[] = {&asset->id,
                                  &asset->project_id,
                                  &asset->author_id,
                                  &asset->sha256,
                                  &asset->name,
                                  &asset->description,
                                  &asset->automatic_captioning,
                                  &asset->mime_type,
                                  &asset->type,
                                  &asset->source,
                                  &asset->kind,
                                  &asset->parent_id,
                                  &asset->root_parent_id,
                                  &asset->model_id,
                                  &asset->inference_id,
                                  &asset->job_id,
                                  &asset->generation,
                                  &asset->original_asset_id,
                                  &asset->source_project_id,
                                  &asset->dataset_model_id,
                                  &asset->collection_ids,
                                  &asset->tags};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        *texts[i] = db_text(arena, rows, first++);
    asset->size = db_int(rows, first++);
    asset->width = db_int(rows, first++);
    asset->height = db_int(rows, first++);
    asset->hide = db_int(rows, first++) != 0;
    asset->is_training_image = db_int(rows, first++) != 0;
    asset->copied_at = db_int(rows, first++);
    asset->created_at = db_int(rows, first++);
    asset->updated_at = db_int(rows, first++);
    asset->privacy = privacies[db_int(rows, first)];
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
    TRY(db_execute(tx, NULL, "UPDATE collection_asset SET updated_at = ?2 WHERE asset_id = ?1",
                   DB_BIND(db_t(asset->id), db_i(asset->updated_at))));
    TRY(db_execute(tx, NULL, "UPDATE shown_asset SET updated_at = ?2 WHERE asset_id = ?1",
                   DB_BIND(db_t(asset->id), db_i(asset->updated_at))));
    return dataset_asset_changed(tx, work->arena, asset->id);
}

struct error asset_update(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                          const struct asset_change *change, struct asset *asset)
{
    return db_write(domain->db, update_asset, &(struct update_work){arena, caller, id, change, asset});
}
