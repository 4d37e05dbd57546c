/* A client on a raw socket: sends what it is told and reads one answer at a time. */
#pragma once

#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

enum { reply_bytes_max = 8 << 20 };

struct reply {
    int status;
    char *headers; /* with the status line */
    char *body;
    size_t size;
};

static inline int dial_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static inline void send_bytes(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server may refuse before it has read all */
        bytes += sent;
        size -= (size_t)sent;
    }
}

static inline void send_text(int fd, const char *text)
{
    send_bytes(fd, text, strlen(text));
}

static inline bool read_byte(int fd, struct buf *to)
{
    char byte;
    if (recv(fd, &byte, 1, 0) != 1)
        return false;
    buf_append(to, &byte, 1);
    return true;
}

static inline bool read_exactly(int fd, struct buf *to, size_t size)
{
    char piece[65536];
    while (size > 0) {
        ssize_t got = recv(fd, piece, size < sizeof piece ? size : sizeof piece, 0);
        if (got <= 0)
            return false;
        buf_append(to, piece, (size_t)got);
        size -= (size_t)got;
    }
    return true;
}

static inline const char *header_of(const struct reply *reply, const char *name)
{
    static char value[1024];
    size_t length = strlen(name);
    for (const char *line = reply->headers; (line = strchr(line, '\n'));) {
        line++;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + length + 2, "\r\n"), line + length + 2);
            return value;
        }
    }
    return NULL;
}

static inline bool read_chunks(int fd, struct buf *body)
{
    for (;;) {
        struct buf line;
        buf_init(&line, 100);
        do {
            if (!read_byte(fd, &line)) {
                buf_finish(&line);
                return false;
            }
        } while (line.data[line.len - 1] != '\n');
        size_t size = strtoul(line.data, NULL, 16);
        buf_finish(&line);
        struct buf end;
        buf_init(&end, 16);
        bool fine = read_exactly(fd, body, size) && read_exactly(fd, &end, 2);
        buf_finish(&end);
        if (!fine || size == 0)
            return fine;
    }
}

/* False when the connection ended before the answer was whole. */
static inline bool read_reply(int fd, bool head, struct reply *reply)
{
    struct buf headers, body;
    buf_init(&headers, 65536);
    buf_init(&body, reply_bytes_max);
    *reply = (struct reply){0};
    bool whole = true;
    while (whole && (headers.len < 4 || memcmp(headers.data + headers.len - 4, "\r\n\r\n", 4) != 0))
        whole = read_byte(fd, &headers);
    reply->headers = headers.data ? headers.data : strdup("");
    reply->status = headers.len > 12 ? (int)strtol(headers.data + 9, NULL, 10) : 0;
    if (whole && !head && reply->status >= 200 && reply->status != 304 && reply->status != 204) {
        const char *length = header_of(reply, "Content-Length");
        whole = length ? read_exactly(fd, &body, strtoul(length, NULL, 10)) : read_chunks(fd, &body);
    }
    reply->body = body.data ? body.data : strdup("");
    reply->size = body.len;
    return whole;
}

static inline void reply_finish(struct reply *reply)
{
    free(reply->headers);
    free(reply->body);
}

static inline struct reply ask(int fd, const char *request)
{
    struct reply reply;
    send_text(fd, request);
    assert_true(read_reply(fd, strncmp(request, "HEAD", 4) == 0, &reply));
    return reply;
}

static inline bool closed_by_peer(int fd)
{
    char byte;
    return recv(fd, &byte, 1, 0) <= 0;
}

static inline bool ends(int fd)
{
    char rest[4096];
    ssize_t got;
    do
        got = recv(fd, rest, sizeof rest, 0);
    while (got > 0);
    return got == 0 || errno == ECONNRESET;
}
