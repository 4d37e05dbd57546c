#include "engine/whiten.h"

#include <math.h>
#include <string.h>

typedef double matrix[VAE_LATENT_MAX][VAE_LATENT_MAX];

void latent_moments_init(struct latent_moments *moments, size_t channels)
{
    memset(moments, 0, sizeof *moments);
    moments->channels = channels;
}

void latent_moments_add(struct latent_moments *moments, size_t pixels, const float *latent)
{
    size_t channels = moments->channels;
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        const float *z = latent + pixel * channels;
        for (size_t a = 0; a < channels; a++) {
            moments->sums[a] += (double)z[a];
            for (size_t b = 0; b < channels; b++)
                moments->products[a][b] += (double)z[a] * (double)z[b];
        }
    }
    moments->count += (double)pixels;
}

static double mean_of(const struct latent_moments *moments, size_t a)
{
    return moments->sums[a] / moments->count;
}

static double covariance_of(const struct latent_moments *moments, size_t a, size_t b)
{
    return moments->products[a][b] / moments->count - mean_of(moments, a) * mean_of(moments, b);
}

double latent_moments_distance(const struct latent_moments *moments)
{
    double sum = 0;
    for (size_t a = 0; a < moments->channels; a++) {
        sum += mean_of(moments, a) * mean_of(moments, a);
        for (size_t b = 0; b < moments->channels; b++) {
            double off = covariance_of(moments, a, b) - (a == b);
            sum += off * off;
        }
    }
    return sum;
}

/* ---- the symmetric root of a covariance ---- */

/* One rotation of Jacobi's method: makes m[p][q] zero, and turns the vectors along. */
static void rotate(size_t n, matrix m, matrix vectors, size_t p, size_t q)
{
    if (m[p][q] == 0)
        return;
    double theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
    double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double a = m[k][p], b = m[k][q];
        m[k][p] = c * a - s * b;
        m[k][q] = s * a + c * b;
    }
    for (size_t k = 0; k < n; k++) {
        double a = m[p][k], b = m[q][k];
        m[p][k] = c * a - s * b;
        m[q][k] = s * a + c * b;
        a = vectors[k][p], b = vectors[k][q];
        vectors[k][p] = c * a - s * b;
        vectors[k][q] = s * a + c * b;
    }
}

/* Cov^(-1/2) and Cov^(1/2). False when Cov is singular. */
static bool roots(const struct latent_moments *moments, matrix white, matrix back)
{
    enum { sweeps = 30 }; /* it converges quadratically: ten would do */
    size_t n = moments->channels;
    matrix m, vectors;
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < n; b++) {
            m[a][b] = covariance_of(moments, a, b);
            vectors[a][b] = a == b;
        }
    }
    for (int sweep = 0; sweep < sweeps; sweep++) {
        for (size_t p = 0; p < n; p++) {
            for (size_t q = p + 1; q < n; q++)
                rotate(n, m, vectors, p, q);
        }
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < n; b++) {
            white[a][b] = back[a][b] = 0;
            for (size_t k = 0; k < n; k++) {
                if (!(m[k][k] > 1e-12))
                    return false;
                double part = vectors[a][k] * vectors[b][k];
                white[a][b] += part / sqrt(m[k][k]);
                back[a][b] += part * sqrt(m[k][k]);
            }
        }
    }
    return true;
}

/* ---- into the layers ---- */

static float *find(const struct parameters *parameters, float *values, const char *module, enum parameter_role role)
{
    for (size_t i = 0; i < parameters->table_count; i++) {
        const struct parameter *parameter = &parameters->table[i];
        if (parameter->role == role && !strcmp(parameter->module, module))
            return values + parameter->offset;
    }
    return NULL;
}

/* mean rows: weight = white weight, bias = white (bias - mean) */
static void fold_into(const struct latent_moments *moments, matrix white, double logvar, float *weight, float *bias)
{
    size_t n = moments->channels, wide = 2 * n;
    double rows[VAE_LATENT_MAX][2 * VAE_LATENT_MAX], shifts[VAE_LATENT_MAX];
    for (size_t a = 0; a < n; a++) {
        shifts[a] = (double)bias[a] - mean_of(moments, a);
        for (size_t k = 0; k < wide; k++)
            rows[a][k] = (double)weight[a * wide + k];
    }
    for (size_t a = 0; a < n; a++) {
        double shift = 0;
        for (size_t b = 0; b < n; b++)
            shift += white[a][b] * shifts[b];
        bias[a] = (float)shift;
        bias[n + a] = (float)logvar;
        for (size_t k = 0; k < wide; k++) {
            double sum = 0;
            for (size_t b = 0; b < n; b++)
                sum += white[a][b] * rows[b][k];
            weight[a * wide + k] = (float)sum;
            weight[(n + a) * wide + k] = 0;
        }
    }
}

/* weight = weight back, bias = bias + weight mean */
static void fold_out(const struct latent_moments *moments, matrix back, float *weight, float *bias)
{
    size_t n = moments->channels;
    for (size_t row = 0; row < n; row++) {
        double old[VAE_LATENT_MAX], shift = (double)bias[row];
        for (size_t k = 0; k < n; k++) {
            old[k] = (double)weight[row * n + k];
            shift += old[k] * mean_of(moments, k);
        }
        bias[row] = (float)shift;
        for (size_t k = 0; k < n; k++) {
            double sum = 0;
            for (size_t b = 0; b < n; b++)
                sum += old[b] * back[b][k];
            weight[row * n + k] = (float)sum;
        }
    }
}

struct error whiten(const struct parameters *parameters, float *values, const struct latent_moments *moments,
                    double logvar)
{
    matrix white, back;
    float *in = find(parameters, values, "quant_conv", PARAMETER_WEIGHT);
    float *in_bias = find(parameters, values, "quant_conv", PARAMETER_BIAS);
    float *out = find(parameters, values, "post_quant_conv", PARAMETER_WEIGHT);
    float *out_bias = find(parameters, values, "post_quant_conv", PARAMETER_BIAS);
    if (!in || !in_bias || !out || !out_bias)
        return error_make(ERR_INVALID, "the VAE needs quant_conv and post_quant_conv to be made white");
    if (!roots(moments, white, back))
        return error_make(ERR_INVALID, "the latent does not use all its channels: train longer");
    fold_into(moments, white, logvar, in, in_bias);
    fold_out(moments, back, out, out_bias);
    return OK;
}
