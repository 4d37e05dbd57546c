/* A training's pictures, prepared: cut to the shape they are trained in, encoded by the VAE to moments, their captions
 * encoded to text conditions. Pictures are decoded by the caller's function: the engine knows no image formats. */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/base_model.h"
#include "engine/batches.h"
#include "engine/job_folder.h"

/* How pictures come and go; both functions return an error that names the file. */
struct picture_io {
    void *context;
    /* *rgb is malloc'd: [height, width, 3], 8 bits, upright. */
    struct error (*load_rgb)(void *context, const char *path, uint8_t **rgb, size_t *width, size_t *height);
    /* Durable, and whole or not there at all. */
    struct error (*save_png)(void *context, const char *path, const uint8_t *rgb, size_t width, size_t height);
};

struct picture {
    float *mean, *deviation;    /* [bucket height, bucket width, channels], unscaled; NULL when cropped at random */
    uint8_t *rgb;               /* cropped at random: the whole picture */
    size_t width, height;       /* of the picture */
    size_t bucket;              /* the shape it is trained in */
    float time_ids[6];          /* SDXL: of the crop in the middle */
    struct condition condition; /* of a class picture: none */
};

struct pictures {
    struct base_model *base; /* borrowed */
    const struct job_parameters *parameters;
    size_t bucket_count;
    struct bucket buckets[BUCKETS_MAX]; /* the first is the base's own square */
    size_t latent_max;                  /* floats in the largest latent */
    size_t count;
    struct picture *items;
    size_t class_count; /* prior preservation: pictures that the base made for the class prompt */
    struct picture *class_items;
    struct condition class_condition;
};

/* Reads and encodes all. ERR_CANCELED soon after *stop becomes nonzero. *at_fault is the index of the item that cannot
 * be read, SIZE_MAX when the error is none of a picture's. */
struct error pictures_load(struct base_model *base, const char *folder, const struct job *job,
                           const struct picture_io *io, const volatile sig_atomic_t *stop, struct pictures **out,
                           size_t *at_fault) __attribute__((warn_unused_result));
void pictures_destroy(struct pictures *pictures);
/* The caption a picture is trained with: the concept's word stands before it unless it is there. malloc'd. */
char *pictures_caption(const struct job *job, size_t item);
/* Encodes all captions again, with the text encoder as it is now. */
struct error pictures_encode_captions(struct pictures *pictures, const struct job *job)
    __attribute__((warn_unused_result));
/* How many class pictures there should be: as many as training pictures, at least 8, at most 100. */
size_t pictures_class_wanted(const struct pictures *pictures);
/* Makes the next one, JOBDIR/class/0001.png and so on, with the base as it is now, unless it is there, and reads it. */
struct error pictures_add_class(struct pictures *pictures, const char *folder, const struct job *job,
                                const struct picture_io *io, const volatile sig_atomic_t *stop)
    __attribute__((warn_unused_result));

struct draw { /* one place of one step's batch: what its random numbers depend on */
    uint64_t seed;
    uint32_t step, place;
};
/* The scaled latent of a picture, of its bucket's shape, and its time ids (6 floats, SDXL; may be NULL). */
struct error pictures_draw(const struct pictures *pictures, const struct picture *picture, const struct draw *draw,
                           float *latent, float *time_ids) __attribute__((warn_unused_result));
size_t pictures_latent(const struct pictures *pictures, const struct picture *picture); /* floats of its latent */
