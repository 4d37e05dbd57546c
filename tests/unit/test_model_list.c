/* Lists of models against a list that is filtered and sorted by hand: random models, random filters, every page. And
 * that each statement walks an index. The seed is printed; MAQUETTE_SEED repeats it. */
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "domain/access.h"
#include "domain/key.h"
#include "domain/model_index.h"
#include "domain/asset_list.h"
#include "domain/job.h"
#include "domain/model_list.h"

enum { models_max = 400, names_max = 3 };

static const char *const types[] = {"sd-1_5-lora", "flux.1-lora", "zimage-lora", "custom"};
static const char *const statuses[] = {"new", "trained", "failed", "training"};
static const char *const privacies[] = {"private", "unlisted", "public"};
static const char *const names[] = {"castle", "ink", "a,b", "Ä \"q\"", "five"};

struct row {
    char id[id_size];
    const char *project_id, *type, *status, *privacy;
    const char *tags[names_max], *collections[names_max];
    size_t tag_count, collection_count;
    int64_t value[model_orders]; /* created_at, updated_at, score */
    bool deleted;
};

static struct {
    struct arena arena;
    char folder[64];
    struct domain domain;
    struct caller callers[2];
    struct row rows[models_max];
    uint64_t random;
} world;

static size_t draw(size_t below) /* xorshift */
{
    world.random ^= world.random << 13;
    world.random ^= world.random >> 7;
    world.random ^= world.random << 17;
    return (size_t)(world.random >> 20) % below;
}

static size_t draw_names(const char **chosen, size_t most)
{
    size_t count = draw(most + 1), made = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && made < count; i++)
        if (draw(2))
            chosen[made++] = names[i];
    return made;
}

/* Few different values, so that many rows share one and the id decides. */
static void draw_row(struct row *row)
{
    row->project_id = world.callers[draw(2)].project_id;
    row->type = types[draw(4)];
    row->status = statuses[draw(4)];
    row->privacy = privacies[draw(3)];
    row->tag_count = draw_names(row->tags, names_max);
    row->collection_count = draw_names(row->collections, names_max);
    for (int order = 0; order < model_orders; order++)
        row->value[order] = 1000 + (int64_t)draw(30);
    row->deleted = draw(5) == 0;
}

static const char *json_names(const char *const *list, size_t count)
{
    return json_from_strings(&world.arena, list, count);
}

static struct error write_row(struct db_tx *tx, void *context)
{
    const struct row *row = context;
    int64_t changed;
    const struct db_value values[] = {db_t(row->id),
                                      db_t(row->project_id),
                                      db_t(row->type),
                                      db_t(row->status),
                                      db_t(row->privacy),
                                      db_t(json_names(row->tags, row->tag_count)),
                                      db_t(json_names(row->collections, row->collection_count)),
                                      db_i(row->value[MODEL_BY_CREATED]),
                                      db_i(row->value[MODEL_BY_UPDATED]),
                                      db_i(row->value[MODEL_BY_SCORE]),
                                      db_i(row->deleted ? 5 : 0)};
    TRY(db_execute(tx, &changed,
                   "UPDATE model SET project_id = ?2, type = ?3, status = ?4, privacy = ?5, tags = ?6, "
                   "collection_ids = ?7, created_at = ?8, updated_at = ?9, score = ?10, deleted_at = ?11 WHERE id = ?1",
                   values, 11));
    if (changed)
        return OK; /* its labels follow by themselves, unless they are others: see change_all */
    TRY(db_execute(
        tx, NULL,
        "INSERT INTO model (id, project_id, type, status, privacy, tags, collection_ids, created_at, "
        "updated_at, score, deleted_at, author_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, '')",
        values, 11));
    return model_index_labels(tx, &world.arena, row->id);
}

static struct error write_labels(struct db_tx *tx, void *context)
{
    const struct row *row = context;
    TRY(write_row(tx, context));
    return model_index_labels(tx, &world.arena, row->id);
}

