/* Every number in a header is hostile: sizes are checked before they are multiplied or added. */
#include "engine/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"

enum { ARENA_MAX = 512 << 20 }; /* a header of numbers alone becomes a tree about 50 times its size */

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [TENSOR_F64] = {"F64", 8},   [TENSOR_I64] = {"I64", 8},         [TENSOR_U64] = {"U64", 8},
    [TENSOR_F32] = {"F32", 4},   [TENSOR_I32] = {"I32", 4},         [TENSOR_U32] = {"U32", 4},
    [TENSOR_F16] = {"F16", 2},   [TENSOR_BF16] = {"BF16", 2},       [TENSOR_I16] = {"I16", 2},
    [TENSOR_U16] = {"U16", 2},   [TENSOR_I8] = {"I8", 1},           [TENSOR_U8] = {"U8", 1},
    [TENSOR_BOOL] = {"BOOL", 1}, [TENSOR_F8_E4M3] = {"F8_E4M3", 1}, [TENSOR_F8_E5M2] = {"F8_E5M2", 1},
};
enum { TYPE_COUNT = sizeof types / sizeof types[0] };

/* ---- numbers ---- */

/* Without branches, so that loops become vectors: exponents are 112 apart, and the product is exact for subnormals too.
 */
static inline float widen_half(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16, bits;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits |= (magnitude >= 0x0f800000 ? 0x7f800000 : 0) | sign; /* infinities and NaN */
    memcpy(&value, &bits, sizeof value);
    return value;
}

float half_to_float(uint16_t bits)
{
    return widen_half(bits);
}

uint16_t half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return sign | 0x7e00;
    if (magnitude >= 0x477ff000) /* rounds to 65536 or more */
        return sign | 0x7c00;
    if (magnitude < 0x38800000) { /* subnormal: adding 0.5 leaves the rounded fraction in the low bits */
        float shifted;
        memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5f;
        memcpy(&magnitude, &shifted, sizeof magnitude);
        return sign | (uint16_t)(magnitude - 0x3f000000);
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return sign | (uint16_t)((magnitude - 0x38000000) >> 13);
}

float bfloat_to_float(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t bfloat_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void tensor_forget(const struct tensor *tensor)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)tensor->data;
    uintptr_t first = (start + page - 1) / page * page, end = (start + tensor->bytes) / page * page;
    if (end > first)
        madvise((char *)tensor->data + (first - start), end - first, MADV_DONTNEED);
}

static void widen_halves(size_t count, const unsigned char *bytes, float *values)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + i * sizeof half, sizeof half);
        values[i] = widen_half(half);
    }
}

static void widen_bfloats(size_t count, const unsigned char *bytes, float *values)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + i * sizeof half, sizeof half);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

static void narrow_doubles(size_t count, const unsigned char *bytes, float *values)
{
    for (size_t i = 0; i < count; i++) {
        double wide;
        memcpy(&wide, bytes + i * sizeof wide, sizeof wide);
        values[i] = (float)wide;
    }
}

struct error tensor_read(const struct tensor *tensor, float *values)
{
    switch (tensor->type) {
    case TENSOR_F32:
        memcpy(values, tensor->data, tensor->count * sizeof *values);
        return OK;
    case TENSOR_F16:
        widen_halves(tensor->count, tensor->data, values);
        return OK;
    case TENSOR_BF16:
        widen_bfloats(tensor->count, tensor->data, values);
        return OK;
    case TENSOR_F64:
        narrow_doubles(tensor->count, tensor->data, values);
        return OK;
    default:
        return error_make(ERR_INVALID, "tensor %s has type %s; weights must be F64, F32, F16 or BF16", tensor->name,
                          types[tensor->type].name);
    }
}

/* ---- reading ---- */

static struct error bad(const char *path, const char *name, const char *what)
{
    return error_make(ERR_CORRUPT, "%s is not a valid safetensors file: %s%s%s", path, name ? name : "",
                      name ? ": " : "", what);
}

/* A non-negative integer that is exact in a double. */
static bool read_size(const struct json *item, size_t *size)
{
    if (!item || item->kind != JSON_NUMBER || item->number < 0 || item->number > 0x1p53)
        return false;
    *size = (size_t)item->number;
    return (double)*size == item->number;
}

static bool find_type(const char *name, enum tensor_type *type)
{
    for (int i = 0; name && i < TYPE_COUNT; i++) {
        if (!strcmp(name, types[i].name)) {
            *type = (enum tensor_type)i;
            return true;
        }
    }
    return false;
}

