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
    {"json", NULL, NULL, "print JSON"},
    {0},
};
static const struct option_set team_option_set = {
    "maquette teams list|accept|revoke [options]",
    "Shows the teams and sets what they allow. `accept` lets the models of another team be transferred to the\n"
    "projects of this one, `revoke` takes that back. Both hold at once, also in a server that runs.",
    team_options,
};

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
    json_close(writer, '}');
}

static void print_team(const struct team *team)
{
    char created[clock_iso_size];
    printf("%s  %s  %s", team->id, clock_format_iso(created, team->created_at), team->name);
    for (size_t i = 0; i < team->accepted_count; i++)
        printf("%s%s", i ? ", " : "  accepts models of ", team->accepted[i]);
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
    struct error error = buf_error(&out);
    if (!error.code)
        puts(out.data);
    buf_finish(&out);
    return error;
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

static struct error run(struct db *db, struct arena *arena, const struct options *options)
{
    const char *action = options->argument_count == 1 ? options->arguments[0] : "";
    if (!strcmp(action, "list"))
        return list_teams(db, arena, options);
    if (!strcmp(action, "accept"))
        return change_acceptance(db, arena, options, true);
    if (!strcmp(action, "revoke"))
        return change_acceptance(db, arena, options, false);
    return error_make(ERR_INVALID, "say what to do: list, accept or revoke");
}

int command_teams(int argc, char **argv)
{
    return command_on_database(&team_option_set, argc, argv, run);
}
