/* One POST to /chat/completions with the picture as a small JPEG data URL. The endpoint is somebody's machine on the
 * network: its time, its bytes and its words are limited. libcurl is loaded when such a captioner is made: most servers
 * have none, and need not carry it. Source: OpenAI's API reference, "Create chat completion". */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/crypt.h"
#include "base/json.h"
#include "media/caption.h"
#include "media/caption_file.h"
#include "media/media.h"

enum {
    side_max = 768, /* of the picture that is sent */
    request_bytes_max = 4 << 20,
    answer_bytes_max = 1 << 20,
    timeout_ms_default = 20000,
    connect_timeout_ms = 5000,
};

static struct {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *curl, CURLoption option, ...);
    CURLcode (*easy_perform)(CURL *curl);
    CURLcode (*easy_getinfo)(CURL *curl, CURLINFO info, ...);
    void (*easy_cleanup)(CURL *curl);
    const char *(*easy_strerror)(CURLcode code);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
} calls;
static bool calls_ready;

struct openai {
    struct captioner captioner;
    char *url, *model, *key;
    int timeout_ms;
};

static const char *const instructions[] = {
    [CAPTION_WHOLE] =
        "Describe this image in one short sentence for training an image generation model: subject, materials, "
        "colours, composition, style. Answer with the description only.",
    [CAPTION_STYLE] =
        "Describe this image in one short sentence for training an image generation model on its style: say what is "
        "shown and how it is composed, nothing about style, technique or medium. Answer with the description only.",
    [CAPTION_SUBJECT] =
        "Describe this image in one short sentence for training an image generation model on its main subject: name "
        "the subject by its kind only, then pose, surroundings, light and style. Answer with the description only.",
};

static struct error put_picture(struct json_writer *writer, const void *bytes, size_t size)
{
    const struct media_transform small = {side_max, side_max, MEDIA_FIT_INSIDE, 85, MEDIA_AS_JPEG};
    static const char prefix[] = "data:image/jpeg;base64,";
    struct media_info info;
    struct buf jpeg;
    buf_init(&jpeg, request_bytes_max);
    struct error error = media_apply(bytes, size, &small, &jpeg, &info);
    char *url = error.code ? NULL : malloc(sizeof prefix + base64_encoded_size(jpeg.len));
    if (url) {
        memcpy(url, prefix, sizeof prefix - 1);
        base64_encode(jpeg.data, jpeg.len, url + sizeof prefix - 1);
        json_put_string(writer, "url", url);
    } else if (!error.code) {
        error = error_make(ERR_INTERNAL, "out of memory");
    }
    free(url);
    buf_finish(&jpeg);
    return error;
}

static struct error write_request(const struct openai *openai, const void *bytes, size_t size, enum caption_focus focus,
                                  struct buf *request)
{
    struct json_writer writer = {.out = request};
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "model", openai->model);
    json_put_int(&writer, "max_tokens", 120);
    json_put_number(&writer, "temperature", 0);
    json_open(&writer, "messages", '[');
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "role", "user");
    json_open(&writer, "content", '[');
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "type", "text");
    json_put_string(&writer, "text", instructions[focus]);
    json_close(&writer, '}');
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "type", "image_url");
    json_open(&writer, "image_url", '{');
    TRY(put_picture(&writer, bytes, size));
    json_close(&writer, '}');
    json_close(&writer, '}');
    json_close(&writer, ']');
    json_close(&writer, '}');
    json_close(&writer, ']');
    json_close(&writer, '}');
    return buf_error(request);
}

/* Fewer bytes taken than offered makes curl end the transfer. */
static size_t take_answer(char *bytes, size_t one, size_t size, void *context)
{
    struct buf *answer = context;
    buf_append(answer, bytes, one * size);
    return answer->overflowed ? 0 : one * size;
}

static void set_options(CURL *curl, const struct openai *openai, struct curl_slist *headers, const struct buf *request,
                        struct buf *answer)
{
    calls.easy_setopt(curl, CURLOPT_URL, openai->url);
    calls.easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    calls.easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    calls.easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    calls.easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_timeout_ms);
    calls.easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)openai->timeout_ms);
    calls.easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    calls.easy_setopt(curl, CURLOPT_POSTFIELDS, request->data);
    calls.easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->len);
    calls.easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    calls.easy_setopt(curl, CURLOPT_WRITEDATA, answer);
}

static struct curl_slist *make_headers(const struct openai *openai)
{
    struct curl_slist *headers = calls.slist_append(NULL, "Content-Type: application/json");
    if (openai->key && headers) {
        char line[1024];
        snprintf(line, sizeof line, "Authorization: Bearer %s", openai->key);
        headers = calls.slist_append(headers, line);
    }
    return headers;
}

