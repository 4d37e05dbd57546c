/* Every kind of caller with every kind of thing, against the table of access.h written out; and pages' tokens. */
#include "unit.h"

#include <string.h>

#include "domain/access.h"
#include "domain/page.h"

static const struct caller owner = {CALLER_KEY, "api_a", "proj_a", "team_a"};
static const struct caller teammate = {CALLER_KEY, "api_b", "proj_b", "team_a"};
static const struct caller stranger = {CALLER_KEY, "api_c", "proj_c", "team_c"};
static const struct caller public_token = {.kind = CALLER_PUBLIC};
static const struct caller nobody = {0};
static const struct caller revoked = {CALLER_NOBODY, "api_a", "proj_a", "team_a"}; /* ids alone open nothing */

static enum access meant_by(char letter)
{
    return letter == 'G' ? ACCESS_GRANTED : letter == 'D' ? ACCESS_DENIED : ACCESS_HIDDEN;
}

static void each_caller_may_do_what_the_table_says(void **state)
{
    (void)state;
    static const char *const privacies[] = {"private", "unlisted", "public"};
    static const struct {
        const struct caller *caller;
        const char *read, *list, *change; /* granted, denied or hidden, by privacy */
    } rows[] = {
        {&owner, "GGG", "HHG", "GGG"},        {&teammate, "HGG", "HHG", "HDD"}, {&stranger, "HGG", "HHG", "HDD"},
        {&public_token, "HHG", "HHG", "HHD"}, {&nobody, "HHH", "HHH", "HHH"},   {&revoked, "HHH", "HHH", "HHH"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t p = 0; p < 3; p++) {
            struct access_thing thing = {"proj_a", privacies[p], false};
            assert_int_equal(access_decide(rows[i].caller, ACCESS_READ, &thing), meant_by(rows[i].read[p]));
            assert_int_equal(access_decide(rows[i].caller, ACCESS_LIST, &thing), meant_by(rows[i].list[p]));
            assert_int_equal(access_decide(rows[i].caller, ACCESS_CHANGE, &thing), meant_by(rows[i].change[p]));
            thing.deleted = true;
            for (enum access_action action = ACCESS_READ; action <= ACCESS_CHANGE; action++)
                assert_int_equal(access_decide(rows[i].caller, action, &thing), ACCESS_HIDDEN);
        }
    }
}

static void an_empty_project_owns_nothing(void **state)
{
    (void)state;
    struct access_thing thing = {"", "private", false};
    assert_int_equal(access_decide(&public_token, ACCESS_CHANGE, &thing), ACCESS_HIDDEN);
    assert_int_equal(access_decide(&nobody, ACCESS_READ, &thing), ACCESS_HIDDEN);
}

static void refusals_say_not_found_or_whose_it_is(void **state)
{
    (void)state;
    struct access_thing secret = {"proj_a", "private", false}, open = {"proj_a", "public", false};
    struct error error = access_check(&stranger, ACCESS_CHANGE, &secret, "Model", "model_x");
    assert_int_equal(error.code, ERR_NOT_FOUND);
    assert_string_equal(error.text, "Model model_x not found");
    assert_error(access_check(&stranger, ACCESS_CHANGE, &open, "Model", "model_x"), ERR_FORBIDDEN);
    assert_ok(access_check(&stranger, ACCESS_READ, &open, "Model", "model_x"));
    assert_ok(access_check(&owner, ACCESS_CHANGE, &secret, "Model", "model_x"));
}

static void a_token_leads_back_to_its_row(void **state)
{
    (void)state;
    static const int64_t values[] = {0, -1, 1764000000123, INT64_MAX, INT64_MIN};
    struct arena arena;
    struct page_key from;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        const char *token = page_token(&arena, "models created", &(struct page_key){values[i], "model_-_9"});
        assert_ok(page_start(&arena, token, "models created", i % 2, &from));
        assert_true(from.value == values[i]);
        assert_string_equal(from.id, "model_-_9");
    }
    arena_finish(&arena);
}

static void the_first_page_begins_before_every_row(void **state)
{
    (void)state;
    struct arena arena;
    struct page_key from, row = {5, "model_z"};
    arena_init(&arena, 1 << 20);
    for (int ascending = 0; ascending < 2; ascending++) {
        assert_ok(page_start(&arena, ascending ? "" : NULL, "jobs", ascending, &from));
        assert_true(page_compare(&from, &row, ascending) < 0);
    }
    arena_finish(&arena);
}

static void tokens_of_other_lists_and_garbage_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    struct page_key from, row = {7, "id"};
    arena_init(&arena, 1 << 20);
    const char *other[] = {page_token(&arena, "jobs", &row),
                           page_token(&arena, "models created", &row),
                           "a",
                           "!!!!",
                           "bW9kZWxz",
                           "bW9kZWxzIDcg",
                           "bW9kZWxzIHggaWQ",
                           "bW9kZWxzIDcAaWQ"};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        struct error error = page_start(&arena, other[i], "models", false, &from);
        assert_int_equal(error.code, ERR_INVALID);
        assert_string_equal(error.field, "paginationToken");
    }
    assert_ok(page_start(&arena, page_token(&arena, "models", &row), "models", false, &from));
    arena_finish(&arena);
}

static void rows_compare_in_the_order_of_the_list(void **state)
{
    (void)state;
    struct page_key one = {1, "b"}, two = {2, "a"}, tie = {2, "b"};
    assert_true(page_compare(&one, &two, true) < 0 && page_compare(&one, &two, false) > 0);
    assert_true(page_compare(&two, &tie, true) < 0 && page_compare(&two, &tie, false) > 0);
    assert_int_equal(page_compare(&two, &two, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_caller_may_do_what_the_table_says),
        cmocka_unit_test(an_empty_project_owns_nothing),
        cmocka_unit_test(refusals_say_not_found_or_whose_it_is),
        cmocka_unit_test(a_token_leads_back_to_its_row),
        cmocka_unit_test(the_first_page_begins_before_every_row),
        cmocka_unit_test(tokens_of_other_lists_and_garbage_are_refused),
        cmocka_unit_test(rows_compare_in_the_order_of_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
