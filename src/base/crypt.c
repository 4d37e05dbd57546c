#include "base/crypt.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { sha256_block_size = 64 };

struct sha256 {
    EVP_MD_CTX *context;
};

static const EVP_MD *sha256_method(void)
{
    static const EVP_MD *method; /* fetched once: OpenSSL 3 looks a method up at every implicit use */
    const EVP_MD *known = __atomic_load_n(&method, __ATOMIC_ACQUIRE);
    if (!known) {
        known = EVP_MD_fetch(NULL, "SHA256", NULL);
        __atomic_store_n(&method, known, __ATOMIC_RELEASE);
    }
    return known;
}

static void must(int ok, const char *what)
{
    if (ok == 1)
        return;
    fprintf(stderr, "crypt: %s failed\n", what);
    abort();
}

struct sha256 *sha256_create(void)
{
    struct sha256 *hash = calloc(1, sizeof *hash);
    if (!hash || !(hash->context = EVP_MD_CTX_new()))
        abort();
    must(EVP_DigestInit_ex(hash->context, sha256_method(), NULL), "SHA-256");
    return hash;
}

void sha256_destroy(struct sha256 *hash)
{
    if (!hash)
        return;
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

void sha256_update(struct sha256 *hash, const void *bytes, size_t size)
{
    must(EVP_DigestUpdate(hash->context, bytes, size), "SHA-256");
}

void sha256_final(struct sha256 *hash, uint8_t digest[sha256_size])
{
    must(EVP_DigestFinal_ex(hash->context, digest, NULL), "SHA-256");
}

void sha256_of(const void *bytes, size_t size, uint8_t digest[sha256_size])
{
    must(EVP_Digest(bytes, size, digest, NULL, sha256_method(), NULL), "SHA-256");
}

char *sha256_hex(const uint8_t digest[sha256_size], char hex[sha256_hex_size])
{
    for (int i = 0; i < sha256_size; i++)
        snprintf(hex + i * 2, 3, "%02x", digest[i]);
    return hex;
}

static void padded_hash(EVP_MD_CTX *context, const uint8_t key[sha256_block_size], uint8_t pad, const void *bytes,
                        size_t size, uint8_t digest[sha256_size])
{
    uint8_t padded[sha256_block_size];
    for (int i = 0; i < sha256_block_size; i++)
        padded[i] = key[i] ^ pad;
    must(EVP_DigestInit_ex(context, sha256_method(), NULL) && EVP_DigestUpdate(context, padded, sizeof padded) &&
             EVP_DigestUpdate(context, bytes, size) && EVP_DigestFinal_ex(context, digest, NULL),
         "HMAC");
}

/* RFC 2104. The library's own HMAC() looks its parts up by name at each call: 1.4 us where this takes 0.4, and a page
 * of models signs three hundred links. */
void hmac_sha256(const void *key, size_t key_size, const void *bytes, size_t size, uint8_t digest[sha256_size])
{
    uint8_t block[sha256_block_size] = {0};
    if (key_size > sizeof block)
        sha256_of(key, key_size, block);
    else
        memcpy(block, key, key_size);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    must(context != NULL, "HMAC");
    padded_hash(context, block, 0x36, bytes, size, digest);
    padded_hash(context, block, 0x5c, digest, sha256_size, digest);
    EVP_MD_CTX_free(context);
}

void random_bytes(void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = getrandom((char *)bytes + done, size - done, 0);
        if (got < 0)
            must(0, "getrandom");
        done += (size_t)got;
    }
}

bool equal_constant_time(const void *left, const void *right, size_t size)
{
    return CRYPTO_memcmp(left, right, size) == 0;
}

char *id_make(char id[id_size], const char *prefix)
{
    static const char base58[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    enum { characters = 24, unbiased_max = 256 / 58 * 58 };
    size_t length = strlen(prefix), end = length + characters;
    memcpy(id, prefix, length);
    while (length < end) {
        uint8_t random[32];
        random_bytes(random, sizeof random);
        for (size_t i = 0; i < sizeof random && length < end; i++)
            if (random[i] < unbiased_max)
                id[length++] = base58[random[i] % 58];
    }
    id[end] = '\0';
    return id;
}

size_t base64_encoded_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

size_t base64_encode(const void *bytes, size_t size, char *text)
{
    return (size_t)EVP_EncodeBlock((unsigned char *)text, bytes, (int)size);
}

size_t base64url_encode(const void *bytes, size_t size, char *text)
{
    size_t length = base64_encode(bytes, size, text);
    while (length && text[length - 1] == '=')
        length--;
    text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    return length;
}

size_t base64_decoded_max(size_t size)
{
    return size / 4 * 3 + 3;
}

/* EVP_DecodeBlock trims blanks and takes '=' anywhere, which RFC 4648 does not allow: look before handing over. */
static bool is_base64(const char *text, size_t size)
{
    unsigned all = 1;
    for (size_t i = 0; i < size; i++) { /* no branch, so that the compiler makes vectors of it */
        unsigned c = (unsigned char)text[i], letter = (c | 0x20) - 'a', digit = c - '0';
        all &= (letter < 26) | (digit < 10) | (c == '+') | (c == '/');
    }
    return all;
}

bool base64_decode(const char *text, size_t size, void *decoded, size_t *decoded_size)
{
    if (size % 4 || size > INT32_MAX)
        return false;
    size_t padding = 0;
    while (padding < 2 && padding < size && text[size - 1 - padding] == '=')
        padding++;
    if (!is_base64(text, size - padding))
        return false;
    int length = size ? EVP_DecodeBlock(decoded, (const unsigned char *)text, (int)size) : 0;
    if (length < 0)
        return false;
    *decoded_size = (size_t)length - padding;
    return true;
}

bool base64url_decode(const char *text, size_t size, void *decoded, size_t *decoded_size)
{
    enum { text_bytes_max = 4096 };
    char standard[text_bytes_max + 4];
    if (size > text_bytes_max || size % 4 == 1)
        return false;
    for (size_t i = 0; i < size; i++)
        standard[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    while (size % 4)
        standard[size++] = '=';
    return base64_decode(standard, size, decoded, decoded_size);
}
