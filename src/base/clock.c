#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_now_ms(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic_ms(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static void write_digits(char *text, int count, int value)
{
    for (; count > 0; value /= 10)
        text[--count] = (char)('0' + value % 10);
}

char *clock_format_iso(char text[clock_iso_size], int64_t ms)
{
    int64_t rest = (ms % 1000 + 1000) % 1000;
    time_t seconds = (time_t)((ms - rest) / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    memcpy(text, "0000-00-00T00:00:00.000Z", clock_iso_size);
    write_digits(text, 4, utc.tm_year + 1900);
    write_digits(text + 5, 2, utc.tm_mon + 1);
    write_digits(text + 8, 2, utc.tm_mday);
    write_digits(text + 11, 2, utc.tm_hour);
    write_digits(text + 14, 2, utc.tm_min);
    write_digits(text + 17, 2, utc.tm_sec);
    write_digits(text + 20, 3, (int)rest);
    return text;
}

static bool read_digits(const char **at, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *value = *value * 10 + (**at - '0');
    }
    return true;
}

static bool read_fraction(const char **at, int *ms)
{
    *ms = 0;
    int weight = 100;
    if (**at < '0' || **at > '9')
        return false;
    for (; **at >= '0' && **at <= '9'; (*at)++, weight /= 10)
        *ms += weight * (**at - '0');
    return true;
}

static bool read_zone(const char *at, int *offset_minutes)
{
    *offset_minutes = 0;
    if (*at == '\0' || strcmp(at, "Z") == 0 || strcmp(at, "z") == 0)
        return true;
    int sign = *at == '-' ? -1 : 1, hours, minutes;
    if (*at != '+' && *at != '-')
        return false;
    at++;
    if (!read_digits(&at, 2, &hours) || *at++ != ':' || !read_digits(&at, 2, &minutes) || *at)
        return false;
    *offset_minutes = sign * (hours * 60 + minutes);
    return hours < 24 && minutes < 60;
}

bool clock_parse_iso(const char *text, int64_t *ms)
{
    struct tm utc = {0};
    int fraction = 0, offset = 0;
    const char *at = text;
    if (!read_digits(&at, 4, &utc.tm_year) || *at++ != '-' || !read_digits(&at, 2, &utc.tm_mon) || *at++ != '-' ||
        !read_digits(&at, 2, &utc.tm_mday))
        return false;
    if (*at == 'T' || *at == ' ') {
        at++;
        if (!read_digits(&at, 2, &utc.tm_hour) || *at++ != ':' || !read_digits(&at, 2, &utc.tm_min))
            return false;
        if (*at == ':' && (at++, !read_digits(&at, 2, &utc.tm_sec)))
            return false;
        if (*at == '.' && (at++, !read_fraction(&at, &fraction)))
            return false;
    }
    if (!read_zone(at, &offset) || utc.tm_mon < 1 || utc.tm_mon > 12 || utc.tm_mday < 1 || utc.tm_mday > 31 ||
        utc.tm_hour > 23 || utc.tm_min > 59 || utc.tm_sec > 60)
        return false;
    int day = utc.tm_mday;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    time_t seconds = timegm(&utc);
    if (utc.tm_mday != day) /* timegm normalised a day that the month does not have */
        return false;
    *ms = ((int64_t)seconds - (int64_t)offset * 60) * 1000 + fraction;
    return true;
}
