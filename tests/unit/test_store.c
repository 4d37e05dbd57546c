#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "store/db.h"

struct world {
    struct arena arena;
    char directory[64];
    char path[128];
    struct db *db;
};

static const struct db_migration first[] = {{1, "0001_t.sql", "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);"}};
static const struct db_migration second[] = {{1, "0001_t.sql", "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);"},
                                             {2, "0002_u.sql", "CREATE TABLE u (id INTEGER PRIMARY KEY);"}};

static struct error open_with(struct world *world, const struct db_migration *migrations, size_t count)
{
    return db_open_sqlite(
        &world->db,
        &(struct db_options){.path = world->path, .readers = 4, .migrations = migrations, .migration_count = count});
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    arena_init(&world->arena, 1 << 20);
    snprintf(world->directory, sizeof world->directory, "%s", "/tmp/test_store.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    snprintf(world->path, sizeof world->path, "%s/test.db", world->directory);
    assert_ok(open_with(world, first, 1));
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    db_close(world->db);
    assert_ok(fs_remove_tree(world->directory));
    arena_finish(&world->arena);
    free(world);
    return 0;
}

struct row {
    int64_t id;
    bool fail_after;
};

static struct error insert_row(struct db_tx *tx, void *context)
{
    const struct row *row = context;
    TRY(db_execute(tx, NULL, "INSERT INTO t (id, text) VALUES (?1, ?2)", DB_BIND(db_i(row->id), db_t("text"))));
    return row->fail_after ? error_field("name", "is refused") : OK;
}

static int64_t count_rows(struct db *db)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    bool row;
    assert_ok(db_read_begin(db, &tx));
    assert_ok(db_query(tx, &rows, "SELECT count(*) FROM t", DB_NO_BIND));
    assert_ok(db_next(rows, &row));
    return db_int(rows, 0);
}

static void a_failing_write_undoes_itself_and_tells_why(void **state)
{
    struct world *world = *state;
    struct error error = db_write(world->db, insert_row, &(struct row){1, true});
    assert_int_equal(error.code, ERR_INVALID);
    assert_string_equal(error.field, "name");
    assert_string_equal(error.text, "name is refused");
    assert_int_equal(count_rows(world->db), 0);
    assert_ok(db_write(world->db, insert_row, &(struct row){1, false}));
    assert_error(db_write(world->db, insert_row, &(struct row){1, false}), ERR_INTERNAL);
    assert_int_equal(count_rows(world->db), 1);
}

enum { threads = 16, rows_each = 50 };

static void *write_many(void *argument)
{
    static atomic_int next = 1;
    struct world *world = argument;
    for (int i = 0; i < rows_each; i++) {
        struct row row = {atomic_fetch_add(&next, 1), i % 5 == 0};
        struct error error = db_write(world->db, insert_row, &row);
        if ((error.code != ERR_NONE) != row.fail_after)
            return argument;
    }
    return NULL;
}

