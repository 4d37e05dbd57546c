/* What the files of http share: one request and its answer on its way through the server. Not for other rooms. */
#pragma once

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/http.h"
#include "http/workers.h"

/* One accepted socket; MHD keeps it as the connection's socket context. */
struct connection {
    struct connection *next, *previous;
    int fd;
    _Atomic int64_t deadline_ms; /* monotonic; the sweeper shuts the socket down after it */
    char address[http_address_size];
};

static const int64_t no_deadline = INT64_MAX;

struct http_server {
    struct http_config config;
    struct MHD_Daemon *daemon;
    struct workers *workers;
    int port;
    bool sweeping;
    pthread_t sweeper;
    atomic_bool draining;
    atomic_size_t bodies_bytes; /* held by all requests */
    uint64_t id_base;
    atomic_uint_fast64_t id_count;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    bool stopping;
    int in_flight;
    struct connection *connections;
};

/* Which thread may touch an exchange follows from its phase: EARLY and HANDLER belong to a worker, while MHD has the
 * connection suspended; all others to the network thread. */
enum phase { PHASE_HEADER, PHASE_EARLY, PHASE_ACCEPTED, PHASE_BODY, PHASE_HANDLER, PHASE_ANSWER, PHASE_SENT };

struct exchange {
    struct task task;
    struct http_server *server;
    struct connection *connection;
    struct MHD_Connection *mhd;
    struct arena arena;
    struct http_request request;
    struct http_response response;
    struct MHD_Response *wire; /* the answer as MHD wants it; NULL until made */
    enum phase phase;
    bool refused; /* response holds the refusal; what comes of the body is thrown away */
    bool expects_continue;
    bool unframed; /* where the request ends is not known: refuse and close */
    char *body;    /* capacity includes a NUL after body_size */
    size_t body_capacity, body_received;
    uint64_t answer_bytes;
};

/* The access handler of MHD. */
enum MHD_Result exchange_step(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **exchange);
void exchange_completed(void *server, struct MHD_Connection *mhd, void **exchange, enum MHD_RequestTerminationCode why);

/* Reads method, path, query and framing headers. An error is a request to be refused with 400. */
struct error exchange_parse(struct exchange *exchange, const char *url, const char *version)
    __attribute__((warn_unused_result));

/* Conditional requests, ranges and compression: turns what the handler answered into what is sent. */
void exchange_negotiate(struct exchange *exchange);

/* Makes exchange->wire of exchange->response, which loses what it owned. */
void exchange_make_wire(struct exchange *exchange);

/* True when it was a CORS preflight, which response then answers. */
bool cors_preflight(struct exchange *exchange);
/* The value for Access-Control-Allow-Origin, or NULL. */
const char *cors_allowed_origin(const struct exchange *exchange);