static int open_world(void **state)
{
    struct key_created key;
    (void)state;
    memset(&world, 0, sizeof world);
    const char *seed = getenv("MAQUETTE_SEED");
    world.random = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761U + 1;
    print_message("MAQUETTE_SEED=%llu\n", (unsigned long long)world.random);
    arena_init(&world.arena, (size_t)1 << 30);
    snprintf(world.folder, sizeof world.folder, "/tmp/test_model_list.XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    const char *path = arena_printf(&world.arena, "%s/db", world.folder);
    assert_ok(db_open_sqlite(&world.domain.db, &(struct db_options){.path = path}));
    for (int i = 0; i < 2; i++) {
        struct caller *caller = &world.callers[i];
        assert_ok(key_create(world.domain.db, "team", i ? "two" : "one", &key));
        caller->kind = CALLER_KEY;
        snprintf(caller->project_id, id_size, "%s", key.project_id);
    }
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    db_close(world.domain.db);
    assert_ok(fs_remove_tree(world.folder));
    arena_finish(&world.arena);
    return 0;
}

static struct error write_all(struct db_tx *tx, void *context)
{
    (void)context;
    for (size_t i = 0; i < models_max; i++) {
        id_make(world.rows[i].id, "model_");
        draw_row(&world.rows[i]);
        TRY(write_row(tx, &world.rows[i]));
    }
    return OK;
}

static void make_rows(void)
{
    assert_ok(db_write(world.domain.db, write_all, NULL));
}

/* Every column that labels copy changes without them being told; then some labels change, and some models go. */
static struct error change_all(struct db_tx *tx, void *context)
{
    (void)context;
    for (size_t i = 0; i < models_max / 2; i++) {
        struct row *row = &world.rows[draw(models_max)], old = *row;
        draw_row(row);
        bool relabel = draw(2);
        if (!relabel) {
            memcpy(row->tags, old.tags, sizeof row->tags);
            memcpy(row->collections, old.collections, sizeof row->collections);
            row->tag_count = old.tag_count;
            row->collection_count = old.collection_count;
        }
        TRY(relabel ? write_labels(tx, row) : write_row(tx, row));
    }
    for (size_t i = 0; i < 20; i++) {
        struct row *row = &world.rows[draw(models_max)];
        TRY(db_execute(tx, NULL, "DELETE FROM model WHERE id = ?1", DB_BIND(db_t(row->id))));
        row->project_id = ""; /* in no list any more */
        row->privacy = "private";
    }
    return OK;
}

static bool any_of(const char *const *wanted, size_t wanted_count, const char *const *list, size_t count)
{
    for (size_t i = 0; i < wanted_count; i++)
        for (size_t j = 0; j < count; j++)
            if (!strcmp(wanted[i], list[j]))
                return true;
    return !wanted_count;
}

/* The naive filter. Who sees what in public lists is access.h's word. */
static bool belongs(const struct row *row, const struct model_filter *filter, const struct caller *caller)
{
    const struct access_thing thing = {row->project_id, row->privacy, row->deleted};
    const int64_t value = row->value[filter->order];
    bool wants_deleted = filter->status && !strcmp(filter->status, "deleted");
    if (filter->public ? access_decide(caller, ACCESS_LIST, &thing) != ACCESS_GRANTED
                       : strcmp(row->project_id, caller->project_id) || row->deleted != wants_deleted)
        return false;
    if (filter->status && !wants_deleted && strcmp(filter->status, row->status))
        return false;
    if ((filter->after && value <= filter->after) || (filter->before && value >= filter->before))
        return false;
    return any_of(filter->types, filter->type_count, &row->type, 1) &&
           any_of(filter->tags, filter->tag_count, row->tags, row->tag_count) &&
           any_of(filter->collection_ids, filter->collection_count, row->collections, row->collection_count);
}

static const struct model_filter *sorting;

static int compare_rows(const void *left, const void *right)
{
    const struct row *one = *(const struct row *const *)left, *two = *(const struct row *const *)right;
    int64_t a = one->value[sorting->order], b = two->value[sorting->order];
    int order = a < b ? -1 : a > b ? 1 : strcmp(one->id, two->id);
    return sorting->ascending ? order : -order;
}

static size_t naive_list(const struct model_filter *filter, const struct caller *caller, const struct row **list)
{
    size_t count = 0;
    for (size_t i = 0; i < models_max; i++)
        if (belongs(&world.rows[i], filter, caller))
            list[count++] = &world.rows[i];
    sorting = filter;
    qsort(list, count, sizeof *list, compare_rows);
    return count;
}

static void check_list(struct model_filter filter, const struct caller *caller)
{
    const struct row *expected[models_max];
    size_t count = naive_list(&filter, caller, expected), seen = 0;
    struct model_page page;
    do {
        assert_ok(model_list(&world.domain, &world.arena, caller, &filter, &page));
        assert_true(page.count <= (size_t)filter.page_size);
        assert_true(seen + page.count <= count);
        for (size_t i = 0; i < page.count; i++, seen++)
            assert_string_equal(page.models[i].id, expected[seen]->id);
        assert_true(!page.next_token || page.count == (size_t)filter.page_size);
        filter.token = page.next_token;
    } while (filter.token);
    assert_int_equal(seen, count);
}

static void draw_filter(struct model_filter *filter, const char **chosen_types, const char **tags,
                        const char **collections)
{
    *filter = (struct model_filter){.public = draw(2), .page_size = 1 + (int)draw(draw(2) ? 5 : 60)};
    filter->tags = tags;
    filter->types = chosen_types;
    filter->collection_ids = collections;
    filter->collection_count = draw_names(collections, draw(3) ? 0 : filter->public ? 3 : 1);
    if (draw(2))
        filter->status = statuses[draw(4)];
    if (filter->public) {
        filter->tag_count = draw_names(tags, draw(2) ? 0 : 3);
        filter->type_count = draw(3);
        for (size_t i = 0; i < filter->type_count; i++)
            chosen_types[i] = types[draw(4)];
        filter->order = draw(model_orders);
    } else {
        if (draw(4) == 0)
            filter->status = "deleted";
        filter->order = filter->status && draw(2) ? MODEL_BY_SCORE : MODEL_BY_CREATED;
    }
    filter->ascending = draw(2);
    filter->after = draw(3) ? 0 : 1000 + (int64_t)draw(30);
    filter->before = draw(3) ? 0 : 1000 + (int64_t)draw(30);
}

static void every_filter_gives_what_a_hand_made_list_gives(void **state)
{
    enum { filters = 3000 };
    const char *chosen_types[3], *tags[names_max], *collections[names_max];
    struct model_filter filter;
    (void)state;
    make_rows();
    for (int i = 0; i < filters; i++) {
        if (i == filters / 2)
            assert_ok(db_write(world.domain.db, change_all, NULL));
        draw_filter(&filter, chosen_types, tags, collections);
        check_list(filter, &world.callers[draw(2)]);
    }
}

static void strangers_get_public_lists_and_nothing_of_their_own(void **state)
{
    const struct caller everyone = {.kind = CALLER_PUBLIC};
    (void)state;
    make_rows();
    check_list((struct model_filter){.public = true, .order = MODEL_BY_SCORE, .page_size = 50}, &everyone);
    struct model_page page;
    assert_ok(model_list(&world.domain, &world.arena, &everyone, &(struct model_filter){.page_size = 5}, &page));
    assert_int_equal(page.count, 0);
}

static void a_bulk_holds_what_the_caller_may_read_in_the_order_asked(void **state)
{
    const struct caller *caller = &world.callers[0];
    const char *ids[model_bulk_max], *expected[model_bulk_max];
    size_t asked = 0, readable = 0, count;
    struct model *models;
    (void)state;
    make_rows();
    for (size_t i = 0; i < models_max; i++) {
        const struct row *row = &world.rows[i * 7 % models_max]; /* 7 and 400 have no divisor in common */
        const struct access_thing thing = {row->project_id, row->privacy, row->deleted};
        ids[asked++] = row->id;
        if (access_decide(caller, ACCESS_READ, &thing) == ACCESS_GRANTED)
            expected[readable++] = row->id;
        if (i % 5)
            continue;
        ids[asked] = i % 2 ? "model_unknown" : ids[draw(asked)]; /* one that is asked for again is given once */
        asked++;
    }
    assert_ok(model_get_bulk(&world.domain, &world.arena, caller, ids, asked, true, &models, &count));
    assert_int_equal(count, readable);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(models[i].id, expected[i]);
    assert_ok(model_get_bulk(&world.domain, &world.arena, caller, ids, 0, false, &models, &count));
    assert_int_equal(count, 0);
}

/* Every step is a search in an index: nothing is sorted and no table is walked. */
static size_t check_plan(const char *statement)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    size_t steps = 0;
    assert_ok(db_read_begin(world.domain.db, &tx));
    assert_ok(db_query(tx, &rows, arena_printf(&world.arena, "EXPLAIN QUERY PLAN %s", statement), DB_NO_BIND));
    for (bool row = true;; steps++) {
        assert_ok(db_next(rows, &row));
        if (!row)
            return steps;
        const char *step = db_text(&world.arena, rows, 3);
        if (strstr(step, "TEMP B-TREE") || strstr(step, "SCAN") || (strstr(step, "SEARCH") && !strstr(step, "INDEX")))
            fail_msg("%s: %s", statement, step);
    }
}

