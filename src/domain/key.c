#include "domain/key.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "store/db.h"

enum { name_characters_max = 64 };

struct create_work {
    struct key_created *created;
    const char *team_name, *project_name;
    int64_t now;
};

/* The id of the row that has this name, made when there is none. */
static struct error find_id(struct db_tx *tx, const char *sql, const struct db_value *values, size_t count,
                            char id[id_size])
{
    struct db_rows *rows;
    bool row;
    TRY(db_query(tx, &rows, sql, values, count));
    TRY(db_next(rows, &row));
    id[0] = '\0';
    if (!row)
        return OK;
    struct arena arena;
    arena_init(&arena, 4096);
    snprintf(id, id_size, "%s", db_text(&arena, rows, 0));
    arena_finish(&arena);
    return OK;
}

static struct error find_or_make_project(struct db_tx *tx, struct create_work *work)
{
    struct key_created *created = work->created;
    TRY(find_id(tx, "SELECT id FROM team WHERE name = ?1 ORDER BY created_at LIMIT 1", DB_BIND(db_t(work->team_name)),
                created->team_id));
    if (!created->team_id[0])
        TRY(db_execute(tx, NULL, "INSERT INTO team (id, name, created_at) VALUES (?1, ?2, ?3)",
                       DB_BIND(db_t(id_make(created->team_id, "team_")), db_t(work->team_name), db_i(work->now))));
    TRY(find_id(tx, "SELECT id FROM project WHERE team_id = ?1 AND name = ?2",
                DB_BIND(db_t(created->team_id), db_t(work->project_name)), created->project_id));
    if (created->project_id[0])
        return OK;
    return db_execute(tx, NULL, "INSERT INTO project (id, team_id, name, created_at) VALUES (?1, ?2, ?3, ?4)",
                      DB_BIND(db_t(id_make(created->project_id, "proj_")), db_t(created->team_id),
                              db_t(work->project_name), db_i(work->now)));
}

static void hash_secret(const char *secret, char hex[sha256_hex_size])
{
    uint8_t digest[sha256_size];
    sha256_of(secret, strlen(secret), digest);
    sha256_hex(digest, hex);
}

static struct error insert_key(struct db_tx *tx, void *context)
{
    struct create_work *work = context;
    struct key_created *created = work->created;
    char hash[sha256_hex_size];
    TRY(find_or_make_project(tx, work));
    hash_secret(created->secret, hash);
    return db_execute(tx, NULL,
                      "INSERT INTO api_key (id, project_id, secret_sha256, created_at) VALUES (?1, ?2, ?3, ?4)",
                      DB_BIND(db_t(created->key_id), db_t(created->project_id), db_t(hash), db_i(work->now)));
}

static struct error check_name(const char *field, const char *name)
{
    size_t length = strlen(name);
    if (!length || length > name_characters_max)
        return error_field(field, "must have 1 to %d characters", name_characters_max);
    return OK;
}

struct error key_create(struct db *db, const char *team_name, const char *project_name, struct key_created *created)
{
    char first[id_size], second[id_size];
    TRY(check_name("team", team_name));
    TRY(check_name("project", project_name));
    id_make(created->key_id, "api_");
    snprintf(created->secret, sizeof created->secret, "%s%s", id_make(first, ""), id_make(second, ""));
    struct create_work work = {created, team_name, project_name, clock_now_ms()};
    return db_write(db, insert_key, &work);
}

struct error key_list(struct db *db, struct arena *arena, struct key_row **listed, size_t *count)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    TRY(db_read_begin(db, &tx));
    TRY(db_query(tx, &rows,
                 "SELECT k.id, p.id, p.name, t.id, t.name, k.created_at, k.revoked_at FROM api_key k "
                 "JOIN project p ON p.id = k.project_id JOIN team t ON t.id = p.team_id ORDER BY k.created_at, k.id",
                 DB_NO_BIND));
    *listed = arena_array(arena, key_list_max, sizeof **listed);
    *count = 0;
    for (bool row;;) {
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        if (*count == key_list_max)
            return error_make(ERR_TOO_LARGE, "there are more than %d keys", key_list_max);
        (*listed)[(*count)++] = (struct key_row){
            .key_id = db_text(arena, rows, 0),
            .project_id = db_text(arena, rows, 1),
            .project_name = db_text(arena, rows, 2),
            .team_id = db_text(arena, rows, 3),
            .team_name = db_text(arena, rows, 4),
            .created_at = db_int(rows, 5),
            .revoked_at = db_int(rows, 6),
        };
    }
}

