/* The thread around schedule_decide. What it remembers of a run (struct run) is only what can be found again: after a
 * crash a run is rebuilt from the job's row, the job folder and the executor. */
#include "domain/scheduler.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "domain/run.h"

enum {
    tick_ms = 100,        /* while something runs */
    idle_ms = 1000,       /* else: a poke comes sooner */
    retry_ms = 1000,      /* after an error of ours, such as a database that cannot be written */
    restart_ms = 250,     /* before the first restart of a trainer; doubles */
    write_every_ms = 500, /* progress alone */
    tick_arena_bytes = 256 << 20,
    slots_max = 64,
};

struct run {
    char id[id_size]; /* "" when free */
    char handle[exec_handle_size];
    char text[run_text_size], hint[run_text_size]; /* of a failure */
    bool failed;
    const struct run_kind *kind;
    struct exec_status last;
    enum run_outcome outcome;
    bool is_drained; /* there was nothing more in its events */
    int64_t outcome_at, stop_asked_at, not_before, written_at, retry_at;

    bool has_thread; /* makes the job folder */
    pthread_t thread;
    bool stop, thread_done; /* atomic */
    struct job job;         /* for the thread, in arena */
    struct arena arena;
    const struct scheduler *scheduler;
};

struct scheduler {
    struct scheduler_options options;
    struct run runs[job_running_max];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool poked, stopping;
};

static void report(const struct scheduler *scheduler, const char *job_id, struct error error)
{
    if (error.code)
        scheduler->options.failed(job_id, error);
}

static char *folder_of(const struct scheduler *scheduler, struct arena *arena, const char *job_id)
{
    return run_folder(arena, &scheduler->options.settings, job_id);
}

static void set_failure(struct run *run, struct error error)
{
    run->failed = true;
    const char *text = error.text ? error.text : "unknown error";
    if (error.code == ERR_NO_SPACE)
        snprintf(run->text, sizeof run->text, "There is no space left on the disk: %s", text);
    else
        snprintf(run->text, sizeof run->text, "%s", text);
    if (error.code == ERR_INVALID || error.code == ERR_NOT_FOUND || error.code == ERR_TOO_LARGE)
        snprintf(run->hint, sizeof run->hint, "%s", run->kind->input_hint);
    else
        snprintf(run->hint, sizeof run->hint, "%s and start the %s again.",
                 error.code == ERR_NO_SPACE ? "Free some disk space" : "Look at the server's log", run->kind->noun);
}

/* The folder of a job, made on a thread of its own: a thousand pictures take a minute. */

static void *prepare_main(void *argument)
{
    struct run *run = argument;
    const struct scheduler_options *options = &run->scheduler->options;
    const struct error error = run->kind->prepare(options->domain, &options->settings, &run->job, &run->stop);
    if (error.code && error.code != ERR_CANCELED)
        set_failure(run, error);
    __atomic_store_n(&run->thread_done, true, __ATOMIC_RELEASE);
    return NULL;
}

static struct job copy_job(struct arena *arena, const struct job *job)
{
    return (struct job){
        .id = arena_strdup(arena, job->id),
        .project_id = arena_strdup(arena, job->project_id),
        .model_id = arena_strdup(arena, job->model_id),
        .input = arena_strdup(arena, job->input),
    };
}

static void begin_preparing(struct scheduler *scheduler, struct run *run, const struct job *job)
{
    arena_init(&run->arena, 4 << 20);
    run->job = copy_job(&run->arena, job);
    run->scheduler = scheduler;
    run->stop = run->thread_done = false;
    const int result = pthread_create(&run->thread, NULL, prepare_main, run);
    run->has_thread = result == 0;
    if (result == 0)
        return;
    arena_finish(&run->arena);
    set_failure(run, error_make(ERR_INTERNAL, "cannot start a thread: %s", strerror(result)));
}

static void join_preparing(struct run *run)
{
    if (!run->has_thread)
        return;
    pthread_join(run->thread, NULL);
    arena_finish(&run->arena);
    run->has_thread = false;
}

static void forget(struct run *run)
{
    join_preparing(run);
    *run = (struct run){0};
}

static struct run *find_run(struct scheduler *scheduler, const char *job_id)
{
    for (int i = 0; i < job_running_max; i++)
        if (strcmp(scheduler->runs[i].id, job_id) == 0)
            return &scheduler->runs[i];
    return NULL;
}

