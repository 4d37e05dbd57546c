/* From MHD's view of a request to ours, with every ambiguity refused: what two programs on the way could read
 * differently (two lengths, a length and chunks) is how requests are smuggled. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/exchange.h"
#include "http/url.h"

const char *http_request_header(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = request->internal;
    return MHD_lookup_connection_value(exchange->mhd, MHD_HEADER_KIND, name);
}

const char *http_request_query(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->query_count; i++)
        if (strcmp(request->query[i].name, name) == 0)
            return request->query[i].value;
    return NULL;
}

bool http_request_is(const struct http_request *request, const char *method)
{
    return strcmp(request->method, method) == 0;
}

struct query_reading {
    struct arena *arena;
    struct http_pair *pairs;
    size_t count;
    struct error error;
};

static enum MHD_Result read_pair(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct query_reading *reading = context;
    (void)kind;
    struct http_pair *pair = &reading->pairs[reading->count++];
    reading->error = url_decode_value(reading->arena, name, &pair->name);
    if (!reading->error.code)
        reading->error = url_decode_value(reading->arena, value ? value : "", &pair->value);
    return reading->error.code ? MHD_NO : MHD_YES;
}

static struct error read_query(struct exchange *exchange)
{
    int count = MHD_get_connection_values(exchange->mhd, MHD_GET_ARGUMENT_KIND, NULL, NULL);
    if (count <= 0)
        return OK;
    if (count > http_query_pairs_max)
        return error_make(ERR_INVALID, "the query has more than %d parameters", http_query_pairs_max);
    struct query_reading reading = {.arena = &exchange->arena};
    reading.pairs = arena_array(&exchange->arena, (size_t)count, sizeof *reading.pairs);
    MHD_get_connection_values(exchange->mhd, MHD_GET_ARGUMENT_KIND, read_pair, &reading);
    exchange->request.query = reading.pairs;
    exchange->request.query_count = reading.count;
    return reading.error;
}

struct framing {
    int lengths, encodings, hosts;
    bool odd_name;
    const char *length, *encoding, *expect, *id;
};

/* RFC 9110 5.6.2. MHD lets "Content-Length : 5" through as a name that ends in a space: a proxy in front may well take
 * it for a length. */
static bool is_token(const char *name)
{
    return *name && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") ==
                        strlen(name);
}

static enum MHD_Result read_framing(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct framing *framing = context;
    (void)kind;
    framing->odd_name |= !is_token(name);
    if (strcasecmp(name, "Content-Length") == 0) {
        framing->lengths++;
        framing->length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        framing->encodings++;
        framing->encoding = value;
    } else if (strcasecmp(name, "Expect") == 0) {
        framing->expect = value;
    } else if (strcasecmp(name, "Host") == 0) {
        framing->hosts++;
    } else if (strcasecmp(name, "X-Request-Id") == 0) {
        framing->id = value;
    }
    return MHD_YES;
}

static struct error set_length(struct exchange *exchange, const struct framing *framing)
{
    if (framing->odd_name)
        return error_make(ERR_INVALID, "a header's name has characters that no name may have");
    if (framing->lengths + framing->encodings > 1)
        return error_make(ERR_INVALID, "the request gives its length more than once");
    if (framing->encodings && (!framing->encoding || strcasecmp(framing->encoding, "chunked") != 0))
        return error_make(ERR_INVALID, "the only Transfer-Encoding understood is chunked");
    exchange->request.content_length = framing->encodings ? -1 : 0;
    if (framing->length) /* MHD has refused what is no number or too large a one */
        exchange->request.content_length = strtoll(framing->length, NULL, 10);
    return OK;
}

static bool id_is_sane(const char *id)
{
    size_t length = strlen(id);
    return length > 0 && length < http_request_id_size &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

/* splitmix64 of a counter: unique in this process, unlike those of others. */
static void make_id(struct http_server *server, char id[http_request_id_size])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t mixed = server->id_base + 0x9e3779b97f4a7c15u * (atomic_fetch_add(&server->id_count, 1) + 1);
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    for (int i = 0; i < 16; i++)
        id[i] = digits[mixed >> (60 - 4 * i) & 15];
    id[16] = '\0';
}

/* RFC 9112 3.2.2: servers accept the absolute form too. */
static const char *without_authority(const char *url)
{
    if (strncasecmp(url, "http://", 7) != 0)
        return url;
    const char *path = strchr(url + 7, '/');
    return path ? path : "/";
}

struct error exchange_parse(struct exchange *exchange, const char *url, const char *version)
{
    struct http_request *request = &exchange->request;
    struct framing framing = {0};
    MHD_get_connection_values(exchange->mhd, MHD_HEADER_KIND, read_framing, &framing);
    if (framing.id && id_is_sane(framing.id))
        snprintf(request->id, sizeof request->id, "%s", framing.id);
    else
        make_id(exchange->server, request->id);
    exchange->expects_continue = framing.expect && strcasecmp(framing.expect, "100-continue") == 0;
    request->path = "";
    exchange->unframed = true;
    TRY(set_length(exchange, &framing));
    exchange->unframed = false;
    if (!is_token(request->method)) /* it is repeated in answers and in the log */
        return error_make(ERR_INVALID, "the method has characters that no method may have");
    if (framing.hosts != 1 && !(framing.hosts == 0 && strcmp(version, "HTTP/1.0") == 0))
        return error_make(ERR_INVALID, "the request must have one Host header");
    TRY(url_decode_path(&exchange->arena, without_authority(url), &request->path));
    return read_query(exchange);
}
