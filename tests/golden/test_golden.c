/* Every number that diffusers gave about models, in single precision here and in double there. */
#include "../unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels.h"
#include "world.h"

/* Of a record's deviation. Single precision loses about 1e-6 a network; gradients cancel more. */
#define TOLERANCE 2e-5
#define GRADIENT_TOLERANCE 1e-4

static int setup_sd(void **state)
{
    *state = calloc(1, sizeof(struct world));
    world_init(*state, false, 2);
    return 0;
}

static int setup_xl(void **state)
{
    *state = calloc(1, sizeof(struct world));
    world_init(*state, true, 2);
    return 0;
}

static int finish(void **state)
{
    world_finish(*state);
    free(*state);
    return 0;
}

static float *input(struct world *world, const char *name, size_t count)
{
    float *values = arena_array(&world->arena, count, sizeof *values);
    fill_input(name, count, values);
    return values;
}

static float *picture(struct world *world, const char *name, size_t channels, size_t pixels)
{
    float *values = arena_array(&world->arena, channels * pixels, sizeof *values);
    to_nhwc(1, channels, pixels, input(world, name, channels * pixels), values);
    return values;
}

static const float time_ids[] = {64, 48, 0, 4, 64, 64};

static struct unet_input unet_input(struct world *world, bool xl, const char *sample, size_t height, size_t width)
{
    return (struct unet_input){.batch = 1,
                               .height = height,
                               .width = width,
                               .tokens = 5,
                               .sample = picture(world, sample, 4, height * width),
                               .context = xl ? input(world, "in.ctxxl", 320) : input(world, "in.ctx", 160),
                               .pooled = xl ? input(world, "in.pooled", 32) : NULL,
                               .time_ids = xl ? time_ids : NULL};
}

/* x_t = alpha x0 + sigma noise at t = 500, and the velocity alpha noise - sigma x0. */
static struct unet_input noised_input(struct world *world, bool xl, float *velocity)
{
    static const float timestep = 500;
    struct unet_input input = unet_input(world, xl, "in.latents", 8, 8);
    const float *noise = picture(world, "in.noise", 4, 64), *latents = input.sample;
    float *noised = arena_array(&world->arena, 256, sizeof *noised);
    const float cumulative = (float)json_number(json_get(world->golden, "alphas_cumprod"), "500", 0);
    const float alpha = sqrtf(cumulative), sigma = sqrtf(1 - cumulative);
    for (int i = 0; i < 256; i++) {
        noised[i] = alpha * latents[i] + sigma * noise[i];
        velocity[i] = alpha * noise[i] - sigma * latents[i];
    }
    input.sample = noised;
    input.timesteps = &timestep;
    return input;
}

static void check_prediction(struct world *world, struct unet_input input, float timestep, const char *record)
{
    float prediction[4 * 99], nchw[4 * 99];
    size_t pixels = input.height * input.width;
    input.timesteps = &timestep;
    assert_ok(model_predict(world->model, &input, prediction));
    to_nchw(1, 4, pixels, prediction, nchw);
    assert_record(json_get(world->golden, record), nchw, 4 * pixels, TOLERANCE);
}

static void the_sd_unet_predicts_what_diffusers_does(void **state)
{
    float velocity[256];
    check_prediction(*state, noised_input(*state, false, velocity), 500, "unet_sd_forward_t500");
    check_prediction(*state, unet_input(*state, false, "in.latents", 8, 8), 0, "unet_sd_forward_t0");
}

/* What a LoRA changes in a prediction. */
static void predict_change(struct world *world, struct model *model, float change[256])
{
    float velocity[256], before[256];
    struct parameters *parameters;
    const struct unet_input input = noised_input(world, false, velocity);
    const struct parameter_options options = {.targets = TARGETS_ATTENTION, .unet = true, .rank = 4, .alpha = 4};
    assert_ok(parameters_create(model, &options, &parameters));
    fill_lora(parameters, "unet.");
    assert_ok(model_predict(model, &input, before));
    assert_ok(model_merge_parameters(model, parameters, 1));
    assert_ok(model_predict(model, &input, change));
    assert_ok(model_merge(model, NULL, 0));
    for (int i = 0; i < 256; i++)
        change[i] -= before[i];
    parameters_destroy(parameters);
}

static double norm_of(const float *a, const float *b)
{
    double squares = 0;
    for (int i = 0; i < 256; i++)
        squares += pow((double)a[i] - (b ? (double)b[i] : 0), 2);
    return sqrt(squares);
}

