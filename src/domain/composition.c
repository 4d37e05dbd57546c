#include "domain/composition.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

/* list is "flux.1-lora, flux.1-composition". */
static bool is_listed(const char *list, const char *type)
{
    const size_t length = strlen(type);
    for (const char *at = list; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, type, length) == 0 && (at[length] == ',' || !at[length]))
            return true;
    }
    return false;
}

static bool is_composition(const struct model *model)
{
    const struct training_type *type = training_type_find(model->type);
    return type && type->family == FAMILY_COMPOSITION;
}

struct walk {
    struct db_tx *tx;
    struct arena *arena;
    const struct caller *caller; /* NULL: the server itself */
    const char *self_id;         /* NULL: any */
    struct composition_part *parts;
    size_t count;
};

static struct error add_part(struct walk *walk, const struct model *model, const char *epoch, double scale)
{
    if (walk->count == composition_parts_max)
        return error_make(ERR_INVALID, "A composition holds at most %d LoRAs", composition_parts_max);
    walk->parts[walk->count++] = (struct composition_part){*model, epoch ? epoch : model->epoch, scale};
    return OK;
}

static struct error find_model(const struct walk *walk, const char *id, struct model *model)
{
    if (!walk->caller)
        return model_find(walk->tx, walk->arena, id, model);
    return model_find_readable(walk->tx, walk->arena, walk->caller, id, model);
}

/* Depth first, so that the order is that of the concepts. */
static struct error walk_concepts(struct walk *walk, const char *concepts, double scale, int depth)
{
    const struct json *list;
    if (depth > composition_depth_max)
        return error_field("concepts", "are compositions of compositions over more than %d levels",
                           composition_depth_max);
    TRY(json_parse(walk->arena, concepts, strlen(concepts), &list));
    JSON_EACH (concept, list) {
        struct model model;
        const double own_scale = scale * json_number(concept, "scale", 1);
        TRY(find_model(walk, json_string(concept, "modelId", ""), &model));
        if (walk->self_id && strcmp(model.id, walk->self_id) == 0)
            return error_field("concepts", "contain the model itself");
        if (is_composition(&model))
            TRY(walk_concepts(walk, model.concepts ? model.concepts : "[]", own_scale, depth + 1));
        else
            TRY(add_part(walk, &model, json_string(concept, "modelEpoch", NULL), own_scale));
    }
    return OK;
}

static struct error walk_all(struct walk *walk, const char *concepts)
{
    walk->parts = arena_array(walk->arena, composition_parts_max, sizeof *walk->parts);
    return walk_concepts(walk, concepts, 1, 1);
}

struct error composition_parts(struct db_tx *tx, struct arena *arena, const char *concepts,
                               struct composition_part **parts, size_t *count)
{
    struct walk walk = {.tx = tx, .arena = arena};
    TRY(walk_all(&walk, concepts ? concepts : "[]"));
    *parts = walk.parts;
    *count = walk.count;
    return OK;
}

/* A list of concepts and the name it was sent under. */
struct sent {
    struct arena *arena;
    const char *field; /* "concepts" */
    const struct json *list;
};

static const char *field_of(const struct sent *sent, size_t index, const char *name)
{
    return arena_printf(sent->arena, "%s[%zu].%s", sent->field, index, name);
}

static struct error check_alone(const struct sent *sent, const struct training_type *type)
{
    size_t index = 0;
    JSON_EACH (concept, sent->list) {
        if (type->family == FAMILY_KONTEXT && json_number(concept, "scale", 0) < 0)
            return error_field(field_of(sent, index, "scale"), "must be at least 0 for models of type %s",
                               type->model_type);
        for (const struct json *other = sent->list->first; other != concept; other = other->next)
            if (strcmp(json_string(other, "modelId", ""), json_string(concept, "modelId", "")) == 0)
                return error_field(field_of(sent, index, "modelId"), "is there twice");
        index++;
    }
    return OK;
}

/* The model behind a concept; found is false for one that is unknown or does not fit. */
static struct error find_fitting(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                 const struct training_type *type, const char *id, struct model *model, bool *found)
{
    const struct error error = model_find_readable(tx, arena, caller, id, model);
    *found = !error.code && is_listed(type->concepts, model->type);
    return error.code == ERR_NOT_FOUND ? OK : error;
}

static struct error check_state(const struct sent *sent, size_t index, const struct json *concept,
                                const struct model *model)
{
    const char *epoch = json_string(concept, "modelEpoch", NULL);
    if (strcmp(model->status, "trained") != 0)
        return error_field(field_of(sent, index, "modelId"), "names %s, which is not trained yet", model->id);
    if (epoch && !model_has_epoch(sent->arena, model, epoch))
        return error_field(field_of(sent, index, "modelEpoch"), "must be one of the epochs of %s", model->id);
    return OK;
}

static struct error check_models(struct db_tx *tx, const struct sent *sent, const struct caller *caller,
                                 const char *self_id, const struct training_type *type)
{
    struct arena *arena = sent->arena;
    const char *invalid = NULL;
    struct error state = OK;
    size_t index = 0;
    JSON_EACH (concept, sent->list) {
        const char *id = json_string(concept, "modelId", "");
        struct model model;
        bool fits;
        const bool is_self = self_id && strcmp(id, self_id) == 0 && type->family != FAMILY_COMPOSITION;
        TRY(find_fitting(tx, arena, caller, type, id, &model, &fits));
        if (!fits && !is_self)
            invalid = arena_printf(arena, "%s%s%.64s", invalid ? invalid : "", invalid ? ", " : "", id);
        else if (!is_self && !state.code)
            state = check_state(sent, index, concept, &model);
        index++;
    }
    if (invalid)
        return error_make(ERR_INVALID, "Invalid model(s): %s.\nAllowed model types: %s", invalid, type->concepts);
    return state;
}

struct error composition_check_list(struct db_tx *tx, struct arena *arena, const struct caller *caller,
                                    const char *self_id, const struct training_type *type, const char *field,
                                    const char *concepts)
{
    struct sent sent = {.arena = arena, .field = field};
    TRY(json_parse(arena, concepts, strlen(concepts), &sent.list));
    if (!type->concepts && sent.list->count)
        return error_field(field, "cannot be set for models of type %s", type->model_type);
    TRY(check_alone(&sent, type));
    return check_models(tx, &sent, caller, self_id, type);
}

struct error composition_check(struct db_tx *tx, struct arena *arena, const struct caller *caller, const char *self_id,
                               const struct training_type *type, const char *concepts)
{
    TRY(composition_check_list(tx, arena, caller, self_id, type, "concepts", concepts));
    if (type->family != FAMILY_COMPOSITION)
        return OK;
    struct walk walk = {.tx = tx, .arena = arena, .caller = caller, .self_id = self_id};
    return walk_all(&walk, concepts);
}
