/* What diffusers gave no numbers for, by central differences: each module's gradient must predict how the loss changes
 * along it. And what no reference promises: the same bytes for any number of threads. */
#include "../unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels.h"
#include "engine/vae_training.h"
#include "world.h"

enum { BATCH = 2, SIDE = 5, TOKENS = 8, PIXELS = SIDE * SIDE };

/* A training of a world and one batch for it. */
struct bench {
    struct world *world;
    struct parameters *parameters;
    struct training *training;
    struct unet_input input;
    float *target;
};

static const float timesteps[BATCH] = {17, 801};
static const float weights[BATCH] = {1, 0.25f};
static const float time_ids[BATCH * 6] = {64, 48, 0, 4, 64, 64, 80, 80, 2, 0, 64, 64};
static const int32_t ids[BATCH * TOKENS] = {998, 5, 17, 300, 42, 999, 999, 999, 998, 7, 999, 999, 999, 999, 999, 999};

static float *input(struct world *world, const char *name, size_t count)
{
    float *values = arena_array(&world->arena, count, sizeof *values);
    fill_input(name, count, values);
    return values;
}

static void bench_init_as(struct bench *bench, struct world *world, const struct parameter_options *options,
                          enum recompute recompute)
{
    *bench = (struct bench){.world = world};
    size_t width = model_info(world->model)->context_width;
    bench->input = (struct unet_input){.batch = BATCH,
                                       .height = SIDE,
                                       .width = SIDE,
                                       .tokens = TOKENS,
                                       .sample = input(world, "sample", BATCH * PIXELS * 4),
                                       .timesteps = timesteps,
                                       .context = input(world, "context", BATCH * TOKENS * width),
                                       .pooled = input(world, "pooled", BATCH * 32),
                                       .time_ids = time_ids,
                                       .ids = ids,
                                       .ids_2 = ids};
    bench->target = input(world, "target", BATCH * PIXELS * 4);
    const struct training_shape shape = {
        .batch = BATCH, .height = SIDE, .width = SIDE, .tokens = TOKENS, .recompute = recompute};
    assert_ok(parameters_create(world->model, options, &bench->parameters));
    assert_ok(training_create(world->model, bench->parameters, &shape, &bench->training));
    if (options->targets != TARGETS_FULL)
        fill_lora(bench->parameters, "test.");
}

static void bench_init(struct bench *bench, struct world *world, const struct parameter_options *options)
{
    bench_init_as(bench, world, options, RECOMPUTE_NEVER);
}

static void bench_finish(struct bench *bench)
{
    training_destroy(bench->training);
    parameters_destroy(bench->parameters);
}

static double loss_of(struct bench *bench)
{
    double loss;
    memset(bench->parameters->gradients, 0, bench->parameters->count * sizeof(float));
    assert_ok(training_step(bench->training, &bench->input, bench->target, weights, 1, &loss, NULL));
    return loss;
}

/* The change of the loss along the gradient of one tensor, relative to the gradient's norm: 1 when it is right. The
 * step keeps single precision's noise (1e-7 of the loss) and the curvature each under a hundredth. */
static void check_tensor(struct bench *bench, const struct parameter *parameter, const float *gradient)
{
    double squares = 0;
    float *values = bench->parameters->values + parameter->offset;
    for (size_t i = 0; i < parameter->count; i++)
        squares += (double)gradient[i] * (double)gradient[i];
    double norm = sqrt(squares), step = 0.02;
    if (norm < 1e-3)
        return; /* too small against the noise; the others show that the kind of op is right */
    float *kept = malloc(parameter->count * sizeof *kept);
    memcpy(kept, values, parameter->count * sizeof *kept);
    double losses[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < parameter->count; i++)
            values[i] = kept[i] + (float)((side ? -step : step) * (double)gradient[i] / norm);
        losses[side] = loss_of(bench);
    }
    memcpy(values, kept, parameter->count * sizeof *kept);
    free(kept);
    double slope = (losses[0] - losses[1]) / (2 * step);
    if (!(fabs(slope / norm - 1) < 0.02))
        fail_msg("%s, role %d: the slope is %.6g, the gradient %.6g", parameter->module, (int)parameter->role, slope,
                 norm);
}

