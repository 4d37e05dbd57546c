/* The server on a free port, driven by raw sockets: what clients of every kind put on the wire. */
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "http/http.h"
#include "http/url.h"
#include "http_client.h"

enum { file_bytes = 100000, stream_bytes = 300000, body_limit = 1 << 20 };

struct world {
    struct http_server *server;
    FILE *file;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool handling, released;
    int streams_closed;
    int handled;
};

struct counting {
    struct world *world;
    size_t at;
};

static ssize_t pull_count(void *context, char *bytes, size_t size)
{
    struct counting *counting = context;
    if (size > stream_bytes - counting->at)
        size = stream_bytes - counting->at;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + (counting->at + i) % 26);
    counting->at += size;
    return (ssize_t)size;
}

static ssize_t pull_failure(void *context, char *bytes, size_t size)
{
    struct counting *counting = context;
    if (counting->at > 0)
        return -1;
    memset(bytes, 'x', size);
    counting->at = size;
    return (ssize_t)size;
}

static void close_count(void *context)
{
    struct counting *counting = context;
    pthread_mutex_lock(&counting->world->lock);
    counting->world->streams_closed++;
    pthread_cond_broadcast(&counting->world->changed);
    pthread_mutex_unlock(&counting->world->lock);
    free(counting);
}

static void answer_stream(struct world *world, struct http_request *request, struct http_response *response)
{
    struct counting *counting = calloc(1, sizeof *counting);
    counting->world = world;
    const char *size = http_request_query(request, "size");
    struct http_stream stream = {http_request_query(request, "fail") ? pull_failure : pull_count, close_count, counting,
                                 size ? atoll(size) : -1};
    http_respond_stream(response, "application/zip", &stream);
}

static void answer_who(struct http_request *request, struct http_response *response)
{
    struct buf text;
    buf_init(&text, 65536);
    buf_printf(&text, "%s %s from %s", request->method, request->path, request->address);
    for (size_t i = 0; i < request->query_count; i++)
        buf_printf(&text, " [%s=%s]", request->query[i].name, request->query[i].value);
    http_respond_buf(response, 200, "text/plain", &text);
}

static void answer_large(struct http_response *response)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 5000; i++)
        buf_printf(&text, "%s%d", i ? "," : "[", i);
    buf_puts(&text, "]");
    http_respond_buf(response, 200, "application/json", &text);
}

static void wait_for_release(struct world *world)
{
    pthread_mutex_lock(&world->lock);
    world->handling = true;
    pthread_cond_broadcast(&world->changed);
    while (!world->released)
        pthread_cond_wait(&world->changed, &world->lock);
    pthread_mutex_unlock(&world->lock);
}

static void handle(void *context, struct http_request *request, struct http_response *response)
{
    struct world *world = context;
    __atomic_fetch_add(&world->handled, 1, __ATOMIC_RELAXED);
    if (strcmp(request->path, "/echo") == 0) {
        http_respond_bytes(response, 200, "application/octet-stream",
                           arena_copy(request->arena, request->body, request->body_size), request->body_size);
    } else if (strcmp(request->path, "/file") == 0) {
        response->etag = "\"v1\"";
        http_respond_file(response, "image/png", dup(fileno(world->file)), 0, file_bytes);
    } else if (strcmp(request->path, "/stream") == 0) {
        answer_stream(world, request, response);
    } else if (strcmp(request->path, "/large") == 0) {
        answer_large(response);
    } else if (strcmp(request->path, "/slow") == 0) {
        wait_for_release(world);
        http_respond_bytes(response, 200, "text/plain", "done", 4);
    } else if (strncmp(request->path, "/who", 4) == 0) {
        answer_who(request, response);
    } else {
        http_respond_bytes(response, 200, "application/json", "{\"hello\":1}", 11);
    }
}

static bool early(void *context, struct http_request *request, struct http_response *response)
{
    (void)context;
    if (http_request_header(request, "Authorization"))
        return true;
    http_respond_error(response, request->arena, 401, "no key");
    return false;
}

static void start_server(struct world *world, const struct http_config *changed)
{
    struct http_config config = *changed;
    config.context = world;
    config.handle = handle;
    config.log_requests = false;
    assert_ok(http_server_create(&config, &world->server));
}

