/* Floating point: constants that the compiler folds, conversions, comparisons. */
#include <float.h>

const double tenths[] = { 0.1, 0.2, 0.3, 1e-310, 1.7976931348623157e308, 0x1.fffffffffffffp-3, 1.0 / 3, 2.0 / 3e10 };
const float singles[] = { 0.1f, 1e-40f, 3.4028235e38f, 1.0f / 3, 16777217.0f, (float)0.1 };
const long double longs[] = { 0.1L, 1.0L / 3, LDBL_MAX, LDBL_MIN / 8, 2.718281828459045235360287471352662498L };
const double folded[] = { 1e16 + 1, 0.1 + 0.2, 1e308 * 10, 9007199254740993.0, -0.0 * 3, 0.3 - 0.1, 5e-324 / 2, 1e22 };

double roots(double a, double b) { return __builtin_sqrt(2.0) + __builtin_sqrt(a * a + b * b) + __builtin_fabs(b) * __builtin_pow(2.0, 0.5); }
double constant(void) { return __builtin_sin(0.5) + __builtin_exp(1.0) + __builtin_log(10.0) + __builtin_cbrt(3.0) + __builtin_atan2(1.0, 3.0) + __builtin_tgamma(4.5); }
long double longer(long double x, double y) { return x * y + 0.1L - (long double)(float)y; }
int convert(double d, float f, unsigned long u) { return (int)d + (int)(unsigned)f + (int)((double)u * 1.5) + (int)(long long)(f * 3); }
double from(int i, unsigned u, long long l, unsigned long long m) { return i + u * 0.5 + (double)l / 3 + (float)m; }
int order(double a, double b) { return (a < b) + 2 * (a >= b) + 4 * (a == b) + 8 * (a != a) + 16 * __builtin_isunordered(a, b) + 32 * (1.0 / a > 0); }
float mixed(float a, double b, int n) { float s = 0; for (int i = 0; i < n; i++) s += a * (float)i - (float)(b / (i + 1)); return s; }
double horner(double x) { return ((((0.00833 * x + 0.041666) * x - 0.16666666666666666) * x + 0.5) * x - 1) * x + 1; }
float half(float x) { return x * 0.5f + __builtin_fmaf(x, 3.0f, 1.0f) + __builtin_roundf(x) + __builtin_copysignf(1.0f, x); }
_Complex double turn(_Complex double z, double r) { return z * z / r + 2.0i * z; }
#ifdef __FLT16_MANT_DIG__
float sixteen(_Float16 h) { return (float)(h * (_Float16)0.1); }
#endif
double select(int n, const double *p) { return n > 3 ? p[n] * 1e-3 : n < -3 ? -p[-n] : (double)n * DBL_EPSILON; }
