/* Teams, projects and API keys. A secret is 48 base58 characters (281 bits), kept as its SHA-256 only. */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "domain/domain.h"

enum { key_secret_size = 2 * id_size, key_cache_ms = 1000 /* a revoked key may work this long */ };

struct key_created {
    char key_id[id_size];
    char secret[key_secret_size]; /* shown once; not to be had again */
    char project_id[id_size];
    char team_id[id_size];
};

/* The team and the project are made when there is none of that name. ERR_INVALID for names over 64 characters. */
struct error key_create(struct db *db, const char *team_name, const char *project_name, struct key_created *created)
    __attribute__((warn_unused_result));

struct key_row {
    const char *key_id, *project_id, *project_name, *team_id, *team_name;
    int64_t created_at, revoked_at; /* revoked_at is 0 while the key works */
};
enum { key_list_max = 10000 };
struct error key_list(struct db *db, struct arena *arena, struct key_row **rows, size_t *count)
    __attribute__((warn_unused_result));
struct error key_revoke(struct db *db, const char *key_id) __attribute__((warn_unused_result)); /* or ERR_NOT_FOUND */

/* Remembers verified keys for key_cache_ms, so that most requests cost one hash and no query. Thread-safe. */
struct key_ring;
struct error key_ring_create(struct key_ring **ring, struct db *db) __attribute__((warn_unused_result));
void key_ring_destroy(struct key_ring *ring);
/* ERR_UNAUTHENTICATED for a key or secret that is wrong or revoked, the same for both. */
struct error key_verify(struct key_ring *ring, const char *key_id, const char *secret, struct caller *caller)
    __attribute__((warn_unused_result));