static struct error read_entry(const char *path, const struct json *entry, const unsigned char *data, size_t data_size,
                               struct tensor *tensor)
{
    const struct json *shape = json_get(entry, "shape"), *offsets = json_get(entry, "data_offsets");
    size_t begin, end;
    tensor->name = entry->key;
    if (strlen(entry->key) > SAFETENSORS_NAME_MAX)
        return error_make(ERR_TOO_LARGE, "%s: a tensor's name is longer than %d bytes", path, SAFETENSORS_NAME_MAX);
    if (!find_type(json_string(entry, "dtype", NULL), &tensor->type))
        return bad(path, entry->key, "unknown dtype");
    if (!shape || shape->kind != JSON_ARRAY)
        return bad(path, entry->key, "no shape");
    if (shape->count > TENSOR_DIMENSIONS_MAX)
        return error_make(ERR_TOO_LARGE, "%s: %s has more than %d dimensions", path, entry->key, TENSOR_DIMENSIONS_MAX);
    tensor->count = 1;
    JSON_EACH (item, shape) {
        size_t size;
        if (!read_size(item, &size) || __builtin_mul_overflow(tensor->count, size, &tensor->count))
            return bad(path, entry->key, "impossible shape");
        tensor->shape[tensor->dimensions++] = size;
    }
    if (__builtin_mul_overflow(tensor->count, types[tensor->type].size, &tensor->bytes))
        return bad(path, entry->key, "impossible shape");
    if (!offsets || offsets->count != 2 || !read_size(json_item(offsets, 0), &begin) ||
        !read_size(json_item(offsets, 1), &end) || begin > end || end > data_size || end - begin != tensor->bytes)
        return bad(path, entry->key, "data_offsets do not fit the shape or the file");
    tensor->data = data + begin;
    return OK;
}

static int by_data(const void *left, const void *right)
{
    const struct tensor *a = left, *b = right;
    if (a->data != b->data)
        return (const char *)a->data < (const char *)b->data ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; /* empty ones first */
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct tensor *)left)->name, ((const struct tensor *)right)->name);
}

static struct error read_entries(const char *path, const struct json *root, const unsigned char *data, size_t data_size,
                                 struct safetensors *file)
{
    if (root->kind != JSON_OBJECT)
        return bad(path, NULL, "the header is no object");
    if (root->count > SAFETENSORS_TENSORS_MAX)
        return error_make(ERR_TOO_LARGE, "%s has more than %d tensors", path, SAFETENSORS_TENSORS_MAX);
    struct tensor *tensors = arena_array(&file->arena, root->count + 1, sizeof *tensors);
    JSON_EACH (entry, root) {
        if (!strcmp(entry->key, "__metadata__")) {
            if (entry->kind != JSON_OBJECT || file->metadata)
                return bad(path, NULL, "__metadata__ is not one object");
            file->metadata = entry;
        } else {
            TRY(read_entry(path, entry, data, data_size, &tensors[file->count++]));
        }
    }
    qsort(tensors, file->count, sizeof *tensors, by_data);
    const unsigned char *next = data;
    for (size_t i = 0; i < file->count; i++) {
        if (tensors[i].data != next)
            return bad(path, tensors[i].name, "the data overlaps or leaves a hole");
        next += tensors[i].bytes;
    }
    if (next != data + data_size)
        return bad(path, NULL, "there is data beyond the last tensor");
    qsort(tensors, file->count, sizeof *tensors, by_name);
    for (size_t i = 1; i < file->count; i++) {
        if (!strcmp(tensors[i - 1].name, tensors[i].name))
            return bad(path, tensors[i].name, "twice in the header");
    }
    file->tensors = tensors;
    return OK;
}

static struct error map_file(const char *path, struct safetensors *file)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 && errno == ENOENT)
        return error_make(ERR_NOT_FOUND, "%s does not exist", path);
    if (fd < 0 || fstat(fd, &status))
        return error_errno("cannot open %s", path);
    if (!S_ISREG(status.st_mode) || status.st_size < 8)
        return bad(path, NULL, "too short");
    void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return error_errno("cannot map %s", path);
    file->map = map;
    file->map_size = (size_t)status.st_size;
    return OK;
}

static struct error read_file(const char *path, struct safetensors *file)
{
    TRY(map_file(path, file));
    const unsigned char *bytes = file->map;
    uint64_t header_size;
    memcpy(&header_size, bytes, sizeof header_size);
    if (header_size > file->map_size - 8)
        return bad(path, NULL, "the header does not fit the file");
    if (header_size > SAFETENSORS_HEADER_MAX)
        return error_make(ERR_TOO_LARGE, "%s: the header is larger than %d bytes", path, SAFETENSORS_HEADER_MAX);
    if (header_size == 0 || bytes[8] != '{')
        return bad(path, NULL, "the header does not start with {");
    const struct json *root;
    struct error error = json_parse(&file->arena, (const char *)bytes + 8, (size_t)header_size, &root);
    if (error.code)
        return bad(path, NULL, error.text);
    return read_entries(path, root, bytes + 8 + header_size, file->map_size - 8 - (size_t)header_size, file);
}

