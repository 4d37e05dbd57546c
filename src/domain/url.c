#include "domain/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/crypt.h"

enum {
    signature_size = 44, /* base64 of 32 bytes, padded */
    policy_bytes_max = 512,
};

static struct error make_secret(struct db_tx *tx, void *context)
{
    (void)context;
    uint8_t bytes[url_secret_size];
    char hex[sha256_hex_size];
    random_bytes(bytes, sizeof bytes);
    return db_execute(tx, NULL, "INSERT INTO setting (name, value) VALUES ('url_secret', ?1) ON CONFLICT DO NOTHING",
                      DB_BIND(db_t(sha256_hex(bytes, hex))));
}

static struct error read_secret(struct db *db, uint8_t secret[url_secret_size], bool *found)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    struct arena arena;
    TRY(db_read_begin(db, &tx));
    TRY(db_query(tx, &rows, "SELECT value FROM setting WHERE name = 'url_secret'", DB_NO_BIND));
    TRY(db_next(rows, found));
    if (!*found)
        return OK;
    arena_init(&arena, 4096);
    const char *hex = db_text(&arena, rows, 0);
    bool whole = strlen(hex) == sha256_hex_size - 1;
    for (int i = 0; whole && i < url_secret_size; i++) {
        char digits[3] = {hex[i * 2], hex[i * 2 + 1], '\0'}, *end;
        secret[i] = (uint8_t)strtoul(digits, &end, 16);
        whole = !*end;
    }
    arena_finish(&arena);
    return whole ? OK : error_make(ERR_CORRUPT, "the secret of signed links is not whole");
}

struct error url_secret_load(struct db *db, uint8_t secret[url_secret_size])
{
    bool found;
    TRY(read_secret(db, secret, &found));
    if (found)
        return OK;
    TRY(db_write(db, make_secret, NULL));
    return read_secret(db, secret, &found);
}

int64_t url_expiry(int64_t now_ms)
{
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm day;
    gmtime_r(&seconds, &day);
    struct tm end = {.tm_year = day.tm_year, .tm_mon = day.tm_mon, .tm_hour = 23, .tm_min = 59, .tm_sec = 59};
    if (day.tm_mday <= 7)
        end.tm_mday = 14;
    else if (day.tm_mday <= 14)
        end.tm_mday = 21;
    else
        end.tm_mon++, end.tm_mday = day.tm_mday <= 21 ? 0 : 7; /* day 0 is the last of the month before */
    return timegm(&end);
}

static void sign(const struct domain *domain, const char *policy, char signature[signature_size + 1])
{
    uint8_t digest[sha256_size];
    hmac_sha256(domain->url_secret, sizeof domain->url_secret, policy, strlen(policy), digest);
    base64url_encode(digest, sizeof digest, signature);
}

/* url_expiry, which is the same for a day: a page of models has three hundred links. */
static int64_t expiry_of(int64_t now_ms)
{
    enum { day_ms = 24 * 60 * 60 * 1000 };
    static _Thread_local int64_t day, expiry;
    if (!expiry || day != now_ms / day_ms) {
        day = now_ms / day_ms;
        expiry = url_expiry(now_ms);
    }
    return expiry;
}

static char *join(struct arena *arena, const char *const *parts)
{
    size_t size = 1;
    for (size_t i = 0; parts[i]; i++)
        size += strlen(parts[i]);
    char *joined = arena_alloc(arena, size), *end = joined;
    for (size_t i = 0; parts[i]; i++)
        end = stpcpy(end, parts[i]);
    return joined;
}

static char *signed_url(const struct domain *domain, struct arena *arena, const char *kind, const char *name,
                        const char *first_pair, int64_t now_ms)
{
    char signature[signature_size + 1];
    char *text = arena_printf(arena, "%s/%s %lld", kind, name, (long long)expiry_of(now_ms));
    char *policy = arena_alloc(arena, base64_encoded_size(strlen(text)) + 1);
    base64url_encode(text, strlen(text), policy);
    sign(domain, policy, signature);
    return join(arena, (const char *[]){domain->public_url, "/", kind, "/", name, "?", first_pair, "Policy=", policy,
                                        "&Key-Pair-Id=maquette&Signature=", signature, NULL});
}

char *url_sign(const struct domain *domain, struct arena *arena, const char *kind, const char *name, int64_t now_ms)
{
    return signed_url(domain, arena, kind, name, "", now_ms);
}

char *url_asset(const struct domain *domain, struct arena *arena, const char *asset_id, bool original, int64_t now_ms)
{
    if (original)
        return signed_url(domain, arena, "assets", asset_id, "", now_ms);
    return signed_url(domain, arena, "assets-transform", asset_id, "p=100&", now_ms);
}

/* What a policy that is rightly signed allows: this very path, until a date. */
static bool allows(const char *policy, const char *kind, const char *name, int64_t now_ms)
{
    char text[policy_bytes_max + 4], path[policy_bytes_max], *end;
    size_t size;
    if (!base64url_decode(policy, strlen(policy), text, &size))
        return false;
    text[size] = '\0';
    int length = snprintf(path, sizeof path, "%s/%s ", kind, name);
    if (length < 0 || length >= (int)sizeof path || strncmp(text, path, (size_t)length) != 0)
        return false;
    long long seconds = strtoll(text + length, &end, 10);
    return end != text + length && !*end && seconds >= now_ms / 1000;
}

struct error url_verify(const struct domain *domain, const char *kind, const char *name, const char *policy,
                        const char *signature, int64_t now_ms)
{
    char expected[signature_size + 1];
    if (!policy || !signature || strlen(policy) > policy_bytes_max)
        return error_make(ERR_FORBIDDEN, "Access Denied");
    sign(domain, policy, expected);
    size_t length = strlen(expected);
    if (strlen(signature) != length || !equal_constant_time(signature, expected, length) ||
        !allows(policy, kind, name, now_ms))
        return error_make(ERR_FORBIDDEN, "Access Denied");
    return OK;
}
