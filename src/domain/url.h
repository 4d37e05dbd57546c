/* Links to assets that need no key: signed, good until a date that stays the same for days, so that caches work.
 *
 *     PUBLIC_URL/assets-transform/ASSET?p=100&Policy=P&Key-Pair-Id=maquette&Signature=S     a copy to look at
 *     PUBLIC_URL/assets/ASSET?Policy=P&Key-Pair-Id=maquette&Signature=S                     the bytes as they came
 *
 * P is base64url(KIND "/" NAME " " SECONDS) and S is base64url(HMAC-SHA256(secret, P)): the parameters have the names
 * of the real service's links, and clients may append width, height, fit, quality and format. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"
#include "store/db.h"

/* The installation's secret, made at the first call. */
struct error url_secret_load(struct db *db, uint8_t secret[url_secret_size]) __attribute__((warn_unused_result));

/* 23:59:59 UTC of the 14th, the 21st, the month's last day or the next month's 7th: at least six days ahead. */
int64_t url_expiry(int64_t now_ms); /* seconds since 1970 */

/* kind is a path such as "assets"; name is an id, of letters, digits, '_', '-' and '.'. */
char *url_sign(const struct domain *domain, struct arena *arena, const char *kind, const char *name, int64_t now_ms);
char *url_asset(const struct domain *domain, struct arena *arena, const char *asset_id, bool original, int64_t now_ms);
/* ERR_FORBIDDEN when the signature is wrong or missing, or the date has passed. */
struct error url_verify(const struct domain *domain, const char *kind, const char *name, const char *policy,
                        const char *signature, int64_t now_ms) __attribute__((warn_unused_result));
