/* What handlers build answers with. */
#include "http/http.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

enum { error_body_bytes_max = 64 * 1024 };

void http_response_reset(struct http_response *response)
{
    if (response->body == HTTP_BODY_HEAP)
        free(response->bytes);
    else if (response->body == HTTP_BODY_FILE)
        close(response->fd);
    else if (response->body == HTTP_BODY_STREAM && response->stream.close)
        response->stream.close(response->stream.context);
    *response = (struct http_response){.status = 200, .fd = -1};
}

/* Headers and ETag given before the body stay. */
static void set_body(struct http_response *response, enum http_body body, int status, const char *type)
{
    assert(response->body == HTTP_BODY_NONE);
    response->body = body;
    response->status = status;
    response->content_type = type;
}

void http_respond_bytes(struct http_response *response, int status, const char *type, const char *bytes, size_t size)
{
    set_body(response, HTTP_BODY_BYTES, status, type);
    response->bytes = (char *)bytes; /* never written nor freed */
    response->size = size;
}

void http_respond_buf(struct http_response *response, int status, const char *type, struct buf *buf)
{
    if (!buf->data) {
        http_respond_bytes(response, status, type, "", 0);
        return;
    }
    set_body(response, HTTP_BODY_HEAP, status, type);
    response->bytes = buf->data;
    response->size = buf->len;
    buf_init(buf, buf->bytes_max);
}

void http_respond_file(struct http_response *response, const char *type, int fd, uint64_t offset, uint64_t size)
{
    set_body(response, HTTP_BODY_FILE, 200, type);
    response->fd = fd;
    response->file_offset = offset;
    response->file_size = size;
}

void http_respond_stream(struct http_response *response, const char *type, const struct http_stream *stream)
{
    set_body(response, HTTP_BODY_STREAM, 200, type);
    response->stream = *stream;
}

void http_respond_error(struct http_response *response, struct arena *arena, int status, const char *reason)
{
    struct buf text;
    buf_init(&text, error_body_bytes_max);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "reason", reason);
    json_close(&writer, '}');
    const char *body = text.overflowed ? "{}" : arena_copy(arena, text.data, text.len);
    http_respond_bytes(response, status, "application/json", body, strlen(body));
    buf_finish(&text);
}

void http_add_header(struct http_response *response, const char *name, const char *value)
{
    assert(response->header_count < http_response_headers_max);
    response->headers[response->header_count++] = (struct http_header){name, value};
}
