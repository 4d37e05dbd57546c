/* Inside the room: a quick proof that a PNG's pixels are whole. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* True when the checksums of all critical chunks hold and the compressed rows have exactly the size and the row filters
 * that the header asks for, so that every decoder gets every pixel. False means only "not shown here": interlaced,
 * with a palette, over 64 MB of rows, or damaged; let the decoder say which. The container has been checked. */
bool png_is_whole(const void *bytes, size_t size);