static size_t check_all(struct world *world, const struct parameter_options *options, size_t stride)
{
    struct bench bench;
    bench_init(&bench, world, options);
    size_t count = bench.parameters->count, checked = 0;
    loss_of(&bench);
    float *gradients = malloc(count * sizeof *gradients);
    memcpy(gradients, bench.parameters->gradients, count * sizeof *gradients);
    for (size_t i = 0; i < bench.parameters->table_count; i += stride) {
        check_tensor(&bench, &bench.parameters->table[i], gradients + bench.parameters->table[i].offset);
        checked++;
    }
    free(gradients);
    bench_finish(&bench);
    return checked;
}

static struct world sd, xl;

static int setup(void **state)
{
    (void)state;
    world_init(&sd, false, 1);
    world_init(&xl, true, 1);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    world_finish(&sd);
    world_finish(&xl);
    return 0;
}

static void wide_lora_and_text_lora_have_the_slope_of_the_loss(void **state)
{
    (void)state;
    const struct parameter_options options = {
        .targets = TARGETS_WIDE, .unet = true, .text = true, .rank = 3, .alpha = 6};
    assert_true(check_all(&sd, &options, 7) > 20);
    assert_true(check_all(&xl, &options, 19) > 20);
}

static void text_lora_alone_has_the_slope_of_the_loss(void **state)
{
    (void)state;
    const struct parameter_options options = {.targets = TARGETS_ATTENTION, .text = true, .rank = 3, .alpha = 3};
    assert_true(check_all(&xl, &options, 7) > 10);
}

static void every_weight_of_the_unet_has_the_slope_of_the_loss(void **state)
{
    (void)state;
    assert_true(check_all(&sd, &(struct parameter_options){.targets = TARGETS_FULL, .unet = true}, 13) > 20);
}

static void every_weight_of_the_text_encoders_has_the_slope_of_the_loss(void **state)
{
    (void)state;
    const struct parameter_options both = {.targets = TARGETS_FULL, .unet = true, .text = true};
    const struct parameter_options text = {.targets = TARGETS_FULL, .text = true};
    assert_true(check_all(&sd, &both, 11) > 20);
    assert_true(check_all(&sd, &text, 1) > 20); /* tables of words and places too */
    assert_true(check_all(&xl, &text, 1) > 40);
}

