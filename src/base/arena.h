/* A capped region of memory that is freed all at once. A request, a job and a test each own one. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct arena_block;

/* Zero-initialise with arena_init; free with arena_finish. Not thread-safe: one owner at a time. */
struct arena {
    struct arena_block *newest;
    size_t used;      /* bytes handed out */
    size_t bytes_max; /* cap; reaching it is a programming error, since every input has its own limit */
};

void arena_init(struct arena *arena, size_t bytes_max);
void arena_finish(struct arena *arena);

/* Zeroed memory aligned to 16 bytes. Never NULL: an exhausted machine or cap ends the process with a message. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((malloc, returns_nonnull, alloc_size(2)));
void *arena_array(struct arena *arena, size_t count, size_t item_size) __attribute__((malloc, returns_nonnull));

char *arena_copy(struct arena *arena, const void *bytes, size_t size) __attribute__((returns_nonnull)); /* NUL added */
char *arena_strdup(struct arena *arena, const char *text); /* NULL stays NULL */
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3), returns_nonnull));
char *arena_vprintf(struct arena *arena, const char *format, va_list args)
    __attribute__((format(printf, 2, 0), returns_nonnull));

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
