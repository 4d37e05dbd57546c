/* A handle is "PID START": the process and its start time in clock ticks after boot, together unique until a reboot.
 * The process writes it to JOB/pid itself before it becomes the trainer, so that no moment of a server's death leaves a
 * trainer that nobody knows. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "exec/exec.h"

struct exec_local {
    struct executor executor;
    char *command[exec_argument_max + 2]; /* one more for the folder, one for NULL */
    int arguments;
    int nice;
    int64_t memory_bytes_max;
};

/* What the child needs, made before the fork: a child of a threaded process may only make system calls. */
struct launch {
    char **argv, **environment;
    const char *job_dir;
    int report_fd; /* errno goes here when the program cannot be started; closes when it starts */
    int nice;
    rlim_t memory_bytes_max;
};

struct process {
    pid_t pid;
    int64_t start_ticks;
};

/* The third field is the state, the 22nd the start time; the second is a name in brackets that may hold anything. */
static bool parse_stat(const char *stat, char *state, int64_t *start_ticks)
{
    const char *at = strrchr(stat, ')');
    if (!at || at[1] != ' ')
        return false;
    *state = at[2];
    at += 2;
    for (int field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (!at++)
            return false;
    }
    *start_ticks = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        *start_ticks = *start_ticks * 10 + (*at - '0');
    return *start_ticks > 0;
}

static bool read_stat(const char *path, char *state, int64_t *start_ticks)
{
    char stat[1024];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const ssize_t length = read(fd, stat, sizeof stat - 1);
    close(fd);
    if (length <= 0)
        return false;
    stat[length] = 0;
    return parse_stat(stat, state, start_ticks);
}

static bool is_alive(const struct process *process)
{
    char path[64], state;
    int64_t start_ticks;
    snprintf(path, sizeof path, "/proc/%d/stat", process->pid);
    return read_stat(path, &state, &start_ticks) && start_ticks == process->start_ticks && state != 'Z' && state != 'X';
}

static bool parse_handle(const char *handle, struct process *process)
{
    int pid = 0;
    const bool parsed = sscanf(handle, "%d %" SCNd64, &pid, &process->start_ticks) == 2 && pid > 1;
    process->pid = pid;
    return parsed;
}

static size_t put_number(char *text, int64_t number)
{
    char digits[20];
    size_t count = 0, length = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10));
    while (count)
        text[length++] = digits[--count];
    return length;
}

