/* Real processes: small shell scripts in the place of a trainer. */
#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "exec/exec.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/maquette-exec-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return fs_remove_tree(folder).code ? -1 : 0;
}

static struct executor *make_executor(const char *script)
{
    const char *command[] = {"/bin/sh", "-c", script, "trainer", NULL};
    const struct exec_local_options options = {.command = command, .nice = 5};
    struct executor *executor;
    assert_ok(exec_local_create(&executor, &options));
    return executor;
}

static char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void await_file(const char *name)
{
    const int64_t end = clock_monotonic_ms() + 5000;
    while (!fs_exists(path_of(name))) {
        assert_true(clock_monotonic_ms() < end);
        poll(NULL, 0, 5);
    }
}

static struct exec_status await_end(struct executor *executor, const char *handle, int64_t ms_max)
{
    struct exec_status status;
    const int64_t end = clock_monotonic_ms() + ms_max;
    for (;;) {
        assert_ok(executor->poll(executor, handle, &status));
        if (!status.running)
            return status;
        assert_true(clock_monotonic_ms() < end);
        poll(NULL, 0, 5);
    }
}

static void a_run_ends_with_its_exit_code_and_log(void **state)
{
    (void)state;
    struct executor *executor = make_executor("echo folder=$1; cd /; exit 3");
    char handle[exec_handle_size], expected[128];
    struct arena arena;
    char *text;
    size_t size;
    arena_init(&arena, 1 << 20);
    assert_ok(executor->start(executor, folder, handle));
    const struct exec_status status = await_end(executor, handle, 5000);
    assert_true(status.code_known);
    assert_int_equal(status.code, 3);
    assert_ok(fs_read(&arena, path_of("trainer.log"), 4096, &text, &size));
    snprintf(expected, sizeof expected, "folder=%s\n", folder);
    assert_string_equal(text, expected);
    arena_finish(&arena);
    executor_destroy(executor);
}

static void a_run_has_its_own_session_and_priority(void **state)
{
    (void)state;
    struct executor *executor = make_executor("exec sleep 60");
    char handle[exec_handle_size];
    assert_ok(executor->start(executor, folder, handle));
    const pid_t pid = (pid_t)strtol(handle, NULL, 10);
    assert_int_equal(getsid(pid), pid);
    assert_int_equal(getpgid(pid), pid);
    assert_ok(executor->stop(executor, handle, true));
    assert_int_equal(await_end(executor, handle, 2000).signal_no, SIGKILL);
    executor_destroy(executor);
}

static void the_servers_secret_stays_out_of_the_run(void **state)
{
    (void)state;
    setenv("MAQUETTE_CAPTIONER_KEY", "secret", 1);
    struct executor *executor = make_executor("test -z \"$MAQUETTE_CAPTIONER_KEY\"");
    char handle[exec_handle_size];
    assert_ok(executor->start(executor, folder, handle));
    assert_int_equal(await_end(executor, handle, 5000).code, 0);
    unsetenv("MAQUETTE_CAPTIONER_KEY");
    executor_destroy(executor);
}

static void stopping_reaches_the_whole_group(void **state)
{
    (void)state;
    struct executor *executor =
        make_executor("(trap '' TERM; echo $$ >child; exec sleep 60) & trap '' TERM; >ready; wait; wait");
    char handle[exec_handle_size];
    struct exec_status status;
    assert_ok(executor->start(executor, folder, handle));
    await_file("ready");
    assert_ok(executor->stop(executor, handle, false));
    assert_ok(executor->poll(executor, handle, &status));
    assert_true(status.running); /* it ignores the request */
    const int64_t begin = clock_monotonic_ms();
    assert_ok(executor->stop(executor, handle, true));
    await_end(executor, handle, 2000);
    assert_true(clock_monotonic_ms() - begin < 2000);
    while (kill(-(pid_t)strtol(handle, NULL, 10), 0) == 0)
        assert_true(clock_monotonic_ms() - begin < 2000);
    executor_destroy(executor);
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    const char *command[] = {"/nonexistent/maquette", "train", NULL};
    const struct exec_local_options options = {.command = command};
    struct executor *executor;
    char handle[exec_handle_size];
    assert_ok(exec_local_create(&executor, &options));
    assert_error(executor->start(executor, folder, handle), ERR_IO);
    executor_destroy(executor);
}

/* The first server is a process of its own, killed the hard way after it started the run. */
static void a_run_outlives_its_server_and_is_adopted(void **state)
{
    (void)state;
    const pid_t server = fork();
    if (server == 0) {
        struct executor *executor = make_executor(">ready; exec sleep 60");
        char handle[exec_handle_size];
        if (executor->start(executor, folder, handle).code)
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    waitpid(server, NULL, 0);
    await_file("ready");
    struct executor *executor = make_executor("exit 1");
    char handle[exec_handle_size];
    struct exec_status status;
    assert_ok(executor->adopt(executor, folder, handle));
    assert_true(handle[0]);
    assert_ok(executor->poll(executor, handle, &status));
    assert_true(status.running);
    assert_ok(executor->stop(executor, handle, false));
    assert_false(await_end(executor, handle, 2000).code_known);
    assert_ok(executor->adopt(executor, folder, handle));
    assert_string_equal(handle, "");
    executor_destroy(executor);
}

static void a_reused_pid_is_not_taken_for_the_run(void **state)
{
    (void)state;
    struct executor *executor = make_executor("exit 0");
    char handle[exec_handle_size];
    struct exec_status status;
    snprintf(handle, sizeof handle, "%d 1", getpid());
    assert_ok(executor->poll(executor, handle, &status));
    assert_false(status.running);
    assert_ok(executor->stop(executor, handle, true)); /* we live on */
    executor_destroy(executor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_ends_with_its_exit_code_and_log, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_run_has_its_own_session_and_priority, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_servers_secret_stays_out_of_the_run, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(stopping_reaches_the_whole_group, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_program_that_is_not_there_is_an_error, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_run_outlives_its_server_and_is_adopted, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_reused_pid_is_not_taken_for_the_run, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
