#include "domain/page.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypt.h"

enum { token_bytes_max = 1024 }; /* a tag of 128 characters comes to 690 */

static const char after_any_id[] = "~"; /* ids are of letters, digits, '_' and '-' */

/* "LIST VALUE ID" */
static bool parse(const char *text, const char *list, struct page_key *from)
{
    const size_t length = strlen(list);
    char *end;
    if (strncmp(text, list, length) != 0 || text[length] != ' ')
        return false;
    text += length + 1;
    from->value = strtoll(text, &end, 10);
    from->id = end + 1;
    return end != text && *end == ' ' && *from->id;
}

struct error page_start(struct arena *arena, const char *token, const char *list, bool ascending, struct page_key *from)
{
    *from = ascending ? (struct page_key){INT64_MIN, after_any_id} : (struct page_key){INT64_MAX, ""};
    if (!token || !*token)
        return OK;
    const size_t length = strlen(token);
    size_t size = 0;
    char *text = arena_alloc(arena, base64_decoded_max(length) + 1);
    bool good = length <= token_bytes_max && base64url_decode(token, length, text, &size);
    text[size] = '\0';
    if (!good || strlen(text) != size || !parse(text, list, from))
        return error_field("paginationToken", "is not a token of this list in this order");
    return OK;
}

const char *page_token(struct arena *arena, const char *list, const struct page_key *last)
{
    const char *text = arena_printf(arena, "%s %" PRId64 " %s", list, last->value, last->id);
    char *token = arena_alloc(arena, base64_encoded_size(strlen(text)) + 1);
    base64url_encode(text, strlen(text), token);
    return token;
}

int page_compare(const struct page_key *left, const struct page_key *right, bool ascending)
{
    int order = left->value < right->value ? -1 : left->value > right->value;
    if (!order)
        order = strcmp(left->id, right->id);
    return ascending ? order : -order;
}

/* Walks. */

/* Where the page starts, the token or the date on that side, whichever is further on; and the date on the other. */
struct error page_walk_start(struct page_walk *walk, struct db_tx *tx, struct arena *arena,
                             const struct page_bounds *bounds)
{
    const int64_t near = bounds->ascending ? bounds->after : bounds->before;
    struct page_key first;
    *walk = (struct page_walk){.tx = tx, .arena = arena, .bounds = bounds, .wanted = (size_t)bounds->page_size + 1};
    walk->best = arena_array(arena, walk->wanted, sizeof *walk->best);
    walk->fresh = arena_array(arena, walk->wanted, sizeof *walk->fresh);
    walk->both = arena_array(arena, walk->wanted, sizeof *walk->both);
    TRY(page_start(arena, NULL, "", bounds->ascending, &first));
    if (near)
        first.value = near;
    TRY(page_start(arena, bounds->token, bounds->list, bounds->ascending, &walk->from));
    if (page_compare(&walk->from, &first, bounds->ascending) < 0)
        walk->from = first;
    if (bounds->ascending)
        walk->last_value = bounds->before ? bounds->before - 1 : INT64_MAX;
    else
        walk->last_value = bounds->after ? bounds->after + 1 : INT64_MIN;
    return OK;
}

static struct error read_range(struct page_walk *walk, const char *sql, const struct db_value *own, size_t own_count,
                               size_t *count)
{
    struct db_value values[4 + page_range_values_max] = {db_i(walk->from.value), db_t(walk->from.id),
                                                         db_i(walk->last_value), db_i((int64_t)walk->wanted)};
    struct db_rows *rows;
    if (own_count > page_range_values_max)
        return error_make(ERR_INTERNAL, "%zu values for one range of a page", own_count);
    if (own_count)
        memcpy(values + 4, own, own_count * sizeof *own);
    TRY(db_query(walk->tx, &rows, sql, values, 4 + own_count));
    for (*count = 0;; (*count)++) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        walk->fresh[*count] = (struct page_key){db_int(rows, 0), db_text(walk->arena, rows, 1)};
    }
}

/* best and fresh into best: what comes first of both, each row once. */
static void merge(struct page_walk *walk, size_t fresh_count)
{
    size_t old = 0, new = 0, count = 0;
    while (count < walk->wanted && (old < walk->count || new < fresh_count)) {
        int order = old == walk->count   ? 1
                    : new == fresh_count ? -1
                                         : page_compare(&walk->best[old], &walk->fresh[new], walk->bounds->ascending);
        walk->both[count++] = order > 0 ? walk->fresh[new] : walk->best[old];
        old += order <= 0;
        new += order >= 0;
    }
    struct page_key *merged = walk->both;
    walk->both = walk->best;
    walk->best = merged;
    walk->count = count;
    if (count == walk->wanted)
        walk->last_value = merged[count - 1].value;
}

struct error page_walk_take(struct page_walk *walk, const char *sql, const struct db_value *own, size_t own_count)
{
    size_t fresh_count;
    TRY(read_range(walk, sql, own, own_count, &fresh_count));
    merge(walk, fresh_count);
    return OK;
}

const char *page_walk_end(const struct page_walk *walk, const char ***ids, size_t *count)
{
    const bool more = walk->count == walk->wanted;
    *count = walk->count - more;
    *ids = arena_array(walk->arena, walk->wanted, sizeof **ids);
    for (size_t i = 0; i < *count; i++)
        (*ids)[i] = walk->best[i].id;
    return more ? page_token(walk->arena, walk->bounds->list, &walk->best[*count - 1]) : NULL;
}
