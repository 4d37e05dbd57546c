/* Many assets at once. */
#include "domain/asset.h"

#include <string.h>

#include "domain/access.h"
#include "domain/id_list.h"

static struct error read_visible(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                 const char *const *ids, size_t id_count, struct asset *assets, size_t *count)
{
    struct db_value values[id_list_max];
    struct db_rows *rows;
    id_list_bind(values, ids, id_count);
    TRY(db_query(tx, &rows, "SELECT " ASSET_COLUMNS " FROM asset a WHERE a.id IN (" ID_LIST ") AND a.deleted_at = 0",
                 values, id_list_max));
    for (*count = 0;;) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        struct asset *asset = &assets[*count];
        asset_read(arena, rows, 0, asset);
        const struct access_thing thing = {asset->project_id, asset->privacy, false};
        *count += access_decide(caller, ACCESS_READ, &thing) == ACCESS_GRANTED;
    }
}

static bool is_among(const struct asset *assets, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(assets[i].id, id))
            return true;
    return false;
}

struct error asset_list_ids(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *const *ids,
                            size_t id_count, struct asset **assets, size_t *count)
{
    struct asset *found = arena_array(arena, id_list_max, sizeof *found);
    size_t found_count;
    *assets = arena_array(arena, id_count + 1, sizeof **assets);
    *count = 0;
    if (!id_count)
        return OK;
    TRY(read_visible(tx, arena, caller, ids, id_count, found, &found_count));
    for (size_t i = 0; i < id_count; i++)
        for (size_t at = 0; at < found_count; at++)
            if (!strcmp(found[at].id, ids[i]) && !is_among(*assets, *count, ids[i]))
                (*assets)[(*count)++] = found[at];
    return OK;
}
