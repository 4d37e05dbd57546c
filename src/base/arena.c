/* Blocks grow geometrically, so that a small request costs one malloc and a large one few. */
#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena_block {
    struct arena_block *older;
    size_t size, used;
    _Alignas(16) unsigned char bytes[];
};

enum { first_block_bytes = 8192, block_bytes_max = 1 << 20, alignment = 16 };

void arena_init(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.bytes_max = bytes_max};
}

void arena_finish(struct arena *arena)
{
    while (arena->newest) {
        struct arena_block *block = arena->newest;
        arena->newest = block->older;
        free(block);
    }
    arena->used = 0;
}

__attribute__((noreturn)) static void die(const char *why, size_t size)
{
    fprintf(stderr, "arena: %s (%zu bytes asked)\n", why, size);
    abort();
}

static struct arena_block *add_block(struct arena *arena, size_t size)
{
    size_t block_size = first_block_bytes;
    if (arena->newest && arena->newest->size * 2 > block_size)
        block_size = arena->newest->size * 2;
    if (block_size > block_bytes_max)
        block_size = block_bytes_max;
    if (block_size < size)
        block_size = size;
    struct arena_block *block = malloc(sizeof(*block) + block_size);
    if (!block)
        die("out of memory", size);
    block->older = arena->newest;
    block->size = block_size;
    block->used = 0;
    arena->newest = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX - alignment || arena->used + size > arena->bytes_max)
        die("cap reached", size);
    size_t rounded = (size + alignment - 1) / alignment * alignment;
    struct arena_block *block = arena->newest;
    if (!block || block->size - block->used < rounded)
        block = add_block(arena, rounded);
    void *memory = block->bytes + block->used;
    block->used += rounded;
    arena->used += rounded;
    return memset(memory, 0, size);
}

void *arena_array(struct arena *arena, size_t count, size_t item_size)
{
    size_t size;
    if (__builtin_mul_overflow(count, item_size, &size))
        die("array too large", count);
    return arena_alloc(arena, size);
}

char *arena_copy(struct arena *arena, const void *bytes, size_t size)
{
    char *copy = arena_alloc(arena, size + 1);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return text ? arena_copy(arena, text, strlen(text)) : NULL;
}

char *arena_vprintf(struct arena *arena, const char *format, va_list args)
{
    if (!format)
        die("no format", 0);
    char short_text[256]; /* most are: formatted once */
    va_list measured;
    va_copy(measured, args);
    int length = vsnprintf(short_text, sizeof short_text, format, measured);
    va_end(measured);
    if (length < 0)
        die("bad format", 0);
    if ((size_t)length < sizeof short_text)
        return arena_copy(arena, short_text, (size_t)length);
    char *text = arena_alloc(arena, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, args);
    return text;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}
