/* Packing: done anew for each request, the same bytes as long as the contents are the same. */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crypt.h"
#include "base/json.h"
#include "blob/blob.h"
#include "blob/zip.h"
#include "domain/download_parts.h"
#include "domain/training_record.h"

enum { card_bytes_max = 1 << 20 };

static struct error read_contents(const struct domain *domain, struct arena *arena, const char *job_id,
                                  const char *format, struct download_contents *contents)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct job job;
    const struct json *metadata;
    TRY(db_read_begin(domain->db, &tx));
    TRY(job_find(tx, arena, job_id, &job));
    if (strcmp(job.type, "model-download") != 0)
        return error_make(ERR_NOT_FOUND, "Job %.64s is no download", job_id);
    TRY(json_parse(arena, job.metadata, strlen(job.metadata), &metadata));
    const struct json *input = json_get(metadata, "input");
    contents->format = format ? format : json_string(input, "format", "zip");
    contents->made_at = job.created_at;
    TRY(model_find(tx, arena, job.model_id, &contents->model));
    TRY(download_find_parts(tx, arena, json_string(input, "modelEpoch", NULL), contents));
    return training_record_find(tx, arena, contents->model.id, &contents->record);
}

/* "Red discs!" -> "red-discs": safe as a file name everywhere. */
static const char *slug(struct arena *arena, const char *name)
{
    char *text = arena_strdup(arena, name);
    size_t length = 0;
    for (const char *at = name; *at && length < 64; at++) {
        if (isascii(*at) && (isalnum(*at) || *at == '.' || *at == '_'))
            text[length++] = (char)tolower(*at);
        else if (length && text[length - 1] != '-')
            text[length++] = '-';
    }
    while (length && (text[length - 1] == '-' || text[length - 1] == '.'))
        length--;
    text[length] = '\0';
    return length ? text : "model";
}

/* "red-discs.safetensors", or "01-red-discs.safetensors" among others. */
static const char *part_name(struct arena *arena, const struct download_contents *contents, size_t index)
{
    const char *name = slug(arena, contents->parts[index].model.name);
    if (!contents->is_composition)
        return arena_printf(arena, "%s.safetensors", name);
    return arena_printf(arena, "%02zu-%s.safetensors", index + 1, name);
}

static void put_line(struct buf *card, const char *text)
{
    for (; *text; text++)
        buf_putc(card, *text == '\n' || *text == '\r' ? ' ' : *text);
}

static void put_parameters(struct buf *card, const struct json *parameters)
{
    buf_puts(card, "\n## Parameters\n\n| parameter | value |\n|---|---|\n");
    JSON_EACH (parameter, parameters) {
        struct buf value;
        buf_init(&value, card_bytes_max);
        json_put_tree(&(struct json_writer){.out = &value}, NULL, parameter);
        buf_printf(card, "| %s | `", parameter->key);
        for (const char *at = value.data ? value.data : ""; *at; at++)
            buf_putc(card, *at == '|' || *at == '`' ? ' ' : *at);
        buf_puts(card, "` |\n");
        buf_finish(&value);
    }
}

static const char *trigger_of(struct arena *arena, const struct model *model)
{
    const struct json *parameters;
    if (json_parse(arena, model->parameters, strlen(model->parameters), &parameters).code)
        return "";
    return json_string(parameters, "conceptPrompt", "");
}

static void put_trigger(struct buf *card, struct arena *arena, const struct model *model)
{
    const char *trigger = trigger_of(arena, model);
    if (!trigger[0])
        return;
    buf_puts(card, "- Trigger: `");
    put_line(card, trigger);
    buf_puts(card, "`\n");
}

static void put_training(struct buf *card, const struct json *record)
{
    if (record)
        buf_printf(card, "- Trained: %s\n", json_string(record, "endedAt", ""));
    const struct json *loss = json_get(json_get(json_get(record, "metadata"), "output"), "finalLoss");
    if (loss && loss->kind == JSON_NUMBER)
        buf_printf(card, "- Final loss: %.6g\n", loss->number);
}

/* What a renderer must load, and how strongly each part counts. */
static void put_parts(struct buf *card, struct arena *arena, const struct download_contents *contents)
{
    for (size_t i = 0; i < contents->part_count; i++) {
        const struct download_part *part = &contents->parts[i];
        buf_puts(card, "\n## ");
        put_line(card, part->model.name);
        buf_printf(card, "\n\n- Scale: %.6g\n- Weights: `%s`\n- Model: %s\n", part->scale,
                   part_name(arena, contents, i), part->model.id);
        if (part->chosen->epoch[0])
            buf_printf(card, "- Epoch: %s\n", part->chosen->epoch);
        put_trigger(card, arena, &part->model);
    }
}