static struct error post(const struct openai *openai, const struct buf *request, struct buf *answer)
{
    CURL *curl = calls.easy_init();
    struct curl_slist *headers = make_headers(openai);
    long status = 0;
    if (!curl || !headers) {
        calls.easy_cleanup(curl);
        calls.slist_free_all(headers);
        return error_make(ERR_INTERNAL, "out of memory");
    }
    set_options(curl, openai, headers, request, answer);
    const CURLcode result = calls.easy_perform(curl);
    calls.easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    calls.easy_cleanup(curl);
    calls.slist_free_all(headers);
    if (answer->overflowed)
        return error_make(ERR_UNAVAILABLE, "the captioner answers with more than %d MB", answer_bytes_max >> 20);
    if (result != CURLE_OK)
        return error_make(ERR_UNAVAILABLE, "the captioner cannot be asked: %s", calls.easy_strerror(result));
    if (status != 200)
        return error_make(ERR_UNAVAILABLE, "the captioner answers with status %ld", status);
    return OK;
}

static struct error read_answer(struct arena *arena, const struct buf *answer, const char **text)
{
    const struct json *root;
    if (!answer->data || json_parse(arena, answer->data, answer->len, &root).code)
        return error_make(ERR_UNAVAILABLE, "the captioner's answer is no JSON");
    const struct json *message = json_get(json_item(json_get(root, "choices"), 0), "message");
    const char *content = json_string(message, "content", "");
    *text = caption_clean(arena, content, strlen(content));
    return (*text)[0] ? OK : error_make(ERR_UNAVAILABLE, "the captioner's answer has no text");
}

static struct error ask(const struct openai *openai, struct arena *arena, const void *bytes, size_t size,
                        enum caption_focus focus, const char **text)
{
    struct buf request, answer;
    buf_init(&request, request_bytes_max);
    buf_init(&answer, answer_bytes_max);
    struct error error = write_request(openai, bytes, size, focus, &request);
    if (!error.code)
        error = post(openai, &request, &answer);
    if (!error.code)
        error = read_answer(arena, &answer, text);
    buf_finish(&request);
    buf_finish(&answer);
    return error;
}

static struct error openai_caption(struct captioner *captioner, struct arena *arena, const void *bytes, size_t size,
                                   const char *mime, const char *file_name, enum caption_focus focus, const char **text,
                                   const char **warning)
{
    (void)mime;
    *warning = NULL;
    const struct error error = ask((struct openai *)captioner, arena, bytes, size, focus, text);
    if (error.code) {
        *warning = arena_strdup(arena, error.text);
        *text = caption_from_file(arena, bytes, size, file_name);
    }
    return OK;
}

static void openai_destroy(struct captioner *captioner)
{
    struct openai *openai = (struct openai *)captioner;
    free(openai->url);
    free(openai->model);
    free(openai->key);
    free(openai);
}

static bool resolve(void *library, const char *name, void *member)
{
    void *address = dlsym(library, name);
    if (address)
        memcpy(member, &address, sizeof address);
    return address != NULL;
}

static void start_curl(void)
{
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    calls_ready = library && resolve(library, "curl_global_init", &calls.global_init) &&
                  resolve(library, "curl_easy_init", &calls.easy_init) &&
                  resolve(library, "curl_easy_setopt", &calls.easy_setopt) &&
                  resolve(library, "curl_easy_perform", &calls.easy_perform) &&
                  resolve(library, "curl_easy_getinfo", &calls.easy_getinfo) &&
                  resolve(library, "curl_easy_cleanup", &calls.easy_cleanup) &&
                  resolve(library, "curl_easy_strerror", &calls.easy_strerror) &&
                  resolve(library, "curl_slist_append", &calls.slist_append) &&
                  resolve(library, "curl_slist_free_all", &calls.slist_free_all) &&
                  calls.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

static char *make_url(const char *base)
{
    static const char path[] = "/chat/completions";
    const size_t length = strlen(base);
    const size_t kept = length && base[length - 1] == '/' ? length - 1 : length;
    const bool whole = kept >= sizeof path - 1 && strncmp(base + kept - (sizeof path - 1), path, sizeof path - 1) == 0;
    char *url = malloc(kept + sizeof path);
    if (url)
        snprintf(url, kept + sizeof path, "%.*s%s", (int)kept, base, whole ? "" : path);
    return url;
}

struct error captioner_openai_create(struct captioner **captioner, const struct captioner_openai_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (strncmp(options->url, "http://", 7) != 0 && strncmp(options->url, "https://", 8) != 0)
        return error_make(ERR_INVALID, "the captioner's address must begin with http:// or https://");
    if (options->key && (strlen(options->key) > 900 || strpbrk(options->key, "\r\n")))
        return error_make(ERR_INVALID, "the captioner's key must be one line of at most 900 characters");
    pthread_once(&once, start_curl);
    if (!calls_ready)
        return error_make(ERR_UNAVAILABLE, "a captioner needs libcurl: apt-get install libcurl4");
    struct openai *openai = calloc(1, sizeof *openai);
    if (!openai)
        return error_make(ERR_INTERNAL, "out of memory");
    openai->captioner = (struct captioner){openai_caption, openai_destroy};
    openai->url = make_url(options->url);
    openai->model = strdup(options->model ? options->model : "default");
    openai->key = options->key ? strdup(options->key) : NULL;
    openai->timeout_ms = options->timeout_ms ? options->timeout_ms : timeout_ms_default;
    if (!openai->url || !openai->model || (options->key && !openai->key)) {
        openai_destroy(&openai->captioner);
        return error_make(ERR_INTERNAL, "out of memory");
    }
    *captioner = &openai->captioner;
    return OK;
}