static void no_list_of_models_sorts_or_walks_a_table(void **state)
{
    (void)state;
    size_t checked = 0;
    for (size_t i = 0; model_list_statement(i); i++) {
        const char *sql = model_list_statement(i);
        if (strstr(sql, "project_id") && strstr(sql, "updated_at")) /* own lists have no such order */
            continue;
        if (strstr(sql, "SELECT score") && strstr(sql, "WHERE project_id = ?5 AND deleted_at = 0"))
            continue; /* nor this one without a status */
        checked += check_plan(sql);
    }
    assert_true(checked > 40);
}

static void no_list_of_assets_or_jobs_sorts_or_walks_a_table(void **state)
{
    (void)state;
    size_t checked = 0;
    for (size_t i = 0; asset_list_statement(i); i++)
        if (!strstr(asset_list_statement(i), "asset_tag g")) /* few rows, which are sorted */
            checked += check_plan(asset_list_statement(i));
    for (size_t i = 0; job_list_statement(i); i++)
        checked += check_plan(job_list_statement(i));
    assert_true(checked > 36);
}

/* 2,500 assets that one public model shows, all tagged "often", every fiftieth "seldom", four of each date. */
static struct error write_shown(struct db_tx *tx, void *context)
{
    static const char *const statements[] = {
        "INSERT INTO blob (sha256, size, created_at) VALUES ('b', 1, 1)",
        "INSERT INTO model (id, project_id, type, status, privacy, created_at, updated_at, author_id) "
        "VALUES ('m', ?1, 'custom', 'new', 'public', 1, 1, '')",
        "INSERT INTO asset (id, project_id, author_id, blob_sha256, name, mime_type, type, source, size, width, "
        "height, "
        "created_at, updated_at) WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2499) "
        "SELECT 'a' || i, ?1, '', 'b', '', 'image/png', 'uploaded', 'uploaded', 1, 1, 1, 1000 + i / 4, 9000 - i / 4 "
        "FROM n",
        "INSERT INTO asset_tag (asset_id, name) SELECT id, 'often' FROM asset WHERE project_id = ?1",
        "INSERT INTO asset_tag (asset_id, name) SELECT id, 'seldom' FROM asset "
        "WHERE project_id = ?1 AND CAST(substr(id, 2) AS INTEGER) % 50 = 0",
        "INSERT INTO model_example (model_id, asset_id, position) SELECT 'm', id, 0 FROM asset WHERE project_id = ?1",
    };
    const struct db_value project = db_t(context);
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        TRY(db_execute(tx, NULL, statements[i], &project, i > 0));
    return model_index_shown(tx, "m");
}

