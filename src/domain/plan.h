/* The limits of a team, as a paid plan would have them. Off unless the operator sets them (maquette teams limit). */
#pragma once

#include "base/error.h"
#include "domain/domain.h"
#include "domain/team.h"

/* Why a call went over a limit, for the error's details. Filled in with ERR_PLAN_LIMIT only. */
struct plan_refusal {
    const char *action; /* "parallel-training", "add-training-image", "training-cooldown" */
    const char *scope;  /* "team", "model" or "server" */
    int64_t limit, value;
    int64_t remaining_s; /* of a cooldown, else 0 */
    int64_t retry_s;     /* when it may be worth to try again; 0: no retry helps */
};

/* May the team start one more training now? In the transaction that starts it. */
struct error plan_check_training(struct db_tx *tx, const char *team_id, int64_t now_ms, struct plan_refusal *refusal)
    __attribute__((warn_unused_result));
/* May a model of the team that has `count` training images get `more`? 0 always may. */
struct error plan_check_images(struct db_tx *tx, const char *team_id, int64_t count, size_t more,
                               struct plan_refusal *refusal) __attribute__((warn_unused_result));
