#include "domain_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/collector.h"
#include "domain/dataset.h"
#include "domain/key.h"
#include "domain/model.h"
#include "domain/model_delete.h"
#include "domain/model_list.h"
#include "domain/transform.h"
#include "domain/url.h"
#include "media/caption.h"

static struct plan_refusal refusal; /* no test here reads it: tests/api/test_limits.py does */

static struct error set_status(struct db_tx *tx, void *context)
{
    const char **id_and_status = context;
    return db_execute(tx, NULL, "UPDATE model SET status = ?2 WHERE id = ?1",
                      DB_BIND(db_t(id_and_status[0]), db_t(id_and_status[1])));
}

static void a_key_opens_its_project_until_it_is_revoked(void **state)
{
    struct world *world = *state;
    struct key_ring *ring;
    struct key_created key;
    struct caller caller;
    assert_ok(key_ring_create(&ring, world->domain.db));
    assert_ok(key_create(world->domain.db, "team", "ours", &key));
    assert_string_equal(key.project_id, world->caller.project_id);
    assert_int_equal(strlen(key.secret), 48);
    assert_error(key_verify(ring, key.key_id, "wrong", &caller), ERR_UNAUTHENTICATED);
    assert_error(key_verify(ring, "api_nobody", key.secret, &caller), ERR_UNAUTHENTICATED);
    assert_ok(key_verify(ring, key.key_id, key.secret, &caller));
    assert_ok(key_verify(ring, key.key_id, key.secret, &caller)); /* from the cache */
    assert_string_equal(caller.project_id, key.project_id);
    assert_ok(key_revoke(world->domain.db, key.key_id));
    assert_error(key_revoke(world->domain.db, key.key_id), ERR_NOT_FOUND);
    key_ring_destroy(ring);
    assert_ok(key_ring_create(&ring, world->domain.db));
    assert_error(key_verify(ring, key.key_id, key.secret, &caller), ERR_UNAUTHENTICATED);
    key_ring_destroy(ring);
}

static void a_revoked_key_stops_working_within_a_second(void **state)
{
    struct world *world = *state;
    struct key_ring *ring;
    struct key_created key;
    struct caller caller;
    assert_ok(key_ring_create(&ring, world->domain.db));
    assert_ok(key_create(world->domain.db, "team", "ours", &key));
    assert_ok(key_verify(ring, key.key_id, key.secret, &caller));
    assert_ok(key_revoke(world->domain.db, key.key_id));
    int64_t limit_ms = clock_monotonic_ms() + key_cache_ms + 200;
    while (!key_verify(ring, key.key_id, key.secret, &caller).code)
        assert_true(clock_monotonic_ms() < limit_ms);
    key_ring_destroy(ring);
}

static void a_model_is_made_read_changed_and_deleted(void **state)
{
    struct world *world = *state;
    struct model made = make_model(world), model;
    assert_string_equal(get_model(world, made.id).name, "icons");
    assert_string_equal(made.status, "new");
    struct model_change change = {.set = MODEL_SET_NAME | MODEL_SET_TYPE, .name = "other", .type = "sd-xl-lora"};
    assert_ok(model_update(&world->domain, &world->arena, &world->caller, made.id, &change, &model));
    assert_string_equal(get_model(world, made.id).type, "sd-xl-lora");
    assert_ok(model_delete(&world->domain, &world->arena, &world->caller, made.id));
    assert_error(model_get(&world->domain, &world->arena, &world->caller, made.id, &model), ERR_NOT_FOUND);
    struct model_page page;
    assert_ok(model_list(&world->domain, &world->arena, &world->caller,
                         &(struct model_filter){.status = "deleted", .page_size = 10}, &page));
    assert_int_equal(page.count, 1);
}

static void another_projects_model_is_not_found(void **state)
{
    struct world *world = *state;
    struct model made = make_model(world), model;
    struct training_image image;
    struct model_page page;
    const struct domain *domain = &world->domain;
    struct picture picture = take_picture(world, 1, NULL);
    assert_error(model_get(domain, &world->arena, &world->stranger, made.id, &model), ERR_NOT_FOUND);
    assert_error(model_update(domain, &world->arena, &world->stranger, made.id, &(struct model_change){0}, &model),
                 ERR_NOT_FOUND);
    assert_error(model_delete(domain, &world->arena, &world->stranger, made.id), ERR_NOT_FOUND);
    assert_error(dataset_add_picture(domain, &world->arena, &world->stranger, made.id, &picture, &image, &refusal),
                 ERR_NOT_FOUND);
    assert_ok(model_list(domain, &world->arena, &world->stranger, &(struct model_filter){.page_size = 10}, &page));
    assert_int_equal(page.count, 0);
}

