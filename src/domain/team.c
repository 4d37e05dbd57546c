#include "domain/team.h"

#include <string.h>

#include "base/clock.h"

/* The one text that a query gives, or NULL when it gives no row. */
static struct error query_text(struct db_tx *tx, struct arena *arena, const char *sql, const char *value,
                               const char **text)
{
    struct db_rows *rows;
    bool row;
    *text = NULL;
    TRY(db_query(tx, &rows, sql, DB_BIND(db_t(value))));
    TRY(db_next(rows, &row));
    if (row)
        *text = db_text(arena, rows, 0);
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

struct error team_find(struct db_tx *tx, struct arena *arena, const char *team, const char **id)
{
    TRY(query_text(tx, arena, "SELECT id FROM team WHERE id = ?1", team, id));
    if (!*id)
        TRY(query_text(tx, arena, "SELECT id FROM team WHERE name = ?1 ORDER BY created_at LIMIT 1", team, id));
    return *id ? OK : error_make(ERR_NOT_FOUND, "Team %.64s not found", team);
}

struct error project_find_team(struct db_tx *tx, struct arena *arena, const char *project_id, const char **team_id)
{
    TRY(query_text(tx, arena, "SELECT team_id FROM project WHERE id = ?1", project_id, team_id));
    return *team_id ? OK : error_make(ERR_NOT_FOUND, "Project %.64s not found", project_id);
}

struct error team_accepts(struct db_tx *tx, const char *team_id, const char *from_team_id, bool *accepts)
{
    struct db_rows *rows;
    *accepts = strcmp(team_id, from_team_id) == 0;
    if (*accepts)
        return OK;
    TRY(db_query(tx, &rows, "SELECT 1 FROM team_acceptance WHERE team_id = ?1 AND from_team_id = ?2",
                 DB_BIND(db_t(team_id), db_t(from_team_id))));
    return db_next(rows, accepts);
}

/* From column `first` on: parallel_training_max, training_images_max, training_cooldown_s, none of them NULL. */
#define LIMIT_COLUMNS                                                                                                  \
    "coalesce(parallel_training_max, -1), coalesce(training_images_max, -1), coalesce(training_cooldown_s, -1)"

static struct team_limits read_limits(struct db_rows *rows, int first)
{
    return (struct team_limits){db_int(rows, first), db_int(rows, first + 1), db_int(rows, first + 2)};
}

struct error team_find_limits(struct db_tx *tx, const char *team_id, struct team_limits *limits)
{
    struct db_rows *rows;
    bool row;
    *limits = (struct team_limits){team_no_limit, team_no_limit, team_no_limit};
    TRY(db_query(tx, &rows, "SELECT " LIMIT_COLUMNS " FROM team WHERE id = ?1", DB_BIND(db_t(team_id))));
    TRY(db_next(rows, &row));
    if (row)
        *limits = read_limits(rows, 0);
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

struct limits_work {
    const char *team;
    const struct team_limits *limits;
};

static struct db_value limit_value(int64_t limit)
{
    return limit == team_no_limit ? db_t(NULL) : db_i(limit);
}

static struct error limits_work(struct db_tx *tx, void *context)
{
    const struct limits_work *work = context;
    const struct team_limits *limits = work->limits;
    struct arena arena;
    const char *id;
    arena_init(&arena, 4096);
    struct error error = team_find(tx, &arena, work->team, &id);
    if (!error.code)
        error = db_execute(tx, NULL,
                           "UPDATE team SET parallel_training_max = ?2, training_images_max = ?3, "
                           "training_cooldown_s = ?4 WHERE id = ?1",
                           DB_BIND(db_t(id), limit_value(limits->parallel_training),
                                   limit_value(limits->training_images), limit_value(limits->cooldown_s)));
    arena_finish(&arena);
    return error;
}

struct error team_set_limits(struct db *db, const char *team, const struct team_limits *limits)
{
    return db_write(db, limits_work, &(struct limits_work){team, limits});
}

struct pair_work {
    const char *team, *from;
    bool accept;
    struct arena arena;
};

static struct error change_acceptance(struct db_tx *tx, struct pair_work *work)
{
    const char *team_id, *from_id;
    int64_t changed;
    TRY(team_find(tx, &work->arena, work->team, &team_id));
    TRY(team_find(tx, &work->arena, work->from, &from_id));
    if (!strcmp(team_id, from_id))
        return error_field("from", "is the team itself, which always takes its own models");
    if (work->accept)
        return db_execute(tx, NULL,
                          "INSERT INTO team_acceptance (team_id, from_team_id, created_at) VALUES (?1, ?2, ?3) "
                          "ON CONFLICT DO NOTHING",
                          DB_BIND(db_t(team_id), db_t(from_id), db_i(clock_now_ms())));
    TRY(db_execute(tx, &changed, "DELETE FROM team_acceptance WHERE team_id = ?1 AND from_team_id = ?2",
                   DB_BIND(db_t(team_id), db_t(from_id))));
    return changed ? OK : error_make(ERR_NOT_FOUND, "team %s did not accept models of team %s", work->team, work->from);
}

static struct error change_work(struct db_tx *tx, void *context)
{
    struct pair_work *work = context;
    arena_init(&work->arena, 4096);
    struct error error = change_acceptance(tx, work);
    arena_finish(&work->arena);
    return error;
}

struct error team_accept(struct db *db, const char *team, const char *from)
{
    return db_write(db, change_work, &(struct pair_work){.team = team, .from = from, .accept = true});
}

struct error team_revoke(struct db *db, const char *team, const char *from)
{
    return db_write(db, change_work, &(struct pair_work){.team = team, .from = from});
}

static struct error count_accepted(struct db_tx *tx, const struct team *team, size_t *count)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, "SELECT count(*) FROM team_acceptance WHERE team_id = ?1", DB_BIND(db_t(team->id))));
    TRY(db_next(rows, &row));
    *count = (size_t)db_int(rows, 0);
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

