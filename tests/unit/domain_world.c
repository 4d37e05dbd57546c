#include "domain_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "domain/key.h"
#include "domain/transform.h"
#include "domain/url.h"
#include "media/caption.h"

const char *path_in(struct world *world, const char *name)
{
    return arena_printf(&world->arena, "%s/%s", world->directory, name);
}

void make_caller(struct world *world, const char *project, struct caller *caller)
{
    struct key_created key;
    assert_ok(key_create(world->domain.db, "team", project, &key));
    caller->kind = CALLER_KEY;
    snprintf(caller->key_id, sizeof caller->key_id, "%s", key.key_id);
    snprintf(caller->project_id, sizeof caller->project_id, "%s", key.project_id);
    snprintf(caller->team_id, sizeof caller->team_id, "%s", key.team_id);
}

int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    arena_init(&world->arena, 64 << 20);
    snprintf(world->directory, sizeof world->directory, "%s", "/tmp/test_domain.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    assert_ok(db_open_sqlite(&world->domain.db, &(struct db_options){.path = path_in(world, "test.db")}));
    assert_ok(blob_file_create(&world->domain.blobs, path_in(world, "blobs")));
    assert_ok(transform_cache_create(&world->domain.transforms, path_in(world, "cache"), 1 << 20));
    assert_ok(url_secret_load(world->domain.db, world->domain.url_secret));
    world->domain.public_url = "http://host:1";
    sem_init(&world->decoding, 0, decoding_max);
    world->domain.decoding = &world->decoding;
    world->domain.captioner = captioner_file_create();
    make_caller(world, "ours", &world->caller);
    make_caller(world, "theirs", &world->stranger);
    *state = world;
    return 0;
}

int teardown(void **state)
{
    struct world *world = *state;
    captioner_destroy(world->domain.captioner);
    transform_cache_destroy(world->domain.transforms);
    blob_destroy(world->domain.blobs);
    db_close(world->domain.db);
    assert_ok(fs_remove_tree(world->directory));
    arena_finish(&world->arena);
    free(world);
    return 0;
}

struct picture take_picture(struct world *world, int shade, const char *name)
{
    enum { side = 32 };
    uint8_t pixels[side * side * 3];
    memset(pixels, shade, sizeof pixels);
    struct media_rgb rgb = {pixels, side, side};
    struct buf png;
    struct picture picture;
    buf_init(&png, 1 << 20);
    assert_ok(media_save_png(&rgb, &png));
    assert_ok(picture_take(&world->domain, &world->arena, "data", png.data, png.len, name, CAPTION_WHOLE, &picture));
    buf_finish(&png);
    return picture;
}

struct model make_model(struct world *world)
{
    struct model model;
    assert_ok(model_create(&world->domain, &world->arena, &world->caller,
                           &(struct model_new){.type = "sd-1_5-lora", .name = "icons"}, &model));
    return model;
}

struct model get_model(struct world *world, const char *id)
{
    struct model model;
    assert_ok(model_get(&world->domain, &world->arena, &world->caller, id, &model));
    return model;
}
