#include "engine/mathd.h"

#include <math.h>

static const double pi = 3.14159265358979323846;
static const double ln2_high = 6.93147180369123816490e-01; /* 32 bits: k * ln2_high is exact for |k| < 2^20 */
static const double ln2_low = 1.90821492927058770002e-10;

/* e^x = 2^k e^r with |r| <= ln(2)/2; the Taylor series of e^r to r^13. */
double mathd_exp(double x)
{
    enum { terms = 13 };
    double k = nearbyint(x / (ln2_high + ln2_low));
    double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1;
    for (int i = terms; i > 0; i--)
        sum = 1 + sum * r / i;
    return ldexp(sum, (int)k);
}

/* ln x = k ln 2 + 2 atanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2)). */
double mathd_log(double x)
{
    enum { terms = 12 };
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752440) {
        m *= 2;
        k--;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int i = terms; i >= 0; i--)
        sum = sum * square + 1.0 / (2 * i + 1);
    return k * ln2_high + (2 * s * sum + k * ln2_low);
}

/* Taylor series on |x| <= pi/4, from the smallest term up; first is the exponent of the leading term. */
static double alternating_series(double x, int first)
{
    enum { last = 19 };
    double square = x * x, sum = 1;
    for (int i = last - !first; i > first; i -= 2)
        sum = 1 - sum * square / ((double)i * (i - 1));
    return first ? x * sum : sum;
}

double mathd_cos_turn(double u)
{
    double quarters = nearbyint(4 * u);
    double x = (u - quarters / 4) * (2 * pi);
    switch ((long)quarters & 3) {
    case 0:
        return alternating_series(x, 0);
    case 1:
        return -alternating_series(x, 1);
    case 2:
        return -alternating_series(x, 0);
    default:
        return alternating_series(x, 1);
    }
}

double mathd_sin_turn(double u)
{
    return mathd_cos_turn(u - 0.25);
}

double mathd_pow(double x, double y)
{
    return x > 0 ? mathd_exp(y * mathd_log(x)) : 0;
}
