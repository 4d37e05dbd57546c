/* Running a job folder somewhere. What runs writes its results into the folder (architecture: "Job folder"), so that
 * starting, watching and stopping is all that an executor does. Drivers: exec_local.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { exec_handle_size = 64 };

struct exec_status {
    bool running;
    bool code_known;     /* false for a process that this server did not start itself */
    int code, signal_no; /* when ended and known; signal_no is 0 for a normal exit */
};

struct executor {
    /* Begins to run the folder. handle names the run from now on, across restarts of the server. ERR_IO when it
     * cannot be started. The run outlives the server. */
    struct error (*start)(struct executor *executor, const char *job_dir, char handle[exec_handle_size]);
    /* Whether that run still goes on; never mistakes another process for it. */
    struct error (*poll)(struct executor *executor, const char *handle, struct exec_status *status);
    /* Asks the run and all it started to end (force false), or ends them (true). Gone already is OK. */
    struct error (*stop)(struct executor *executor, const char *handle, bool force);
    /* The handle of a run in this folder that was started before and goes on, else "". */
    struct error (*adopt)(struct executor *executor, const char *job_dir, char handle[exec_handle_size]);
    void (*destroy)(struct executor *executor);
};

enum { exec_argument_max = 16 };

struct exec_local_options {
    const char *const *command; /* program and first arguments, then NULL; the folder is appended */
    int nice;                   /* added to the priority number: 10 keeps the server responsive */
    int64_t memory_bytes_max;   /* of address space; 0 for no limit */
};

/* Processes of this machine, each in its own session. Copies the options. */
struct error exec_local_create(struct executor **executor, const struct exec_local_options *options)
    __attribute__((warn_unused_result));

static inline void executor_destroy(struct executor *executor)
{
    if (executor)
        executor->destroy(executor);
}