static struct error revoke_key(struct db_tx *tx, void *context)
{
    const char *key_id = context;
    int64_t changed;
    TRY(db_execute(tx, &changed, "UPDATE api_key SET revoked_at = ?2 WHERE id = ?1 AND revoked_at = 0",
                   DB_BIND(db_t(key_id), db_i(clock_now_ms()))));
    return changed ? OK : error_make(ERR_NOT_FOUND, "there is no key %s that works", key_id);
}

struct error key_revoke(struct db *db, const char *key_id)
{
    return db_write(db, revoke_key, (void *)key_id);
}

/* The cache: a table with one place for each credential, found and compared by the SHA-256 of key and secret. */

enum { ring_places = 1024 };

struct ring_place {
    uint8_t digest[sha256_size];
    int64_t verified_ms; /* monotonic; 0 when empty */
    struct caller caller;
};

struct key_ring {
    struct db *db;
    pthread_mutex_t lock;
    struct ring_place places[ring_places];
};

struct error key_ring_create(struct key_ring **made, struct db *db)
{
    struct key_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return error_make(ERR_INTERNAL, "out of memory");
    ring->db = db;
    pthread_mutex_init(&ring->lock, NULL);
    *made = ring;
    return OK;
}

void key_ring_destroy(struct key_ring *ring)
{
    if (!ring)
        return;
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

static struct ring_place *place_of(struct key_ring *ring, const uint8_t digest[sha256_size])
{
    return &ring->places[(digest[0] | digest[1] << 8) % ring_places];
}

static bool recall(struct key_ring *ring, const uint8_t digest[sha256_size], struct caller *caller)
{
    SCOPED_LOCK(&ring->lock);
    const struct ring_place *place = place_of(ring, digest);
    bool known = equal_constant_time(place->digest, digest, sha256_size) && place->verified_ms &&
                 clock_monotonic_ms() - place->verified_ms < key_cache_ms;
    if (known)
        *caller = place->caller;
    return known;
}

static void remember(struct key_ring *ring, const uint8_t digest[sha256_size], const struct caller *caller,
                     int64_t verified_ms)
{
    SCOPED_LOCK(&ring->lock);
    struct ring_place *place = place_of(ring, digest);
    memcpy(place->digest, digest, sha256_size);
    place->verified_ms = verified_ms;
    place->caller = *caller;
}

static struct error look_up(struct key_ring *ring, const char *key_id, const char *secret, struct caller *caller,
                            bool *right)
{
    struct arena arena;
    char hash[sha256_hex_size];
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    bool row;
    *right = false;
    TRY(db_read_begin(ring->db, &tx));
    TRY(db_query(tx, &rows,
                 "SELECT k.secret_sha256, p.id, p.team_id FROM api_key k JOIN project p ON p.id = k.project_id "
                 "WHERE k.id = ?1 AND k.revoked_at = 0",
                 DB_BIND(db_t(key_id))));
    TRY(db_next(rows, &row));
    if (!row)
        return OK;
    arena_init(&arena, 4096);
    hash_secret(secret, hash);
    const char *stored = db_text(&arena, rows, 0);
    *right = strlen(stored) == sizeof hash - 1 && equal_constant_time(stored, hash, sizeof hash - 1);
    caller->kind = CALLER_KEY;
    snprintf(caller->key_id, id_size, "%s", key_id);
    snprintf(caller->project_id, id_size, "%s", db_text(&arena, rows, 1));
    snprintf(caller->team_id, id_size, "%s", db_text(&arena, rows, 2));
    arena_finish(&arena);
    return OK;
}

struct error key_verify(struct key_ring *ring, const char *key_id, const char *secret, struct caller *caller)
{
    uint8_t digest[sha256_size];
    char both[id_size + key_secret_size];
    bool right = false;
    int length = snprintf(both, sizeof both, "%s:%s", key_id, secret);
    if (length < 0 || length >= (int)sizeof both || strlen(key_id) >= id_size)
        return error_make(ERR_UNAUTHENTICATED, "the API key or its secret is wrong");
    sha256_of(both, (size_t)length, digest);
    if (recall(ring, digest, caller))
        return OK;
    int64_t now_ms = clock_monotonic_ms(); /* before the query: what is revoked after it is noticed in time */
    TRY(look_up(ring, key_id, secret, caller, &right));
    if (!right)
        return error_make(ERR_UNAUTHENTICATED, "the API key or its secret is wrong");
    remember(ring, digest, caller, now_ms);
    return OK;
}