/* A job that runs and is not known here was begun by a server that is gone, or by this tick. */
static struct run *adopt(struct scheduler *scheduler, struct arena *arena, const struct job *job)
{
    struct run *run = find_run(scheduler, job->id);
    if (run || !(run = find_run(scheduler, "")))
        return run;
    snprintf(run->id, sizeof run->id, "%s", job->id);
    run->kind = run_kind_of(job);
    struct executor *executor = scheduler->options.executor;
    report(scheduler, job->id, executor->adopt(executor, folder_of(scheduler, arena, job->id), run->handle));
    return run;
}

static void note_outcome(struct run *run, const struct run_batch *batch, int64_t now_ms)
{
    if (batch->outcome == RUN_GOES_ON)
        return;
    run->outcome = batch->outcome;
    run->outcome_at = now_ms;
    if (batch->outcome != RUN_FAILED)
        return;
    snprintf(run->text, sizeof run->text, "%s", batch->error);
    if (batch->hint)
        snprintf(run->hint, sizeof run->hint, "%s", batch->hint);
    else
        snprintf(run->hint, sizeof run->hint, "Read trainer.log in the job folder and start the %s again.",
                 run->kind->noun);
}

/* Takes in what the trainer said since the last time. Progress alone is written at most twice a second. */
static void take_events(struct scheduler *scheduler, struct arena *arena, struct run *run, struct job *job,
                        int64_t now_ms)
{
    const struct domain *domain = scheduler->options.domain;
    struct run_batch batch;
    if (now_ms < run->retry_at)
        return;
    struct error error = run_read(domain, arena, folder_of(scheduler, arena, job->id), job->event_offset, &batch);
    report(scheduler, job->id, batch.skipped);
    if (!error.code && !batch.is_empty &&
        (batch.is_important || !run->handle[0] || now_ms - run->written_at >= write_every_ms)) {
        error = run_apply(domain, arena, job, &batch);
        run->written_at = now_ms;
        if (!error.code)
            job->event_offset = batch.offset;
    }
    note_outcome(run, &batch, now_ms);
    run->is_drained = !error.code && batch.is_empty;
    if (!error.code)
        return;
    report(scheduler, job->id, error);
    run->retry_at = now_ms + retry_ms;
    if (error.code == ERR_NO_SPACE)
        set_failure(run, error);
}

static void note_death(struct run *run, int attempts, int64_t now_ms)
{
    run->handle[0] = '\0';
    run->stop_asked_at = 0;
    run->not_before = now_ms + (restart_ms << (attempts < 4 ? attempts : 4));
}

/* What is the case with this job, now. */
static struct schedule_job observe(struct scheduler *scheduler, struct arena *arena, struct run *run, struct job *job,
                                   int64_t now_ms)
{
    struct executor *executor = scheduler->options.executor;
    const char *dir = folder_of(scheduler, arena, job->id);
    if (run->has_thread && __atomic_load_n(&run->thread_done, __ATOMIC_ACQUIRE))
        join_preparing(run);
    if (run->has_thread && job->cancel_requested)
        __atomic_store_n(&run->stop, true, __ATOMIC_RELAXED);
    if (run->handle[0]) {
        report(scheduler, job->id, executor->poll(executor, run->handle, &run->last));
        if (!run->last.running)
            note_death(run, (int)job->attempts, now_ms);
    }
    if (!run->has_thread)
        take_events(scheduler, arena, run, job, now_ms);
    if (!run->handle[0] && !run->outcome && run->is_drained &&
        fs_exists(arena_printf(arena, "%s/out/result.json", dir)))
        run->outcome = RUN_DONE;
    const bool ended_itself = run->outcome == RUN_DONE || run->outcome == RUN_FAILED;
    return (struct schedule_job){
        .preparing = run->has_thread,
        .prepared = fs_exists(arena_printf(arena, "%s/job.json", dir)),
        .running = run->handle[0] != '\0',
        .has_outcome = ended_itself,
        .failed = run->failed,
        .cancel_requested = job->cancel_requested || (run->failed && run->handle[0]),
        .attempts = (int)job->attempts,
        .not_before = run->not_before > run->retry_at ? run->not_before : run->retry_at,
        .stop_asked_at = run->stop_asked_at,
        .outcome_at = run->outcome_at,
    };
}

/* Actions. */