static void bfloat_weights_predict_nearly_the_same_in_half_the_memory(void **state)
{
    struct world *world = *state;
    struct model *half;
    float velocity[256], prediction[256], nchw[256], change[256], half_change[256];
    const struct unet_input input = noised_input(world, false, velocity);
    assert_ok(model_open_half(world->folder, world->pool, &half));
    assert_ok(model_predict(half, &input, prediction));
    to_nchw(1, 4, 64, prediction, nchw);
    assert_record(json_get(world->golden, "unet_sd_forward_t500"), nchw, 256, 0.02);
    assert_true(model_weight_bytes(half) < 0.75 * (double)model_weight_bytes(world->model)); /* the VAE is in fp32 */
    predict_change(world, world->model, change);
    predict_change(world, half, half_change);
    assert_true(norm_of(change, NULL) > 0.1 && norm_of(change, half_change) < 0.05 * norm_of(change, NULL));
    model_destroy(half);
}

static void odd_latents_follow_the_size_of_their_skips(void **state)
{
    check_prediction(*state, unet_input(*state, false, "in.odd", 9, 11), 37, "unet_sd_forward_odd_9x11_t37");
}

static void the_sdxl_unet_predicts_what_diffusers_does(void **state)
{
    float velocity[256];
    check_prediction(*state, noised_input(*state, true, velocity), 500, "unet_sdxl_forward_t500");
}

static void the_vae_encodes_and_decodes_as_diffusers_does(void **state)
{
    struct world *world = *state;
    float image[768], *rgb = picture(world, "in.image", 3, 256), mean[256], logvar[256], nchw[768];
    for (int i = 0; i < 768; i++)
        rgb[i] = rgb[i] > 1 ? 1 : rgb[i] < -1 ? -1 : rgb[i];
    assert_ok(model_encode_image(world->model, 1, 16, 16, rgb, mean, logvar));
    to_nchw(1, 4, 64, mean, nchw);
    assert_record(json_get(world->golden, "vae_encode_mean"), nchw, 256, TOLERANCE);
    to_nchw(1, 4, 64, logvar, nchw);
    assert_record(json_get(world->golden, "vae_encode_logvar"), nchw, 256, TOLERANCE);
    assert_ok(model_decode_latents(world->model, 1, 8, 8, picture(world, "in.z", 4, 64), image));
    to_nchw(1, 3, 256, image, nchw);
    assert_record(json_get(world->golden, "vae_decode"), nchw, 768, TOLERANCE);
}

static const int32_t ids[] = {998, 5, 17, 300, 42, 999, 999, 999};

static void assert_ids_of_record(struct world *world)
{
    const struct json *list = json_item(json_get(world->golden, "clip1_ids"), 0);
    assert_int_equal(list->count, sizeof ids / sizeof *ids);
    for (size_t i = 0; i < list->count; i++)
        assert_int_equal((int32_t)json_item(list, i)->number, ids[i]);
}

static void the_text_encoder_ends_in_its_last_norm(void **state)
{
    struct world *world = *state;
    float context[256];
    assert_ids_of_record(world);
    assert_ok(model_encode_text(world->model, 1, 8, ids, NULL, 0, context, NULL));
    assert_record(json_get(world->golden, "clip1_last_hidden_state"), context, 256, TOLERANCE);
}

static void sdxl_joins_the_second_last_layers_of_two_encoders(void **state)
{
    struct world *world = *state;
    float context[512], first[256], second[256], pooled[32];
    assert_ok(model_encode_text(world->model, 1, 8, ids, ids, 0, context, pooled));
    for (int i = 0; i < 256; i++) {
        first[i] = context[i / 32 * 64 + i % 32];
        second[i] = context[i / 32 * 64 + 32 + i % 32];
    }
    assert_record(json_get(world->golden, "clip1_penultimate"), first, 256, TOLERANCE);
    assert_record(json_get(world->golden, "clip2_gelu_penultimate"), second, 256, TOLERANCE);
    assert_record(json_get(world->golden, "clip2_pooled_projected"), pooled, 32, TOLERANCE);
}

/* ---- LoRA ---- */

static void check_modules(const struct parameters *parameters, const struct json *modules, const float *values,
                          double tolerance)
{
    size_t checked = 0;
    for (size_t i = 0; i < parameters->table_count; i++) {
        const struct parameter *parameter = &parameters->table[i];
        const struct json *module = json_get(modules, parameter->module);
        if (!module)
            continue;
        assert_record(json_get(module, parameter->role == PARAMETER_LORA_A ? "A" : "B"), values + parameter->offset,
                      parameter->count, tolerance);
        checked++;
    }
    assert_int_equal(checked, 2 * modules->count);
}

static void assert_relative(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance * fabs(expected)))
        fail_msg("%.9g is not %.9g within %.1g", value, expected, tolerance);
}

