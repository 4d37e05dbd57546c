/* safetensors files: https://github.com/huggingface/safetensors#format. A reader over a memory map and a writer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

enum {
    TENSOR_DIMENSIONS_MAX = 8,          /* the models here use up to 4 */
    SAFETENSORS_HEADER_MAX = 4 << 20,   /* the SDXL UNet's 1,680 tensors take 0.2 MB */
    SAFETENSORS_TENSORS_MAX = 32 << 10, /* a rank-anything LoRA of SDXL has 8,000 */
    SAFETENSORS_NAME_MAX = 512,         /* bytes; the longest in use are about 120 */
};

enum tensor_type {
    TENSOR_F64,
    TENSOR_I64,
    TENSOR_U64,
    TENSOR_F32,
    TENSOR_I32,
    TENSOR_U32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_I16,
    TENSOR_U16,
    TENSOR_I8,
    TENSOR_U8,
    TENSOR_BOOL,
    TENSOR_F8_E4M3,
    TENSOR_F8_E5M2,
};

struct tensor {
    const char *name;
    enum tensor_type type;
    size_t dimensions, shape[TENSOR_DIMENSIONS_MAX];
    size_t count; /* product of shape; 1 for a scalar */
    size_t bytes;
    const void *data; /* little-endian, row-major, not aligned */
};

struct safetensors {
    size_t count;
    const struct tensor *tensors; /* by name */
    const struct json *metadata;  /* object of strings, or NULL */
    struct arena arena;
    void *map;
    size_t map_size;
};

/* Refuses (ERR_CORRUPT) duplicate names, unknown types, overlaps, holes, data short of or beyond the file's end, and
 * (ERR_TOO_LARGE) anything over the limits above. The data is valid until safetensors_close. */
struct error safetensors_open(const char *path, struct safetensors **out) __attribute__((warn_unused_result));
void safetensors_close(struct safetensors *file);
const struct tensor *safetensors_find(const struct safetensors *file, const char *name); /* NULL when absent */

/* count floats from F64, F32, F16 or BF16; ERR_INVALID for other types. */
struct error tensor_read(const struct tensor *tensor, float *values) __attribute__((warn_unused_result));

/* Gives the memory of a file's tensor back; it is read from the file again when it is needed. */
void tensor_forget(const struct tensor *tensor);

struct tensor_note { /* an entry of __metadata__ */
    const char *key, *text;
};

/* Writes by size of type, then by name, as the reference does; the same input gives the same bytes. Of a tensor, name,
 * type, dimensions, shape and data are read. Durable when OK, and never half there. */
struct error safetensors_write(const char *path, const struct tensor *tensors, size_t count,
                               const struct tensor_note *notes, size_t note_count) __attribute__((warn_unused_result));

/* IEEE half and bfloat16, rounded to nearest even. */
uint16_t half_from_float(float value);
float half_to_float(uint16_t bits);
uint16_t bfloat_from_float(float value);
float bfloat_to_float(uint16_t bits);
