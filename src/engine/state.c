#include "engine/state.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "engine/safetensors.h"

enum { path_bytes_max = 4096, kept = 2, tensors_max = 3 * STATE_LEARNERS_MAX + 1, found_max = 64 };

static const char *const vector_names[STATE_LEARNERS_MAX][3] = {
    {"unet.values", "unet.first_moment", "unet.second_moment"},
    {"text.values", "text.first_moment", "text.second_moment"},
};

static float *vector_of(const struct learner *learner, int which)
{
    return which == 0 ? learner->parameters->values : which == 1 ? learner->first_moment : learner->second_moment;
}

/* ---- the files, newest first ---- */

static int newest_first(const void *left, const void *right)
{
    unsigned a = *(const unsigned *)left, b = *(const unsigned *)right;
    return (a < b) - (a > b);
}

static size_t list_steps(const char *folder, unsigned steps[found_max])
{
    char path[path_bytes_max];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/state", folder);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && count < found_max && (entry = readdir(directory));) {
        int end = 0;
        if (sscanf(entry->d_name, "step-%u.safetensors%n", &steps[count], &end) == 1 && end && !entry->d_name[end])
            count++;
    }
    if (directory)
        closedir(directory);
    qsort(steps, count, sizeof *steps, newest_first);
    return count;
}

static void state_path(const char *folder, unsigned step, char path[path_bytes_max])
{
    snprintf(path, path_bytes_max, "%s/state/step-%06u.safetensors", folder, step);
}

static void remove_old(const char *folder)
{
    unsigned steps[found_max];
    size_t count = list_steps(folder, steps);
    for (size_t i = kept; i < count; i++) {
        char path[path_bytes_max];
        state_path(folder, steps[i], path);
        unlink(path); /* one that stays costs space only */
    }
}

/* ---- writing ---- */

static struct tensor vector_tensor(const char *name, const float *values, size_t count)
{
    return (struct tensor){.name = name,
                           .type = TENSOR_F32,
                           .dimensions = 1,
                           .shape = {count},
                           .count = count,
                           .bytes = count * sizeof(float),
                           .data = values};
}

struct error state_save(const char *folder, const struct state *state, char path[64])
{
    struct tensor tensors[tensors_max];
    size_t count = 0;
    char file[path_bytes_max], step[16], seconds[32];
    for (int i = 0; i < STATE_LEARNERS_MAX; i++) {
        const struct learner *learner = state->learners[i];
        for (int which = 0; learner && which < 3; which++)
            tensors[count++] =
                vector_tensor(vector_names[i][which], vector_of(learner, which), learner->parameters->count);
    }
    tensors[count++] = vector_tensor("losses", state->losses, state->step);
    snprintf(step, sizeof step, "%u", state->step);
    snprintf(seconds, sizeof seconds, "%.3f", state->seconds);
    struct tensor_note notes[] = {{"step", step}, {"seconds", seconds}, {"job", state->fingerprint}};
    snprintf(file, sizeof file, "%s/state", folder);
    TRY(fs_make_dirs(file));
    state_path(folder, state->step, file);
    TRY(safetensors_write(file, tensors, count, notes, sizeof notes / sizeof *notes));
    if (path)
        snprintf(path, 64, "state/step-%06u.safetensors", state->step);
    remove_old(folder);
    return OK;
}

/* ---- reading ---- */

static struct error read_vector(const struct safetensors *file, const char *name, size_t count, float *values)
{
    const struct tensor *tensor = safetensors_find(file, name);
    if (!tensor || tensor->count != count || tensor->type != TENSOR_F32)
        return error_make(ERR_CORRUPT, "the state's %s does not fit this training", name);
    return tensor_read(tensor, values);
}

static struct error read_state(const struct safetensors *file, struct state *state)
{
    unsigned step = (unsigned)strtoul(json_string(file->metadata, "step", "0"), NULL, 10);
    if (strcmp(json_string(file->metadata, "job", ""), state->fingerprint) != 0 || step > state->losses_max)
        return error_make(ERR_CORRUPT, "the state belongs to another job");
    TRY(read_vector(file, "losses", step, state->losses));
    for (int i = 0; i < STATE_LEARNERS_MAX; i++) {
        struct learner *learner = state->learners[i];
        for (int which = 0; learner && which < 3; which++)
            TRY(read_vector(file, vector_names[i][which], learner->parameters->count, vector_of(learner, which)));
    }
    state->step = step;
    state->seconds = strtod(json_string(file->metadata, "seconds", "0"), NULL);
    return OK;
}

static bool fits(const struct safetensors *file, const struct state *state)
{
    for (int i = 0; i < STATE_LEARNERS_MAX; i++) {
        for (int which = 0; state->learners[i] && which < 3; which++) {
            const struct tensor *tensor = safetensors_find(file, vector_names[i][which]);
            if (!tensor || tensor->type != TENSOR_F32 || tensor->count != state->learners[i]->parameters->count)
                return false;
        }
    }
    return safetensors_find(file, "losses") != NULL;
}

struct error state_load(const char *folder, struct state *state)
{
    unsigned steps[found_max];
    size_t count = list_steps(folder, steps);
    state->step = 0;
    for (size_t i = 0; i < count; i++) {
        char path[path_bytes_max];
        struct safetensors *file;
        state_path(folder, steps[i], path);
        if (safetensors_open(path, &file).code != ERR_NONE)
            continue;
        /* Nothing is overwritten unless everything is there. */
        struct error error = fits(file, state) ? read_state(file, state) : error_make(ERR_CORRUPT, "%s", path);
        safetensors_close(file);
        if (!error.code)
            return OK;
    }
    return OK;
}
