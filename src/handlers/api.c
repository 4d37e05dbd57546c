#include "handlers/api.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "base/json.h"
#include "base/log.h"
#include "domain/key.h"
#include "handlers/metrics.h"

enum {
    authorization_bytes_max = 512,       /* "Basic " and base64 of key:secret, with room */
    answer_bytes_max = 64 * 1024 * 1024, /* 500 models with their data come to a few MB */
    parameters_max = 4,                  /* in one path */
    retry_unavailable_s = 2,
};

/* A path's values in the order of the template's {names}. */
struct match {
    const struct route *route;
    const char *names[parameters_max], *values[parameters_max];
    size_t name_lengths[parameters_max], value_lengths[parameters_max];
    int count;
};

/* Segment by segment: static ones are equal, {name} takes any that is not empty. */
static bool fits(const char *template, const char *path, struct match *match)
{
    match->count = 0;
    while (*template == '/' && *path == '/') {
        size_t wanted = strcspn(++template, "/"), given = strcspn(++path, "/");
        if (*template == '{') {
            if (!given || match->count == parameters_max)
                return false;
            match->names[match->count] = template + 1;
            match->name_lengths[match->count] = wanted - 2;
            match->values[match->count] = path;
            match->value_lengths[match->count++] = given;
        } else if (wanted != given || memcmp(template, path, wanted) != 0) {
            return false;
        }
        template += wanted;
        path += given;
    }
    return !*template && !*path;
}

/* Among templates that fit, a static segment wins over a parameter: '{' sorts after every character of a static one. */
static struct error find_route(const struct http_request *request, struct match *match)
{
    const char *method = http_request_is(request, "HEAD") ? "GET" : request->method;
    bool known_path = false;
    for (int i = 0; i < api_route_count; i++) {
        struct match candidate = {.route = &api_routes[i]};
        if (!fits(api_routes[i].template, request->path, &candidate))
            continue;
        known_path = true;
        if (strcmp(api_routes[i].method, method) != 0)
            continue;
        if (!match->route || strcmp(candidate.route->template, match->route->template) < 0)
            *match = candidate;
    }
    if (match->route)
        return OK;
    if (known_path)
        return error_make(ERR_METHOD, "%.16s is not possible here", request->method);
    return error_make(ERR_NOT_FOUND, "There is nothing at this path");
}

/* "Basic base64(key:secret)" */
static struct error authenticate_key(struct call *call, const char *header)
{
    size_t length = strlen(header);
    char decoded[authorization_bytes_max];
    size_t size;
    if (length >= sizeof decoded || strncasecmp(header, "Basic ", 6) != 0 ||
        !base64_decode(header + 6, length - 6, decoded, &size))
        return error_make(ERR_UNAUTHENTICATED,
                          "Only HTTP Basic credentials, an API key and its secret, are understood");
    decoded[size] = '\0';
    char *secret = strchr(decoded, ':');
    if (!secret || strlen(decoded) != size)
        return error_make(ERR_UNAUTHENTICATED, "The credentials have no secret after the key");
    *secret++ = '\0';
    return key_verify(call->app->keys, decoded, secret, &call->caller);
}

static struct error authenticate(struct call *call)
{
    const char *header = http_request_header(call->request, "Authorization");
    if (!header)
        return error_make(ERR_UNAUTHENTICATED, "Send an API key and its secret as HTTP Basic credentials");
    if (strcmp(header, "public-auth-token") != 0)
        return authenticate_key(call, header);
    call->caller.kind = CALLER_PUBLIC;
    if (!call->route->public_token)
        return error_make(ERR_FORBIDDEN, "public-auth-token only reads public models and assets: send an API key");
    return OK;
}

static struct error check_project(struct call *call)
{
    const char *project = http_request_query(call->request, "projectId");
    if (!project || !*project || strcmp(project, call->caller.project_id) == 0)
        return OK;
    if (call->caller.kind == CALLER_PUBLIC)
        return error_make(ERR_FORBIDDEN, "public-auth-token has no project: leave projectId out");
    return error_make(ERR_FORBIDDEN, "This key has no access to project %.64s", project);
}

static struct error read_common(struct call *call)
{
    const char *original = http_request_query(call->request, "originalAssets");
    call->original_assets = original && strcmp(original, "true") == 0;
    if (original && !call->original_assets && *original && strcmp(original, "false") != 0)
        return error_field("originalAssets", "must be true or false");
    return OK;
}

/* Everything that can be said before the body is known. */
static struct error admit(struct call *call, struct match *match)
{
    TRY(find_route(call->request, match));
    call->route = match->route;
    if (match->route->public)
        return OK;
    TRY(authenticate(call));
    TRY(check_project(call));
    return read_common(call);
}

static struct error read_path(struct call *call, const struct match *match, void *request)
{
    char *object = (char *)request + match->route->path_offset;
    for (int i = 0; i < match->count; i++) {
        const char *name = arena_copy(call->arena, match->names[i], match->name_lengths[i]);
        const char *value = arena_copy(call->arena, match->values[i], match->value_lengths[i]);
        TRY(fields_read_text(call->arena, match->route->path, name, value, object));
    }
    return match->route->path ? fields_check(match->route->path, object) : OK;
}

