/* Hashes, signatures, random bytes and their text forms (libcrypto, zlib-free). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    sha256_size = 32,
    sha256_hex_size = 65, /* 64 lower-case digits and NUL */
    id_size = 48,         /* prefix, '_', 24 characters, NUL, and room */
};

struct sha256; /* a running hash */

struct sha256 *sha256_create(void);
void sha256_destroy(struct sha256 *hash);
void sha256_update(struct sha256 *hash, const void *bytes, size_t size);
void sha256_final(struct sha256 *hash, uint8_t digest[sha256_size]);

void sha256_of(const void *bytes, size_t size, uint8_t digest[sha256_size]);
char *sha256_hex(const uint8_t digest[sha256_size], char hex[sha256_hex_size]);
void hmac_sha256(const void *key, size_t key_size, const void *bytes, size_t size, uint8_t digest[sha256_size]);

void random_bytes(void *bytes, size_t size); /* from the kernel; ends the process when it cannot */
bool equal_constant_time(const void *left, const void *right, size_t size);

/* prefix (such as "model_") and 24 random base58 characters: 140 bits. Returns id. */
char *id_make(char id[id_size], const char *prefix);

/* Standard alphabet with padding. base64_decode ignores no character: false on anything malformed.
 * decoded must hold base64_decoded_max(size) bytes and may be the same memory as text. */
size_t base64_encoded_size(size_t size);                             /* without NUL */
size_t base64_encode(const void *bytes, size_t size, char *text);    /* adds NUL; returns length */
size_t base64url_encode(const void *bytes, size_t size, char *text); /* URL alphabet, no padding, NUL added */
size_t base64_decoded_max(size_t size);
bool base64_decode(const char *text, size_t size, void *decoded, size_t *decoded_size);
bool base64url_decode(const char *text, size_t size, void *decoded, size_t *decoded_size);