static double step(struct training *training, struct parameters *parameters, const struct unet_input *input,
                   const float *target)
{
    double loss;
    memset(parameters->gradients, 0, parameters->count * sizeof(float));
    assert_ok(training_step(training, input, target, NULL, 1, &loss, NULL));
    return loss;
}

static void check_lora(struct world *world, bool xl, const char *record_name)
{
    const struct json *record = json_get(world->golden, record_name);
    struct parameters *parameters;
    struct training *training;
    const struct parameter_options options = {
        .targets = TARGETS_ATTENTION, .unet = true, .rank = 4, .alpha = xl ? 2 : 4};
    assert_ok(parameters_create(world->model, &options, &parameters));
    const struct training_shape shape = {.batch = 1, .height = 8, .width = 8, .tokens = 5};
    assert_ok(training_create(world->model, parameters, &shape, &training));
    assert_int_equal(parameters->table_count / 2, json_int(record, "n_modules", 0));
    fill_lora(parameters, xl ? "unetxl." : "unet.");

    float velocity[256];
    const struct unet_input input = noised_input(world, xl, velocity);
    const float *target = xl ? velocity : picture(world, "in.noise", 4, 64);

    size_t count = parameters->count;
    float *first = arena_array(&world->arena, count, sizeof(float));
    float *second = arena_array(&world->arena, count, sizeof(float));
    struct adamw adamw = {.rate = 1e-3f,
                          .beta1 = 0.9f,
                          .beta2 = 0.999f,
                          .epsilon = 1e-8f,
                          .decay = 1e-2f,
                          .gradient_scale = 1,
                          .step = 1};
    assert_relative(step(training, parameters, &input, target), json_number(record, "loss", NAN), 1e-6);
    assert_relative(sqrt(sum_of_squares(world->pool, count, parameters->gradients)),
                    json_number(record, "total_grad_norm", NAN), 1e-5);
    check_modules(parameters, json_get(record, "grads"), parameters->gradients, GRADIENT_TOLERANCE);
    adamw_update(world->pool, &adamw, count, parameters->values, parameters->gradients, first, second);
    check_modules(parameters, json_get(record, "after_1_adamw_step_lr1e-3_wd1e-2_clip1.0"), parameters->values,
                  GRADIENT_TOLERANCE);
    assert_relative(step(training, parameters, &input, target), json_number(record, "loss_after_1_step", NAN), 1e-6);
    adamw.step = 2;
    adamw_update(world->pool, &adamw, count, parameters->values, parameters->gradients, first, second);
    assert_relative(step(training, parameters, &input, target), json_number(record, "loss_after_2_steps", NAN), 1e-6);

    /* Merged into the weights, the LoRA predicts the same. */
    float prediction[256];
    double loss = 0;
    assert_ok(model_merge_parameters(world->model, parameters, 1));
    assert_ok(model_predict(world->model, &input, prediction));
    for (int i = 0; i < 256; i++)
        loss += (double)(prediction[i] - target[i]) * (double)(prediction[i] - target[i]) / 256;
    assert_relative(loss, json_number(record, "loss_after_2_steps", NAN), 2e-6);
    assert_ok(model_merge(world->model, NULL, 0));
    training_destroy(training);
    parameters_destroy(parameters);
}

static void sd_lora_gradients_and_steps_are_those_of_diffusers(void **state)
{
    check_lora(*state, false, "lora_sd_eps_t500_rank4_alpha4");
}

static void sdxl_lora_gradients_and_steps_are_those_of_diffusers(void **state)
{
    check_lora(*state, true, "lora_sdxl_vpred_t500_rank4_alpha2");
}

int main(void)
{
    const struct CMUnitTest sd[] = {
        cmocka_unit_test(the_sd_unet_predicts_what_diffusers_does),
        cmocka_unit_test(odd_latents_follow_the_size_of_their_skips),
        cmocka_unit_test(bfloat_weights_predict_nearly_the_same_in_half_the_memory),
        cmocka_unit_test(the_vae_encodes_and_decodes_as_diffusers_does),
        cmocka_unit_test(the_text_encoder_ends_in_its_last_norm),
        cmocka_unit_test(sd_lora_gradients_and_steps_are_those_of_diffusers),
        cmocka_unit_test(the_sd_unet_predicts_what_diffusers_does),
    };
    const struct CMUnitTest xl[] = {
        cmocka_unit_test(the_sdxl_unet_predicts_what_diffusers_does),
        cmocka_unit_test(sdxl_joins_the_second_last_layers_of_two_encoders),
        cmocka_unit_test(sdxl_lora_gradients_and_steps_are_those_of_diffusers),
    };
    return cmocka_run_group_tests_name("sd", sd, setup_sd, finish) +
           cmocka_run_group_tests_name("sdxl", xl, setup_xl, finish);
}