static size_t count_shown(const char *const *tags, size_t tag_count, bool by_update, bool ascending)
{
    struct asset_filter filter = {.public = true,
                                  .tags = tags,
                                  .tag_count = tag_count,
                                  .by_update = by_update,
                                  .ascending = ascending,
                                  .page_size = asset_page_max};
    size_t count = 0;
    for (struct asset last = {0};;) {
        struct asset_page page;
        assert_ok(asset_list(&world.domain, &world.arena, &world.callers[1], &filter, &page));
        for (size_t i = 0; i < page.count; i++, count++) {
            const struct asset *next = &page.assets[i];
            const int64_t before = by_update ? last.updated_at : last.created_at;
            const int64_t value = by_update ? next->updated_at : next->created_at;
            const int order = value < before ? -1 : value > before ? 1 : last.id ? strcmp(next->id, last.id) : 1;
            if (last.id && (ascending ? order <= 0 : order >= 0))
                fail_msg("%s comes after %s", next->id, last.id);
            assert_string_equal(next->privacy, "public");
            last = *next;
        }
        if (!page.next_token)
            return count;
        filter.token = page.next_token;
    }
}

static void public_assets_are_found_by_common_and_by_rare_tags(void **state)
{
    (void)state;
    assert_ok(db_write(world.domain.db, write_shown, world.callers[0].project_id));
    const char *const often[] = {"often"}, *const seldom[] = {"seldom"}, *const both[] = {"seldom", "often", "never"};
    for (int order = 0; order < 4; order++) {
        assert_int_equal(count_shown(NULL, 0, order / 2, order % 2), 2500);
        assert_int_equal(count_shown(often, 1, order / 2, order % 2), 2500);
        assert_int_equal(count_shown(seldom, 1, order / 2, order % 2), 50);
        assert_int_equal(count_shown(both, 3, order / 2, order % 2), 2500);
    }
}

