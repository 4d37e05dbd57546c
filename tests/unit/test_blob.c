#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "blob/blob.h"

struct world {
    struct arena arena;
    char directory[64];
    struct blob_store *store;
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    arena_init(&world->arena, 16 << 20);
    snprintf(world->directory, sizeof world->directory, "%s", "/tmp/test_blob.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    assert_ok(blob_file_create(&world->store, world->directory));
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    blob_destroy(world->store);
    assert_ok(fs_remove_tree(world->directory));
    arena_finish(&world->arena);
    free(world);
    return 0;
}

static struct error count_blob(void *context, const char *sha256)
{
    (void)sha256;
    ++*(int *)context;
    return OK;
}

static int count_blobs(struct world *world)
{
    int count = 0;
    assert_ok(world->store->walk(world->store, count_blob, &count));
    return count;
}

static void bytes_come_back_as_they_were(void **state)
{
    struct world *world = *state;
    char sha256[sha256_hex_size], *bytes;
    size_t size;
    assert_ok(blob_put_bytes(world->store, "abc", 3, sha256));
    assert_string_equal(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_ok(blob_read(world->store, &world->arena, sha256, 10, &bytes, &size));
    assert_int_equal(size, 3);
    assert_string_equal(bytes, "abc");
    assert_error(blob_read(world->store, &world->arena, sha256, 2, &bytes, &size), ERR_TOO_LARGE);
}

static void the_same_bytes_are_stored_once(void **state)
{
    struct world *world = *state;
    char first[sha256_hex_size], second[sha256_hex_size], path[256];
    struct stat before, after;
    assert_ok(blob_put_bytes(world->store, "abc", 3, first));
    snprintf(path, sizeof path, "%s/ba/%s", world->directory, first + 2);
    assert_int_equal(stat(path, &before), 0);
    assert_ok(blob_put_bytes(world->store, "abc", 3, second));
    assert_int_equal(stat(path, &after), 0);
    assert_string_equal(first, second);
    assert_true(before.st_ino == after.st_ino);
    assert_int_equal(count_blobs(world), 1);
}

static void a_descriptor_is_stored_to_its_end(void **state)
{
    struct world *world = *state;
    char path[128], sha256[sha256_hex_size], expected[sha256_hex_size];
    size_t size = 200001;
    char *bytes = arena_alloc(&world->arena, size);
    memset(bytes, 'x', size);
    snprintf(path, sizeof path, "%s/source", world->directory);
    assert_ok(fs_write_atomic(path, bytes, size));
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    int64_t stored;
    assert_ok(blob_put_fd(world->store, fd, sha256, &stored));
    assert_int_equal(stored, size);
    uint8_t digest[sha256_size];
    sha256_of(bytes, size, digest);
    assert_string_equal(sha256, sha256_hex(digest, expected));
}

static void a_put_that_is_not_finished_leaves_nothing(void **state)
{
    struct world *world = *state;
    struct blob_put *put;
    assert_ok(world->store->begin(world->store, &put));
    assert_ok(world->store->append(put, "abc", 3));
    world->store->cancel(put);
    assert_int_equal(count_blobs(world), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/new/0", world->directory);
    assert_false(fs_exists(path));
}

static void a_start_removes_what_a_crash_left(void **state)
{
    struct world *world = *state;
    char path[128], sha256[sha256_hex_size];
    assert_ok(blob_put_bytes(world->store, "abc", 3, sha256));
    blob_destroy(world->store);
    snprintf(path, sizeof path, "%s/new/7", world->directory);
    assert_ok(fs_write_atomic(path, "half a blob", 11));
    assert_ok(blob_file_create(&world->store, world->directory));
    assert_false(fs_exists(path));
    assert_int_equal(count_blobs(world), 1);
}

static void a_fresh_blob_is_spared_and_a_stale_one_removed(void **state)
{
    struct world *world = *state;
    char sha256[sha256_hex_size], path[256];
    bool removed;
    assert_ok(blob_put_bytes(world->store, "abc", 3, sha256));
    assert_ok(world->store->remove_stale(world->store, sha256, 60000, &removed));
    assert_false(removed);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    snprintf(path, sizeof path, "%s/ba/%s", world->directory, sha256 + 2);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_ok(blob_put_bytes(world->store, "abc", 3, sha256)); /* someone uploads it again: fresh */
    assert_ok(world->store->remove_stale(world->store, sha256, 60000, &removed));
    assert_false(removed);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_ok(world->store->remove_stale(world->store, sha256, 60000, &removed));
    assert_true(removed);
    assert_int_equal(count_blobs(world), 0);
}

static void a_name_that_is_no_hash_is_not_found(void **state)
{
    struct world *world = *state;
    int fd;
    int64_t size;
    assert_error(world->store->open(world->store, "../../../etc/passwd", &fd, &size), ERR_NOT_FOUND);
    assert_error(world->store->open(world->store, "", &fd, &size), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_come_back_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_bytes_are_stored_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_descriptor_is_stored_to_its_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_put_that_is_not_finished_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_removes_what_a_crash_left, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fresh_blob_is_spared_and_a_stale_one_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_that_is_no_hash_is_not_found, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
