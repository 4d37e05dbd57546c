/* One request from its header to its answer, as MHD's access handler sees it: called once when the header is complete,
 * once for every piece of body, once at the end, and again after each suspension. */
#include "http/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum { body_bytes_first = 16 * 1024 };

static void run_early(struct task *task, int worker)
{
    struct exchange *exchange = (struct exchange *)task;
    const struct http_config *config = &exchange->server->config;
    exchange->request.worker = worker;
    exchange->request.body = "";
    if (!config->early(config->context, &exchange->request, &exchange->response))
        exchange->refused = true;
    else
        http_response_reset(&exchange->response);
    exchange->phase = PHASE_ACCEPTED;
    MHD_resume_connection(exchange->mhd);
}

static void run_handler(struct task *task, int worker)
{
    struct exchange *exchange = (struct exchange *)task;
    const struct http_config *config = &exchange->server->config;
    exchange->request.worker = worker;
    config->handle(config->context, &exchange->request, &exchange->response);
    exchange_negotiate(exchange);
    exchange_make_wire(exchange);
    exchange->phase = PHASE_ANSWER;
    MHD_resume_connection(exchange->mhd);
}

static void refuse(struct exchange *exchange, int status, const char *reason)
{
    http_response_reset(&exchange->response);
    http_respond_error(&exchange->response, &exchange->arena, status, reason);
    if (status == 503)
        http_add_header(&exchange->response, "Retry-After", "1");
    exchange->refused = true;
}

static enum MHD_Result send_answer(struct exchange *exchange)
{
    if (!exchange->wire)
        exchange_make_wire(exchange);
    if (!exchange->wire)
        return MHD_NO;
    exchange->phase = PHASE_SENT;
    atomic_store(&exchange->connection->deadline_ms, no_deadline);
    enum MHD_Result queued = MHD_queue_response(exchange->mhd, (unsigned)exchange->response.status, exchange->wire);
    MHD_destroy_response(exchange->wire); /* MHD holds its own reference */
    exchange->wire = NULL;
    return queued;
}

/* Suspends first: a worker may be done before this function returns. */
static void hand_over(struct exchange *exchange, void (*run)(struct task *, int), enum phase phase, enum phase refused)
{
    exchange->phase = phase;
    exchange->task.run = run;
    atomic_store(&exchange->connection->deadline_ms, no_deadline);
    MHD_suspend_connection(exchange->mhd);
    if (workers_push(exchange->server->workers, &exchange->task, false))
        return;
    refuse(exchange, 503, "the server is busy; try again in a second");
    exchange->phase = refused;
    MHD_resume_connection(exchange->mhd);
}

static bool has_body(const struct exchange *exchange)
{
    return exchange->request.content_length != 0;
}

/* Closing a socket while bytes are on their way resets it, and the client may never see why it was refused. So a body
 * of bearable size is read and dropped before the refusal is sent, unless the client waits for leave to send it. */
static bool body_is_worth_draining(const struct exchange *exchange)
{
    return !exchange->expects_continue &&
           exchange->request.content_length <= 2 * (int64_t)exchange->server->config.body_bytes_max;
}

static enum MHD_Result accept_body(struct exchange *exchange)
{
    if (exchange->unframed || (exchange->refused && has_body(exchange) && !body_is_worth_draining(exchange)))
        return send_answer(exchange);
    exchange->phase = PHASE_BODY;
    if (has_body(exchange))
        atomic_store(&exchange->connection->deadline_ms, clock_monotonic_ms() + exchange->server->config.body_ms_max);
    return MHD_YES;
}

static bool asks_early(const struct exchange *exchange)
{
    int64_t length = exchange->request.content_length;
    return exchange->server->config.early && !exchange->refused && has_body(exchange) &&
           (length < 0 || length > (int64_t)exchange->server->config.early_body_bytes || exchange->expects_continue);
}

static enum MHD_Result header_arrived(struct exchange *exchange, const char *url, const char *version)
{
    struct error error = exchange_parse(exchange, url, version);
    int64_t length_max = (int64_t)exchange->server->config.body_bytes_max;
    if (error.code)
        refuse(exchange, 400, error.text);
    else if (exchange->request.content_length > length_max)
        refuse(exchange, 413,
               arena_printf(&exchange->arena, "the body is larger than %lld bytes", (long long)length_max));
    else if (cors_preflight(exchange))
        exchange->refused = true; /* answered without a handler */
    if (!asks_early(exchange))
        return accept_body(exchange);
    hand_over(exchange, run_early, PHASE_EARLY, PHASE_ACCEPTED);
    return MHD_YES;
}

static void drop_body(struct exchange *exchange)
{
    atomic_fetch_sub(&exchange->server->bodies_bytes, exchange->body_capacity);
    free(exchange->body);
    exchange->body = NULL;
    exchange->body_capacity = 0;
}

