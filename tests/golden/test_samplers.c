/* Whole samplings of the small SD model, step by step as diffusers' schedulers made them in double precision. */
#include "../unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"
#include "world.h"

enum { pixels = 64, count = 4 * pixels, tokens = 5 };

static struct world world;

static int setup(void **state)
{
    (void)state;
    world_init(&world, false, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_finish(&world);
    return 0;
}

/* Both conditions in one batch; the guided prediction is left in the first half. */
static void predict(const struct sampler *sampler, unsigned index, const float *context, const float *x,
                    float *prediction)
{
    const float guidance = 7.5f;
    float sample[2 * count], timesteps[2] = {sampler->timesteps[index], sampler->timesteps[index]};
    sampler_scale_input(sampler, index, x, sample);
    sampler_scale_input(sampler, index, x, sample + count);
    struct unet_input input = {.batch = 2,
                               .height = 8,
                               .width = 8,
                               .tokens = tokens,
                               .sample = sample,
                               .timesteps = timesteps,
                               .context = context};
    assert_ok(model_predict(world.model, &input, prediction));
    for (int i = 0; i < count; i++)
        prediction[i] += guidance * (prediction[count + i] - prediction[i]);
}

static void check_plan(const struct json *record, const struct sampler *sampler)
{
    const struct json *timesteps = json_get(record, "timesteps"), *sigmas = json_get(record, "sigmas");
    assert_int_equal(timesteps->count, sampler->steps);
    for (size_t i = 0; i < timesteps->count; i++)
        assert_true(fabs((double)sampler->timesteps[i] - json_item(timesteps, i)->number) < 1e-3);
    for (size_t i = 0; sigmas && i < sigmas->count; i++) {
        double sigma = json_item(sigmas, i)->number;
        assert_true(fabs(sampler->sigmas[i] - sigma) <= 2e-5 * (0.01 + sigma));
    }
    assert_true(fabs(sampler->first_sigma / json_number(record, "init_noise_sigma", NAN) - 1) < 1e-6);
}

static void check(const char *record, enum sampler_kind kind, const struct schedule *schedule, unsigned steps)
{
    float start[count], x[count], final[count], prediction[2 * count], context[2 * tokens * 32];
    struct sampler sampler;
    fill_input("in.uncond", tokens * 32, context);
    fill_input("in.ctx", tokens * 32, context + tokens * 32);
    fill_input("in.x_T", count, start);
    to_nhwc(1, 4, pixels, start, x);
    assert_ok(sampler_init(&sampler, schedule, kind, steps, count));
    check_plan(json_get(world.golden, record), &sampler);
    sampler_start(&sampler, NULL, 1, x);
    for (unsigned i = 0; i < steps; i++) {
        predict(&sampler, i, context, x, prediction);
        sampler_step(&sampler, i, prediction, x);
    }
    to_nchw(1, 4, pixels, x, final);
    assert_record(json_get(json_get(world.golden, record), "final"), final, count, 2e-4);
    sampler_finish(&sampler);
}

static struct schedule schedule_with(enum spacing spacing, unsigned offset)
{
    struct schedule schedule;
    schedule_defaults(&schedule);
    schedule.spacing = spacing;
    schedule.steps_offset = offset;
    schedule_compute(&schedule);
    return schedule;
}

static void ddim_ends_where_diffusers_does(void **state)
{
    (void)state;
    struct schedule schedule = schedule_with(SPACING_LEADING, 1);
    check("ddim_leading_off1_4steps_cfg7.5", SAMPLER_DDIM, &schedule, 4);
    schedule = schedule_with(SPACING_LEADING, 0);
    schedule.clip_sample = schedule.final_alpha_one = true;
    check("ddim_kohya_defaults_clip_4steps_cfg7.5", SAMPLER_DDIM, &schedule, 4);
}

static void euler_ends_where_diffusers_does(void **state)
{
    (void)state;
    struct schedule schedule = schedule_with(SPACING_LEADING, 1);
    check("euler_leading_off1_4steps_cfg7.5", SAMPLER_EULER, &schedule, 4);
    schedule = schedule_with(SPACING_LINSPACE, 1);
    check("euler_linspace_4steps_cfg7.5", SAMPLER_EULER, &schedule, 4);
}

static void dpm_solver_ends_where_diffusers_does(void **state)
{
    (void)state;
    struct schedule schedule = schedule_with(SPACING_LINSPACE, 1);
    check("dpmpp2m_linspace_6steps_cfg7.5", SAMPLER_DPMPP_2M, &schedule, 6);
    check("dpmpp2m_karras_6steps_cfg7.5", SAMPLER_DPMPP_2M_KARRAS, &schedule, 6);
    schedule.karras = true;
    check("dpmpp2m_karras_6steps_cfg7.5", SAMPLER_DPMPP_2M, &schedule, 6);
    schedule = schedule_with(SPACING_LEADING, 1);
    check("dpmpp2m_leading_off1_20steps_cfg7.5", SAMPLER_DPMPP_2M, &schedule, 20);
}

static double number_of(const struct json *record, const char *key)
{
    double number = json_number(record, key, NAN);
    assert_false(isnan(number));
    return number;
}

static void the_noise_schedule_is_that_of_diffusers(void **state)
{
    (void)state;
    struct schedule schedule = schedule_with(SPACING_LEADING, 1);
    JSON_EACH (alpha, json_get(world.golden, "alphas_cumprod")) {
        unsigned t = (unsigned)strtoul(alpha->key, NULL, 10);
        assert_true(fabs((double)schedule.alphas_cumprod[t] / alpha->number - 1) < 2e-7);
    }
    JSON_EACH (snr, json_get(world.golden, "snr"))
        assert_true(fabs(schedule_snr(&schedule, (unsigned)strtoul(snr->key, NULL, 10)) / snr->number - 1) < 1e-4);
    assert_true(number_of(json_get(world.golden, "snr"), "500") > 0);
}

static void check_rates(const char *key, struct rate_schedule rates)
{
    const struct json *table = json_get(world.golden, "lr_used_at_step_0_to_11_base1e-4_warmup2_total10");
    const struct json *rates_there = json_get(table, key);
    assert_int_equal(rates_there->count, 12);
    rates.base = 1e-4;
    rates.warmup = 2;
    rates.total = 10;
    for (unsigned i = 0; i < 12; i++)
        assert_true(fabs(rate_at(&rates, i) - json_item(rates_there, i)->number) < 1e-17);
}

static void learning_rates_are_those_of_diffusers(void **state)
{
    (void)state;
    check_rates("constant", (struct rate_schedule){.kind = RATE_CONSTANT});
    check_rates("constant_with_warmup", (struct rate_schedule){.kind = RATE_CONSTANT_WITH_WARMUP});
    check_rates("linear", (struct rate_schedule){.kind = RATE_LINEAR});
    check_rates("cosine", (struct rate_schedule){.kind = RATE_COSINE});
    check_rates("cosine_with_restarts{'num_cycles': 3}",
                (struct rate_schedule){.kind = RATE_COSINE_WITH_RESTARTS, .cycles = 3});
    check_rates("polynomial{'power': 2.0}", (struct rate_schedule){.kind = RATE_POLYNOMIAL, .power = 2});
    check_rates("polynomial_p1{'power': 1.0}", (struct rate_schedule){.kind = RATE_POLYNOMIAL, .power = 1});
}

/* A record that is added to the file must get a test, and a row here. */
static void every_record_has_its_test(void **state)
{
    (void)state;
    static const char *const records[] = {
        "alphas_cumprod",
        "snr",
        "lr_used_at_step_0_to_11_base1e-4_warmup2_total10", /* here */
        "ddim_leading_off1_4steps_cfg7.5",
        "ddim_kohya_defaults_clip_4steps_cfg7.5",
        "euler_leading_off1_4steps_cfg7.5",
        "euler_linspace_4steps_cfg7.5",
        "dpmpp2m_linspace_6steps_cfg7.5",
        "dpmpp2m_karras_6steps_cfg7.5",
        "dpmpp2m_leading_off1_20steps_cfg7.5",
        "unet_sd_forward_t500",
        "unet_sd_forward_t0", /* test_golden from here */
        "unet_sd_forward_odd_9x11_t37",
        "lora_sd_eps_t500_rank4_alpha4",
        "unet_sdxl_forward_t500",
        "lora_sdxl_vpred_t500_rank4_alpha2",
        "vae_encode_mean",
        "vae_encode_logvar",
        "vae_decode",
        "clip1_ids",
        "clip1_last_hidden_state",
        "clip1_penultimate",
        "clip2_gelu_penultimate",
        "clip2_pooled_projected",
        "_rule", /* how the weights are made: world.c */
    };
    JSON_EACH (record, world.golden) {
        size_t i = 0;
        while (i < sizeof records / sizeof *records && strcmp(records[i], record->key) != 0)
            i++;
        if (i == sizeof records / sizeof *records)
            fail_msg("%s has no test", record->key);
    }
    assert_int_equal(world.golden->count, sizeof records / sizeof *records);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_noise_schedule_is_that_of_diffusers),
        cmocka_unit_test(learning_rates_are_those_of_diffusers),
        cmocka_unit_test(every_record_has_its_test),
        cmocka_unit_test(ddim_ends_where_diffusers_does),
        cmocka_unit_test(euler_ends_where_diffusers_does),
        cmocka_unit_test(dpm_solver_ends_where_diffusers_does),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