/* The VAE of the small SD model, on pictures of 16 pixels. */
static void every_weight_of_the_vae_has_the_slope_of_its_loss(void **state)
{
    (void)state;
    enum { VAE_BATCH = 2, VAE_SIDE = 16, VAE_FLOATS = VAE_BATCH * VAE_SIDE * VAE_SIDE * 3 };
    const struct vae_loss parts = {.absolute = 1, .squared = 2, .edges = 0.5f, .moments = 0.05f};
    const struct model_info *info = model_info(sd.model);
    size_t side = VAE_SIDE / info->vae_factor, checked = 0;
    const float *rgb = input(&sd, "rgb", VAE_FLOATS);
    const float *noise = input(&sd, "noise", VAE_BATCH * side * side * info->latent_channels);
    struct parameters *parameters;
    struct vae_training *training;
    assert_ok(
        parameters_create(sd.model, &(struct parameter_options){.targets = TARGETS_FULL, .vae = true}, &parameters));
    assert_ok(vae_training_create(sd.model, parameters, VAE_BATCH, VAE_SIDE, VAE_SIDE, &parts, &training));
    double loss = vae_training_step(training, rgb, noise);
    assert_true(loss > 0.1 && loss < 100);
    float *gradients = malloc(parameters->count * sizeof *gradients), *values = parameters->values;
    memcpy(gradients, parameters->gradients, parameters->count * sizeof *gradients);
    for (size_t i = 0; i < parameters->table_count; i++) {
        const struct parameter *parameter = &parameters->table[i];
        const float *gradient = gradients + parameter->offset;
        double squares = 0, losses[2], step = 0.005;
        for (size_t j = 0; j < parameter->count; j++)
            squares += (double)gradient[j] * (double)gradient[j];
        double norm = sqrt(squares);
        if (norm < 5e-3)
            continue;
        float *kept = memcpy(malloc(parameter->count * sizeof *kept), values + parameter->offset,
                             parameter->count * sizeof *kept);
        for (int way = 0; way < 2; way++) {
            for (size_t j = 0; j < parameter->count; j++)
                values[parameter->offset + j] = kept[j] + (float)((way ? -step : step) * (double)gradient[j] / norm);
            losses[way] = vae_training_step(training, rgb, noise);
        }
        memcpy(values + parameter->offset, kept, parameter->count * sizeof *kept);
        free(kept);
        double slope = (losses[0] - losses[1]) / (2 * step);
        if (!(fabs(slope / norm - 1) < 0.03))
            fail_msg("%s, role %d: the slope is %.6g, the gradient %.6g", parameter->module, (int)parameter->role,
                     slope, norm);
        checked++;
    }
    assert_true(checked > parameters->table_count / 2);
    free(gradients);
    vae_training_destroy(training);
    parameters_destroy(parameters);
}

static void gradients_add_up_and_follow_their_scale(void **state)
{
    (void)state;
    struct bench bench;
    double loss;
    const struct parameter_options options = {.targets = TARGETS_WIDE, .unet = true, .rank = 2, .alpha = 2};
    bench_init(&bench, &sd, &options);
    loss_of(&bench);
    double once = sqrt(sum_of_squares(sd.pool, bench.parameters->count, bench.parameters->gradients));
    assert_ok(training_step(bench.training, &bench.input, bench.target, weights, 0.5f, &loss, NULL));
    double more = sqrt(sum_of_squares(sd.pool, bench.parameters->count, bench.parameters->gradients));
    assert_true(fabs(more / once - 1.5) < 1e-5);
    bench_finish(&bench);
}

static void check_recomputation(struct world *world, const struct parameter_options *options)
{
    struct bench kept, again;
    bench_init_as(&kept, world, options, RECOMPUTE_NEVER);
    bench_init_as(&again, world, options, RECOMPUTE_ALWAYS);
    assert_false(training_recomputes(kept.training));
    assert_true(training_recomputes(again.training));
    size_t bytes = kept.parameters->count * sizeof(float);
    for (int i = 0; i < 2; i++) { /* the second time from memory that the first has used */
        assert_true(loss_of(&kept) == loss_of(&again));
        assert_memory_equal(kept.parameters->gradients, again.parameters->gradients, bytes);
    }
    assert_true(training_bytes(again.training) * 10 < training_bytes(kept.training) * 8);
    bench_finish(&kept);
    bench_finish(&again);
}

static void recomputed_activations_give_the_same_bytes_in_less_memory(void **state)
{
    (void)state;
    const struct parameter_options wide = {.targets = TARGETS_WIDE, .unet = true, .text = true, .rank = 4, .alpha = 4};
    const struct parameter_options attention = {.targets = TARGETS_ATTENTION, .unet = true, .rank = 4, .alpha = 4};
    const struct parameter_options text = {.targets = TARGETS_ATTENTION, .text = true, .rank = 4, .alpha = 4};
    check_recomputation(&sd, &wide);
    check_recomputation(&xl, &wide);
    check_recomputation(&sd, &attention);
    check_recomputation(&xl, &text);
    check_recomputation(&sd, &(struct parameter_options){.targets = TARGETS_FULL, .unet = true});
}

