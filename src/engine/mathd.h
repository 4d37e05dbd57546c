/* Elementary functions in double precision that give the same bits on every CPU and C library: only additions,
 * multiplications, divisions and square roots, which IEEE 754 fixes. Errors are below 4 units in the last place in the
 * ranges stated. For schedules and random numbers; the kernels have their own in single precision. */
#pragma once

double mathd_exp(double x);           /* |x| < 700 */
double mathd_log(double x);           /* x > 0, normal */
double mathd_cos_turn(double u);      /* cos(2 pi u), |u| < 2^20 */
double mathd_sin_turn(double u);      /* sin(2 pi u), |u| < 2^20 */
double mathd_pow(double x, double y); /* x >= 0; pow(0, y > 0) = 0 */
