#include "domain/download.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "blob/blob.h"
#include "blob/zip.h"
#include "domain/model.h"
#include "domain/model_index.h"
#include "domain/training_record.h"
#include "domain/url.h"

enum { files_max = 2048, card_bytes_max = 1 << 20 };

struct weights {
    const char *name, *epoch, *sha256;
    int64_t size;
};

static struct error list_weights(struct db_tx *tx, struct arena *arena, const char *model_id, struct weights **files,
                                 size_t *count)
{
    struct db_rows *rows;
    TRY(db_query(tx, &rows,
                 "SELECT name, epoch, blob_sha256, size FROM model_file WHERE model_id = ?1 AND kind = 'weights' "
                 "ORDER BY name LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i(files_max))));
    *files = arena_array(arena, files_max, sizeof **files);
    for (*count = 0; *count < files_max; (*count)++) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            return OK;
        (*files)[*count] = (struct weights){db_text(arena, rows, 0), db_text(arena, rows, 1), db_text(arena, rows, 2),
                                            db_int(rows, 3)};
    }
    return OK;
}

/* The file of an epoch; "" or NULL is the end of the training. */
static const struct weights *find_weights(const struct weights *files, size_t count, const char *epoch)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(files[i].epoch, epoch ? epoch : "") == 0)
            return &files[i];
    return NULL;
}

static struct error choose(const struct weights *files, size_t count, const char *epoch, const struct weights **chosen)
{
    if (count == 0)
        return error_make(ERR_INVALID, "The model has nothing to download: train it first");
    *chosen = find_weights(files, count, epoch);
    return *chosen ? OK : error_field("modelEpoch", "must be one of the model's epochs");
}

struct creation {
    const struct domain *domain;
    struct arena *arena;
    const struct caller *caller;
    const char *model_id, *epoch, *format, *job_id;
    int64_t now_ms;
    struct job *job;
};

static const char *make_metadata(const struct creation *creation, const char *epoch)
{
    struct arena *arena = creation->arena;
    const char *url = url_sign(creation->domain, arena, "downloads", creation->job_id, creation->now_ms);
    const struct json_change input[] = {{"modelId", json_quoted(arena, creation->model_id)},
                                        {"modelEpoch", epoch ? json_quoted(arena, epoch) : NULL},
                                        {"format", json_quoted(arena, creation->format)}};
    const struct json_change output = {"downloadUrl", json_quoted(arena, url)};
    const struct json_change metadata[] = {{"input", json_object_with(arena, "{}", input, 3)},
                                           {"output", json_object_with(arena, "{}", &output, 1)}};
    return json_object_with(arena, "{}", metadata, 2);
}

static struct error create_work(struct db_tx *tx, void *context)
{
    const struct creation *creation = context;
    struct arena *arena = creation->arena;
    struct model model;
    struct weights *files;
    const struct weights *chosen;
    size_t count;
    TRY(model_find_owned(tx, arena, creation->caller, creation->model_id, &model));
    TRY(list_weights(tx, arena, model.id, &files, &count));
    const char *epoch = creation->epoch ? creation->epoch : model.epoch;
    TRY(choose(files, count, epoch, &chosen));
    struct job job = {
        .id = creation->job_id,
        .project_id = model.project_id,
        .author_id = creation->caller->key_id,
        .model_id = model.id,
        .type = "model-download",
        .status = "queued",
        .metadata = make_metadata(creation, epoch),
        .input = "{}",
        .queued_at = creation->now_ms,
        .started_at = creation->now_ms,
        .created_at = creation->now_ms,
    };
    TRY(db_execute(tx, NULL, "UPDATE model SET download_count = download_count + 1 WHERE id = ?1",
                   DB_BIND(db_t(model.id))));
    TRY(model_index_score(tx, model.id));
    TRY(job_insert(tx, arena, &job));
    TRY(job_find(tx, arena, job.id, creation->job));
    creation->job->progress = 1;
    return job_update(tx, arena, creation->job, "success", creation->now_ms);
}

struct error download_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *epoch, const char *format, struct job *job)
{
    char id[id_size];
    struct creation creation = {domain,         arena, caller, model_id, epoch, format, id_make(id, "job_"),
                                clock_now_ms(), job};
    return db_write(domain->db, create_work, &creation);
}

/* Packing. */

