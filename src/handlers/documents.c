#include "handlers/documents.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crypt.h"

enum { etag_size = 35 }; /* 32 digits, quotes, NUL */

struct document {
    char *key, *text;
    size_t size;
    uint64_t generation;
    char etag[etag_size];
};

struct documents {
    pthread_mutex_t lock;
    struct document list[documents_max]; /* each key has one place; a later document takes it over */
};

struct error documents_create(struct documents **made)
{
    struct documents *documents = calloc(1, sizeof *documents);
    if (!documents)
        return error_make(ERR_INTERNAL, "out of memory");
    pthread_mutex_init(&documents->lock, NULL);
    *made = documents;
    return OK;
}

void documents_destroy(struct documents *documents)
{
    if (!documents)
        return;
    for (size_t i = 0; i < documents_max; i++) {
        free(documents->list[i].key);
        free(documents->list[i].text);
    }
    pthread_mutex_destroy(&documents->lock);
    free(documents);
}

static struct document *place_of(struct documents *documents, const char *key)
{
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a */
    for (const char *at = key; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 0x100000001b3ULL;
    return &documents->list[(hash >> 20) % documents_max];
}

static void respond(struct call *call, const char *text, size_t size, const char *etag)
{
    http_respond_bytes(call->response, 200, "application/json", text, size);
    call->response->etag = etag;
}

bool documents_recall(struct call *call, const char *key, uint64_t generation)
{
    SCOPED_LOCK(&call->app->documents->lock);
    const struct document *document = place_of(call->app->documents, key);
    if (!generation || document->generation != generation || strcmp(document->key, key) != 0)
        return false;
    respond(call, arena_copy(call->arena, document->text, document->size), document->size,
            arena_strdup(call->arena, document->etag));
    return true;
}

/* Nothing is kept when memory is short. */
static void keep(struct documents *documents, const char *key, uint64_t generation, const char *text, size_t size,
                 const char *etag)
{
    struct document made = {.key = strdup(key), .text = malloc(size), .size = size, .generation = generation};
    if (!made.key || !made.text) {
        free(made.key);
        free(made.text);
        return;
    }
    memcpy(made.text, text, size);
    snprintf(made.etag, sizeof made.etag, "%s", etag);
    pthread_mutex_lock(&documents->lock);
    struct document *place = place_of(documents, key), old = *place;
    *place = made;
    pthread_mutex_unlock(&documents->lock);
    free(old.key);
    free(old.text);
}

static char *etag_of(struct arena *arena, const char *text, size_t size)
{
    uint8_t digest[sha256_size];
    char hex[sha256_hex_size];
    sha256_of(text, size, digest);
    return arena_printf(arena, "\"%.32s\"", sha256_hex(digest, hex));
}

struct error documents_answer(struct call *call, const char *key, uint64_t generation, const struct fields *fields,
                              const void *answer)
{
    enum { answer_bytes_max = 64 << 20 };
    struct buf out;
    buf_init(&out, answer_bytes_max);
    struct json_writer writer = {.out = &out};
    fields_write(&writer, NULL, fields, answer);
    struct error error = buf_error(&out);
    if (!error.code) {
        const char *text = arena_copy(call->arena, out.data, out.len);
        const char *etag = etag_of(call->arena, text, out.len);
        if (generation && out.len <= document_bytes_max)
            keep(call->app->documents, key, generation, text, out.len, etag);
        respond(call, text, out.len, etag);
    }
    buf_finish(&out);
    return error;
}
