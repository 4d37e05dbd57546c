#include "job_make.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/json.h"
#include "domain/training_parameters.h"
#include "media/media.h"

enum {
    arena_bytes_max = 512 << 20,
    pictures_max = 2000,
    caption_bytes_max = 64 << 10,
    job_bytes_max = 8 << 20,
};

struct maker {
    const struct job_request *request;
    struct arena arena;
    const char *temporary;
    const char *parameters; /* resolved */
    const struct json *asked;
    unsigned count;
    char *captions[pictures_max];
};

/* ---- captions ---- */

static char *stem_of(struct arena *arena, const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? arena_copy(arena, name, (size_t)(dot - name)) : arena_strdup(arena, name);
}

static char *strip(char *text)
{
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

/* The words of NAME.txt, or else those of the name itself. */
static struct error read_caption(struct maker *maker, const char *name, char **caption)
{
    char *stem = stem_of(&maker->arena, name), *text;
    size_t size;
    char *path = arena_printf(&maker->arena, "%s/%s.txt", maker->request->images, stem);
    if (fs_exists(path)) {
        TRY(fs_read(&maker->arena, path, caption_bytes_max, &text, &size));
        *caption = strip(text);
        return OK;
    }
    for (char *at = stem; *at; at++)
        *at = *at == '_' || *at == '-' ? ' ' : *at;
    *caption = strip(stem);
    return OK;
}

/* ---- pictures ---- */

static struct error write_item(struct maker *maker, const struct buf *png, const char *caption)
{
    const char *stem = arena_printf(&maker->arena, "%s/dataset/%04u", maker->temporary, maker->count + 1);
    TRY(buf_error(png));
    TRY(fs_write_atomic(arena_printf(&maker->arena, "%s.png", stem), png->data, png->len));
    TRY(fs_write_atomic(arena_printf(&maker->arena, "%s.txt", stem), caption, strlen(caption)));
    maker->captions[maker->count++] = arena_strdup(&maker->arena, caption);
    return OK;
}

static struct error add_picture(struct maker *maker, const char *name)
{
    char *path = arena_printf(&maker->arena, "%s/%s", maker->request->images, name), *bytes, *caption;
    size_t size;
    struct media_info info;
    struct arena scratch;
    arena_init(&scratch, media_bytes_max + 4096);
    struct error error = fs_read(&scratch, path, media_bytes_max, &bytes, &size);
    bool picture = !error.code && media_probe(bytes, size, &info).code == ERR_NONE;
    if (picture && maker->count == pictures_max)
        error = error_make(ERR_TOO_LARGE, "at most %d pictures", pictures_max);
    if (picture && !error.code)
        error = read_caption(maker, name, &caption);
    if (picture && !error.code) {
        struct buf png;
        buf_init(&png, media_transform_bytes_max);
        error = media_to_png(bytes, size, &png);
        if (!error.code)
            error = write_item(maker, &png, caption);
        buf_finish(&png);
    }
    arena_finish(&scratch);
    return error;
}

static int skip_hidden(const struct dirent *entry)
{
    size_t size = strlen(entry->d_name);
    bool caption = size > 4 && strcmp(entry->d_name + size - 4, ".txt") == 0;
    return entry->d_name[0] != '.' && entry->d_type != DT_DIR && !caption;
}

static struct error add_pictures(struct maker *maker)
{
    struct dirent **entries;
    struct error error = OK;
    int count = scandir(maker->request->images, &entries, skip_hidden, alphasort);
    if (count < 0)
        return error_errno("read %s", maker->request->images);
    for (int i = 0; i < count; i++) {
        if (!error.code)
            error = add_picture(maker, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    if (!error.code && !maker->count)
        error = error_make(ERR_INVALID, "%s has no pictures", maker->request->images);
    return error;
}

/* ---- job.json ---- */

static struct error resolve_parameters(struct maker *maker)
{
    const struct training_type *type = training_type_find(maker->request->type);
    const struct json *asked = NULL;
    const char *text = maker->request->parameters;
    if (!type || !type->embedded)
        return error_make(ERR_INVALID, "--type must be sd-1_5-lora or sd-xl-lora");
    if (text)
        TRY(json_parse(&maker->arena, text, strlen(text), &asked));
    if (asked && asked->kind != JSON_OBJECT)
        return error_make(ERR_INVALID, "--parameters must be a JSON object");
    struct training_data data = {.images = maker->count};
    maker->asked = asked;
    return training_parameters_resolve(&maker->arena, type, &data, asked, &maker->parameters);
}

/* The API's, and what the trainer takes beyond them. */
static void put_parameters(struct json_writer *json, const struct maker *maker, const struct json *resolved)
{
    static const char *const own[] = {"minSnrGamma", "gradientAccumulationSteps", "gradientCheckpointing",
                                      "aspectBuckets", "loraFormat"};
    json_open(json, "parameters", '{');
    JSON_EACH (parameter, resolved)
        json_put_tree(json, parameter->key, parameter);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const struct json *value = json_get(maker->asked, own[i]);
        if (value)
            json_put_tree(json, own[i], value);
    }
    json_close(json, '}');
}

static void put_items(struct json_writer *json, struct maker *maker)
{
    json_open(json, "items", '[');
    for (unsigned i = 0; i < maker->count; i++) {
        json_open(json, NULL, '{');
        json_put_string(json, "image", arena_printf(&maker->arena, "dataset/%04u.png", i + 1));
        json_put_string(json, "caption", maker->captions[i]);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_job(struct json_writer *json, struct maker *maker, const struct json *parameters)
{
    char id[id_size];
    int64_t seed = json_int(parameters, "seed", 0);
    json_open(json, NULL, '{');
    json_put_int(json, "version", 1);
    json_put_string(json, "jobId", id_make(id, "job_"));
    json_put_string(json, "name", maker->request->name);
    json_put_string(json, "type", maker->request->type);
    json_open(json, "base", '{');
    json_put_string(json, "path", maker->request->base);
    json_close(json, '}');
    json_put_int(json, "threads", maker->request->threads);
    put_parameters(json, maker, parameters);
    json_put_int(json, "seed", seed);
    put_items(json, maker);
    training_prompts_put(json, parameters);
    json_close(json, '}');
}

static struct error write_job(struct maker *maker)
{
    const struct json *parameters;
    struct buf text;
    TRY(json_parse(&maker->arena, maker->parameters, strlen(maker->parameters), &parameters));
    buf_init(&text, job_bytes_max);
    put_job(&(struct json_writer){.out = &text}, maker, parameters);
    struct error error = buf_error(&text);
    if (!error.code)
        error = fs_write_atomic(arena_printf(&maker->arena, "%s/job.json", maker->temporary), text.data, text.len);
    buf_finish(&text);
    return error;
}

static struct error fill_folder(struct maker *maker)
{
    TRY(fs_make_dirs(arena_printf(&maker->arena, "%s/dataset", maker->temporary)));
    TRY(add_pictures(maker));
    TRY(resolve_parameters(maker));
    TRY(write_job(maker));
    if (rename(maker->temporary, maker->request->folder) < 0)
        return error_errno("rename %s", maker->temporary);
    return OK;
}

struct error job_make(const struct job_request *request, unsigned *count)
{
    struct maker *maker = calloc(1, sizeof *maker);
    if (!maker)
        return error_make(ERR_INTERNAL, "not enough memory for a job folder");
    if (fs_exists(request->folder)) {
        free(maker);
        return error_make(ERR_INVALID, "%s is there already", request->folder);
    }
    maker->request = request;
    arena_init(&maker->arena, arena_bytes_max);
    maker->temporary = arena_printf(&maker->arena, "%s.new%d", request->folder, (int)getpid());
    struct error error = fill_folder(maker);
    if (error.code && fs_exists(maker->temporary)) {
        struct error left = fs_remove_tree(maker->temporary);
        if (left.code)
            fprintf(stderr, "maquette: %s\n", left.text);
    }
    *count = maker->count;
    arena_finish(&maker->arena);
    free(maker);
    return error;
}
