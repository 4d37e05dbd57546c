/* HTTP/1.1 over libmicrohttpd (0.9.75) behind one small face. Network threads parse and send and never block; a
 * handler runs on a worker thread while its connection is suspended. Requests that break a limit never reach a handler.
 *
 * Answered here: 304 (If-None-Match), 206/416 (Range on files), HEAD, gzip of large JSON, CORS preflights,
 * X-Request-Id, and one access line a request: `http_request id= method= path= status= ms= bytes=`. Query strings hold
 * signatures and are never logged. Sources: RFC 9110, RFC 9112, Fetch (CORS). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

enum {
    http_request_id_size = 65,      /* an incoming X-Request-Id of up to 64 characters is kept */
    http_query_pairs_max = 64,      /* more is a 400 */
    http_response_headers_max = 16, /* added by a handler */
    http_address_size = 46,         /* INET6_ADDRSTRLEN */
};

struct http_pair {
    const char *name, *value; /* percent-decoded, '+' is a space; value is "" when there was no '=' */
};

/* Valid until its handler returns. Everything it points to lives in the arena, which lives until the answer is sent. */
struct http_request {
    const char *method; /* "GET", "HEAD", ... as sent; methods are case-sensitive */
    const char *path;   /* percent-decoded UTF-8 without NUL; starts with '/'; dot segments are refused */
    const struct http_pair *query;
    size_t query_count;
    const char *body; /* whole, NUL-terminated; "" when there is none. Writable copy: none, treat as const */
    size_t body_size;
    int64_t content_length; /* as declared; -1 when chunked, 0 when there is no body */
    struct arena *arena;
    char id[http_request_id_size];
    char address[http_address_size]; /* of the peer */
    int64_t started_ms;              /* clock_monotonic_ms */
    int worker;                      /* index of this worker thread, 0 .. workers - 1 */
    void *internal;
};

/* NULL when absent; name is case-insensitive. Borrowed from the connection, valid as long as the request. */
const char *http_request_header(const struct http_request *request, const char *name);
/* The first value of that name, or NULL. */
const char *http_request_query(const struct http_request *request, const char *name);
bool http_request_is(const struct http_request *request, const char *method);

struct http_header {
    const char *name, *value;
};

/* Bytes made while they are sent. pull runs on a worker thread, never twice at once: it writes up to size bytes and
 * returns how many, 0 at the end, -1 on an error (the connection is then cut, so that the client notices). close runs
 * once, whether the stream was finished or not. */
struct http_stream {
    ssize_t (*pull)(void *context, char *bytes, size_t size);
    void (*close)(void *context);
    void *context;
    int64_t size; /* -1 when unknown: chunked */
};

enum http_body { HTTP_BODY_NONE, HTTP_BODY_BYTES, HTTP_BODY_HEAP, HTTP_BODY_FILE, HTTP_BODY_STREAM };

/* Starts as an empty 200. Texts must live in the request's arena or be static. Use the functions below. */
struct http_response {
    int status;
    const char *content_type;
    const char *etag; /* with its quotes; NULL: made from the bytes of a 200 answer to GET when they are JSON */
    const char *cache_control; /* NULL: "no-cache" with an ETag, else "no-store" */
    struct http_header headers[http_response_headers_max];
    size_t header_count;
    enum http_body body;
    char *bytes; /* BYTES: borrowed from the arena or static; HEAP: freed with free() */
    size_t size;
    int fd; /* FILE: closed by the server */
    uint64_t file_offset, file_size;
    struct http_stream stream;
};

/* Each sets the body and status. JSON is "application/json"; only JSON is gzipped. */
void http_respond_bytes(struct http_response *response, int status, const char *type, const char *bytes, size_t size);
void http_respond_buf(struct http_response *response, int status, const char *type, struct buf *buf); /* empties buf */
void http_respond_file(struct http_response *response, const char *type, int fd, uint64_t offset, uint64_t size);
void http_respond_stream(struct http_response *response, const char *type, const struct http_stream *stream);
/* {"reason":"..."} with that status. */
void http_respond_error(struct http_response *response, struct arena *arena, int status, const char *reason);
void http_add_header(struct http_response *response, const char *name, const char *value);
/* Releases what a response owns (heap bytes, descriptor, stream) when it is to be replaced by another. */
void http_response_reset(struct http_response *response);

struct http_config {
    const char *host; /* numeric address; "127.0.0.1", "0.0.0.0", "::" */
    int port;         /* 0: any free port, see http_server_port */
    int network_threads, workers;

    void *context;
    void (*handle)(void *context, struct http_request *request, struct http_response *response);
    /* Optional; before a body of more than early_body_bytes is read, on a worker thread, with an empty body: false
     * refuses with the response it filled (401 without taking 12 MB). */
    bool (*early)(void *context, struct http_request *request, struct http_response *response);
    const char *cors_origin; /* "*" or one origin; NULL: no CORS headers */
    bool log_requests;

    /* Limits; http_config_init gives the defaults. */
    size_t body_bytes_max;   /* 12 MiB: 413 */
    size_t bodies_bytes_max; /* 256 MiB: all bodies in memory; 503 */
    size_t arena_bytes_max;  /* 256 MiB a request; handlers' inputs are limited well below it */
    size_t early_body_bytes; /* 64 KiB: larger or chunked bodies, and "Expect: 100-continue", ask early first */
    int header_ms_max;       /* 20 s: from accept to the end of the first header, however many bytes trickle in */
    int idle_ms_max;         /* 75 s: from an answer to the end of the next header; also a peer that takes no bytes */
    int body_ms_max;         /* 120 s: from the header to the end of the body */
    int connections_max;     /* 4,096; more wait in the listen queue or are closed */
    int queue_max;           /* 1,024 requests waiting for a worker: 503 with Retry-After */
};

struct http_server;

void http_config_init(struct http_config *config);
/* Listens and serves at once. config is copied; its texts and context must outlive the server. */
struct error http_server_create(const struct http_config *config, struct http_server **server)
    __attribute__((warn_unused_result));
int http_server_port(const struct http_server *server);
/* Stops listening and sends what is in flight, each with "Connection: close". True when all was sent in time. */
bool http_server_drain(struct http_server *server, int limit_ms);
/* Waits for running handlers, then closes every connection. Drain first. NULL is fine. */
void http_server_destroy(struct http_server *server);
