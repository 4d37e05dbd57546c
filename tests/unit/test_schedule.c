/* Noise schedules, timesteps and learning rates against numbers from diffusers' own classes. */
#include "unit.h"

#include <math.h>
#include <string.h>

#include "engine/sampler.h"
#include "engine/schedule.h"

static struct schedule schedule;

static int setup(void **state)
{
    (void)state;
    schedule_defaults(&schedule);
    schedule_compute(&schedule);
    return 0;
}

static void alphas_are_those_of_the_reference(void **state)
{
    (void)state;
    static const struct {
        unsigned timestep;
        double value;
    } golden[] = {{0, 0.9991499781608582},    {1, 0.9982960224151611},      {10, 0.9904313087463379},
                  {100, 0.894223153591156},   {250, 0.67379230260849},      {500, 0.2763324975967407},
                  {750, 0.05616981163620949}, {998, 0.0047166962176561356}, {999, 0.0046600960195064545}};
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        assert_true(fabs(schedule.alphas_cumprod[golden[i].timestep] / golden[i].value - 1) < 2e-7);
    assert_true(fabs(schedule_snr(&schedule, 100) - 8.453864753490988) < 1e-4);
    assert_true(fabs(schedule_snr(&schedule, 999) - 0.004681914189183138) < 1e-8);
}

static void min_snr_weights_cap_the_easy_timesteps(void **state)
{
    (void)state;
    assert_true(schedule_min_snr_weight(&schedule, 100, 0) == 1);
    assert_true(fabs(schedule_min_snr_weight(&schedule, 100, 5) - 5 / 8.453864753490988) < 1e-6);
    assert_true(schedule_min_snr_weight(&schedule, 999, 5) == 1);
    schedule.prediction = PREDICT_VELOCITY;
    assert_true(fabs(schedule_min_snr_weight(&schedule, 100, 5) - 5 / 9.453864753490988) < 1e-6);
}

static void zero_terminal_snr_ends_in_pure_noise(void **state)
{
    (void)state;
    float first = schedule.alphas_cumprod[0];
    schedule.zero_terminal_snr = true;
    schedule_compute(&schedule);
    assert_true(schedule.alphas_cumprod[999] == 0);
    assert_true(fabsf(schedule.alphas_cumprod[0] - first) < 1e-6f);
}

static void the_squared_cosine_schedule_falls_to_almost_nothing(void **state)
{
    (void)state;
    schedule.betas = BETAS_SQUARED_COSINE;
    schedule_compute(&schedule);
    assert_true(fabs(schedule.alphas_cumprod[500] - 0.4922852) < 2e-4);
    assert_true(schedule.alphas_cumprod[999] < 1e-6f);
    for (unsigned t = 1; t < schedule.steps; t++)
        assert_true(schedule.alphas_cumprod[t] < schedule.alphas_cumprod[t - 1]);
}

static void noise_and_target_obey_the_definitions(void **state)
{
    (void)state;
    float x0 = 0.5f, noise = -1.25f, noisy, target;
    double signal = sqrt(schedule.alphas_cumprod[300]), spread = sqrt(1 - signal * signal);
    schedule_add_noise(&schedule, 300, 1, &x0, &noise, &noisy, &target);
    assert_true(fabs(noisy - (signal * x0 + spread * noise)) < 1e-6);
    assert_true(target == noise);
    schedule.prediction = PREDICT_VELOCITY;
    schedule_add_noise(&schedule, 300, 1, &x0, &noise, &noisy, &target);
    assert_true(fabs(target - (signal * noise - spread * x0)) < 1e-6);
}

static void check_sampler(enum sampler_kind kind, enum spacing spacing, unsigned offset, bool karras, unsigned steps,
                          const double *timesteps, const double *sigmas, double first_sigma)
{
    struct sampler sampler;
    schedule.spacing = spacing;
    schedule.steps_offset = offset;
    schedule.karras = karras;
    assert_ok(sampler_init(&sampler, &schedule, kind, steps, 4));
    for (unsigned i = 0; i < steps; i++)
        assert_true(fabs(sampler.timesteps[i] - timesteps[i]) < 1e-3);
    for (unsigned i = 0; sigmas && i <= steps; i++)
        assert_true(fabs(sampler.sigmas[i] - sigmas[i]) <= 2e-5 * (0.01 + sigmas[i]));
    assert_true(fabs(sampler.first_sigma / first_sigma - 1) < 1e-6);
    sampler_finish(&sampler);
}

