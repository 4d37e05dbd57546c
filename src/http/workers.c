/* Only a few sleeping workers are being woken at any moment; a woken worker that finds more work wakes the next. A
 * burst of 64 requests thus costs as many wake-ups as there is work for, instead of one each. */
#include "http/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/cleanup.h"

enum { waking_max = 4 }; /* 1 makes bursts wait for one scheduler latency after the other on a busy machine */

struct worker {
    struct workers *workers;
    pthread_t thread;
    int index;
};

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct task *first, **last;
    int queued, queue_max;
    int sleeping;
    int waking; /* sleepers to whom a signal is on its way */
    bool stopping;
    int count;
    struct worker threads[];
};

/* Caller holds the lock. */
static void wake_one(struct workers *workers)
{
    int wanted = workers->queued < waking_max ? workers->queued : waking_max;
    if (workers->sleeping > workers->waking && workers->waking < wanted) {
        workers->waking++;
        pthread_cond_signal(&workers->work);
    }
}

static struct task *next_task(struct workers *workers)
{
    SCOPED_LOCK(&workers->lock);
    while (!workers->first && !workers->stopping) {
        workers->sleeping++;
        pthread_cond_wait(&workers->work, &workers->lock);
        workers->sleeping--;
        if (workers->waking > 0)
            workers->waking--;
    }
    struct task *task = workers->first;
    if (!task)
        return NULL;
    workers->first = task->next;
    workers->queued--;
    if (!workers->first)
        workers->last = &workers->first;
    else
        wake_one(workers);
    return task;
}

static void *work(void *argument)
{
    struct worker *self = argument;
    for (struct task *task; (task = next_task(self->workers));)
        task->run(task, self->index);
    return NULL;
}

bool workers_push(struct workers *workers, struct task *task, bool must)
{
    SCOPED_LOCK(&workers->lock);
    if (workers->stopping || (!must && workers->queued >= workers->queue_max))
        return false;
    task->next = NULL;
    *workers->last = task;
    workers->last = &task->next;
    workers->queued++;
    wake_one(workers);
    return true;
}

void workers_stop(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->work);
    pthread_mutex_unlock(&workers->lock);
    for (int i = 0; i < workers->count; i++)
        pthread_join(workers->threads[i].thread, NULL);
}

struct error workers_create(int count, int queue_max, struct workers **out)
{
    struct workers *workers = calloc(1, sizeof *workers + (size_t)count * sizeof workers->threads[0]);
    if (!workers)
        return error_errno("make %d worker threads", count);
    workers->queue_max = queue_max;
    workers->last = &workers->first;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->work, NULL);
    sigset_t all, before; /* signals belong to the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; workers->count < count; workers->count++) {
        struct worker *worker = &workers->threads[workers->count];
        *worker = (struct worker){.workers = workers, .index = workers->count};
        if (pthread_create(&worker->thread, NULL, work, worker) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (workers->count < count) {
        workers_stop(workers);
        workers_destroy(workers);
        return error_make(ERR_INTERNAL, "cannot start %d worker threads", count);
    }
    *out = workers;
    return OK;
}

void workers_destroy(struct workers *workers)
{
    if (!workers)
        return;
    pthread_cond_destroy(&workers->work);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}
