/* Our answers as MHD responses. A stream's bytes are made by workers: when MHD asks and none are there, the connection
 * is suspended until a worker has filled the buffer. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/exchange.h"

enum { stream_buffer_bytes = 64 * 1024 };

enum stream_state { STREAM_EMPTY, STREAM_READY, STREAM_ENDED, STREAM_FAILED };

struct stream {
    struct task task;
    struct exchange *exchange;
    struct http_stream source;
    enum stream_state state;
    size_t filled, taken;
    char buffer[stream_buffer_bytes];
};

static void fill_stream(struct task *task, int worker)
{
    struct stream *stream = (struct stream *)task;
    (void)worker;
    ssize_t got = stream->source.pull(stream->source.context, stream->buffer, sizeof stream->buffer);
    stream->taken = 0;
    stream->filled = got > 0 ? (size_t)got : 0;
    stream->state = got > 0 ? STREAM_READY : got == 0 ? STREAM_ENDED : STREAM_FAILED;
    MHD_resume_connection(stream->exchange->mhd);
}

static ssize_t take_ready(struct stream *stream, char *bytes, size_t size_max)
{
    size_t size = stream->filled - stream->taken;
    if (size > size_max)
        size = size_max;
    memcpy(bytes, stream->buffer + stream->taken, size);
    stream->taken += size;
    if (stream->taken == stream->filled)
        stream->state = STREAM_EMPTY;
    stream->exchange->answer_bytes += size;
    return (ssize_t)size;
}

static ssize_t read_stream(void *context, uint64_t position, char *bytes, size_t size_max)
{
    struct stream *stream = context;
    (void)position;
    switch (stream->state) {
    case STREAM_READY:
        return take_ready(stream, bytes, size_max);
    case STREAM_ENDED:
        return MHD_CONTENT_READER_END_OF_STREAM;
    case STREAM_FAILED:
        return MHD_CONTENT_READER_END_WITH_ERROR;
    case STREAM_EMPTY:
        break;
    }
    stream->task.run = fill_stream;
    MHD_suspend_connection(stream->exchange->mhd);
    if (workers_push(stream->exchange->server->workers, &stream->task, true))
        return 0;
    stream->state = STREAM_FAILED; /* the server is being stopped */
    MHD_resume_connection(stream->exchange->mhd);
    return 0;
}

static void free_stream(void *context)
{
    struct stream *stream = context;
    if (stream->source.close)
        stream->source.close(stream->source.context);
    free(stream);
}

static struct MHD_Response *wire_stream(struct exchange *exchange)
{
    const struct http_stream *source = &exchange->response.stream;
    struct stream *stream = malloc(sizeof *stream);
    if (!stream)
        return NULL;
    stream->exchange = exchange;
    stream->source = *source;
    stream->state = STREAM_EMPTY;
    uint64_t size = source->size < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)source->size;
    struct MHD_Response *wire =
        MHD_create_response_from_callback(size, stream_buffer_bytes, read_stream, stream, free_stream);
    if (!wire)
        free(stream); /* the source is still the response's */
    return wire;
}

static struct MHD_Response *wire_body(struct exchange *exchange)
{
    struct http_response *response = &exchange->response;
    exchange->answer_bytes = response->body == HTTP_BODY_FILE ? response->file_size : response->size;
    switch (response->body) {
    case HTTP_BODY_HEAP:
        return MHD_create_response_from_buffer_with_free_callback(response->size, response->bytes, free);
    case HTTP_BODY_FILE:
        return MHD_create_response_from_fd_at_offset64(response->file_size, response->fd, response->file_offset);
    case HTTP_BODY_STREAM:
        exchange->answer_bytes = 0;
        return wire_stream(exchange);
    case HTTP_BODY_BYTES:
    case HTTP_BODY_NONE:
        break;
    }
    /* Arena bytes: they live until exchange_completed. */
    return MHD_create_response_from_buffer(response->size, response->bytes, MHD_RESPMEM_PERSISTENT);
}

static void add_common_headers(struct exchange *exchange)
{
    const struct http_response *response = &exchange->response;
    struct MHD_Response *wire = exchange->wire;
    MHD_add_response_header(wire, "X-Request-Id", exchange->request.id);
    MHD_add_response_header(wire, "X-Content-Type-Options", "nosniff");
    if (response->content_type && response->status != 304)
        MHD_add_response_header(wire, "Content-Type", response->content_type);
    if (response->etag)
        MHD_add_response_header(wire, "ETag", response->etag);
    const char *cache = response->cache_control ? response->cache_control
                        : response->etag        ? "private, no-cache"
                                                : "no-store";
    MHD_add_response_header(wire, "Cache-Control", cache);
    if (atomic_load_explicit(&exchange->server->draining, memory_order_relaxed))
        MHD_add_response_header(wire, "Connection", "close");
}

static void add_cors_headers(struct exchange *exchange)
{
    const char *origin = cors_allowed_origin(exchange);
    if (!origin)
        return;
    MHD_add_response_header(exchange->wire, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(exchange->wire, "Access-Control-Expose-Headers",
                            "Content-Disposition, Content-Range, ETag, Retry-After, X-Request-Id");
    if (strcmp(origin, "*") != 0)
        MHD_add_response_header(exchange->wire, "Vary", "Origin");
}

void exchange_make_wire(struct exchange *exchange)
{
    struct http_response *response = &exchange->response;
    exchange->wire = wire_body(exchange);
    if (!exchange->wire) {
        http_response_reset(response);
        http_respond_error(response, &exchange->arena, 503, "out of memory");
        exchange->wire = wire_body(exchange);
        if (!exchange->wire)
            return; /* the connection is closed without an answer */
    }
    response->body = HTTP_BODY_NONE; /* the wire owns it now */
    for (size_t i = 0; i < response->header_count; i++)
        MHD_add_response_header(exchange->wire, response->headers[i].name, response->headers[i].value);
    add_common_headers(exchange);
    add_cors_headers(exchange);
}
