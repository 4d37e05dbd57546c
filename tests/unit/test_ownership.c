/* What belongs to whom: copies, transfers, deletions and purges, down to the last stored byte. */
#include "domain_world.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/asset_map.h"
#include "domain/collector.h"
#include "domain/dataset.h"
#include "domain/key.h"
#include "domain/model_assets.h"
#include "domain/model_copy.h"
#include "domain/model_delete.h"
#include "domain/model_transfer.h"
#include "domain/tag.h"
#include "domain/team.h"

static struct plan_refusal refusal; /* no test here reads it */

static struct model model_with_images(struct world *world, int first_shade, int count)
{
    struct model model = make_model(world);
    struct training_image image;
    for (int i = 0; i < count; i++) {
        struct picture picture = take_picture(world, first_shade + i, "red_square.png");
        assert_ok(
            dataset_add_picture(&world->domain, &world->arena, &world->caller, model.id, &picture, &image, &refusal));
    }
    return get_model(world, model.id);
}

static struct model copy_of(struct world *world, const char *id)
{
    struct model copy;
    const struct model_copy_options options = {.examples = true};
    assert_ok(model_copy(&world->domain, &world->arena, &world->caller, id, &options, &copy, &refusal));
    return copy;
}

static void delete_model(struct world *world, const char *id)
{
    assert_ok(model_delete(&world->domain, &world->arena, &world->caller, id));
}

static struct purged purge(struct world *world, int64_t age_ms)
{
    struct purged purged;
    assert_ok(
        purge_run(&world->domain, &(struct purge){.age_ms = age_ms, .jobs_dir = path_in(world, "jobs")}, &purged));
    return purged;
}

static int64_t count_rows(struct world *world, const char *sql)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    bool row;
    assert_ok(db_read_begin(world->domain.db, &tx));
    assert_ok(db_query(tx, &rows, sql, DB_NO_BIND));
    assert_ok(db_next(rows, &row));
    return db_int(rows, 0);
}

static struct error count_blob(void *context, const char *sha256)
{
    (void)sha256;
    ++*(int64_t *)context;
    return OK;
}

/* After the collector has been through, whatever its age. */
static int64_t count_bytes_kept(struct world *world)
{
    int64_t count = 0;
    assert_ok(collector_run(&world->domain, -1000, NULL));
    assert_ok(world->domain.blobs->walk(world->domain.blobs, count_blob, &count));
    return count;
}

static void a_map_finds_what_was_put_and_grows(void **state)
{
    struct world *world = *state;
    struct asset_map map = {.arena = &world->arena};
    assert_null(asset_map_find(&map, "asset_0"));
    assert_null(asset_map_get(&map, NULL));
    for (int i = 0; i < 500; i++)
        asset_map_put(&map, arena_printf(&world->arena, "asset_%d", i),
                      i % 7 ? arena_printf(&world->arena, "%d", i) : NULL);
    assert_int_equal(map.count, 500);
    for (int i = 0; i < 500; i++) {
        const char *to = asset_map_get(&map, arena_printf(&world->arena, "asset_%d", i));
        if (i % 7)
            assert_string_equal(to, arena_printf(&world->arena, "%d", i));
        else
            assert_null(to);
    }
    assert_string_equal(asset_map_get(&map, "asset_500"), "asset_500");
    assert_string_equal(asset_map_epochs(&map, "[{\"epoch\":\"000001\",\"assetIds\":[\"asset_14\",\"asset_3\"]}]"),
                        "[{\"epoch\":\"000001\",\"assetIds\":[\"3\"]}]");
    assert_string_equal(asset_map_text(&map, "{asset:asset_2}, asset_22x {asset:asset_7}!"),
                        "{asset:2}, asset_22x {asset:asset_7}!");
}

static void a_copy_shares_bytes_and_nothing_else(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 5);
    assert_int_equal(count_bytes_kept(world), 5);
    struct model copy = copy_of(world, model.id);
    assert_int_equal(count_bytes_kept(world), 5);
    assert_int_equal(copy.image_count, 5);
    assert_string_equal(copy.parent_model_id, model.id);
    for (size_t i = 0; i < 5; i++) {
        assert_string_not_equal(copy.images[i].id, model.images[i].id);
        assert_string_equal(copy.images[i].description, model.images[i].description);
    }
    delete_model(world, model.id);
    assert_int_equal(purge(world, -1000).models, 1);
    assert_int_equal(count_bytes_kept(world), 5);
    assert_int_equal(get_model(world, copy.id).image_count, 5);
    delete_model(world, copy.id);
    assert_int_equal(purge(world, -1000).assets, 5);
    assert_int_equal(count_bytes_kept(world), 0);
    assert_int_equal(count_rows(world, "SELECT count(*) FROM asset"), 0);
}