static void do_start(struct scheduler *scheduler, struct arena *arena, struct run *run, const struct job *job,
                     int64_t now_ms)
{
    struct executor *executor = scheduler->options.executor;
    struct error error = run_count_attempt(scheduler->options.domain, arena, job->id);
    if (error.code) {
        report(scheduler, job->id, error);
        run->retry_at = now_ms + retry_ms;
        return;
    }
    run->outcome = RUN_GOES_ON;
    error = executor->start(executor, folder_of(scheduler, arena, job->id), run->handle);
    if (error.code)
        set_failure(run, error);
}

static void do_stop(struct scheduler *scheduler, struct run *run, bool force, int64_t now_ms)
{
    struct executor *executor = scheduler->options.executor;
    report(scheduler, run->id, executor->stop(executor, run->handle, force));
    if (!run->stop_asked_at)
        run->stop_asked_at = now_ms;
}

static void describe_death(struct run *run)
{
    if (run->last.code_known && run->last.signal_no)
        snprintf(run->text, sizeof run->text, "The %s was ended by signal %d, %d times", run->kind->runner,
                 run->last.signal_no, schedule_restarts_max + 1);
    else
        snprintf(run->text, sizeof run->text, "The %s ended without a result, %d times", run->kind->runner,
                 schedule_restarts_max + 1);
    snprintf(run->hint, sizeof run->hint, "%s", run->kind->death_hint);
}

/* A failure first frees what the run took, since the row that tells it may need the room. */
static struct error settle_failure(struct scheduler *scheduler, struct arena *arena, struct run *run,
                                   const struct job *job)
{
    report(scheduler, job->id, run_tidy(arena, folder_of(scheduler, arena, job->id), job));
    return run_fail(scheduler->options.domain, arena, job, run->text, run->hint);
}

static struct error settle_success(struct scheduler *scheduler, struct arena *arena, struct run *run,
                                   const struct job *job)
{
    const char *dir = folder_of(scheduler, arena, job->id);
    const struct error error = run_succeed(scheduler->options.domain, arena, dir, job);
    if (!error.code) {
        report(scheduler, job->id, run_tidy(arena, dir, job));
        return OK;
    }
    if (error.code != ERR_NO_SPACE && error.code != ERR_CORRUPT && error.code != ERR_NOT_FOUND &&
        error.code != ERR_INVALID)
        return error;
    set_failure(run, error);
    return settle_failure(scheduler, arena, run, job);
}

static struct error settle_cancel(struct scheduler *scheduler, struct arena *arena, const struct job *job)
{
    TRY(run_cancel(scheduler->options.domain, arena, job));
    return run_tidy(arena, folder_of(scheduler, arena, job->id), job);
}

static void do_settle(struct scheduler *scheduler, struct arena *arena, struct run *run, const struct job *job,
                      int64_t now_ms)
{
    struct error error;
    if (now_ms < run->retry_at && !run->failed)
        return;
    if (run->outcome == RUN_DONE && !run->failed)
        error = settle_success(scheduler, arena, run, job);
    else if (job->cancel_requested)
        error = settle_cancel(scheduler, arena, job);
    else
        error = settle_failure(scheduler, arena, run, job);
    if (!error.code) {
        forget(run);
        return;
    }
    report(scheduler, job->id, error);
    run->retry_at = now_ms + retry_ms;
}

static void do_prepare(struct scheduler *scheduler, struct arena *arena, const struct job *job, int64_t now_ms)
{
    struct run *run = adopt(scheduler, arena, job);
    if (!run || now_ms < run->retry_at)
        return;
    const struct error error = run_begin(scheduler->options.domain, arena, job);
    if (error.code) {
        report(scheduler, job->id, error);
        run->retry_at = now_ms + retry_ms;
        return;
    }
    begin_preparing(scheduler, run, job);
}

static void act(struct scheduler *scheduler, struct arena *arena, const struct job *job, enum schedule_action action,
                int64_t now_ms)
{
    struct run *run = find_run(scheduler, job->id);
    switch (action) {
    case SCHEDULE_WAIT:
        return;
    case SCHEDULE_PREPARE:
        do_prepare(scheduler, arena, job, now_ms);
        return;
    case SCHEDULE_START:
        do_start(scheduler, arena, run, job, now_ms);
        return;
    case SCHEDULE_ASK_TO_END:
        do_stop(scheduler, run, false, now_ms);
        return;
    case SCHEDULE_END:
        do_stop(scheduler, run, true, now_ms);
        return;
    case SCHEDULE_GIVE_UP:
        describe_death(run);
        run->failed = true;
        do_settle(scheduler, arena, run, job, now_ms);
        return;
    case SCHEDULE_SETTLE:
        if (!run)
            run = adopt(scheduler, arena, job);
        do_settle(scheduler, arena, run, job, now_ms);
        return;
    }
}

