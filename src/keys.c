/* maquette keys: who may use the API. Works on the database file, also while a server runs. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "commands.h"
#include "domain/key.h"
#include "on_database.h"

enum { output_bytes_max = 64 << 20 };

static const struct option key_options[] = {
    {"data", "DIR", "data", "the server's data directory"},
    {"project", "NAME", "default", "of create: the project, made when there is none of that name"},
    {"team", "NAME", "default", "of create: the team, made when there is none of that name"},
    {"json", NULL, NULL, "print JSON"},
    {0},
};
static const struct option_set key_option_set = {
    "maquette keys create|list|revoke [KEY] [options]",
    "Makes, shows and revokes API keys. A secret is shown once, when its key is made. A revoked key stops working\n"
    "within a second, also in a server that runs.",
    key_options,
};

static struct error create_key(struct db *db, const struct options *options)
{
    struct key_created key;
    TRY(key_create(db, options_text(options, "team"), options_text(options, "project"), &key));
    if (!options_flag(options, "json")) {
        printf("key      %s\nsecret   %s\nproject  %s\nteam     %s\n", key.key_id, key.secret, key.project_id,
               key.team_id);
        return OK;
    }
    struct buf out;
    buf_init(&out, output_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "key", key.key_id);
    json_put_string(&writer, "secret", key.secret);
    json_put_string(&writer, "projectId", key.project_id);
    json_put_string(&writer, "teamId", key.team_id);
    json_close(&writer, '}');
    return print_document(&out);
}

static void write_key(struct json_writer *writer, const struct key_row *key)
{
    char created[clock_iso_size], revoked[clock_iso_size];
    json_open(writer, NULL, '{');
    json_put_string(writer, "key", key->key_id);
    json_put_string(writer, "projectId", key->project_id);
    json_put_string(writer, "project", key->project_name);
    json_put_string(writer, "teamId", key->team_id);
    json_put_string(writer, "team", key->team_name);
    json_put_string(writer, "createdAt", clock_format_iso(created, key->created_at));
    if (key->revoked_at)
        json_put_string(writer, "revokedAt", clock_format_iso(revoked, key->revoked_at));
    json_close(writer, '}');
}

static void print_key(const struct key_row *key)
{
    char created[clock_iso_size];
    printf("%s  %s  %s/%s%s\n", key->key_id, clock_format_iso(created, key->created_at), key->team_name,
           key->project_name, key->revoked_at ? "  revoked" : "");
}

static struct error list_keys(struct db *db, struct arena *arena, const struct options *options)
{
    struct key_row *keys;
    size_t count;
    TRY(key_list(db, arena, &keys, &count));
    if (!options_flag(options, "json")) {
        for (size_t i = 0; i < count; i++)
            print_key(&keys[i]);
        return OK;
    }
    struct buf out;
    buf_init(&out, output_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < count; i++)
        write_key(&writer, &keys[i]);
    json_close(&writer, ']');
    return print_document(&out);
}

static struct error revoke(struct db *db, const struct options *options)
{
    if (options->argument_count != 2)
        return error_make(ERR_INVALID, "say which key: maquette keys revoke api_...");
    TRY(key_revoke(db, options->arguments[1]));
    if (options_flag(options, "json"))
        printf("{\"revoked\":\"%s\"}\n", options->arguments[1]); /* a key that exists: letters, digits and _ */
    else
        printf("%s is revoked\n", options->arguments[1]);
    return OK;
}

static struct error run(struct db *db, struct arena *arena, const struct options *options)
{
    const char *action = options->argument_count ? options->arguments[0] : "";
    if (!strcmp(action, "create"))
        return create_key(db, options);
    if (!strcmp(action, "list"))
        return list_keys(db, arena, options);
    if (!strcmp(action, "revoke"))
        return revoke(db, options);
    return error_make(ERR_INVALID, "say what to do: create, list or revoke");
}

int command_keys(int argc, char **argv)
{
    return command_on_database(&key_option_set, argc, argv, run);
}