static void a_plan_fits_its_memory_or_says_so(void **state)
{
    (void)state;
    struct parameters *parameters;
    struct training *kept, *fitted, *none = NULL;
    const struct parameter_options options = {.targets = TARGETS_WIDE, .unet = true, .rank = 4, .alpha = 4};
    struct training_shape shape = {.batch = BATCH, .height = SIDE, .width = SIDE, .tokens = TOKENS};
    assert_ok(parameters_create(sd.model, &options, &parameters));
    assert_ok(training_create(sd.model, parameters, &shape, &kept));
    shape.memory_max = training_bytes(kept) - 1;
    assert_ok(training_create(sd.model, parameters, &shape, &fitted));
    assert_false(training_recomputes(kept));
    assert_true(training_recomputes(fitted));
    shape.memory_max = training_bytes(fitted) - 1;
    assert_error(training_create(sd.model, parameters, &shape, &none), ERR_INTERNAL);
    assert_null(none);
    training_destroy(kept);
    training_destroy(fitted);
    parameters_destroy(parameters);
}

/* The gradients in a model of its own, with so many threads and these kernels; NULL without them. */
static float *gradients_of(bool of_xl, unsigned threads, const char *kernels, size_t *bytes)
{
    struct world *world = calloc(1, sizeof *world);
    struct bench bench;
    float *gradients = NULL;
    const struct parameter_options options = {
        .targets = of_xl ? TARGETS_WIDE : TARGETS_ATTENTION, .unet = true, .text = of_xl, .rank = 4, .alpha = 4};
    world_init(world, of_xl, threads);
    if (!kernels || kernels_choose(world->pool, kernels)) {
        bench_init(&bench, world, &options);
        loss_of(&bench);
        *bytes = bench.parameters->count * sizeof(float);
        gradients = memcpy(malloc(*bytes), bench.parameters->gradients, *bytes);
        bench_finish(&bench);
    }
    world_finish(world);
    free(world);
    return gradients;
}

static void check_against(bool of_xl, unsigned threads, const char *kernels, const float *expected, size_t bytes)
{
    size_t other_bytes;
    float *other = gradients_of(of_xl, threads, kernels, &other_bytes);
    if (!other) {
        print_message("this CPU has no %s kernels\n", kernels ? kernels : "default");
        return;
    }
    assert_int_equal(bytes, other_bytes);
    assert_memory_equal(expected, other, bytes);
    free(other);
}

/* The portable kernels, whose fused products are library calls, take long: they have the small model. */
static void any_number_of_threads_and_any_kernels_give_the_same_bytes(void **state)
{
    (void)state;
    size_t bytes, small_bytes;
    float *all = gradients_of(true, 1, NULL, &bytes), *small = gradients_of(false, 2, NULL, &small_bytes);
    check_against(true, 2, NULL, all, bytes);
    check_against(true, 3, NULL, all, bytes);
    check_against(true, 2, "avx2", all, bytes);
    check_against(true, 3, "avx512", all, bytes);
    check_against(false, 2, "portable", small, small_bytes);
    free(all);
    free(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_lora_and_text_lora_have_the_slope_of_the_loss),
        cmocka_unit_test(text_lora_alone_has_the_slope_of_the_loss),
        cmocka_unit_test(every_weight_of_the_unet_has_the_slope_of_the_loss),
        cmocka_unit_test(every_weight_of_the_text_encoders_has_the_slope_of_the_loss),
        cmocka_unit_test(every_weight_of_the_vae_has_the_slope_of_its_loss),
        cmocka_unit_test(gradients_add_up_and_follow_their_scale),
        cmocka_unit_test(recomputed_activations_give_the_same_bytes_in_less_memory),
        cmocka_unit_test(a_plan_fits_its_memory_or_says_so),
        cmocka_unit_test(any_number_of_threads_and_any_kernels_give_the_same_bytes),
    };
    return cmocka_run_group_tests_name("gradients", tests, setup, finish);
}