static struct error read_query(struct call *call, void *request)
{
    const struct route *route = call->route;
    if (!route->query)
        return OK;
    char *object = (char *)request + route->query_offset;
    for (size_t i = 0; i < call->request->query_count; i++) {
        const struct http_pair *pair = &call->request->query[i];
        TRY(fields_read_text(call->arena, route->query, pair->name, pair->value, object));
    }
    return fields_check(route->query, object);
}

/* Bodies are read as JSON whatever their Content-Type says: clients in the field are careless about it. */
static struct error read_body(struct call *call, void *request)
{
    const struct route *route = call->route;
    if (!route->body)
        return OK;
    const char *text = call->request->body;
    size_t size = call->request->body_size;
    if (!size && route->body_required)
        return error_make(ERR_INVALID, "A JSON body is required");
    if (!size) {
        text = "{}";
        size = 2;
    }
    void *object = (char *)request + route->body_offset;
    TRY(fields_read(call->arena, route->body, text, size, object));
    *(bool *)((char *)request + route->has_body_offset) = call->request->body_size > 0;
    return fields_check(route->body, object);
}

static struct error run(struct call *call, const struct match *match)
{
    const struct route *route = call->route;
    void *request = arena_alloc(call->arena, route->request_size + 1);
    void *answer = arena_alloc(call->arena, route->answer ? route->answer->size : 1);
    TRY(read_path(call, match, request));
    TRY(read_query(call, request));
    TRY(read_body(call, request));
    TRY(route->run(call, request, answer));
    if (call->response->body != HTTP_BODY_NONE)
        return OK;
    struct buf out;
    buf_init(&out, answer_bytes_max);
    struct json_writer writer = {.out = &out};
    if (route->answer)
        fields_write(&writer, NULL, route->answer, answer);
    else
        buf_puts(&out, "{}");
    struct error error = buf_error(&out);
    if (!error.code)
        http_respond_buf(call->response, call->status, "application/json", &out);
    buf_finish(&out);
    return error;
}

/* What a caller may read of an error. Texts of failures inside name files and statements: those go to the log. */
static const char *public_reason(const struct call *call, struct error error)
{
    switch (error.code) {
    case ERR_NO_SPACE:
        return "The server's disk is full";
    case ERR_INTERNAL:
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_CANCELED:
        return arena_printf(call->arena, "The server failed; its log has the cause under request %s",
                            call->request->id);
    default:
        break;
    }
    const char *prefix = error.field && call->route ? call->route->field_prefix : NULL;
    return arena_printf(call->arena, "%s%s", prefix ? prefix : "", error.text);
}

/* "GET, PUT": what this path takes instead. */
static const char *allowed_methods(const struct call *call)
{
    const char *list = "";
    for (int i = 0; i < api_route_count; i++) {
        struct match match;
        if (fits(api_routes[i].template, call->request->path, &match))
            list = arena_printf(call->arena, "%s%s%s", list, *list ? ", " : "", api_routes[i].method);
    }
    return list;
}

static void respond_error(struct call *call, struct error error)
{
    int status = error_status(error.code);
    if (status >= 500)
        log_event(LOG_ERROR, "request_failed", "id=%s operation=%s error=\"%s\"", call->request->id,
                  call->route ? call->route->operation : "none", error.text);
    struct buf out;
    buf_init(&out, answer_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "reason", public_reason(call, error));
    if (error_name(error.code))
        json_put_string(&writer, "name", error_name(error.code));
    if (call->error_details)
        json_put_raw(&writer, "details", call->error_details);
    json_close(&writer, '}');
    http_response_reset(call->response);
    http_respond_buf(call->response, status, "application/json", &out);
    buf_finish(&out);
    if (status == 401)
        http_add_header(call->response, "WWW-Authenticate", "Basic realm=\"maquette\"");
    if (status == 405)
        http_add_header(call->response, "Allow", allowed_methods(call));
    const int64_t retry_s = status == 503 ? retry_unavailable_s : call->retry_s;
    if (retry_s)
        http_add_header(call->response, "Retry-After", arena_printf(call->arena, "%lld", (long long)retry_s));
}

static struct call new_call(struct app *app, struct http_request *request, struct http_response *response)
{
    return (struct call){.arena = request->arena,
                         .app = app,
                         .domain = app->domain,
                         .request = request,
                         .response = response,
                         .now_ms = clock_now_ms(),
                         .status = 200};
}

static void count(const struct call *call)
{
    int route = call->route ? (int)(call->route - api_routes) : api_route_count;
    metrics_count(call->app->metrics, route, call->response->status, clock_monotonic_ms() - call->request->started_ms);
}

void api_handle(void *app, struct http_request *request, struct http_response *response)
{
    struct call call = new_call(app, request, response);
    struct match match = {0};
    struct error error = admit(&call, &match);
    if (!error.code)
        error = run(&call, &match);
    if (error.code)
        respond_error(&call, error);
    count(&call);
}

bool api_early(void *app, struct http_request *request, struct http_response *response)
{
    struct call call = new_call(app, request, response);
    struct match match = {0};
    struct error error = admit(&call, &match);
    if (!error.code)
        return true;
    respond_error(&call, error);
    count(&call);
    return false;
}