static void a_model_can_be_restored_until_it_may_be_purged(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 2), restored;
    const struct domain *domain = &world->domain;
    world->domain.purge_age_ms = 60000;
    assert_error(model_restore(domain, &world->arena, &world->caller, model.id, &restored), ERR_INVALID);
    delete_model(world, model.id);
    assert_error(model_restore(domain, &world->arena, &world->stranger, model.id, &restored), ERR_NOT_FOUND);
    assert_ok(model_restore(domain, &world->arena, &world->caller, model.id, &restored));
    assert_int_equal(get_model(world, model.id).image_count, 2);
    delete_model(world, model.id);
    world->domain.purge_age_ms = 0;
    assert_error(model_restore(domain, &world->arena, &world->caller, model.id, &restored), ERR_GONE);
    assert_int_equal(purge(world, -1000).models, 1);
    assert_error(model_restore(domain, &world->arena, &world->caller, model.id, &restored), ERR_NOT_FOUND);
}

static void a_purge_waits_for_its_age(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 1);
    assert_int_equal(purge(world, -1000).models, 0); /* nothing is deleted */
    delete_model(world, model.id);
    assert_int_equal(purge(world, 60000).models, 0);
    assert_int_equal(purge(world, -1000).models, 1);
    assert_int_equal(purge(world, -1000).models, 0);
}

static void a_large_model_is_purged_in_several_writes(void **state)
{
    enum { images = purge_assets_max + 20 };
    struct world *world = *state;
    struct model model = make_model(world), copy;
    struct training_image image;
    struct picture picture = take_picture(world, 1, "red_square.png");
    for (int i = 0; i < images; i++)
        assert_ok(
            dataset_add_picture(&world->domain, &world->arena, &world->caller, model.id, &picture, &image, &refusal));
    copy = copy_of(world, model.id);
    assert_int_equal(copy.image_count, images);
    delete_model(world, model.id);
    assert_int_equal(purge(world, -1000).assets, images);
    assert_int_equal(get_model(world, copy.id).image_count, images);
}

static void a_stopped_purge_leaves_the_rest_for_later(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 2);
    struct purged purged;
    delete_model(world, model.id);
    const bool stop = true;
    assert_ok(purge_run(&world->domain, &(struct purge){.age_ms = -1000, .stop = &stop}, &purged));
    assert_int_equal(purged.models, 0);
    assert_int_equal(purge(world, -1000).models, 1);
}

static void what_another_model_needs_outlives_its_first_one(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 2), other = make_model(world);
    struct training_image image;
    assert_ok(dataset_add_assets(&world->domain, &world->arena, &world->caller, other.id, &model.images[0].id, 1,
                                 &image, &refusal));
    delete_model(world, model.id);
    assert_int_equal(purge(world, -1000).assets, 1);
    assert_string_equal(get_model(world, other.id).images[0].id, model.images[0].id);
    assert_int_equal(count_bytes_kept(world), 1);
    delete_model(world, other.id); /* and goes with its last one */
    assert_int_equal(purge(world, -1000).assets, 1);
    assert_int_equal(count_bytes_kept(world), 0);
}

static struct error transfer(struct world *world, const struct caller *from, const struct caller *to, const char *id)
{
    struct model model;
    const struct model_transfer_options options = {.project_id = to->project_id};
    return model_transfer(&world->domain, &world->arena, from, id, &options, &model);
}

static void a_transferred_model_is_purged_where_it_is(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 3), other = make_model(world);
    struct training_image image;
    assert_ok(dataset_add_assets(&world->domain, &world->arena, &world->caller, other.id, &model.images[0].id, 1,
                                 &image, &refusal));
    assert_ok(transfer(world, &world->caller, &world->stranger, model.id));
    assert_error(transfer(world, &world->caller, &world->stranger, model.id), ERR_NOT_FOUND);
    assert_int_equal(count_rows(world, "SELECT count(*) FROM asset"), 4);
    assert_ok(model_delete(&world->domain, &world->arena, &world->stranger, model.id));
    assert_int_equal(purge(world, -1000).assets, 3);
    assert_int_equal(get_model(world, other.id).image_count, 1);
    assert_int_equal(count_bytes_kept(world), 1);
}

