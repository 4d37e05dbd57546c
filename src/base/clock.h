/* Time. Wall time is UTC milliseconds since 1970; intervals are monotonic milliseconds. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { clock_iso_size = 25 }; /* "2026-01-31T12:00:00.000Z" and NUL */

int64_t clock_now_ms(void);
int64_t clock_monotonic_ms(void);
/* ISO 8601 UTC with milliseconds and Z, the API's date format. Returns text. */
char *clock_format_iso(char text[clock_iso_size], int64_t ms);
/* Accepts YYYY-MM-DD with optional THH:MM[:SS[.fraction]] and Z or +HH:MM. False when it is no such date. */
bool clock_parse_iso(const char *text, int64_t *ms);