static void failures_in_a_shared_commit_do_not_touch_the_others(void **state)
{
    struct world *world = *state;
    pthread_t running[threads];
    for (int i = 0; i < threads; i++)
        assert_int_equal(pthread_create(&running[i], NULL, write_many, world), 0);
    for (int i = 0; i < threads; i++) {
        void *wrong;
        pthread_join(running[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(count_rows(world->db), threads * rows_each * 4 / 5);
}

static void a_read_sees_one_moment_while_writes_go_on(void **state)
{
    struct world *world = *state;
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    bool row;
    const char *sql = "SELECT count(*) FROM t";
    assert_ok(db_read_begin(world->db, &tx));
    assert_ok(db_query(tx, &rows, sql, DB_NO_BIND));
    assert_ok(db_next(rows, &row));
    assert_ok(db_write(world->db, insert_row, &(struct row){1, false}));
    struct db_rows *again;
    assert_ok(db_query(tx, &again, sql, DB_NO_BIND)); /* nested: the first is still in use */
    assert_ok(db_next(again, &row));
    assert_int_equal(db_int(again, 0), 0);
    assert_int_equal(count_rows(world->db), 1);
}

static struct error refuse_commit(void *context)
{
    return *(bool *)context ? error_make(ERR_NO_SPACE, "the disk is full") : OK;
}

static void a_commit_that_fails_fails_every_write_in_it(void **state)
{
    struct world *world = *state;
    bool full = true;
    db_close(world->db);
    assert_ok(db_open_sqlite(&world->db, &(struct db_options){.path = world->path,
                                                              .migrations = first,
                                                              .migration_count = 1,
                                                              .before_commit = refuse_commit,
                                                              .before_commit_context = &full}));
    assert_error(db_write(world->db, insert_row, &(struct row){1, false}), ERR_NO_SPACE);
    assert_int_equal(count_rows(world->db), 0);
    full = false;
    assert_ok(db_write(world->db, insert_row, &(struct row){1, false}));
    assert_int_equal(count_rows(world->db), 1);
}

/* The child dies right after its second write is answered, with no chance to tidy up. */
static void an_answered_write_survives_the_death_of_the_process(void **state)
{
    struct world *world = *state;
    db_close(world->db);
    world->db = NULL;
    pid_t child = fork();
    if (child == 0) {
        if (open_with(world, first, 1).code || db_write(world->db, insert_row, &(struct row){1, false}).code ||
            db_write(world->db, insert_row, &(struct row){2, false}).code)
            _exit(1);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(open_with(world, first, 1));
    assert_int_equal(count_rows(world->db), 2);
}

static void migrations_run_once_and_a_newer_database_is_refused(void **state)
{
    struct world *world = *state;
    assert_ok(db_write(world->db, insert_row, &(struct row){1, false}));
    db_close(world->db);
    assert_ok(open_with(world, second, 2));
    assert_int_equal(count_rows(world->db), 1);
    db_close(world->db);
    world->db = NULL;
    struct error error = open_with(world, first, 1);
    assert_int_equal(error.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "schema 2"));
}

static void a_migration_that_fails_leaves_the_database_as_it_was(void **state)
{
    struct world *world = *state;
    const struct db_migration broken[] = {first[0], {2, "0002_b.sql", "CREATE TABLE v (id INTEGER); SELECT nonsense;"}};
    db_close(world->db);
    world->db = NULL;
    assert_error(open_with(world, broken, 2), ERR_INTERNAL);
    assert_ok(open_with(world, second, 2));
}

static void a_file_of_another_kind_is_refused(void **state)
{
    struct world *world = *state;
    db_close(world->db);
    world->db = NULL;
    char junk[4096] = "this is no database";
    assert_ok(fs_write_atomic(world->path, junk, sizeof junk));
    assert_error(open_with(world, first, 1), ERR_CORRUPT);
}

static void the_built_in_schema_is_made(void **state)
{
    struct world *world = *state;
    struct db *db;
    char path[128];
    snprintf(path, sizeof path, "%s/real.db", world->directory);
    assert_ok(db_open_sqlite(&db, &(struct db_options){.path = path}));
    struct db_tx *tx;
    struct db_rows *rows;
    bool row;
    assert_ok(db_read_begin(db, &tx));
    assert_ok(db_query(tx, &rows, "SELECT count(*) FROM model", DB_NO_BIND));
    assert_ok(db_next(rows, &row));
    assert_true(row);
    db_read_end(tx);
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_failing_write_undoes_itself_and_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_in_a_shared_commit_do_not_touch_the_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_sees_one_moment_while_writes_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_that_fails_fails_every_write_in_it, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answered_write_survives_the_death_of_the_process, setup, teardown),
        cmocka_unit_test_setup_teardown(migrations_run_once_and_a_newer_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_migration_that_fails_leaves_the_database_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_of_another_kind_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_built_in_schema_is_made, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
