/* The job folder: complete in itself, so that it can be run anywhere, by hand too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "blob/blob.h"
#include "domain/dataset.h"
#include "domain/training_run.h"
#include "media/media.h"

enum {
    folder_arena_bytes = 32 << 20,  /* texts of a thousand images */
    picture_arena_bytes = 80 << 20, /* one encoded picture */
};

struct item {
    const char *asset_id, *caption, *sha256;
};

static struct error list_items(const struct domain *domain, struct arena *arena, const char *model_id,
                               struct item **items, size_t *count)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct db_rows *rows;
    TRY(db_read_begin(domain->db, &tx));
    TRY(db_query(tx, &rows,
                 "SELECT a.id, a.description, a.automatic_captioning, a.blob_sha256 FROM training_image t JOIN asset a "
                 "ON a.id = t.asset_id WHERE t.model_id = ?1 ORDER BY t.position LIMIT ?2",
                 DB_BIND(db_t(model_id), db_i(training_images_max))));
    *items = arena_array(arena, training_images_max, sizeof **items);
    for (*count = 0; *count < training_images_max; (*count)++) {
        bool row;
        TRY(db_next(rows, &row));
        if (!row)
            break;
        const char *caption = db_text(arena, rows, 1), *automatic = db_text(arena, rows, 2);
        (*items)[*count] =
            (struct item){db_text(arena, rows, 0), caption[0] ? caption : automatic, db_text(arena, rows, 3)};
    }
    return OK;
}

/* Captions are one line. */
static const char *one_line(struct arena *arena, const char *text)
{
    char *line = arena_strdup(arena, text);
    for (char *at = line; *at; at++)
        if (*at == '\n' || *at == '\r' || *at == '\t')
            *at = ' ';
    return line;
}

static struct error write_caption(const char *path, const char *caption)
{
    return fs_write_atomic(path, caption, strlen(caption));
}

/* The message names the image: it is read by the user as the reason of a failed job. */
static struct error write_item(const struct domain *domain, const char *dir, size_t index, const struct item *item)
{
    struct arena arena;
    struct media_rgb rgb = {0};
    char *bytes;
    size_t size;
    arena_init(&arena, picture_arena_bytes);
    sem_wait(domain->decoding);
    struct error error = blob_read(domain->blobs, &arena, item->sha256, media_bytes_max, &bytes, &size);
    if (!error.code)
        error = media_load_rgb(bytes, size, &rgb);
    if (!error.code)
        error = media_save_png_file(&rgb, arena_printf(&arena, "%s/dataset/%04zu.png", dir, index + 1));
    free(rgb.pixels);
    sem_post(domain->decoding);
    if (!error.code)
        error = write_caption(arena_printf(&arena, "%s/dataset/%04zu.txt", dir, index + 1),
                              one_line(&arena, item->caption));
    if (error.code && error.code != ERR_NO_SPACE)
        error = error_make(error.code, "training image %s cannot be used: %s", item->asset_id, error.text);
    arena_finish(&arena);
    return error;
}

static void put_items(struct json_writer *writer, struct arena *arena, const struct item *items, size_t count)
{
    json_open(writer, "items", '[');
    for (size_t i = 0; i < count; i++) {
        json_open(writer, NULL, '{');
        json_put_string(writer, "image", arena_printf(arena, "dataset/%04zu.png", i + 1));
        json_put_string(writer, "caption", one_line(arena, items[i].caption));
        json_put_string(writer, "sourceId", items[i].asset_id);
        json_close(writer, '}');
    }
    json_close(writer, ']');
}

static struct error model_name(const struct domain *domain, struct arena *arena, const struct job *job,
                               const char **name)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    struct model model;
    TRY(db_read_begin(domain->db, &tx));
    TRY(model_find(tx, arena, job->model_id, &model));
    *name = model.name;
    return OK;
}

static struct error write_job_file(const struct domain *domain, const struct training_settings *settings,
                                   struct arena *arena, const char *dir, const struct job *job,
                                   const struct item *items, size_t count)
{
    const struct json *input;
    const char *name;
    struct buf text;
    TRY(json_parse(arena, job->input, strlen(job->input), &input));
    TRY(model_name(domain, arena, job, &name));
    const struct json *parameters = json_get(input, "parameters");
    buf_init(&text, folder_arena_bytes / 2);
    struct json_writer writer = {.out = &text};
    json_open(&writer, NULL, '{');
    json_put_int(&writer, "version", 1);
    json_put_string(&writer, "jobId", job->id);
    json_put_string(&writer, "modelId", job->model_id);
    json_put_string(&writer, "name", name);
    json_put_string(&writer, "type", json_string(input, "type", ""));
    json_open(&writer, "base", '{');
    json_put_string(&writer, "path", json_string(input, "base", ""));
    json_close(&writer, '}');
    json_put_int(&writer, "threads", settings->threads);
    json_put_tree(&writer, "parameters", parameters);
    json_put_number(&writer, "seed", json_number(parameters, "seed", 0));
    put_items(&writer, arena, items, count);
    training_prompts_put(&writer, parameters);
    json_close(&writer, '}');
    struct error error = buf_error(&text);
    if (!error.code)
        error = fs_write_atomic(arena_printf(arena, "%s/job.json", dir), text.data, text.len);
    buf_finish(&text);
    return error;
}

static struct error fill_folder(const struct run_filling *filling, struct arena *arena, const char *dir)
{
    struct item *items;
    size_t count;
    TRY(fs_make_dirs(arena_printf(arena, "%s/dataset", dir)));
    TRY(list_items(filling->domain, arena, filling->job->model_id, &items, &count));
    for (size_t i = 0; i < count; i++) {
        if (__atomic_load_n(filling->stop, __ATOMIC_RELAXED))
            return error_make(ERR_CANCELED, "canceled");
        TRY(write_item(filling->domain, dir, i, &items[i]));
    }
    return write_job_file(filling->domain, filling->settings, arena, dir, filling->job, items, count);
}

struct error training_prepare(const struct domain *domain, const struct training_settings *settings,
                              const struct job *job, const bool *stop)
{
    return run_place_folder(&(struct run_filling){domain, settings, job, stop, fill_folder});
}
