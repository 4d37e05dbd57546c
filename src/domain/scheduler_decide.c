#include "domain/scheduler.h"

/* Its process lives. */
static enum schedule_action decide_running(const struct schedule_job *job, int64_t now_ms)
{
    const bool lingers = job->has_outcome && now_ms - job->outcome_at >= schedule_linger_ms;
    if (job->cancel_requested && !job->stop_asked_at)
        return SCHEDULE_ASK_TO_END;
    if (lingers || (job->stop_asked_at && now_ms - job->stop_asked_at >= schedule_grace_ms))
        return SCHEDULE_END;
    return SCHEDULE_WAIT;
}

/* It has a slot and no process. */
static enum schedule_action decide_idle(const struct schedule_job *job, int64_t now_ms)
{
    if (job->has_outcome || job->cancel_requested || job->failed)
        return SCHEDULE_SETTLE;
    if (job->attempts > schedule_restarts_max)
        return SCHEDULE_GIVE_UP;
    if (now_ms < job->not_before)
        return SCHEDULE_WAIT;
    return job->prepared ? SCHEDULE_START : SCHEDULE_PREPARE;
}

void schedule_decide(const struct schedule_job *jobs, size_t count, int slots, int64_t now_ms,
                     enum schedule_action *actions)
{
    int taken = 0;
    for (size_t i = 0; i < count; i++)
        taken += !jobs[i].queued;
    for (size_t i = 0; i < count; i++) {
        const struct schedule_job *job = &jobs[i];
        if (job->queued && job->cancel_requested) {
            actions[i] = SCHEDULE_SETTLE;
        } else if (job->queued) {
            actions[i] = taken < slots ? SCHEDULE_PREPARE : SCHEDULE_WAIT;
            taken += taken < slots;
        } else if (job->preparing) {
            actions[i] = SCHEDULE_WAIT;
        } else {
            actions[i] = job->running ? decide_running(job, now_ms) : decide_idle(job, now_ms);
        }
    }
}