struct view {
    struct job *running, *queued;
    size_t running_count, queued_count;
};

static struct error read_view(struct scheduler *scheduler, struct arena *arena, struct view *view)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    TRY(db_read_begin(scheduler->options.domain->db, &tx));
    TRY(job_list_running(tx, arena, &view->running, &view->running_count));
    return job_list_queued(tx, arena, scheduler->options.slots, &view->queued, &view->queued_count);
}

/* True when something runs, so that the next look should come soon. */
static bool tick(struct scheduler *scheduler, struct arena *arena)
{
    enum { jobs_max = job_running_max + slots_max };
    struct schedule_job states[jobs_max];
    enum schedule_action actions[jobs_max];
    const struct job *jobs[jobs_max];
    struct view view = {0};
    size_t count = 0;
    const int64_t now_ms = clock_now_ms();
    const struct error error = read_view(scheduler, arena, &view);
    report(scheduler, NULL, error);
    for (size_t i = 0; i < view.running_count && !error.code; i++) {
        struct run *run = adopt(scheduler, arena, &view.running[i]);
        if (!run)
            continue;
        states[count] = observe(scheduler, arena, run, &view.running[i], now_ms);
        jobs[count++] = &view.running[i];
    }
    for (size_t i = 0; i < view.queued_count && !error.code; i++) {
        states[count] = (struct schedule_job){.queued = true, .cancel_requested = view.queued[i].cancel_requested};
        jobs[count++] = &view.queued[i];
    }
    schedule_decide(states, count, scheduler->options.slots, now_ms, actions);
    for (size_t i = 0; i < count; i++)
        act(scheduler, arena, jobs[i], actions[i], now_ms);
    return count > 0;
}

static bool wait_for_next(struct scheduler *scheduler, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    SCOPED_LOCK(&scheduler->lock);
    while (!scheduler->stopping && !scheduler->poked)
        if (pthread_cond_timedwait(&scheduler->wake, &scheduler->lock, &until) == ETIMEDOUT)
            break;
    scheduler->poked = false;
    return !scheduler->stopping;
}

static void *scheduler_main(void *argument)
{
    struct scheduler *scheduler = argument;
    bool busy;
    do {
        struct arena arena;
        arena_init(&arena, tick_arena_bytes);
        busy = tick(scheduler, &arena);
        arena_finish(&arena);
    } while (wait_for_next(scheduler, busy ? tick_ms : idle_ms));
    return NULL;
}

struct error scheduler_create(struct scheduler **created, const struct scheduler_options *options)
{
    if (options->slots < 1 || options->slots > slots_max)
        return error_make(ERR_INVALID, "trainings at a time must be 1 to %d", slots_max);
    TRY(fs_make_dirs(options->settings.jobs_dir));
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (!scheduler)
        return error_make(ERR_INTERNAL, "out of memory");
    scheduler->options = *options;
    pthread_mutex_init(&scheduler->lock, NULL);
    pthread_cond_init(&scheduler->wake, NULL);
    const int result = pthread_create(&scheduler->thread, NULL, scheduler_main, scheduler);
    if (result) {
        free(scheduler);
        return error_make(ERR_INTERNAL, "cannot start the scheduler: %s", strerror(result));
    }
    *created = scheduler;
    return OK;
}

void scheduler_destroy(struct scheduler *scheduler)
{
    if (!scheduler)
        return;
    pthread_mutex_lock(&scheduler->lock);
    scheduler->stopping = true;
    pthread_cond_signal(&scheduler->wake);
    pthread_mutex_unlock(&scheduler->lock);
    pthread_join(scheduler->thread, NULL);
    for (int i = 0; i < job_running_max; i++) {
        __atomic_store_n(&scheduler->runs[i].stop, true, __ATOMIC_RELAXED);
        forget(&scheduler->runs[i]);
    }
    pthread_mutex_destroy(&scheduler->lock);
    pthread_cond_destroy(&scheduler->wake);
    free(scheduler);
}

void scheduler_poke(struct scheduler *scheduler)
{
    SCOPED_LOCK(&scheduler->lock);
    scheduler->poked = true;
    pthread_cond_signal(&scheduler->wake);
}

const struct training_settings *scheduler_settings(const struct scheduler *scheduler)
{
    return &scheduler->options.settings;
}