static void pages_walk_every_model_once_in_either_direction(void **state)
{
    struct world *world = *state;
    enum { models = 7 };
    for (int i = 0; i < models; i++)
        make_model(world);
    for (int ascending = 0; ascending < 2; ascending++) {
        struct model_filter filter = {.page_size = 3, .ascending = ascending};
        struct model_page page;
        size_t seen = 0, pages = 0;
        int64_t last = ascending ? 0 : INT64_MAX;
        do {
            assert_ok(model_list(&world->domain, &world->arena, &world->caller, &filter, &page));
            for (size_t i = 0; i < page.count; i++, seen++) {
                assert_true(ascending ? page.models[i].created_at >= last : page.models[i].created_at <= last);
                last = page.models[i].created_at;
            }
            filter.token = page.next_token;
            pages++;
        } while (page.next_token);
        assert_int_equal(seen, models);
        assert_int_equal(pages, 3);
    }
    struct model_page page;
    struct model_filter bad = {.page_size = 3, .token = "nonsense!"};
    assert_error(model_list(&world->domain, &world->arena, &world->caller, &bad, &page), ERR_INVALID);
}

static void a_list_row_carries_the_first_three_training_images(void **state)
{
    struct world *world = *state;
    struct model model = make_model(world);
    struct training_image image;
    struct model_page page;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "red_%d.png", i);
        struct picture picture = take_picture(world, i * 20, name);
        assert_ok(
            dataset_add_picture(&world->domain, &world->arena, &world->caller, model.id, &picture, &image, &refusal));
    }
    assert_ok(
        model_list(&world->domain, &world->arena, &world->caller, &(struct model_filter){.page_size = 10}, &page));
    assert_int_equal(page.models[0].training_image_count, 5);
    assert_int_equal(page.models[0].image_count, 3);
    assert_string_equal(page.models[0].images[0].name, "red_0.png");
    model = get_model(world, model.id);
    assert_int_equal(model.image_count, 5);
    assert_string_equal(model.images[4].name, "red_4.png");

    struct asset asset;
    assert_ok(asset_update(&world->domain, &world->arena, &world->caller, model.images[0].id,
                           &(struct asset_change){.description = "a \"red\" square"}, &asset));
    assert_ok(
        model_list(&world->domain, &world->arena, &world->caller, &(struct model_filter){.page_size = 10}, &page));
    assert_string_equal(page.models[0].images[0].description, "a \"red\" square");
}

static void the_same_asset_is_a_training_image_once(void **state)
{
    struct world *world = *state;
    struct model model = make_model(world);
    struct asset asset;
    struct training_image images[11];
    const struct domain *domain = &world->domain;
    struct picture picture = take_picture(world, 1, "a.png");
    assert_ok(asset_create(domain, &world->arena, &world->caller, &picture, &(struct asset_options){0}, &asset));
    const char *ids[11] = {asset.id};
    assert_ok(dataset_add_assets(domain, &world->arena, &world->caller, model.id, ids, 1, images, &refusal));
    struct error error = dataset_add_assets(domain, &world->arena, &world->caller, model.id, ids, 1, images, &refusal);
    assert_int_equal(error.code, ERR_INVALID);
    assert_string_equal(error.text, "The provided assetId is already a training image of this model");
    error = dataset_add_assets(domain, &world->arena, &world->caller, model.id, ids, 11, images, &refusal);
    assert_string_equal(error.text, "Too many assetIds provided in a single request");
    assert_int_equal(get_model(world, model.id).training_image_count, 1);
}

static void a_refused_batch_adds_nothing(void **state)
{
    struct world *world = *state;
    struct model model = make_model(world);
    struct asset asset;
    struct training_image images[2];
    struct picture picture = take_picture(world, 1, "a.png");
    assert_ok(
        asset_create(&world->domain, &world->arena, &world->caller, &picture, &(struct asset_options){0}, &asset));
    const char *ids[] = {asset.id, "asset_unknown"};
    assert_error(dataset_add_assets(&world->domain, &world->arena, &world->caller, model.id, ids, 2, images, &refusal),
                 ERR_NOT_FOUND);
    assert_int_equal(get_model(world, model.id).training_image_count, 0);
}

