#include "domain/asset_map.h"

#include <stdint.h>
#include <string.h>

#include "base/json.h"

enum { capacity_min = 64, json_bytes_max = 4 << 20 };

/* FNV-1a; ids are random already. */
static size_t hash_of(const char *id)
{
    uint64_t hash = 14695981039346656037ULL;
    for (; *id; id++)
        hash = (hash ^ (uint8_t)*id) * 1099511628211ULL;
    return (size_t)hash;
}

static struct asset_map_entry *place_of(const struct asset_map *map, const char *id)
{
    size_t at = hash_of(id);
    for (;; at++) {
        struct asset_map_entry *place = &map->places[at & (map->capacity - 1)];
        if (!place->from || !strcmp(place->from, id))
            return place;
    }
}

static void grow(struct asset_map *map)
{
    const struct asset_map old = *map;
    map->capacity = old.capacity ? 2 * old.capacity : capacity_min;
    map->places = arena_array(map->arena, map->capacity, sizeof *map->places);
    for (size_t i = 0; i < old.capacity; i++)
        if (old.places[i].from)
            *place_of(map, old.places[i].from) = old.places[i];
}

void asset_map_put(struct asset_map *map, const char *from, const char *to)
{
    if (2 * map->count >= map->capacity)
        grow(map);
    struct asset_map_entry *place = place_of(map, from);
    map->count += !place->from;
    *place = (struct asset_map_entry){from, to};
}

const struct asset_map_entry *asset_map_find(const struct asset_map *map, const char *from)
{
    if (!map->count || !from)
        return NULL;
    const struct asset_map_entry *place = place_of(map, from);
    return place->from ? place : NULL;
}

const char *asset_map_get(const struct asset_map *map, const char *id)
{
    const struct asset_map_entry *entry = asset_map_find(map, id);
    return entry ? entry->to : id;
}

/* The text of a writer that went well, else what it was made of. */
static const char *finish(const struct asset_map *map, struct buf *out, const char *otherwise)
{
    const char *text = buf_error(out).code ? otherwise : arena_copy(map->arena, out->data, out->len);
    buf_finish(out);
    return text;
}

static void put_ids(const struct asset_map *map, struct json_writer *writer, const char *key, const struct json *ids)
{
    json_open(writer, key, '[');
    JSON_EACH (id, ids) {
        const char *to = asset_map_get(map, id->text);
        if (to)
            json_put_string(writer, NULL, to);
    }
    json_close(writer, ']');
}

const char *asset_map_epochs(const struct asset_map *map, const char *epochs)
{
    const struct json *root;
    struct buf out;
    if (!epochs || json_parse(map->arena, epochs, strlen(epochs), &root).code)
        return epochs;
    buf_init(&out, json_bytes_max);
    struct json_writer writer = {.out = &out};
    json_open(&writer, NULL, '[');
    JSON_EACH (epoch, root) {
        json_open(&writer, NULL, '{');
        json_put_string(&writer, "epoch", json_string(epoch, "epoch", ""));
        put_ids(map, &writer, "assetIds", json_get(epoch, "assetIds"));
        json_close(&writer, '}');
    }
    json_close(&writer, ']');
    return finish(map, &out, epochs);
}

const char *asset_map_text(const struct asset_map *map, const char *text)
{
    static const char id_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    struct buf out;
    if (!map->count || !text)
        return text;
    buf_init(&out, json_bytes_max);
    for (const char *at = text; *at;) {
        const size_t length = strspn(at, id_characters);
        const char *word = length ? arena_copy(map->arena, at, length) : NULL;
        const struct asset_map_entry *entry = asset_map_find(map, word);
        if (entry && entry->to)
            buf_puts(&out, entry->to);
        else
            buf_append(&out, at, length ? length : 1);
        at += length ? length : 1;
    }
    return finish(map, &out, text);
}
