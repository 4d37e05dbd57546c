/* Pages of lists. A list is in the order of one number (a time, a score) and the id, up or down; a page starts after
 * the last row of the one before, and that row's number and id are the token. Every list uses this:
 *
 *     struct page_key from;
 *     TRY(page_start(arena, filter->token, "jobs", false, &from));
 *     ... WHERE (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC LIMIT page_size + 1 ...
 *     page->next_token = page_token(arena, "jobs", &(struct page_key){last->created_at, last->id});
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "store/db.h"

struct page_key {
    int64_t value;
    const char *id;
};

/* Where a page begins, exclusive: after the token's row, or before the first row when token is NULL or "". list says
 * which list in which order; a token of another is refused, as garbage is, with ERR_INVALID for paginationToken. */
struct error page_start(struct arena *arena, const char *token, const char *list, bool ascending, struct page_key *from)
    __attribute__((warn_unused_result));
const char *page_token(struct arena *arena, const char *list, const struct page_key *last);

/* Negative when left comes first in that order, 0 for the same row. */
int page_compare(const struct page_key *left, const struct page_key *right, bool ascending);

/* A page of what several ranges of indices have together: what comes first in all of them, each range read only as far
 * as it can still matter, so that the cost follows the size of the page and not that of the list.
 *
 *     TRY(page_walk_start(&walk, tx, arena, &bounds));
 *     TRY(page_walk_take(&walk, "SELECT created_at, id ...", DB_BIND(...)));       once for each range
 *     page->next_token = page_walk_end(&walk, &ids, &count);
 *
 * In a statement ?1 ?2 is where the page starts, ?3 the last value that still matters, ?4 the number of rows, and from
 * ?5 on come the values of the range. */
enum { page_range_values_max = 40 };

struct page_bounds {
    const char *token; /* of the page before; NULL or "" for the first */
    const char *list;  /* which list in which order */
    bool ascending;
    int64_t after, before; /* exclusive, of the value that the list is ordered by; 0 for none */
    int page_size;
};

struct page_walk {
    struct db_tx *tx;
    struct arena *arena;
    const struct page_bounds *bounds;
    struct page_key from;
    int64_t last_value;                   /* that still matters */
    struct page_key *best, *fresh, *both; /* room for `wanted` each */
    size_t count, wanted;                 /* of best; one more than the page, to know whether another follows */
};

struct error page_walk_start(struct page_walk *walk, struct db_tx *tx, struct arena *arena,
                             const struct page_bounds *bounds) __attribute__((warn_unused_result));
/* As the last two arguments of db_query. */
struct error page_walk_take(struct page_walk *walk, const char *sql, const struct db_value *own, size_t own_count)
    __attribute__((warn_unused_result));
/* The token of the next page, or NULL. */
const char *page_walk_end(const struct page_walk *walk, const char ***ids, size_t *count);
