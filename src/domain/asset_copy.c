#include "domain/asset_copy.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "domain/job.h"
#include "domain/tag.h"
#include "domain/team.h"

struct work {
    struct arena *arena;
    const struct caller *caller;
    const char *id, *target_project_id;
    struct asset *copy;
};

static struct error check_target(struct db_tx *tx, const struct work *work)
{
    const char *team_id;
    if (!strcmp(work->target_project_id, work->caller->project_id))
        return OK;
    TRY(project_find_team(tx, work->arena, work->target_project_id, &team_id));
    if (strcmp(team_id, work->caller->team_id) != 0)
        return error_make(ERR_FORBIDDEN, "Project %.64s belongs to another team", work->target_project_id);
    return OK;
}

/* What a row says of a generated asset goes with it, though the copy is not the model's: that may be gone tomorrow. */
static void detach(struct arena *arena, struct asset *asset)
{
    const struct json_change change = {"modelId", asset->model_id ? json_quoted(arena, asset->model_id) : NULL};
    if (asset->model_id)
        asset->generation = json_object_with(arena, asset->generation ? asset->generation : "{}", &change, 1);
    asset->model_id = asset->dataset_model_id = NULL;
}

struct error asset_copy_insert(struct db_tx *tx, struct arena *arena, const char *project_id, int64_t now_ms,
                               struct asset *asset)
{
    char id[id_size];
    asset->original_asset_id = asset->id;
    asset->source_project_id = asset->project_id;
    if (strcmp(asset->project_id, project_id) != 0)
        asset->parent_id = asset->root_parent_id = NULL;
    asset->id = arena_strdup(arena, id_make(id, "asset_"));
    asset->project_id = project_id;
    asset->collection_ids = "[]";
    asset->privacy = "private";
    asset->is_training_image = false;
    asset->copied_at = asset->created_at = asset->updated_at = now_ms;
    TRY(asset_insert(tx, asset));
    return tag_index(tx, arena, &(struct tag_item){TAG_ASSET, asset->id, asset->project_id, asset->tags});
}

static struct error copy_asset(struct db_tx *tx, void *context)
{
    const struct work *work = context;
    struct asset *asset = work->copy;
    TRY(asset_find_readable(tx, work->arena, work->caller, work->id, asset));
    TRY(check_target(tx, work));
    detach(work->arena, asset);
    asset->author_id = work->caller->key_id;
    return asset_copy_insert(tx, work->arena, work->target_project_id, clock_now_ms(), asset);
}

struct error asset_copy(const struct domain *domain, struct arena *arena, const struct caller *caller, const char *id,
                        const char *target_project_id, struct asset *copy)
{
    struct work work = {arena, caller, id, target_project_id ? target_project_id : caller->project_id, copy};
    return db_write(domain->db, copy_asset, &work);
}