struct contents {
    struct model model;
    const char *record; /* of the training, JSON; NULL: none */
    struct weights *files;
    size_t count;
    const struct weights *chosen;
    const char *format;
    int64_t made_at;
};

static struct error read_contents(const struct domain *domain, struct arena *arena, const char *job_id,
                                  const char *format, struct contents *contents)
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
    TRY(list_weights(tx, arena, job.model_id, &contents->files, &contents->count));
    TRY(choose(contents->files, contents->count, json_string(input, "modelEpoch", NULL), &contents->chosen));
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

static struct error write_card(struct arena *arena, const struct contents *contents, const char *lora_name,
                               struct buf *card)
{
    const struct json *record = NULL, *parameters;
    TRY(json_parse(arena, contents->model.parameters, strlen(contents->model.parameters), &parameters));
    if (contents->record)
        TRY(json_parse(arena, contents->record, strlen(contents->record), &record));
    buf_puts(card, "# ");
    put_line(card, contents->model.name);
    buf_puts(card, "\n\n");
    put_line(card, contents->model.short_description);
    buf_printf(card, "\n\n- Type: %s\n- Model: %s\n- Training images: %lld\n- Weights: `%s`\n", contents->model.type,
               contents->model.id, (long long)contents->model.training_image_count, lora_name);
    const char *trigger = json_string(parameters, "conceptPrompt", "");
    if (trigger[0]) {
        buf_puts(card, "- Trigger: `");
        put_line(card, trigger);
        buf_puts(card, "`\n");
    }
    if (record)
        buf_printf(card, "- Trained: %s\n", json_string(record, "endedAt", ""));
    const struct json *loss = json_get(json_get(json_get(record, "metadata"), "output"), "finalLoss");
    if (loss && loss->kind == JSON_NUMBER)
        buf_printf(card, "- Final loss: %.6g\n", loss->number);
    put_parameters(card, parameters);
    return buf_error(card);
}

static struct error add_weights(const struct domain *domain, struct zip *zip, const char *name,
                                const struct weights *file, int64_t now_ms)
{
    CLEANUP_FD int fd = -1;
    int64_t size;
    TRY(domain->blobs->open(domain->blobs, file->sha256, &fd, &size));
    return zip_add_fd(zip, name, fd, size, now_ms);
}

static struct error fill_zip(const struct domain *domain, struct arena *arena, struct zip *zip,
                             const struct contents *contents)
{
    const char *lora = arena_printf(arena, "%s.safetensors", slug(arena, contents->model.name));
    struct buf card;
    TRY(add_weights(domain, zip, lora, contents->chosen, contents->made_at));
    for (size_t i = 0; i < contents->count; i++)
        if (contents->files[i].epoch[0])
            TRY(add_weights(domain, zip, contents->files[i].name, &contents->files[i], contents->made_at));
    if (contents->record)
        TRY(zip_add_bytes(zip, "job.json", contents->record, strlen(contents->record), contents->made_at));
    buf_init(&card, card_bytes_max);
    struct error error = write_card(arena, contents, lora, &card);
    if (!error.code)
        error = zip_add_bytes(zip, "README.md", card.data, card.len, contents->made_at);
    buf_finish(&card);
    return error.code ? error : zip_finish(zip);
}

/* A file without a name: it is gone with its descriptor, whatever happens. */
static struct error open_nameless(int *fd)
{
    *fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0)
        *fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return *fd >= 0 ? OK : error_errno("cannot make a temporary file");
}

static struct error pack(const struct domain *domain, struct arena *arena, const struct contents *contents, int fd)
{
    struct zip *zip;
    TRY(zip_begin(&zip, fd));
    struct error error = fill_zip(domain, arena, zip, contents);
    zip_destroy(zip);
    if (!error.code && lseek(fd, 0, SEEK_SET) < 0)
        error = error_errno("cannot go back to the begin of the archive");
    return error;
}

struct error download_open(const struct domain *domain, struct arena *arena, const char *job_id, const char *format,
                           struct download *download)
{
    struct contents contents = {0};
    CLEANUP_FD int fd = -1;
    struct stat status;
    TRY(read_contents(domain, arena, job_id, format, &contents));
    const bool alone = strcmp(contents.format, "safetensors") == 0;
    if (alone) {
        TRY(domain->blobs->open(domain->blobs, contents.chosen->sha256, &fd, &download->size));
    } else {
        TRY(open_nameless(&fd));
        TRY(pack(domain, arena, &contents, fd));
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