static void a_refused_transfer_changes_nothing(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 2);
    struct key_created key;
    struct caller outside = {.kind = CALLER_KEY};
    assert_ok(key_create(world->domain.db, "another team", "outside", &key));
    snprintf(outside.project_id, sizeof outside.project_id, "%s", key.project_id);
    assert_error(transfer(world, &world->caller, &outside, model.id), ERR_FORBIDDEN);
    assert_error(transfer(world, &world->caller, &world->caller, model.id), ERR_INVALID);
    assert_error(transfer(world, &world->stranger, &world->stranger, model.id), ERR_NOT_FOUND);
    assert_error(transfer(world, &world->caller, &(struct caller){.project_id = "proj_x"}, model.id), ERR_NOT_FOUND);
    assert_string_equal(get_model(world, model.id).project_id, world->caller.project_id);
    assert_ok(team_accept(world->domain.db, "another team", "team"));
    assert_ok(transfer(world, &world->caller, &outside, model.id));
    assert_error(team_revoke(world->domain.db, "team", "another team"), ERR_NOT_FOUND);
}

static struct tags_changed change_tags(struct world *world, const char *id, const char *const *add, size_t add_count,
                                       const char *const *remove, size_t remove_count)
{
    struct tags_changed changed;
    const struct tag_change change = {add, remove, add_count, remove_count, false};
    assert_ok(tag_update(&world->domain, &world->arena, &world->caller, TAG_MODEL, id, &change, &changed));
    return changed;
}

static int64_t tagged(struct world *world, const struct caller *caller, const char *name)
{
    struct tag_page page;
    assert_ok(tag_list(&world->domain, &world->arena, caller, tag_page_max, NULL, &page));
    for (size_t i = 0; i < page.count; i++)
        if (!strcmp(page.tags[i].name, name))
            return page.tags[i].item_count;
    return 0;
}

static void counts_of_tags_follow_their_items(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 1);
    assert_int_equal(change_tags(world, model.id, (const char *[]){"a", "b", "a"}, 3, NULL, 0).added_count, 2);
    assert_int_equal(change_tags(world, model.id, NULL, 0, (const char *[]){"b", "c"}, 2).deleted_count, 1);
    struct model copy = copy_of(world, model.id);
    assert_int_equal(tagged(world, &world->caller, "a"), 2);
    assert_ok(transfer(world, &world->caller, &world->stranger, copy.id));
    assert_int_equal(tagged(world, &world->caller, "a"), 1);
    assert_int_equal(tagged(world, &world->stranger, "a"), 1);
    delete_model(world, model.id);
    assert_int_equal(tagged(world, &world->caller, "a"), 0);
    assert_int_equal(purge(world, -1000).models, 1);
    assert_int_equal(count_rows(world, "SELECT count(*) FROM tag"), 1);
}

static void deleted_images_are_purged_and_only_they(void **state)
{
    struct world *world = *state;
    struct model model = model_with_images(world, 1, 4);
    const char *ids[] = {model.images[1].id, "asset_unknown"};
    assert_error(model_images_delete(&world->domain, &world->arena, &world->caller, model.id, ids, 2), ERR_NOT_FOUND);
    assert_int_equal(get_model(world, model.id).image_count, 4);
    assert_ok(model_images_delete(&world->domain, &world->arena, &world->caller, model.id, ids, 1));
    assert_int_equal(get_model(world, model.id).image_count, 3);
    assert_int_equal(count_bytes_kept(world), 4);
    assert_int_equal(purge(world, -1000).assets, 1);
    assert_int_equal(count_bytes_kept(world), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_map_finds_what_was_put_and_grows, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copy_shares_bytes_and_nothing_else, setup, teardown),
        cmocka_unit_test_setup_teardown(a_model_can_be_restored_until_it_may_be_purged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_purge_waits_for_its_age, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_model_is_purged_in_several_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stopped_purge_leaves_the_rest_for_later, setup, teardown),
        cmocka_unit_test_setup_teardown(what_another_model_needs_outlives_its_first_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transferred_model_is_purged_where_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_transfer_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_of_tags_follow_their_items, setup, teardown),
        cmocka_unit_test_setup_teardown(deleted_images_are_purged_and_only_they, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
