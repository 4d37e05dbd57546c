/* A training's pictures, prepared: cut to a square, encoded by the VAE to moments, their captions encoded to text
 * conditions. Pictures are decoded by the caller's function: the engine knows no image formats. */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/base_model.h"
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
    float *mean, *deviation; /* [latent side, latent side, channels], unscaled; NULL when cropped at random */
    uint8_t *rgb;            /* cropped at random: the picture, its short side at most what a crop needs */
    size_t width, height;    /* of rgb */
    float time_ids[6];       /* SDXL */
    struct condition condition;
};

struct pictures {
    struct base_model *base; /* borrowed */
    const struct job_parameters *parameters;
    size_t side;   /* pixels of the square that is trained on */
    size_t latent; /* floats in a picture's latent */
    size_t count;
    struct picture *items;
    size_t class_count;   /* prior preservation: pictures that the base draws for the class prompt */
    float *class_latents; /* [class_count, latent], scaled */
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
/* As many class pictures as training pictures, at least 8, at most 100. */
struct error pictures_draw_class(struct pictures *pictures, const struct job *job, const volatile sig_atomic_t *stop)
    __attribute__((warn_unused_result));

/* The scaled latent of an item for one place of one step's batch, and its time ids (6 floats, SDXL; may be NULL). */
struct error pictures_draw(const struct pictures *pictures, size_t item, uint64_t seed, uint32_t step, uint32_t place,
                           float *latent, float *time_ids) __attribute__((warn_unused_result));

/* The window [left, left + window) x [top, top + window) of rgb as [side, side, 3] in [-1, 1]: triangle filter, widened
 * when reducing, as PIL's BILINEAR. */
struct error picture_resample(const uint8_t *rgb, size_t width, size_t height, double left, double top, double window,
                              size_t side, float *out) __attribute__((warn_unused_result));
