/* The server as a whole: its socket, its daemon, its connections and their end. */
#include "http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "http/exchange.h"

enum {
    listen_backlog = 1024,
    /* MHD reads the header, and after it the body in pieces, in this much memory, which also has to hold the header of
     * the answer; a larger header is a 431. A kept connection holds it, so it decides what idle clients cost. */
    connection_bytes = 20 * 1024,
    sweep_ms = 500,
};

void http_config_init(struct http_config *config)
{
    *config = (struct http_config){
        .host = "127.0.0.1",
        .network_threads = 1,
        .workers = 16,
        .log_requests = true,
        .body_bytes_max = 12 << 20,
        .bodies_bytes_max = 256 << 20,
        .arena_bytes_max = 256 << 20,
        .early_body_bytes = 64 << 10,
        .header_ms_max = 20 * 1000,
        .idle_ms_max = 75 * 1000,
        .body_ms_max = 120 * 1000,
        .connections_max = 4096,
        .queue_max = 1024,
    };
}

static struct error open_socket(const struct addrinfo *address, const struct http_config *config, int *out)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0)
        return error_errno("make a socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, listen_backlog) < 0) {
        struct error error = error_errno("listen on %s:%d", config->host, config->port);
        close(fd);
        return error;
    }
    *out = fd;
    return OK;
}

static struct error listen_on(const struct http_config *config, int *fd)
{
    char port[16];
    snprintf(port, sizeof port, "%d", config->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    int failed = getaddrinfo(config->host, port, &hints, &found);
    if (failed)
        return error_make(ERR_INVALID, "cannot listen on %s:%d: %s", config->host, config->port, gai_strerror(failed));
    struct error error = open_socket(found, config, fd);
    freeaddrinfo(found);
    return error;
}

static int bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, &address.any, &size) < 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static void format_address(struct MHD_Connection *mhd, char text[http_address_size])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, http_address_size);
    else if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, http_address_size);
}

static void connection_opened(struct http_server *server, struct MHD_Connection *mhd, void **kept)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        abort(); /* MHD offers no way to refuse here */
    connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    format_address(mhd, connection->address);
    atomic_store(&connection->deadline_ms, clock_monotonic_ms() + server->config.header_ms_max);
    pthread_mutex_lock(&server->lock);
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    pthread_mutex_unlock(&server->lock);
    *kept = connection;
}

/* MHD calls this before it closes the socket, so the sweeper never meets a descriptor that means another one. */
static void connection_closed(struct http_server *server, struct connection *connection)
{
    pthread_mutex_lock(&server->lock);
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    pthread_mutex_unlock(&server->lock);
    free(connection);
}

static void connection_changed(void *context, struct MHD_Connection *mhd, void **kept,
                               enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        connection_opened(context, mhd, kept);
    else
        connection_closed(context, *kept);
}

static void deadline_after(struct timespec *time, int64_t ms)
{
    clock_gettime(CLOCK_MONOTONIC, time);
    int64_t ns = time->tv_nsec + ms % 1000 * 1000000;
    time->tv_sec += ms / 1000 + ns / 1000000000;
    time->tv_nsec = ns % 1000000000;
}

/* MHD's own time-out starts again with every byte; this one does not, so trickling a request does not hold a
 * connection. */
static void *sweep(void *context)
{
    struct http_server *server = context;
    pthread_mutex_lock(&server->lock);
    while (!server->stopping) {
        struct timespec next;
        deadline_after(&next, sweep_ms);
        pthread_cond_timedwait(&server->changed, &server->lock, &next);
        int64_t now = clock_monotonic_ms();
        for (struct connection *connection = server->connections; connection; connection = connection->next)
            if (atomic_load(&connection->deadline_ms) < now)
                shutdown(connection->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

static size_t keep_encoded(void *context, struct MHD_Connection *mhd, char *text)
{
    (void)context, (void)mhd;
    return strlen(text); /* decoded in url.c, where a NUL can be refused */
}

static void drop_message(void *context, const char *format, va_list args)
{
    (void)context, (void)format, (void)args; /* it may quote requests, and so signatures */
}

static struct error start_daemon(struct http_server *server, int fd)
{
    const struct http_config *config = &server->config;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    unsigned pool = config->network_threads > 1 ? (unsigned)config->network_threads : 0;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, exchange_step, server, MHD_OPTION_EXTERNAL_LOGGER, drop_message, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)config->connections_max,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((config->idle_ms_max + 999) / 1000),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)connection_bytes, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, server, MHD_OPTION_NOTIFY_CONNECTION, connection_changed,
        server, MHD_OPTION_THREAD_POOL_SIZE, pool, MHD_OPTION_END);
    return server->daemon ? OK : error_make(ERR_INTERNAL, "cannot start the network threads");
}

static struct error start_sweeper(struct http_server *server)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->sweeping = pthread_create(&server->sweeper, NULL, sweep, server) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return server->sweeping ? OK : error_make(ERR_INTERNAL, "cannot start the time-out thread");
}

static struct error start(struct http_server *server)
{
    int fd = -1;
    TRY(listen_on(&server->config, &fd));
    server->port = bound_port(fd);
    struct error error = workers_create(server->config.workers, server->config.queue_max, &server->workers);
    if (!error.code)
        error = start_daemon(server, fd);
    if (error.code) {
        close(fd);
        return error;
    }
    return start_sweeper(server);
}

struct error http_server_create(const struct http_config *config, struct http_server **out)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (!server)
        return error_errno("make a server");
    server->config = *config;
    random_bytes(&server->id_base, sizeof server->id_base);
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    struct error error = start(server);
    if (error.code) {
        http_server_destroy(server);
        return error;
    }
    *out = server;
    return OK;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

bool http_server_drain(struct http_server *server, int limit_ms)
{
    atomic_store(&server->draining, true);
    int fd = MHD_quiesce_daemon(server->daemon);
    if (fd >= 0)
        close(fd);
    struct timespec limit;
    deadline_after(&limit, limit_ms);
    pthread_mutex_lock(&server->lock);
    int waited = 0;
    while (server->in_flight > 0 && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&server->changed, &server->lock, &limit);
    bool all_sent = server->in_flight == 0;
    pthread_mutex_unlock(&server->lock);
    return all_sent;
}

void http_server_destroy(struct http_server *server)
{
    if (!server)
        return;
    if (server->workers)
        workers_stop(server->workers); /* from here on nothing stays suspended, which MHD insists on */
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    workers_destroy(server->workers);
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    if (server->sweeping)
        pthread_join(server->sweeper, NULL);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