static void a_score_rises_with_what_makes_a_model_worth_a_look(void **state)
{
    (void)state;
    enum { day_s = 24 * 60 * 60 };
    const int64_t made = 1764000000000, base = made / 1000;
    assert_true(model_score(&(struct model_worth){.created_at = made}) == base);
    assert_true(model_score(&(struct model_worth){made, true, false, false, 0}) == base + 30 * day_s);
    assert_true(model_score(&(struct model_worth){made, false, true, true, 0}) == base + 21 * day_s);
    assert_true(model_score(&(struct model_worth){made, .uses = 1}) == base + 7 * day_s);
    assert_true(model_score(&(struct model_worth){made, .uses = 2}) == base + 7 * day_s);
    assert_true(model_score(&(struct model_worth){made, .uses = 3}) == base + 14 * day_s);
    assert_true(model_score(&(struct model_worth){made, .uses = INT64_MAX - 1}) == base + 140 * day_s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_filter_gives_what_a_hand_made_list_gives, open_world, close_world),
        cmocka_unit_test_setup_teardown(strangers_get_public_lists_and_nothing_of_their_own, open_world, close_world),
        cmocka_unit_test_setup_teardown(a_bulk_holds_what_the_caller_may_read_in_the_order_asked, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(no_list_of_models_sorts_or_walks_a_table, open_world, close_world),
        cmocka_unit_test_setup_teardown(no_list_of_assets_or_jobs_sorts_or_walks_a_table, open_world, close_world),
        cmocka_unit_test_setup_teardown(public_assets_are_found_by_common_and_by_rare_tags, open_world, close_world),
        cmocka_unit_test(a_score_rises_with_what_makes_a_model_worth_a_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