static void timesteps_and_sigmas_are_those_of_the_reference(void **state)
{
    (void)state;
    check_sampler(SAMPLER_DDIM, SPACING_LEADING, 1, false, 4, (double[]){751, 501, 251, 1}, NULL, 1);
    check_sampler(SAMPLER_DDIM, SPACING_LEADING, 0, false, 4, (double[]){750, 500, 250, 0}, NULL, 1);
    check_sampler(SAMPLER_DDIM, SPACING_TRAILING, 0, false, 4, (double[]){999, 749, 499, 249}, NULL, 1);
    check_sampler(SAMPLER_EULER, SPACING_LEADING, 1, false, 4, (double[]){751, 501, 251, 1},
                  (double[]){4.116697788238525, 1.6236928701400757, 0.6983985900878906, 0.04131447896361351, 0},
                  4.236413478851318);
    check_sampler(SAMPLER_EULER, SPACING_LINSPACE, 1, false, 4, (double[]){999, 666, 333, 0},
                  (double[]){14.614645004272461, 2.9183082580566406, 0.9323583245277405, 0.029167532920837402, 0},
                  14.614645004272461);
    check_sampler(SAMPLER_DPMPP_2M, SPACING_LINSPACE, 1, false, 6, (double[]){999, 832, 666, 500, 333, 166},
                  (double[]){14.614645004272461, 5.934703826904297, 2.9183082580566406, 1.6182795763015747,
                             0.9323583245277405, 0.49240967631340027, 0},
                  1);
    check_sampler(SAMPLER_DPMPP_2M, SPACING_LINSPACE, 1, true, 6, (double[]){999, 837, 594, 249, 30, 0},
                  (double[]){14.614645004272461, 6.082158088684082, 2.232161283493042, 0.6925739049911499,
                             0.16975794732570648, 0.029167532920837402, 0},
                  1);
    check_sampler(
        SAMPLER_DPMPP_2M, SPACING_LEADING, 1, false, 20,
        (double[]){941, 894, 847, 800, 753, 706, 659, 612, 565, 518, 471, 424, 377, 330, 283, 236, 189, 142, 95, 48},
        NULL, 1);
}

/* A model that always names the true noise makes every sampler find the true latent. */
static void every_sampler_finds_the_latent_that_an_oracle_points_to(void **state)
{
    (void)state;
    const float x0[] = {0.7f, -1.1f, 0.2f, 0.05f};
    for (int kind = SAMPLER_DDIM; kind < SAMPLER_COUNT; kind++) {
        struct sampler sampler;
        float x[] = {1, -2, 0.5f, 0.1f}, input[4], said[4];
        schedule.final_alpha_one = true;
        assert_ok(sampler_init(&sampler, &schedule, (enum sampler_kind)kind, 10, 4));
        sampler_start(&sampler, NULL, 1, x);
        for (unsigned i = 0; i < 10; i++) {
            double acp = schedule.alphas_cumprod[(int)sampler.timesteps[i]];
            sampler_scale_input(&sampler, i, x, input);
            for (int j = 0; j < 4; j++)
                said[j] = (float)((input[j] - sqrt(acp) * x0[j]) / sqrt(1 - acp));
            sampler_step(&sampler, i, said, x);
        }
        for (int j = 0; j < 4; j++)
            assert_true(fabsf(x[j] - x0[j]) < 2e-3f);
        sampler_finish(&sampler);
    }
}

/* An oracle leaves x = x0 + sigma noise: so much must be left after each step, whatever part of it is fresh. */
static void ancestral_steps_keep_the_noise_of_their_sigma(void **state)
{
    (void)state;
    enum { numbers = 20000 };
    struct sampler sampler;
    float *x = calloc(numbers, sizeof *x), *said = malloc(numbers * sizeof *said),
          *before = malloc(numbers * sizeof *x);
    schedule.spacing = SPACING_LEADING;
    assert_ok(sampler_init(&sampler, &schedule, SAMPLER_EULER_ANCESTRAL, 5, numbers));
    sampler.noise.seed = 4;
    rng_normal(&(struct rng){.seed = 3, .purpose = RNG_SAMPLE}, numbers, x);
    for (int i = 0; i < numbers; i++)
        x[i] *= (float)sampler.sigmas[0];
    for (unsigned step = 0; step < 5; step++) {
        double squares = 0, product = 0, sigma = sampler.sigmas[step], next = sampler.sigmas[step + 1];
        for (int i = 0; i < numbers; i++)
            said[i] = x[i] / (float)sigma; /* x0 is 0 */
        memcpy(before, x, numbers * sizeof *x);
        sampler_step(&sampler, step, said, x);
        for (int i = 0; i < numbers; i++) {
            squares += (double)x[i] * (double)x[i] / numbers;
            product += (double)x[i] * (double)before[i] / numbers;
        }
        assert_true(fabs(sqrt(squares) - next) < 0.02 * next + 1e-6);
        assert_true(fabs(product / (sigma * sigma) - next * next / (sigma * sigma)) < 0.02); /* what is not fresh */
    }
    sampler_finish(&sampler);
    free(x);
    free(said);
    free(before);
}