static void a_replaced_image_keeps_its_place_and_a_removed_one_leaves(void **state)
{
    struct world *world = *state;
    struct model model = make_model(world);
    struct training_image images[3], replaced;
    const struct domain *domain = &world->domain;
    for (int i = 0; i < 3; i++) {
        struct picture picture = take_picture(world, i, "old.png");
        assert_ok(dataset_add_picture(domain, &world->arena, &world->caller, model.id, &picture, &images[i], &refusal));
    }
    struct picture picture = take_picture(world, 99, "new.png");
    assert_ok(
        dataset_replace(domain, &world->arena, &world->caller, model.id, images[1].id, NULL, &picture, &replaced));
    model = get_model(world, model.id);
    assert_string_equal(model.images[1].id, replaced.id);
    assert_string_equal(model.images[1].name, "new.png");
    assert_ok(dataset_remove(domain, &world->arena, &world->caller, model.id, images[0].id));
    assert_error(dataset_remove(domain, &world->arena, &world->caller, model.id, images[0].id), ERR_NOT_FOUND);
    model = get_model(world, model.id);
    assert_int_equal(model.training_image_count, 2);
    assert_string_equal(model.images[0].id, replaced.id);
}

static void a_model_in_training_refuses_changes_of_its_data(void **state)
{
    struct world *world = *state;
    struct model model = make_model(world);
    struct training_image image;
    struct picture picture = take_picture(world, 1, NULL);
    assert_ok(db_write(world->domain.db, set_status, (const char *[]){model.id, "training"}));
    struct error error =
        dataset_add_picture(&world->domain, &world->arena, &world->caller, model.id, &picture, &image, &refusal);
    assert_int_equal(error.code, ERR_INVALID);
    assert_string_equal(error.text, "Model is already training");
    struct model_change change = {.set = MODEL_SET_TYPE, .type = "sd-xl-lora"};
    assert_error(model_update(&world->domain, &world->arena, &world->caller, model.id, &change, &model), ERR_INVALID);
}

static void what_is_no_picture_is_refused(void **state)
{
    struct world *world = *state;
    struct picture picture;
    char *bytes;
    size_t size;
    struct arena *arena = &world->arena;
    struct error error = picture_take(&world->domain, arena, "data", "hello, world", 12, NULL, CAPTION_WHOLE, &picture);
    assert_int_equal(error.code, ERR_INVALID);
    assert_string_equal(error.field, "data");
    assert_ok(picture_decode(arena, "data", "data:image/png;base64,aGVsbG8=", 30, &bytes, &size));
    assert_int_equal(size, 5);
    assert_ok(picture_decode(arena, "image", "aGVsbG8=", 8, &bytes, &size));
    assert_error(picture_decode(arena, "data", "data:image/png,aGVsbG8=", 23, &bytes, &size), ERR_INVALID);
    assert_error(picture_decode(arena, "data", "data:image/png;base64,aGV?bG8=", 30, &bytes, &size), ERR_INVALID);
    assert_error(picture_decode(arena, "data", "", 0, &bytes, &size), ERR_INVALID);
}

/* The value of a parameter of a link. */
static const char *parameter(struct world *world, const char *url, const char *name)
{
    const char *at = strstr(url, name);
    assert_non_null(at);
    at += strlen(name);
    return arena_printf(&world->arena, "%.*s", (int)strcspn(at, "&"), at);
}

static void a_signed_link_opens_its_asset_until_its_date(void **state)
{
    struct world *world = *state;
    int64_t now_ms, expiry;
    assert_true(clock_parse_iso("2026-01-20T12:00:00Z", &now_ms));
    assert_true(clock_parse_iso("2026-01-31T23:59:59Z", &expiry));
    const char *url = url_asset(&world->domain, &world->arena, "asset_a", false, now_ms);
    assert_string_equal(url, url_asset(&world->domain, &world->arena, "asset_a", false, now_ms + 3600000));
    const char *policy = parameter(world, url, "Policy="), *signature = parameter(world, url, "Signature=");
    const struct domain *domain = &world->domain;
    assert_ok(url_verify(domain, "assets-transform", "asset_a", policy, signature, now_ms));
    assert_ok(url_verify(domain, "assets-transform", "asset_a", policy, signature, expiry));
    assert_error(url_verify(domain, "assets-transform", "asset_a", policy, signature, expiry + 1000), ERR_FORBIDDEN);
    assert_error(url_verify(domain, "assets-transform", "asset_b", policy, signature, now_ms), ERR_FORBIDDEN);
    assert_error(url_verify(domain, "assets", "asset_a", policy, signature, now_ms), ERR_FORBIDDEN);
    assert_error(url_verify(domain, "assets-transform", "asset_a", policy, "x", now_ms), ERR_FORBIDDEN);
    assert_error(url_verify(domain, "assets-transform", "asset_a", NULL, NULL, now_ms), ERR_FORBIDDEN);
}

