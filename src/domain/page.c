#include "domain/page.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypt.h"

enum { token_bytes_max = 512 };

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