/* Grows by doubling as bytes really arrive: a declared length alone reserves nothing. */
static bool reserve_body(struct exchange *exchange, size_t size)
{
    size_t capacity = exchange->body_capacity ? exchange->body_capacity : body_bytes_first;
    while (capacity < size + 1)
        capacity *= 2;
    if (capacity == exchange->body_capacity)
        return true;
    size_t more = capacity - exchange->body_capacity;
    size_t held = atomic_fetch_add(&exchange->server->bodies_bytes, more);
    char *body = held + more <= exchange->server->config.bodies_bytes_max ? realloc(exchange->body, capacity) : NULL;
    if (!body) {
        atomic_fetch_sub(&exchange->server->bodies_bytes, more);
        return false;
    }
    exchange->body = body;
    exchange->body_capacity = capacity;
    return true;
}

static void keep_body(struct exchange *exchange, const char *bytes, size_t size)
{
    size_t length_max = exchange->server->config.body_bytes_max;
    size_t total = exchange->request.body_size + size;
    if (total > length_max)
        refuse(exchange, 413, arena_printf(&exchange->arena, "the body is larger than %zu bytes", length_max));
    else if (!reserve_body(exchange, total))
        refuse(exchange, 503, "too many large requests at once; try again in a second");
    if (exchange->refused) {
        drop_body(exchange);
        return;
    }
    memcpy(exchange->body + exchange->request.body_size, bytes, size);
    exchange->request.body_size = total;
    exchange->body[total] = '\0';
}

static enum MHD_Result body_arrived(struct exchange *exchange, const char *bytes, size_t *size)
{
    exchange->body_received += *size;
    if (exchange->body_received > 2 * exchange->server->config.body_bytes_max)
        return MHD_NO; /* refused long ago, and still sending */
    if (!exchange->refused)
        keep_body(exchange, bytes, *size);
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result request_arrived(struct exchange *exchange)
{
    if (exchange->refused)
        return send_answer(exchange);
    exchange->request.body = exchange->body ? exchange->body : "";
    hand_over(exchange, run_handler, PHASE_HANDLER, PHASE_ANSWER);
    return MHD_YES;
}

static struct exchange *exchange_create(struct http_server *server, struct MHD_Connection *mhd, const char *method)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        return NULL;
    exchange->server = server;
    exchange->mhd = mhd;
    exchange->connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    arena_init(&exchange->arena, server->config.arena_bytes_max);
    http_response_reset(&exchange->response);
    struct http_request *request = &exchange->request;
    request->arena = &exchange->arena;
    request->internal = exchange;
    request->method = method;
    request->started_ms = clock_monotonic_ms();
    memcpy(request->address, exchange->connection->address, sizeof request->address);
    pthread_mutex_lock(&server->lock);
    server->in_flight++;
    pthread_mutex_unlock(&server->lock);
    return exchange;
}

enum MHD_Result exchange_step(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **kept)
{
    if (!*kept)
        *kept = exchange_create(context, mhd, method);
    struct exchange *exchange = *kept;
    if (!exchange)
        return MHD_NO;
    switch (exchange->phase) {
    case PHASE_HEADER:
        return header_arrived(exchange, url, version);
    case PHASE_ACCEPTED:
        return accept_body(exchange);
    case PHASE_BODY:
        return *upload_size ? body_arrived(exchange, upload, upload_size) : request_arrived(exchange);
    case PHASE_ANSWER:
        return send_answer(exchange);
    case PHASE_EARLY:
    case PHASE_HANDLER:
    case PHASE_SENT:
        break;
    }
    return MHD_YES;
}

static void log_request(const struct exchange *exchange)
{
    const struct http_request *request = &exchange->request;
    int status = exchange->phase == PHASE_SENT ? exchange->response.status : 0; /* 0: gone before it was answered */
    log_event(LOG_INFO, "http_request", "id=%s method=%s path=%s status=%d ms=%lld bytes=%llu", request->id,
              request->method, request->path, status, (long long)(clock_monotonic_ms() - request->started_ms),
              (unsigned long long)exchange->answer_bytes);
}

void exchange_completed(void *context, struct MHD_Connection *mhd, void **kept, enum MHD_RequestTerminationCode why)
{
    struct http_server *server = context;
    struct exchange *exchange = *kept;
    (void)mhd, (void)why;
    if (!exchange)
        return;
    if (server->config.log_requests)
        log_request(exchange);
    atomic_store(&exchange->connection->deadline_ms, clock_monotonic_ms() + server->config.idle_ms_max);
    drop_body(exchange);
    if (exchange->wire)
        MHD_destroy_response(exchange->wire);
    http_response_reset(&exchange->response);
    arena_finish(&exchange->arena);
    free(exchange);
    *kept = NULL;
    pthread_mutex_lock(&server->lock);
    if (--server->in_flight == 0)
        pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}
