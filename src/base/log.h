/* One line per event on standard error: `2026-01-31T12:00:00.000Z info event key=value ...`, or a JSON object.
 * Log once, where an error is handled. Never secrets, captions or image bytes. */
#pragma once

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_setup(enum log_level least, int as_json);
/* Keys and printf-style values in one format: log_event(LOG_INFO, "job_started", "job=%s pid=%d", id, pid). */
void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));
