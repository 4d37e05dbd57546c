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