static void links_expire_on_dates_that_stay_the_same_for_days(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"2026-01-01", "2026-01-14"}, {"2026-01-07", "2026-01-14"},
                                           {"2026-01-08", "2026-01-21"}, {"2026-02-15", "2026-02-28"},
                                           {"2026-12-22", "2027-01-07"}, {"2026-12-31", "2027-01-07"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t now_ms, end_ms;
        assert_true(clock_parse_iso(cases[i][0], &now_ms));
        assert_true(clock_parse_iso(cases[i][1], &end_ms));
        assert_int_equal(url_expiry(now_ms), end_ms / 1000 + 86399);
    }
}

static void a_transformed_picture_is_made_once_and_bounded(void **state)
{
    struct world *world = *state;
    struct asset asset;
    struct transformed first, second;
    struct picture picture = take_picture(world, 50, "a.png");
    assert_ok(
        asset_create(&world->domain, &world->arena, &world->caller, &picture, &(struct asset_options){0}, &asset));
    struct media_transform half = {.width = 16, .target = MEDIA_AS_JPEG};
    assert_ok(transform_get(&world->domain, &world->arena, &asset, &half, &first));
    assert_ok(transform_get(&world->domain, &world->arena, &asset, &half, &second));
    assert_string_equal(first.mime, "image/jpeg");
    struct stat one, two;
    assert_int_equal(fstat(first.fd, &one), 0);
    assert_int_equal(fstat(second.fd, &two), 0);
    assert_true(one.st_ino == two.st_ino && one.st_size > 0);
    close(first.fd);
    close(second.fd);
    transform_cache_destroy(world->domain.transforms); /* a new start with a smaller bound evicts it */
    assert_ok(transform_cache_create(&world->domain.transforms, path_in(world, "cache"), 10));
    const char *path = path_in(world, "cache");
    char name[sha256_hex_size + 1];
    snprintf(name, sizeof name, "%.64s", first.etag + 1);
    assert_false(fs_exists(arena_printf(&world->arena, "%s/%s", path, name)));
}

static struct error forget_asset(struct db_tx *tx, void *context)
{
    return db_execute(tx, NULL, "DELETE FROM asset WHERE id = ?1", DB_BIND(db_t(context)));
}

static void the_collector_removes_only_what_no_row_refers_to(void **state)
{
    struct world *world = *state;
    struct asset kept, dropped;
    int64_t removed;
    struct picture one = take_picture(world, 1, NULL), two = take_picture(world, 2, NULL);
    take_picture(world, 3, NULL); /* stored by a request that failed later: no row */
    assert_ok(asset_create(&world->domain, &world->arena, &world->caller, &one, &(struct asset_options){0}, &kept));
    assert_ok(asset_create(&world->domain, &world->arena, &world->caller, &two, &(struct asset_options){0}, &dropped));
    assert_ok(db_write(world->domain.db, forget_asset, (void *)dropped.id));
    assert_ok(collector_run(&world->domain, collector_age_ms, &removed));
    assert_int_equal(removed, 0); /* all too fresh */
    assert_ok(collector_run(&world->domain, -1000, &removed));
    assert_int_equal(removed, 2);
    struct transformed file;
    assert_ok(transform_none(&world->domain, &world->arena, &kept, &file));
    close(file.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_opens_its_project_until_it_is_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_revoked_key_stops_working_within_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(a_model_is_made_read_changed_and_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(another_projects_model_is_not_found, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_walk_every_model_once_in_either_direction, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_row_carries_the_first_three_training_images, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_asset_is_a_training_image_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_batch_adds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replaced_image_keeps_its_place_and_a_removed_one_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(a_model_in_training_refuses_changes_of_its_data, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_picture_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signed_link_opens_its_asset_until_its_date, setup, teardown),
        cmocka_unit_test_setup_teardown(links_expire_on_dates_that_stay_the_same_for_days, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transformed_picture_is_made_once_and_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(the_collector_removes_only_what_no_row_refers_to, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