struct error safetensors_open(const char *path, struct safetensors **out)
{
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file)
        return error_make(ERR_INTERNAL, "out of memory");
    arena_init(&file->arena, ARENA_MAX);
    struct error error = read_file(path, file);
    if (error.code) {
        safetensors_close(file);
        return error;
    }
    *out = file;
    return OK;
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    if (file->map)
        munmap(file->map, file->map_size);
    arena_finish(&file->arena);
    free(file);
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    struct tensor key = {.name = name};
    return file->count ? bsearch(&key, file->tensors, file->count, sizeof key, by_name) : NULL;
}

/* ---- writing ---- */

static int by_type_and_name(const void *left, const void *right)
{
    const struct tensor *a = *(const struct tensor *const *)left, *b = *(const struct tensor *const *)right;
    size_t size_a = types[a->type].size, size_b = types[b->type].size;
    if (size_a != size_b)
        return size_a > size_b ? -1 : 1;
    return strcmp(a->name, b->name);
}

static size_t tensor_bytes(const struct tensor *tensor)
{
    size_t bytes = types[tensor->type].size;
    for (size_t i = 0; i < tensor->dimensions; i++)
        bytes *= tensor->shape[i];
    return bytes;
}

static void put_header(struct buf *header, const struct tensor *const *sorted, size_t count,
                       const struct tensor_note *notes, size_t note_count)
{
    struct json_writer json = {.out = header};
    json_open(&json, NULL, '{');
    if (note_count) {
        json_open(&json, "__metadata__", '{');
        for (size_t i = 0; i < note_count; i++)
            json_put_string(&json, notes[i].key, notes[i].text);
        json_close(&json, '}');
    }
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        json_open(&json, sorted[i]->name, '{');
        json_put_string(&json, "dtype", types[sorted[i]->type].name);
        json_open(&json, "shape", '[');
        for (size_t d = 0; d < sorted[i]->dimensions; d++)
            json_put_int(&json, NULL, (int64_t)sorted[i]->shape[d]);
        json_close(&json, ']');
        json_open(&json, "data_offsets", '[');
        json_put_int(&json, NULL, (int64_t)offset);
        offset += tensor_bytes(sorted[i]);
        json_put_int(&json, NULL, (int64_t)offset);
        json_close(&json, ']');
        json_close(&json, '}');
    }
    json_close(&json, '}');
    while (header->len % 8 && !header->overflowed)
        buf_putc(header, ' ');
}

static struct error write_parts(int fd, const struct buf *header, const struct tensor *const *sorted, size_t count)
{
    uint64_t header_size = header->len;
    TRY(fs_write_all(fd, &header_size, sizeof header_size));
    TRY(fs_write_all(fd, header->data, header->len));
    for (size_t i = 0; i < count; i++)
        TRY(fs_write_all(fd, sorted[i]->data, tensor_bytes(sorted[i])));
    if (fsync(fd))
        return error_errno("cannot write a safetensors file");
    return OK;
}

static struct error write_file(const char *path, const struct buf *header, const struct tensor *const *sorted,
                               size_t count)
{
    CLEANUP_FREE char *temporary = NULL, *folder = strdup(path);
    if (!folder || asprintf(&temporary, "%s.%d.tmp", path, (int)getpid()) < 0)
        return error_make(ERR_INTERNAL, "out of memory");
    CLEANUP_FD int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno("cannot create %s", temporary);
    struct error error = write_parts(fd, header, sorted, count);
    if (!error.code && rename(temporary, path))
        error = error_errno("cannot rename %s", temporary);
    if (error.code) {
        unlink(temporary);
        return error;
    }
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    return fs_sync_dir(slash ? (slash == folder ? "/" : folder) : ".");
}

struct error safetensors_write(const char *path, const struct tensor *tensors, size_t count,
                               const struct tensor_note *notes, size_t note_count)
{
    if (count > SAFETENSORS_TENSORS_MAX)
        return error_make(ERR_TOO_LARGE, "more than %d tensors for %s", SAFETENSORS_TENSORS_MAX, path);
    CLEANUP_FREE const struct tensor **sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted)
        return error_make(ERR_INTERNAL, "out of memory");
    for (size_t i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof *sorted, by_type_and_name);
    struct buf header;
    buf_init(&header, SAFETENSORS_HEADER_MAX);
    put_header(&header, sorted, count, notes, note_count);
    struct error error = buf_error(&header);
    if (!error.code)
        error = write_file(path, &header, sorted, count);
    buf_finish(&header);
    return error;
}
