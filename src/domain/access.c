#include "domain/access.h"

#include <string.h>

static bool is_owner(const struct caller *caller, const struct access_thing *thing)
{
    return caller->kind == CALLER_KEY && !strcmp(caller->project_id, thing->project_id);
}

static bool may_read(const struct caller *caller, const struct access_thing *thing)
{
    if (caller->kind == CALLER_NOBODY)
        return false;
    if (!strcmp(thing->privacy, "public") || is_owner(caller, thing))
        return true;
    return caller->kind == CALLER_KEY && !strcmp(thing->privacy, "unlisted");
}

enum access access_decide(const struct caller *caller, enum access_action action, const struct access_thing *thing)
{
    if (thing->deleted || !may_read(caller, thing))
        return ACCESS_HIDDEN;
    switch (action) {
    case ACCESS_READ:
        return ACCESS_GRANTED;
    case ACCESS_LIST:
        return strcmp(thing->privacy, "public") ? ACCESS_HIDDEN : ACCESS_GRANTED;
    case ACCESS_CHANGE:
        return is_owner(caller, thing) ? ACCESS_GRANTED : ACCESS_DENIED;
    }
    return ACCESS_HIDDEN;
}

struct error access_check(const struct caller *caller, enum access_action action, const struct access_thing *thing,
                          const char *noun, const char *id)
{
    switch (access_decide(caller, action, thing)) {
    case ACCESS_GRANTED:
        return OK;
    case ACCESS_DENIED:
        return error_make(ERR_FORBIDDEN, "%s %.64s belongs to another project: only that project can do this", noun,
                          id);
    case ACCESS_HIDDEN:
        break;
    }
    return error_make(ERR_NOT_FOUND, "%s %.64s not found", noun, id);
}