static void samplers_have_the_names_of_the_api(void **state)
{
    (void)state;
    enum sampler_kind kind;
    assert_true(sampler_kind_parse("EulerAncestralDiscreteScheduler", &kind) && kind == SAMPLER_EULER_ANCESTRAL);
    assert_true(sampler_kind_parse("DPMSolverMultistepScheduler", &kind) && kind == SAMPLER_DPMPP_2M);
    assert_true(sampler_kind_parse("dpmpp_2m_karras", &kind) && kind == SAMPLER_DPMPP_2M_KARRAS);
    assert_false(sampler_kind_parse("PNDMScheduler", &kind));
    assert_string_equal(sampler_scheduler_name(SAMPLER_DDIM), "DDIMScheduler");
}

static void absurd_numbers_of_steps_are_refused(void **state)
{
    (void)state;
    struct sampler sampler;
    assert_error(sampler_init(&sampler, &schedule, SAMPLER_DDIM, 0, 4), ERR_INVALID);
    assert_error(sampler_init(&sampler, &schedule, SAMPLER_DDIM, SAMPLER_STEPS_MAX + 1, 4), ERR_INVALID);
}

static void check_rates(struct rate_schedule rates, const double *golden)
{
    for (unsigned i = 0; i < 12; i++)
        assert_true(fabs(rate_at(&rates, i) - golden[i]) < 1e-17);
}

static void learning_rates_are_those_of_the_reference(void **state)
{
    (void)state;
    struct rate_schedule rates = {.base = 1e-4, .warmup = 2, .total = 10, .cycles = 3, .power = 2};
    rates.kind = RATE_CONSTANT;
    check_rates(rates, (double[]){1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4});
    rates.kind = RATE_CONSTANT_WITH_WARMUP;
    check_rates(rates, (double[]){0, 5e-5, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4});
    rates.kind = RATE_LINEAR;
    check_rates(rates, (double[]){0, 5e-5, 1e-4, 8.75e-5, 7.5e-5, 6.25e-5, 5e-5, 3.75e-5, 2.5e-5, 1.25e-5, 0, 0});
    rates.kind = RATE_COSINE;
    check_rates(rates, (double[]){0, 5e-5, 1e-4, 9.619397662556435e-5, 8.535533905932738e-5, 6.91341716182545e-5, 5e-5,
                                  3.086582838174551e-5, 1.4644660940672627e-5, 3.8060233744356633e-6, 0,
                                  3.8060233744356578e-6});
    rates.kind = RATE_COSINE_WITH_RESTARTS;
    check_rates(rates, (double[]){0, 5e-5, 1e-4, 6.91341716182545e-5, 1.4644660940672627e-5, 9.619397662556435e-5, 5e-5,
                                  3.8060233744356633e-6, 8.535533905932738e-5, 3.086582838174551e-5, 0, 0});
    rates.kind = RATE_POLYNOMIAL;
    check_rates(rates, (double[]){0, 5e-5, 1e-4, 7.658593750000001e-5, 5.629375e-5, 3.9123437500000005e-5, 2.5075e-5,
                                  1.4148437500000001e-5, 6.34375e-6, 1.6609375e-6, 1e-7, 1e-7});
}

static void learning_rate_schedules_have_the_names_of_the_api(void **state)
{
    (void)state;
    enum rate_kind kind;
    assert_true(rate_kind_parse("constant-with-warmup", &kind) && kind == RATE_CONSTANT_WITH_WARMUP);
    assert_true(rate_kind_parse("cosine-with-restarts", &kind) && kind == RATE_COSINE_WITH_RESTARTS);
    assert_true(rate_kind_parse("polynomial", &kind) && kind == RATE_POLYNOMIAL);
    assert_false(rate_kind_parse("cosine_with_restarts", &kind));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(alphas_are_those_of_the_reference, setup),
        cmocka_unit_test_setup(min_snr_weights_cap_the_easy_timesteps, setup),
        cmocka_unit_test_setup(zero_terminal_snr_ends_in_pure_noise, setup),
        cmocka_unit_test_setup(the_squared_cosine_schedule_falls_to_almost_nothing, setup),
        cmocka_unit_test_setup(noise_and_target_obey_the_definitions, setup),
        cmocka_unit_test_setup(timesteps_and_sigmas_are_those_of_the_reference, setup),
        cmocka_unit_test_setup(every_sampler_finds_the_latent_that_an_oracle_points_to, setup),
        cmocka_unit_test_setup(ancestral_steps_keep_the_noise_of_their_sigma, setup),
        cmocka_unit_test_setup(samplers_have_the_names_of_the_api, setup),
        cmocka_unit_test_setup(absurd_numbers_of_steps_are_refused, setup),
        cmocka_unit_test_setup(learning_rates_are_those_of_the_reference, setup),
        cmocka_unit_test_setup(learning_rate_schedules_have_the_names_of_the_api, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
