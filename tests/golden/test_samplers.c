/* Whole samplings of the small SD model, step by step as diffusers' schedulers made them in double precision. */
#include "../unit/unit.h"

#include <stdlib.h>

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

static void check(const char *record, enum sampler_kind kind, const struct schedule *schedule, unsigned steps)
{
    float start[count], x[count], final[count], prediction[2 * count], context[2 * tokens * 32];
    struct sampler sampler;
    fill_input("in.uncond", tokens * 32, context);
    fill_input("in.ctx", tokens * 32, context + tokens * 32);
    fill_input("in.x_T", count, start);
    to_nhwc(1, 4, pixels, start, x);
    assert_ok(sampler_init(&sampler, schedule, kind, steps, count));
    for (int i = 0; i < count; i++)
        x[i] *= (float)sampler.first_sigma;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ddim_ends_where_diffusers_does),
        cmocka_unit_test(euler_ends_where_diffusers_does),
        cmocka_unit_test(dpm_solver_ends_where_diffusers_does),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
