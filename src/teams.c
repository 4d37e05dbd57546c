/* maquette teams: what a team allows. Works on the database file, also while a server runs. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "commands.h"
#include "domain/team.h"
#include "on_database.h"

enum { output_bytes_max = 64 << 20 };

static const struct option team_options[] = {
    {"data", "DIR", "data", "the server's data directory"},
    {"team", "TEAM", "default", "the team: its name or its id"},
    {"from", "TEAM", NULL, "of accept and revoke: the team whose models may be transferred here"},
    {"parallel-training", "N", NULL, "of limit: trainings that wait or run at a time, or none for no limit"},
    {"training-images", "N", NULL, "of limit: training images of one model, or none"},
    {"cooldown", "SECONDS", NULL, "of limit: from the start of a training to that of the next, or none"},
    {"json", NULL, NULL, "print JSON"},
    {0},
};
static const struct option_set team_option_set = {
    "maquette teams list|accept|revoke|limit [options]",
    "Shows the teams and sets what they allow. `accept` lets the models of another team be transferred to the\n"
    "projects of this one, `revoke` takes that back. `limit` sets the limits that are given, as a paid plan would "
    "have\n"
    "them, and shows all; a team has none at first. All hold at once, also in a server that runs.",
    team_options,
};

static void write_limit(struct json_writer *writer, const char *key, int64_t limit)
{
    if (limit == team_no_limit)
        json_put_null(writer, key);
    else
        json_put_int(writer, key, limit);
}

static void write_limits(struct json_writer *writer, const struct team_limits *limits)
{
    json_open(writer, "limits", '{');
    write_limit(writer, "parallelTraining", limits->parallel_training);
    write_limit(writer, "trainingImages", limits->training_images);
    write_limit(writer, "cooldownSeconds", limits->cooldown_s);
    json_close(writer, '}');
}

static void write_team(struct json_writer *writer, const struct team *team)
{
    char created[clock_iso_size];
    json_open(writer, NULL, '{');
    json_put_string(writer, "teamId", team->id);
    json_put_string(writer, "team", team->name);
    json_put_string(writer, "createdAt", clock_format_iso(created, team->created_at));
    json_open(writer, "acceptsFrom", '[');
    for (size_t i = 0; i < team->accepted_count; i++)
        json_put_string(writer, NULL, team->accepted[i]);
    json_close(writer, ']');
    write_limits(writer, &team->limits);
    json_close(writer, '}');
}

static void print_limit(const char *what, int64_t limit)
{
    if (limit != team_no_limit)
        printf("  %s %lld", what, (long long)limit);
}

static void print_limits(const struct team_limits *limits)
{
    print_limit("parallel-training", limits->parallel_training);
    print_limit("training-images", limits->training_images);
    print_limit("cooldown", limits->cooldown_s);
}

static void print_team(const struct team *team)
{
    char created[clock_iso_size];
    printf("%s  %s  %s", team->id, clock_format_iso(created, team->created_at), team->name);
    for (size_t i = 0; i < team->accepted_count; i++)
        printf("%s%s", i ? ", " : "  accepts models of ", team->accepted[i]);
    print_limits(&team->limits);
    putchar('\n');
}

static struct error list_teams(struct db *db, struct arena *arena, const struct options *options)
{
    struct team *teams;
    size_t count;
    TRY(team_list(db, arena, &teams, &count));
    if (!options_flag(options, "json")) {
        for (size_t i = 0; i < count; i++)
            print_team(&teams[i]);
        return OK;
    }
    struct buf out;
    buf_init(&out, output_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '[');
    for (size_t i = 0; i < count; i++)
        write_team(&writer, &teams[i]);
    json_close(&writer, ']');
    return print_document(&out);
}

static struct error change_acceptance(struct db *db, struct arena *arena, const struct options *options, bool accept)
{
    const char *team = options_text(options, "team"), *from = options_text(options, "from");
    if (!from)
        return error_make(ERR_INVALID, "say whose models: maquette teams %s --team TEAM --from TEAM",
                          accept ? "accept" : "revoke");
    TRY(accept ? team_accept(db, team, from) : team_revoke(db, team, from));
    if (options_flag(options, "json"))
        printf("{\"team\":%s,\"from\":%s,\"accepted\":%s}\n", json_quoted(arena, team), json_quoted(arena, from),
               accept ? "true" : "false");
    else
        printf("%s %s models of %s\n", team, accept ? "accepts" : "accepts no more", from);
    return OK;
}

/* Leaves what was not given as it is. */
static struct error take_limit(const struct options *options, const char *name, int64_t *limit)
{
    enum { limit_max = 1000000000 };
    const char *text = options_text(options, name);
    long long number = team_no_limit;
    if (!text)
        return OK;
    if (strcmp(text, "none") != 0)
        TRY(options_int(options, name, 0, limit_max, &number));
    *limit = number;
    return OK;
}

static struct error find_limits(struct db *db, struct arena *arena, const char *team, struct team_limits *limits)
{
    struct db_tx *tx CLEANUP_DB_READ = NULL;
    const char *id;
    TRY(db_read_begin(db, &tx));
    TRY(team_find(tx, arena, team, &id));
    return team_find_limits(tx, id, limits);
}

static struct error limit_team(struct db *db, struct arena *arena, const struct options *options)
{
    const char *team = options_text(options, "team");
    struct team_limits limits;
    TRY(find_limits(db, arena, team, &limits));
    TRY(take_limit(options, "parallel-training", &limits.parallel_training));
    TRY(take_limit(options, "training-images", &limits.training_images));
    TRY(take_limit(options, "cooldown", &limits.cooldown_s));
    TRY(team_set_limits(db, team, &limits));
    if (!options_flag(options, "json")) {
        printf("%s", team);
        print_limits(&limits);
        putchar('\n');
        return OK;
    }
    struct buf out;
    buf_init(&out, output_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '{');
    json_put_string(&writer, "team", team);
    write_limits(&writer, &limits);
    json_close(&writer, '}');
    return print_document(&out);
}

static struct error run(struct db *db, struct arena *arena, const struct options *options)
{
    const char *action = options->argument_count == 1 ? options->arguments[0] : "";
    if (!strcmp(action, "list"))
        return list_teams(db, arena, options);
    if (!strcmp(action, "accept"))
        return change_acceptance(db, arena, options, true);
    if (!strcmp(action, "revoke"))
        return change_acceptance(db, arena, options, false);
    if (!strcmp(action, "limit"))
        return limit_team(db, arena, options);
    return error_make(ERR_INVALID, "say what to do: list, accept, revoke or limit");
}

int command_teams(int argc, char **argv)
{
    return command_on_database(&team_option_set, argc, argv, run);
}
