#include "domain/plan.h"

enum { retry_parallel_s = 60 /* about when a small training has ended */ };

static const char reached[] =
    "You have reached your plan's limit. Please upgrade your plan to continue using this feature.";

#define OF_TRAINING " AND j.type IN ('model-training', 'flux-model-training', 'musubi-model-training')"

static struct error query_number(struct db_tx *tx, const char *sql, const struct db_value *values, size_t count,
                                 int64_t *number)
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, sql, values, count));
    TRY(db_next(rows, &row));
    *number = row ? db_int(rows, 0) : 0;
    while (row)
        TRY(db_next(rows, &row));
    return OK;
}

static struct error check_parallel(struct db_tx *tx, const char *team_id, int64_t limit, struct plan_refusal *refusal)
{
    int64_t live;
    if (limit == team_no_limit)
        return OK;
    TRY(query_number(tx,
                     "SELECT count(*) FROM job j JOIN project p ON p.id = j.project_id WHERE p.team_id = ?1 "
                     "AND j.status IN ('pending', 'queued', 'warming-up', 'in-progress', 'finalizing')" OF_TRAINING,
                     DB_BIND(db_t(team_id)), &live));
    if (live < limit)
        return OK;
    *refusal = (struct plan_refusal){"parallel-training", "team", limit, live, 0, limit ? retry_parallel_s : 0};
    return error_make(ERR_PLAN_LIMIT, "%s", reached);
}

static struct error check_cooldown(struct db_tx *tx, const char *team_id, int64_t seconds, int64_t now_ms,
                                   struct plan_refusal *refusal)
{
    int64_t last_ms;
    if (seconds <= 0)
        return OK;
    TRY(query_number(tx,
                     "SELECT coalesce(max(j.created_at), 0) FROM project p JOIN job j ON j.project_id = p.id "
                     "WHERE p.team_id = ?1 AND j.created_at > ?2" OF_TRAINING,
                     DB_BIND(db_t(team_id), db_i(now_ms - seconds * 1000)), &last_ms));
    const int64_t remaining_s = (last_ms + seconds * 1000 - now_ms + 999) / 1000;
    if (!last_ms || remaining_s <= 0)
        return OK;
    *refusal =
        (struct plan_refusal){"training-cooldown", "team", seconds, seconds - remaining_s, remaining_s, remaining_s};
    return error_make(ERR_PLAN_LIMIT, "A training was started a moment ago: the next can be in %lld seconds",
                      (long long)remaining_s);
}

struct error plan_check_training(struct db_tx *tx, const char *team_id, int64_t now_ms, struct plan_refusal *refusal)
{
    struct team_limits limits;
    TRY(team_find_limits(tx, team_id, &limits));
    TRY(check_parallel(tx, team_id, limits.parallel_training, refusal));
    return check_cooldown(tx, team_id, limits.cooldown_s, now_ms, refusal);
}

struct error plan_check_images(struct db_tx *tx, const char *team_id, int64_t count, size_t more,
                               struct plan_refusal *refusal)
{
    struct team_limits limits;
    const int64_t wanted = count + (int64_t)more;
    TRY(team_find_limits(tx, team_id, &limits));
    if (more && limits.training_images != team_no_limit && wanted > limits.training_images) {
        *refusal = (struct plan_refusal){"add-training-image", "team", limits.training_images, count, 0, 0};
        return error_make(ERR_PLAN_LIMIT, "%s", reached);
    }
    if (!more || wanted <= training_images_max)
        return OK;
    *refusal = (struct plan_refusal){"add-training-image", "model", training_images_max, count, 0, 0};
    return error_make(ERR_PLAN_LIMIT, "A model holds at most %d training images. Remove some to add others.",
                      training_images_max);
}