static struct error write_card(struct arena *arena, const struct download_contents *contents, struct buf *card)
{
    const struct model *model = &contents->model;
    const struct json *record = NULL, *parameters;
    TRY(json_parse(arena, model->parameters, strlen(model->parameters), &parameters));
    if (contents->record)
        TRY(json_parse(arena, contents->record, strlen(contents->record), &record));
    buf_puts(card, "# ");
    put_line(card, model->name);
    buf_puts(card, "\n\n");
    put_line(card, model->short_description);
    buf_printf(card, "\n\n- Type: %s\n- Model: %s\n", model->type, model->id);
    if (contents->is_composition) {
        put_parts(card, arena, contents);
        return buf_error(card);
    }
    buf_printf(card, "- Training images: %lld\n- Weights: `%s`\n", (long long)model->training_image_count,
               part_name(arena, contents, 0));
    put_trigger(card, arena, model);
    put_training(card, record);
    put_parameters(card, parameters);
    return buf_error(card);
}

/* An archive that is being written, and the hash of what it is made of. */
struct packer {
    const struct domain *domain;
    struct zip *zip;
    struct sha256 *hash;
    int64_t made_at;
};

static void count_in(const struct packer *packer, const char *name, const void *bytes, size_t size)
{
    sha256_update(packer->hash, name, strlen(name) + 1);
    sha256_update(packer->hash, bytes, size);
}

static struct error add_weights(const struct packer *packer, const char *name, const struct weights *file)
{
    CLEANUP_FD int fd = -1;
    int64_t size;
    count_in(packer, name, file->sha256, strlen(file->sha256));
    TRY(packer->domain->blobs->open(packer->domain->blobs, file->sha256, &fd, &size));
    return zip_add_fd(packer->zip, name, fd, size, packer->made_at);
}

static struct error add_bytes(const struct packer *packer, const char *name, const char *bytes, size_t size)
{
    count_in(packer, name, bytes, size);
    return zip_add_bytes(packer->zip, name, bytes, size, packer->made_at);
}

/* The checkpoints of the one model that is taken; those of a composition's parts stay behind. */
static struct error add_epochs(const struct packer *packer, const struct download_contents *contents)
{
    const struct download_part *part = contents->parts;
    for (size_t i = 0; i < part->count && !contents->is_composition; i++)
        if (part->files[i].epoch[0])
            TRY(add_weights(packer, part->files[i].name, &part->files[i]));
    return OK;
}

static struct error add_card(const struct packer *packer, struct arena *arena, const struct download_contents *contents)
{
    struct buf card;
    buf_init(&card, card_bytes_max);
    struct error error = write_card(arena, contents, &card);
    if (!error.code)
        error = add_bytes(packer, "README.md", card.data, card.len);
    buf_finish(&card);
    return error;
}

static struct error fill_zip(const struct packer *packer, struct arena *arena, const struct download_contents *contents)
{
    for (size_t i = 0; i < contents->part_count; i++)
        TRY(add_weights(packer, part_name(arena, contents, i), contents->parts[i].chosen));
    TRY(add_epochs(packer, contents));
    if (contents->record)
        TRY(add_bytes(packer, "job.json", contents->record, strlen(contents->record)));
    TRY(add_card(packer, arena, contents));
    return zip_finish(packer->zip);
}

static const char *etag_of(struct arena *arena, const char *sha256)
{
    return arena_printf(arena, "\"%.32s\"", sha256);
}

/* A file without a name: it is gone with its descriptor, whatever happens. */
static struct error open_nameless(int *fd)
{
    *fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0)
        *fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return *fd >= 0 ? OK : error_errno("cannot make a temporary file");
}

static struct error pack(const struct domain *domain, struct arena *arena, const struct download_contents *contents,
                         int fd, const char **etag)
{
    struct packer packer = {.domain = domain, .made_at = contents->made_at};
    uint8_t digest[sha256_size];
    char hex[sha256_hex_size];
    TRY(zip_begin(&packer.zip, fd));
    packer.hash = sha256_create();
    struct error error = fill_zip(&packer, arena, contents);
    zip_destroy(packer.zip);
    sha256_final(packer.hash, digest);
    sha256_destroy(packer.hash);
    *etag = etag_of(arena, sha256_hex(digest, hex));
    if (!error.code && lseek(fd, 0, SEEK_SET) < 0)
        error = error_errno("cannot go back to the begin of the archive");
    return error;
}

struct error download_open(const struct domain *domain, struct arena *arena, const char *job_id, const char *format,
                           struct download *download)
{
    struct download_contents contents = {0};
    CLEANUP_FD int fd = -1;
    struct stat status;
    TRY(read_contents(domain, arena, job_id, format, &contents));
    const bool alone = strcmp(contents.format, "safetensors") == 0;
    if (alone) {
        const struct weights *chosen = contents.parts->chosen;
        TRY(domain->blobs->open(domain->blobs, chosen->sha256, &fd, &download->size));
        download->etag = etag_of(arena, chosen->sha256);
    } else {
        TRY(open_nameless(&fd));
        TRY(pack(domain, arena, &contents, fd, &download->etag));
    }
    if (fstat(fd, &status) != 0)
        return error_errno("cannot look at what was packed");
    download->size = status.st_size;
    download->mime_type = alone ? "application/octet-stream" : "application/zip";
    download->file_name = arena_printf(arena, "%s.%s", slug(arena, contents.model.name), alone ? "safetensors" : "zip");
    download->fd = fd;
    fd = -1;
    return OK;
}