static struct http_config small_limits(void)
{
    struct http_config config;
    http_config_init(&config);
    config.workers = 4;
    config.body_bytes_max = body_limit;
    config.cors_origin = "*";
    return config;
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->changed, NULL);
    world->file = tmpfile();
    for (int i = 0; i < file_bytes; i++)
        fputc(i % 251, world->file);
    fflush(world->file);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    http_server_destroy(world->server);
    fclose(world->file);
    pthread_cond_destroy(&world->changed);
    pthread_mutex_destroy(&world->lock);
    free(world);
    return 0;
}

static void release(struct world *world)
{
    pthread_mutex_lock(&world->lock);
    world->released = true;
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

static void await_handling(struct world *world)
{
    pthread_mutex_lock(&world->lock);
    while (!world->handling)
        pthread_cond_wait(&world->changed, &world->lock);
    pthread_mutex_unlock(&world->lock);
}

static int dial(const struct world *world)
{
    return dial_port(http_server_port(world->server));
}

/* One request on its own connection; lines are header lines, each with its CRLF. */
static struct reply ask_once(struct world *world, const char *method, const char *target, const char *lines)
{
    char request[8192];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: test\r\n%s\r\n", method, target, lines);
    int fd = dial(world);
    struct reply reply = ask(fd, request);
    close(fd);
    return reply;
}

static void assert_status(struct world *world, const char *target, int status, const char *text)
{
    struct reply reply = ask_once(world, "GET", target, "");
    if (reply.status != status || !strstr(reply.body, text))
        fail_msg("GET %s: %d %s", target, reply.status, reply.body);
    reply_finish(&reply);
}

static void a_connection_serves_many_requests_even_pipelined(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    int fd = dial(*state);
    for (int i = 0; i < 20; i++) {
        struct reply reply = ask(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(reply.status, 200);
        assert_string_equal(reply.body, "{\"hello\":1}");
        assert_string_equal(header_of(&reply, "X-Content-Type-Options"), "nosniff");
        assert_non_null(header_of(&reply, "Date"));
        reply_finish(&reply);
    }
    send_text(fd,
              "GET /who1 HTTP/1.1\r\nHost: a\r\n\r\nGET /who2 HTTP/1.1\r\nHost: a\r\n\r\n"
              "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /who3 HTTP/1.1\r\nHost: a\r\n\r\n");
    static const char *const expected[] = {"GET /who1 from 127.0.0.1", "GET /who2 from 127.0.0.1", "abc",
                                           "GET /who3 from 127.0.0.1"};
    for (int i = 0; i < 4; i++) {
        struct reply reply;
        assert_true(read_reply(fd, false, &reply));
        assert_string_equal(reply.body, expected[i]);
        reply_finish(&reply);
    }
    close(fd);
}

static void a_chunked_body_arrives_whole(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    int fd = dial(*state);
    send_text(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n \r\n");
    struct reply reply = ask(fd, "5\r\nworld\r\n0\r\n\r\n");
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "hello world");
    reply_finish(&reply);
    close(fd);
}

static void a_large_body_arrives_whole(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    size_t size = body_limit;
    char *body = malloc(size);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)(i * 7 % 255);
    int fd = dial(*state);
    send_text(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
    send_bytes(fd, body, size);
    struct reply reply;
    assert_true(read_reply(fd, false, &reply));
    assert_int_equal(reply.size, size);
    assert_memory_equal(reply.body, body, size);
    reply_finish(&reply);
    free(body);
    close(fd);
}

static void a_body_over_the_limit_is_a_413_that_the_client_can_read(void **state)
{
    struct world *world = *state;
    struct http_config config = small_limits();
    start_server(world, &config);
    char *body = calloc(1, body_limit * 3);
    struct reply reply;
    int declared = dial(world);
    send_text(declared, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1500000\r\n\r\n");
    send_bytes(declared, body, 1500000);
    assert_true(read_reply(declared, false, &reply));
    assert_int_equal(reply.status, 413);
    assert_string_equal(reply.body, "{\"reason\":\"the body is larger than 1048576 bytes\"}");
    reply_finish(&reply);
    close(declared);
    int chunked = dial(world);
    send_text(chunked, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n16E360\r\n");
    send_bytes(chunked, body, 1500000);
    reply = ask(chunked, "\r\n0\r\n\r\n");
    assert_int_equal(reply.status, 413);
    reply_finish(&reply);
    close(chunked);
    int endless = dial(world);
    reply = ask(endless, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n");
    assert_int_equal(reply.status, 413);
    reply_finish(&reply);
    close(endless);
    int trickery = dial(world);
    send_text(trickery, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2FFFFFFF\r\n");
    send_bytes(trickery, body, body_limit * 3);
    assert_true(closed_by_peer(trickery));
    close(trickery);
    assert_int_equal(world->handled, 0);
    free(body);
}

static void a_client_that_expects_continue_is_answered_before_it_sends(void **state)
{
    struct http_config config = small_limits();
    config.early = early;
    start_server(*state, &config);
    int fd = dial(*state);
    struct reply reply = ask(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: k\r\nContent-Length: 2\r\n"
                                 "Expect: 100-continue\r\n\r\n");
    assert_int_equal(reply.status, 100);
    reply_finish(&reply);
    reply = ask(fd, "ok");
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "ok");
    reply_finish(&reply);
    close(fd);
    fd = dial(*state);
    reply = ask(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(reply.status, 401);
    reply_finish(&reply);
    assert_true(closed_by_peer(fd));
    close(fd);
}

static void an_early_refusal_reaches_a_client_that_sends_on(void **state)
{
    struct world *world = *state;
    struct http_config config = small_limits();
    config.early = early;
    start_server(world, &config);
    char *body = calloc(1, 900000);
    int fd = dial(world);
    send_text(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    send_bytes(fd, body, 900000);
    struct reply reply;
    assert_true(read_reply(fd, false, &reply));
    assert_int_equal(reply.status, 401);
    assert_string_equal(reply.body, "{\"reason\":\"no key\"}");
    reply_finish(&reply);
    reply = ask(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"); /* the connection is still in step */
    assert_int_equal(reply.status, 200);
    reply_finish(&reply);
    close(fd);
    free(body);
}

static void slow_clients_are_cut_off_however_they_trickle(void **state)
{
    struct http_config config = small_limits();
    config.header_ms_max = 300;
    config.body_ms_max = 300;
    start_server(*state, &config);
    int silent = dial(*state), trickling = dial(*state), stuck = dial(*state);
    send_text(stuck, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome");
    send_text(trickling, "GET /hello HTTP/1.1\r\n");
    int64_t start = clock_monotonic_ms();
    struct timeval step = {.tv_usec = 50000};
    setsockopt(trickling, SOL_SOCKET, SO_RCVTIMEO, &step, sizeof step);
    char byte;
    while (recv(trickling, &byte, 1, 0) < 0 && clock_monotonic_ms() - start < 9000)
        send_text(trickling, "X");
    assert_true(clock_monotonic_ms() - start < 5000);
    assert_true(closed_by_peer(silent));
    assert_true(closed_by_peer(stuck));
    close(silent), close(trickling), close(stuck);
}

static void head_gives_the_headers_of_get(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    struct reply get = ask_once(*state, "GET", "/file", ""), head = ask_once(*state, "HEAD", "/file", "");
    assert_int_equal(head.status, 200);
    assert_string_equal(header_of(&head, "Content-Length"), "100000");
    assert_string_equal(header_of(&head, "ETag"), "\"v1\"");
    assert_int_equal(get.size, file_bytes);
    for (int i = 0; i < file_bytes; i++)
        assert_int_equal((unsigned char)get.body[i], i % 251);
    reply_finish(&get);
    reply_finish(&head);
    int fd = dial(*state);
    head = ask(fd, "HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n");
    reply_finish(&head);
    get = ask(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"); /* no body of HEAD is left in between */
    assert_string_equal(get.body, "{\"hello\":1}");
    reply_finish(&get);
    close(fd);
}

static void ranges_of_a_file_are_served(void **state)
{
    static const struct {
        const char *lines;
        int status;
        size_t first, size;
        const char *content_range;
    } cases[] = {
        {"Range: bytes=0-9\r\n", 206, 0, 10, "bytes 0-9/100000"},
        {"Range: bytes=99990-\r\n", 206, 99990, 10, "bytes 99990-99999/100000"},
        {"Range: bytes=-5\r\n", 206, 99995, 5, "bytes 99995-99999/100000"},
        {"Range: bytes=-200000\r\n", 206, 0, 100000, "bytes 0-99999/100000"},
        {"Range: bytes=99999-500000\r\n", 206, 99999, 1, "bytes 99999-99999/100000"},
        {"Range: bytes=100000-\r\n", 416, 0, 0, "bytes */100000"},
        {"Range: bytes=-0\r\n", 416, 0, 0, "bytes */100000"},
        {"Range: bytes=5-2\r\n", 200, 0, 100000, NULL},
        {"Range: bytes=0-1,5-6\r\n", 200, 0, 100000, NULL},
        {"Range: lines=0-1\r\n", 200, 0, 100000, NULL},
        {"Range: bytes=99999999999999999999-\r\n", 200, 0, 100000, NULL},
        {"Range: bytes=0-9\r\nIf-Range: \"v1\"\r\n", 206, 0, 10, "bytes 0-9/100000"},
        {"Range: bytes=0-9\r\nIf-Range: \"v0\"\r\n", 200, 0, 100000, NULL},
        {"Range: bytes=0-9\r\nIf-Range: W/\"v1\"\r\n", 200, 0, 100000, NULL},
    };
    struct http_config config = small_limits();
    start_server(*state, &config);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply reply = ask_once(*state, "GET", "/file", cases[i].lines);
        assert_int_equal(reply.status, cases[i].status);
        const char *range = header_of(&reply, "Content-Range");
        assert_true(range ? cases[i].content_range && strcmp(range, cases[i].content_range) == 0
                          : !cases[i].content_range);
        if (reply.status != 416) {
            assert_int_equal(reply.size, cases[i].size);
            assert_int_equal((unsigned char)reply.body[0], cases[i].first % 251);
        }
        reply_finish(&reply);
    }
}

static void a_known_answer_is_not_sent_again(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    struct reply reply = ask_once(*state, "GET", "/large", "");
    char lines[1200];
    assert_non_null(header_of(&reply, "ETag"));
    snprintf(lines, sizeof lines, "If-None-Match: \"other\", %s\r\nAccept-Encoding: gzip\r\n",
             header_of(&reply, "ETag"));
    reply_finish(&reply);
    reply = ask_once(*state, "GET", "/large", lines);
    assert_int_equal(reply.status, 304);
    assert_null(header_of(&reply, "Content-Type"));
    reply_finish(&reply);
    reply = ask_once(*state, "GET", "/large", "If-None-Match: \"other\"\r\n");
    assert_int_equal(reply.status, 200);
    reply_finish(&reply);
    reply = ask_once(*state, "GET", "/file", "If-None-Match: \"v1\"\r\nRange: bytes=0-1\r\n");
    assert_int_equal(reply.status, 304);
    reply_finish(&reply);
}

static void unpack(const char *packed, size_t size, char *plain, size_t plain_size)
{
    z_stream inflater = {.next_in = (unsigned char *)packed, .avail_in = (unsigned)size};
    inflater.next_out = (unsigned char *)plain;
    inflater.avail_out = (unsigned)plain_size;
    assert_int_equal(inflateInit2(&inflater, 15 + 16), Z_OK);
    assert_int_equal(inflate(&inflater, Z_FINISH), Z_STREAM_END);
    assert_int_equal(inflater.total_out, plain_size);
    inflateEnd(&inflater);
}

static void large_json_is_compressed_for_those_who_ask(void **state)
{
    static const struct {
        const char *lines;
        bool packed;
    } cases[] = {{"Accept-Encoding: deflate, gzip;q=0.8\r\n", true},
                 {"Accept-Encoding: *\r\n", true},
                 {"Accept-Encoding: gzip;q=0\r\n", false},
                 {"Accept-Encoding: xgzip\r\n", false},
                 {"", false}};
    struct http_config config = small_limits();
    start_server(*state, &config);
    struct reply plain = ask_once(*state, "GET", "/large", "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply reply = ask_once(*state, "GET", "/large", cases[i].lines);
        assert_string_equal(header_of(&reply, "Vary"), "Accept-Encoding");
        assert_int_equal(header_of(&reply, "Content-Encoding") != NULL, cases[i].packed);
        if (cases[i].packed) {
            char *unpacked = malloc(plain.size);
            assert_true(reply.size < plain.size / 2);
            unpack(reply.body, reply.size, unpacked, plain.size);
            assert_memory_equal(unpacked, plain.body, plain.size);
            free(unpacked);
        }
        reply_finish(&reply);
    }
    reply_finish(&plain);
    plain = ask_once(*state, "GET", "/hello", "Accept-Encoding: gzip\r\n");
    assert_null(header_of(&plain, "Content-Encoding"));
    reply_finish(&plain);
}

static void streams_are_pulled_to_their_end_and_closed_once(void **state)
{
    struct world *world = *state;
    struct http_config config = small_limits();
    start_server(world, &config);
    static const char *const targets[] = {"/stream", "/stream?size=300000"};
    for (int i = 0; i < 2; i++) {
        struct reply reply = ask_once(world, "GET", targets[i], "");
        assert_int_equal(reply.size, stream_bytes);
        for (size_t k = 0; k < stream_bytes; k++)
            assert_int_equal(reply.body[k], 'a' + (int)(k % 26));
        reply_finish(&reply);
    }
    int fd = dial(world);
    struct reply reply;
    send_text(fd, "GET /stream?fail=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_false(read_reply(fd, false, &reply)); /* cut, so that nobody takes it for whole */
    reply_finish(&reply);
    close(fd);
    pthread_mutex_lock(&world->lock);
    while (world->streams_closed < 3)
        pthread_cond_wait(&world->changed, &world->lock);
    pthread_mutex_unlock(&world->lock);
    assert_int_equal(world->streams_closed, 3);
}

static void request_ids_are_kept_when_sane_and_made_otherwise(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    struct reply kept = ask_once(*state, "GET", "/hello", "X-Request-Id: trace-1.a_B\r\n");
    assert_string_equal(header_of(&kept, "X-Request-Id"), "trace-1.a_B");
    reply_finish(&kept);
    struct reply made = ask_once(*state, "GET", "/hello", "X-Request-Id: a b\r\n");
    assert_int_equal(strlen(header_of(&made, "X-Request-Id")), 16);
    reply_finish(&made);
}

static void paths_and_queries_are_decoded_once_and_tricks_refused(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    assert_status(*state, "/who%20x%C3%A9?a=1&b=c%2Bd+e&flag&a=%26", 200,
                  "/who x\xc3\xa9 from 127.0.0.1 [a=1] [b=c+d e] [flag=] [a=&]");
    assert_status(*state, "/who%2541", 200, "/who%41 ");
    assert_status(*state, "http://elsewhere/who?x=1", 200, "GET /who from 127.0.0.1 [x=1]");
    assert_status(*state, "/who%00x", 400, "the path has a NUL character");
    assert_status(*state, "/who%zz", 400, "without two hexadecimal digits");
    assert_status(*state, "/who%4", 400, "without two hexadecimal digits");
    assert_status(*state, "/who%c0%af", 400, "the path is not UTF-8");
    assert_status(*state, "/a%2fwho", 400, "encoded slash");
    assert_status(*state, "/a/../who", 400, "'.' or '..' segment");
    assert_status(*state, "/a/%2e%2E", 400, "'.' or '..' segment");
    assert_status(*state, "/who%0d%0aX:1", 400, "control character");
    assert_status(*state, "/who?a=%00", 400, "the query has a NUL character");
    assert_status(*state, "/who?%ff=1", 400, "the query is not UTF-8");
    char many[2048] = "/who?";
    for (size_t i = 0, end = strlen(many); i < 70; i++, end += 4)
        memcpy(many + end, "a=1&", 5);
    assert_status(*state, many, 400, "more than 64 parameters");
}

static void malformed_requests_end_the_connection_with_a_reason(void **state)
{
    static const struct {
        const char *bytes;
        int status;
    } cases[] = {
        {"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n", 400},
        {"GARBAGE\r\n\r\n", 0}, /* closed without a word: nothing says that it speaks HTTP */
        {"G\x80T /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400},
        {"GET /hello HTTP/9.9\r\nHost: a\r\n\r\n", 505},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
    };
    struct world *world = *state;
    struct http_config config = small_limits();
    start_server(world, &config);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = dial(world);
        struct reply reply;
        send_text(fd, cases[i].bytes);
        read_reply(fd, false, &reply);
        if (reply.status != cases[i].status)
            fail_msg("case %zu: %d %s", i, reply.status, reply.body);
        if (!ends(fd))
            fail_msg("case %zu: the connection stays open", i);
        reply_finish(&reply);
        close(fd);
    }
    assert_int_equal(world->handled, 0);
}

static void a_header_over_16_kb_is_a_431(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    char *line = malloc(40000);
    memset(line, 'x', 40000);
    int fd = dial(*state);
    send_text(fd, "GET /hello HTTP/1.1\r\nHost: a\r\nX-Long: ");
    send_bytes(fd, line, 40000);
    struct reply reply;
    read_reply(fd, false, &reply);
    assert_int_equal(reply.status, 431);
    reply_finish(&reply);
    close(fd);
    fd = dial(*state);
    send_text(fd, "GET /hello HTTP/1.1\r\nHost: a\r\nX-Long: ");
    send_bytes(fd, line, 15000);
    reply = ask(fd, "\r\n\r\n");
    assert_int_equal(reply.status, 200);
    reply_finish(&reply);
    close(fd);
    free(line);
}

static void browsers_of_other_origins_may_ask_and_read(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    struct reply reply =
        ask_once(*state, "OPTIONS", "/v1/models", "Origin: http://x\r\nAccess-Control-Request-Method: PUT\r\n");
    assert_int_equal(reply.status, 204);
    assert_string_equal(header_of(&reply, "Access-Control-Allow-Origin"), "*");
    assert_non_null(strstr(header_of(&reply, "Access-Control-Allow-Methods"), "PUT"));
    assert_non_null(strstr(header_of(&reply, "Access-Control-Allow-Headers"), "Authorization"));
    reply_finish(&reply);
    reply = ask_once(*state, "GET", "/hello", "Origin: http://x\r\n");
    assert_string_equal(header_of(&reply, "Access-Control-Allow-Origin"), "*");
    assert_non_null(header_of(&reply, "Access-Control-Expose-Headers"));
    reply_finish(&reply);
    reply = ask_once(*state, "GET", "/hello", "");
    assert_null(header_of(&reply, "Access-Control-Allow-Origin"));
    reply_finish(&reply);
}

static void a_full_queue_answers_503_with_retry_after(void **state)
{
    struct world *world = *state;
    struct http_config config = small_limits();
    config.workers = 1;
    config.queue_max = 1;
    start_server(world, &config);
    int running = dial(world), waiting = dial(world), refused = dial(world);
    send_text(running, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    await_handling(world);
    send_text(waiting, "GET /who HTTP/1.1\r\nHost: a\r\n\r\n");
    struct reply reply;
    /* which of the two was first is up to the network thread: one waits, the other is refused */
    send_text(refused, "GET /who HTTP/1.1\r\nHost: a\r\n\r\n");
    struct timeval step = {.tv_usec = 200000};
    setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &step, sizeof step);
    char byte;
    if (recv(waiting, &byte, 1, MSG_PEEK) == 1) {
        int other = waiting;
        waiting = refused;
        refused = other;
    }
    assert_true(read_reply(refused, false, &reply));
    assert_int_equal(reply.status, 503);
    assert_string_equal(header_of(&reply, "Retry-After"), "1");
    reply_finish(&reply);
    release(world);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_true(read_reply(waiting, false, &reply));
    assert_int_equal(reply.status, 200);
    reply_finish(&reply);
    close(running), close(waiting), close(refused);
}

static long resident_kb(void)
{
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(file, "%ld %ld", &pages, &resident), 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void a_thousand_idle_connections_cost_little(void **state)
{
    enum { count = 1000 };
    struct http_config config = small_limits();
    struct rlimit files = {8192, 8192};
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    files.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    start_server(*state, &config);
    int *fds = calloc(count, sizeof *fds);
    long start = resident_kb();
    for (int i = 0; i < count; i++) {
        fds[i] = dial(*state);
        struct reply reply = ask(fds[i], "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(reply.status, 200);
        reply_finish(&reply);
    }
    long used = resident_kb() - start;
    print_message("# %d idle connections that were used once: %ld KB\n", count, used);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(used < 32 * 1024);
#endif
    for (int i = 0; i < count; i++)
        close(fds[i]);
    free(fds);
}

static void *release_later(void *world)
{
    struct timespec pause = {.tv_nsec = 100000000};
    nanosleep(&pause, NULL); /* the drain has begun by then, or the test still holds, only weaker */
    release(world);
    return NULL;
}

static void draining_sends_what_is_in_flight(void **state)
{
    struct world *world = *state;
    struct http_config config = small_limits();
    start_server(world, &config);
    int fd = dial(world), idle = dial(world);
    send_text(fd, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    await_handling(world);
    assert_false(http_server_drain(world->server, 50)); /* too short a limit says so */
    pthread_t releaser;
    pthread_create(&releaser, NULL, release_later, world);
    assert_true(http_server_drain(world->server, 10000));
    pthread_join(releaser, NULL);
    struct reply reply;
    assert_true(read_reply(fd, false, &reply));
    assert_string_equal(reply.body, "done");
    assert_string_equal(header_of(&reply, "Connection"), "close");
    assert_true(closed_by_peer(fd));
    reply_finish(&reply);
    http_server_destroy(world->server);
    world->server = NULL;
    assert_true(closed_by_peer(idle));
    close(fd), close(idle);
}

static void destroying_waits_for_handlers_and_ends_streams(void **state)
{
    struct world *world = *state;
    struct http_config config = small_limits();
    start_server(world, &config);
    int slow = dial(world), stream = dial(world);
    send_text(slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    send_text(stream, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    await_handling(world);
    pthread_t releaser;
    pthread_create(&releaser, NULL, release_later, world);
    http_server_destroy(world->server);
    world->server = NULL;
    pthread_join(releaser, NULL);
    assert_true(world->handled >= 1);
    close(slow), close(stream);
}

static void a_taken_port_is_an_error_that_says_so(void **state)
{
    struct http_config config = small_limits();
    start_server(*state, &config);
    config.port = http_server_port(((struct world *)*state)->server);
    struct http_server *second;
    struct error error = http_server_create(&config, &second);
    assert_int_equal(error.code, ERR_IO);
    assert_non_null(strstr(error.text, "Address already in use"));
}

static void utf8_is_checked_to_the_letter(void **state)
{
    (void)state;
    assert_true(utf8_valid("plain", 5));
    assert_true(utf8_valid("\xf0\x9f\x98\x80\xed\x9f\xbf", 7));
    assert_false(utf8_valid("\xc0\x80", 2));         /* overlong NUL */
    assert_false(utf8_valid("\xed\xa0\x80", 3));     /* surrogate */
    assert_false(utf8_valid("\xf4\x90\x80\x80", 4)); /* above 10FFFF */
    assert_false(utf8_valid("\xe2\x82", 2));         /* cut short */
    assert_false(utf8_valid("\x80", 1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_connection_serves_many_requests_even_pipelined),
        TEST(a_chunked_body_arrives_whole),
        TEST(a_large_body_arrives_whole),
        TEST(a_body_over_the_limit_is_a_413_that_the_client_can_read),
        TEST(a_client_that_expects_continue_is_answered_before_it_sends),
        TEST(an_early_refusal_reaches_a_client_that_sends_on),
        TEST(slow_clients_are_cut_off_however_they_trickle),
        TEST(head_gives_the_headers_of_get),
        TEST(ranges_of_a_file_are_served),
        TEST(a_known_answer_is_not_sent_again),
        TEST(large_json_is_compressed_for_those_who_ask),
        TEST(streams_are_pulled_to_their_end_and_closed_once),
        TEST(request_ids_are_kept_when_sane_and_made_otherwise),
        TEST(paths_and_queries_are_decoded_once_and_tricks_refused),
        TEST(malformed_requests_end_the_connection_with_a_reason),
        TEST(a_header_over_16_kb_is_a_431),
        TEST(browsers_of_other_origins_may_ask_and_read),
        TEST(a_full_queue_answers_503_with_retry_after),
        TEST(a_thousand_idle_connections_cost_little),
        TEST(draining_sends_what_is_in_flight),
        TEST(destroying_waits_for_handlers_and_ends_streams),
        TEST(a_taken_port_is_an_error_that_says_so),
        TEST(utf8_is_checked_to_the_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
