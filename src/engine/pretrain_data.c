#include "engine/pretrain_data.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/resample.h"

static struct error no_memory(void)
{
    return error_make(ERR_INTERNAL, "not enough memory for the training pictures");
}

struct error pretrain_data_init(struct pretrain_data *data, const struct pretrain_job *job, size_t side)
{
    size_t visits = 1; /* no block of no size */
    for (size_t p = 0; p < job->phase_count; p++) {
        size_t count = 0;
        for (size_t i = 0; i < job->item_count; i++)
            count += job->phases[p].repeats[job->items[i].group];
        visits = count > visits ? count : visits;
    }
    *data = (struct pretrain_data){.job = job, .side = side, .order_step = UINT32_MAX};
    data->order = calloc(visits, sizeof *data->order);
    return data->order ? OK : no_memory();
}

void pretrain_data_finish(struct pretrain_data *data)
{
    free(data->order);
}

struct error pretrain_data_picture(const struct pretrain_data *data, const char *folder, const struct picture_io *io,
                                   size_t item, float *rgb)
{
    char path[4096];
    CLEANUP_FREE uint8_t *pixels = NULL;
    size_t width, height;
    if (snprintf(path, sizeof path, "%s/%s", folder, data->job->items[item].image) >= (int)sizeof path)
        return error_make(ERR_INVALID, "job.json: items[%zu].image is too long", item);
    TRY(io->load_rgb(io->context, path, &pixels, &width, &height));
    const struct window window = window_of_shape(width, height, 1, 1, 1, 0.5, 0.5);
    return picture_resample(pixels, width, height, &window, data->side, data->side, rgb);
}

/* Every item comes as often as its group's repeats say, in an order of that epoch of that phase. */
static void shuffle(struct pretrain_data *data, const struct pretrain_phase *phase, uint32_t epoch)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < data->job->item_count; i++) {
        for (unsigned r = 0; r < phase->repeats[data->job->items[i].group]; r++)
            data->order[count++] = i;
    }
    assert(count > 0); /* pretrain_job_read has seen to it */
    rng_shuffle(&(struct rng){data->job->seed, RNG_ORDER, phase->first_step, epoch}, count, data->order);
    data->order_count = count;
    data->order_step = phase->first_step;
    data->order_epoch = epoch;
}

size_t pretrain_data_item(struct pretrain_data *data, unsigned step, size_t place)
{
    const struct pretrain_phase *phase = pretrain_phase(data->job, step);
    size_t visit = (size_t)(step - phase->first_step) * data->job->batch_size + place;
    if (data->order_step != phase->first_step)
        shuffle(data, phase, 0);
    assert(data->order_count > 0);
    uint32_t epoch = (uint32_t)(visit / data->order_count);
    if (data->order_epoch != epoch)
        shuffle(data, phase, epoch);
    return data->order[visit % data->order_count];
}

size_t pretrain_data_probe(const struct pretrain_data *data, size_t count)
{
    const struct pretrain_job *job = data->job;
    size_t have = 0, stride = 7919; /* a prime: spread over the list */
    for (size_t i = 0; i < job->item_count; i++)
        have += job->phases[0].repeats[job->items[i].group] > 0;
    assert(have > 0);
    size_t wanted = count * stride % have;
    for (size_t i = 0;; i++) {
        if (job->phases[0].repeats[job->items[i].group] && !wanted--)
            return i;
    }
}
