/* The only mutable global of the program: where lines go and which are kept. A line is one write(2), so that threads
 * and trainers that share the descriptor never mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { line_bytes_max = 2048 };

static struct {
    enum log_level least;
    int as_json;
} sink = {LOG_INFO, 0};

void log_setup(enum log_level least, int as_json)
{
    sink.least = least;
    sink.as_json = as_json;
}

/* Control bytes would let input forge a line or paint a terminal. */
static void neutralise(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

static size_t json_escape(char *out, size_t size, const char *text)
{
    size_t used = 0;
    for (; *text && used + 3 < size; text++) {
        if (*text == '"' || *text == '\\')
            out[used++] = '\\';
        out[used++] = *text;
    }
    out[used] = '\0';
    return used;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (level < sink.least)
        return;
    char fields[line_bytes_max / 2], escaped[line_bytes_max], time[clock_iso_size], line[line_bytes_max * 2];
    va_list args;
    va_start(args, format);
    vsnprintf(fields, sizeof fields, format, args);
    va_end(args);
    neutralise(fields);
    clock_format_iso(time, clock_now_ms());
    int length;
    if (sink.as_json) {
        json_escape(escaped, sizeof escaped, fields);
        length = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"fields\":\"%s\"}\n",
                          time, names[level], event, escaped);
    } else {
        length = snprintf(line, sizeof line, "%s %s %s%s%s\n", time, names[level], event, *fields ? " " : "", fields);
    }
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nowhere left to say so */
}