/* In the child: only system calls. */
static bool write_pid_file(void)
{
    char line[exec_handle_size], state;
    int64_t start_ticks;
    if (!read_stat("/proc/self/stat", &state, &start_ticks))
        return false;
    size_t length = put_number(line, getpid());
    line[length++] = ' ';
    length += put_number(line + length, start_ticks);
    line[length++] = '\n';
    const int fd = open("pid.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    const bool written = write(fd, line, length) == (ssize_t)length;
    close(fd);
    return written && rename("pid.new", "pid") == 0;
}

static bool set_limits(const struct launch *launch)
{
    const struct rlimit no_core = {0, 0}, memory = {launch->memory_bytes_max, launch->memory_bytes_max};
    if (launch->memory_bytes_max && setrlimit(RLIMIT_AS, &memory) != 0)
        return false;
    return setrlimit(RLIMIT_CORE, &no_core) == 0 && setpriority(PRIO_PROCESS, 0, launch->nice) == 0;
}

static bool redirect(void)
{
    const int log = open("trainer.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return log >= 0 && nothing >= 0 && dup2(nothing, 0) == 0 && dup2(log, 1) == 1 && dup2(log, 2) == 2;
}

static void reset_signals(void)
{
    sigset_t none;
    for (int signal_no = 1; signal_no < NSIG; signal_no++)
        signal(signal_no, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The folder is named by its absolute path on the command line, since this process works inside of it. */
static _Noreturn void become_trainer(const struct launch *launch)
{
    reset_signals();
    if (setsid() >= 0 && chdir(launch->job_dir) == 0 && set_limits(launch) && redirect() && write_pid_file())
        execvpe(launch->argv[0], launch->argv, launch->environment);
    const int reason = errno;
    while (write(launch->report_fd, &reason, sizeof reason) < 0 && errno == EINTR)
        continue;
    _exit(127);
}

/* Secrets of the server are not the trainer's. */
static char **make_environment(void)
{
    static const char secret[] = "MAQUETTE_CAPTIONER_KEY=";
    size_t count = 0, kept = 0;
    while (environ[count])
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++)
        if (strncmp(environ[i], secret, sizeof secret - 1) != 0)
            copy[kept++] = environ[i];
    return copy;
}

static struct error await_start(int report_fd, pid_t child, const char *program)
{
    int reason;
    ssize_t length;
    while ((length = read(report_fd, &reason, sizeof reason)) < 0 && errno == EINTR)
        continue;
    if (length != sizeof reason)
        return OK;
    waitpid(child, NULL, 0);
    errno = reason;
    return error_errno("cannot start the trainer %s", program);
}

static struct error spawn(struct exec_local *local, const char *job_dir, pid_t *child)
{
    int pipe_fds[2];
    char *argv[exec_argument_max + 2];
    CLEANUP_FREE char *absolute = realpath(job_dir, NULL);
    CLEANUP_FREE char **environment = make_environment();
    if (!absolute || !environment)
        return error_errno("cannot open the job folder");
    memcpy(argv, local->command, sizeof argv);
    argv[local->arguments] = absolute;
    argv[local->arguments + 1] = NULL;
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return error_errno("cannot make a pipe");
    CLEANUP_FD int report_fd = pipe_fds[0];
    const struct launch launch = {argv,        environment, absolute,
                                  pipe_fds[1], local->nice, (rlim_t)local->memory_bytes_max};
    *child = fork();
    if (*child == 0)
        become_trainer(&launch);
    close(pipe_fds[1]);
    if (*child < 0)
        return error_errno("cannot start a process");
    return await_start(report_fd, *child, argv[0]);
}

static struct error read_pid_file(const char *job_dir, char handle[exec_handle_size])
{
    struct arena arena;
    char *text;
    size_t size;
    arena_init(&arena, 64 << 10);
    handle[0] = 0;
    struct error error = fs_read(&arena, arena_printf(&arena, "%s/pid", job_dir), exec_handle_size, &text, &size);
    if (!error.code)
        snprintf(handle, exec_handle_size, "%.*s", (int)strcspn(text, "\n"), text);
    else if (error.code == ERR_NOT_FOUND)
        error = OK;
    arena_finish(&arena);
    return error;
}

static struct error local_start(struct executor *executor, const char *job_dir, char handle[exec_handle_size])
{
    pid_t child;
    TRY(spawn((struct exec_local *)executor, job_dir, &child));
    return read_pid_file(job_dir, handle);
}

static struct error local_poll(struct executor *executor, const char *handle, struct exec_status *status)
{
    struct process process;
    int ended;
    (void)executor;
    *status = (struct exec_status){0};
    if (!parse_handle(handle, &process))
        return OK;
    if (waitpid(process.pid, &ended, WNOHANG) == process.pid) {
        status->code_known = true;
        status->code = WIFEXITED(ended) ? WEXITSTATUS(ended) : 0;
        status->signal_no = WIFSIGNALED(ended) ? WTERMSIG(ended) : 0;
        return OK;
    }
    status->running = is_alive(&process);
    return OK;
}

/* The group's id is the trainer's pid; it stays taken while a member lives, so a group without its leader is safe to
 * signal only as long as the leader was seen alive. */
static struct error local_stop(struct executor *executor, const char *handle, bool force)
{
    struct process process;
    (void)executor;
    if (!parse_handle(handle, &process) || !is_alive(&process))
        return OK;
    if (kill(-process.pid, force ? SIGKILL : SIGTERM) != 0 && errno != ESRCH)
        return error_errno("cannot stop process %d", process.pid);
    return OK;
}

static struct error local_adopt(struct executor *executor, const char *job_dir, char handle[exec_handle_size])
{
    struct process process;
    (void)executor;
    TRY(read_pid_file(job_dir, handle));
    if (!parse_handle(handle, &process) || !is_alive(&process))
        handle[0] = 0;
    return OK;
}

static void local_destroy(struct executor *executor)
{
    struct exec_local *local = (struct exec_local *)executor;
    for (int i = 0; i < local->arguments; i++)
        free(local->command[i]);
    free(local);
}

struct error exec_local_create(struct executor **executor, const struct exec_local_options *options)
{
    struct exec_local *local = calloc(1, sizeof *local);
    if (!local)
        return error_errno("cannot make the executor");
    local->executor = (struct executor){local_start, local_poll, local_stop, local_adopt, local_destroy};
    local->nice = options->nice;
    local->memory_bytes_max = options->memory_bytes_max;
    for (; options->command[local->arguments]; local->arguments++) {
        if (local->arguments == exec_argument_max) {
            local_destroy(&local->executor);
            return error_make(ERR_INVALID, "a trainer command has at most %d words", exec_argument_max);
        }
        local->command[local->arguments] = strdup(options->command[local->arguments]);
    }
    *executor = &local->executor;
    return OK;
}