static struct error read_accepted(struct db_tx *tx, struct arena *arena, struct team *team)
{
    struct db_rows *rows;
    size_t count;
    TRY(count_accepted(tx, team, &count));
    team->accepted = arena_array(arena, count + 1, sizeof *team->accepted);
    TRY(db_query(tx, &rows,
                 "SELECT t.name FROM team_acceptance a JOIN team t ON t.id = a.from_team_id WHERE a.team_id = ?1 "
                 "ORDER BY t.name, t.id",
                 DB_BIND(db_t(team->id))));
    for (bool row = true; row;) {
        TRY(db_next(rows, &row));
        if (row)
            team->accepted[team->accepted_count++] = db_text(arena, rows, 0);
    }
    return OK;
}

static struct error read_teams(struct db_tx *tx, struct arena *arena, struct team *teams, size_t *count)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows, "SELECT id, name, created_at, " LIMIT_COLUMNS " FROM team ORDER BY name, created_at, id",
                 DB_NO_BIND));
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        if (*count == team_list_max)
            return error_make(ERR_TOO_LARGE, "there are more than %d teams", team_list_max);
        teams[(*count)++] = (struct team){.id = db_text(arena, rows, 0),
                                          .name = db_text(arena, rows, 1),
                                          .created_at = db_int(rows, 2),
                                          .limits = read_limits(rows, 3)};
    }
}

struct error team_list(struct db *db, struct arena *arena, struct team **teams, size_t *count)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    *teams = arena_array(arena, team_list_max, sizeof **teams);
    *count = 0;
    TRY(db_read_begin(db, &tx));
    TRY(read_teams(tx, arena, *teams, count));
    for (size_t i = 0; i < *count; i++)
        TRY(read_accepted(tx, arena, &(*teams)[i]));
    return OK;
}
