/* The pictures of a base model's training and the order they come in, which depends on the job and the step alone. */
#pragma once

#include "engine/base_model.h"
#include "engine/pictures.h"
#include "engine/pretrain_job.h"

struct pretrain_data {
    const struct pretrain_job *job; /* borrowed */
    size_t side;                    /* pixels of a picture */
    uint32_t *order;                /* items of the epoch at hand */
    size_t order_count;             /* visits an epoch */
    uint32_t order_epoch;
    unsigned order_step; /* first of the phase; UINT32_MAX before the first batch */
};

struct error pretrain_data_init(struct pretrain_data *data, const struct pretrain_job *job, size_t side)
    __attribute__((warn_unused_result));
void pretrain_data_finish(struct pretrain_data *data);

/* The largest square in an item's middle: rgb [side, side, 3] in [-1, 1]. */
struct error pretrain_data_picture(const struct pretrain_data *data, const char *folder, const struct picture_io *io,
                                   size_t item, float *rgb) __attribute__((warn_unused_result));
/* The item at a place of the batch of step 0, 1, ... */
size_t pretrain_data_item(struct pretrain_data *data, unsigned step, size_t place);
/* The count-th item, in a fixed order, of those that the first phase has: what a curve is measured on. */
size_t pretrain_data_probe(const struct pretrain_data *data, size_t count);
