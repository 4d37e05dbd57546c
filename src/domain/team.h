/* Teams: who owns projects, and from whom a team takes models over. A team is named by its id or its name. */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"
#include "store/db.h"

enum { team_list_max = 10000, team_no_limit = -1 };

/* What a plan would allow; plan.h says what they do. team_no_limit: any number. */
struct team_limits {
    int64_t parallel_training; /* trainings that wait or run at a time */
    int64_t training_images;   /* of one model */
    int64_t cooldown_s;        /* from the start of a training to that of the next */
};

struct team {
    const char *id, *name;
    int64_t created_at;
    const char **accepted; /* names of the teams whose models it takes */
    size_t accepted_count;
    struct team_limits limits;
};
struct error team_list(struct db *db, struct arena *arena, struct team **teams, size_t *count)
    __attribute__((warn_unused_result));

/* ERR_NOT_FOUND for a team; ERR_INVALID when both are the same. Accepting twice is fine. */
struct error team_accept(struct db *db, const char *team, const char *from) __attribute__((warn_unused_result));
struct error team_revoke(struct db *db, const char *team, const char *from) /* or ERR_NOT_FOUND: was not accepted */
    __attribute__((warn_unused_result));

/* ERR_NOT_FOUND for a team. Holds from the next call on, also in a server that runs. */
struct error team_set_limits(struct db *db, const char *team, const struct team_limits *limits)
    __attribute__((warn_unused_result));

/* For other nouns, in transactions of theirs. */

struct error team_find_limits(struct db_tx *tx, const char *team_id, struct team_limits *limits)
    __attribute__((warn_unused_result));

/* The id of the team of that id or name, the oldest of a name; in the arena. */
struct error team_find(struct db_tx *tx, struct arena *arena, const char *team, const char **id)
    __attribute__((warn_unused_result));
struct error team_accepts(struct db_tx *tx, const char *team_id, const char *from_team_id, bool *accepts)
    __attribute__((warn_unused_result));
/* Whose project this is; ERR_NOT_FOUND "Project ID not found". */
struct error project_find_team(struct db_tx *tx, struct arena *arena, const char *project_id, const char **team_id)
    __attribute__((warn_unused_result));
