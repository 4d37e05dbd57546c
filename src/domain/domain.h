/* What the rules work on, and for whom. Built once by a subcommand; everything in it is thread-safe and outlives all
 * calls. */
#pragma once

#include <semaphore.h>
#include <stdint.h>

#include "base/crypt.h"

struct blob_store;
struct captioner;
struct db;
struct transform_cache;

enum {
    decoding_max = 2,
    training_images_max = 1000, /* of one model; the documented plans stop at 50, a studio's own server need not */
    url_secret_size = 32,       /* bytes of the HMAC key */
    collector_age_ms = 3600000, /* a blob that no row refers to lives this long: no request takes an hour */
};

struct domain {
    struct db *db;
    struct blob_store *blobs;
    struct captioner *captioner;
    struct transform_cache *transforms;
    sem_t *decoding; /* permits to hold a decoded picture, which may have 100 megapixels; decoding_max of them */
    uint8_t url_secret[url_secret_size];
    int64_t purge_age_ms;   /* a deleted model can be restored so long, and is purged then */
    const char *public_url; /* of asset links, without a slash at the end: "http://127.0.0.1:8787" */
};

/* Who asks. A key that is unknown or revoked gets no further than a 401, so there is no kind for it; what each kind
 * may do with a thing is in access.h. */
enum caller_kind {
    CALLER_NOBODY, /* no credentials were needed, or none were good */
    CALLER_PUBLIC, /* public-auth-token: reads what is public */
    CALLER_KEY,    /* a verified API key; the others leave the ids empty */
};
struct caller {
    enum caller_kind kind;
    char key_id[id_size]; /* author of what is made */
    char project_id[id_size];
    char team_id[id_size];
};
