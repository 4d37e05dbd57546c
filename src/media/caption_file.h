/* Inside the room: the words that a picture brings along. */
#pragma once

#include "base/arena.h"

/* One clean line of UTF-8, "" when there is nothing. file_name may be NULL. */
const char *caption_from_file(struct arena *arena, const void *bytes, size_t size, const char *file_name);
/* Valid UTF-8 on one line, at most caption_bytes_max bytes, trimmed; "" for what is not text. */
const char *caption_clean(struct arena *arena, const char *text, size_t size);
