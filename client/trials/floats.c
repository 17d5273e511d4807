/* Floating point: constants that the compiler folds, conversions, comparisons. */
#define LDBL_MAX __LDBL_MAX__
#define LDBL_MIN __LDBL_MIN__
#define DBL_EPSILON __DBL_EPSILON__

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

/* What a compiler folds with the mathematical library of its own system: how that computes
   hangs on the processor. */
#define F(f, x) *to++ = __builtin_##f(x);
#define P(x, y) *to++ = __builtin_pow(x, y);
void of_sin(double *to) {
    F(sin, 0.259) F(sin, 1.622) F(sin, 5.989) F(sin, 6.477) F(sin, 3.017) F(sin, 13.019) F(sin, 1.449) F(sin, 10.718)
    F(sin, 7.314) F(sin, 1.16) F(sin, 10.149) F(sin, 0.75) F(sin, 8.673) F(sin, 1.397) F(sin, 1.814) F(sin, 8.49)
    F(sin, 16.537) F(sin, 2.476) F(sin, 4.465) F(sin, 12.549) F(sin, 18.954) F(sin, 11.542) F(sin, 7.934) F(sin, 19.525)
    F(sin, 0.932) F(sin, 17.169) F(sin, 5.792) F(sin, 2.885) F(sin, 2.356) F(sin, 6.17) F(sin, 16.323) F(sin, 3.615)
    F(sin, 11.632) F(sin, 12.778) F(sin, 7.448) F(sin, 10.955) F(sin, 1.256) F(sin, 1.192) F(sin, 4.119) F(sin, 13.608)
    F(sin, 8.552) F(sin, 6.283) F(sin, 11.711) F(sin, 9.064) F(sin, 5.995) F(sin, 15.888) F(sin, 13.98) F(sin, 4.882)
    F(sin, 11.488) F(sin, 10.504) F(sin, 17.503) F(sin, 14.589) F(sin, 5.759) F(sin, 19.603) F(sin, 2.361) F(sin, 8.362)
    F(sin, 15.143) F(sin, 3.04) F(sin, 9.779) F(sin, 0.784) F(sin, 13.364) F(sin, 15.291) F(sin, 11.461) F(sin, 17.51)
    F(sin, 6.275) F(sin, 13.906) F(sin, 11.887) F(sin, 11.598) F(sin, 9.124) F(sin, 16.799) F(sin, 18.894) F(sin, 9.482)
    F(sin, 13.283) F(sin, 1.213) F(sin, 14.03) F(sin, 12.943) F(sin, 19.862) F(sin, 16.438) F(sin, 5.692) F(sin, 7.716)
    F(sin, 13.373) F(sin, 0.451) F(sin, 9.234) F(sin, 3.361) F(sin, 2.342) F(sin, 1.179) F(sin, 15.365) F(sin, 2.587)
    F(sin, 4.952) F(sin, 7.819) F(sin, 17.428) F(sin, 1.612) F(sin, 8.984) F(sin, 10.989) F(sin, 17.668) F(sin, 16.386)
    F(sin, 17.28) F(sin, 5.568) F(sin, 8.306) F(sin, 7.175) F(sin, 17.684) F(sin, 19.155) F(sin, 3.018) F(sin, 3.524)
    F(sin, 4.639) F(sin, 4.667) F(sin, 9.699) F(sin, 11.782) F(sin, 5.255) F(sin, 0.082) F(sin, 8.379) F(sin, 7.385)
    F(sin, 11.327) F(sin, 19.062) F(sin, 13.81) F(sin, 10.31) F(sin, 12.352) F(sin, 13.524) F(sin, 1.08) F(sin, 17.991)
    F(sin, 15.599) F(sin, 17.49) F(sin, 15.957)
}
void of_cos(double *to) {
    F(cos, 1.31) F(cos, 1.995) F(cos, 7.848) F(cos, 7.98) F(cos, 2.071) F(cos, 12.686) F(cos, 1.245) F(cos, 1.347)
    F(cos, 4.175) F(cos, 3.246) F(cos, 6.801) F(cos, 1.052) F(cos, 0.005) F(cos, 3.025) F(cos, 2.029) F(cos, 7.272)
    F(cos, 0.51) F(cos, 17.487) F(cos, 12.281) F(cos, 2.971) F(cos, 5.045) F(cos, 6.948) F(cos, 7.283) F(cos, 2.457)
    F(cos, 16.979) F(cos, 19.862) F(cos, 9.32) F(cos, 9.677) F(cos, 1.718) F(cos, 2.044) F(cos, 6.853) F(cos, 5.295)
    F(cos, 16.577) F(cos, 3.229) F(cos, 0.462) F(cos, 19.02) F(cos, 10.565) F(cos, 2.932) F(cos, 10.863) F(cos, 0.541)
    F(cos, 10.562) F(cos, 19.57) F(cos, 17.267) F(cos, 13.924) F(cos, 5.222) F(cos, 7.334) F(cos, 3.341) F(cos, 15.439)
    F(cos, 10.652) F(cos, 15.581) F(cos, 6.593) F(cos, 4.461) F(cos, 16.23) F(cos, 19.699) F(cos, 17.053) F(cos, 16.122)
    F(cos, 16.367) F(cos, 14.797) F(cos, 4.535) F(cos, 10.353) F(cos, 7.111) F(cos, 0.58) F(cos, 0.559) F(cos, 5.588)
    F(cos, 5.183) F(cos, 13.85) F(cos, 19.13) F(cos, 8.945) F(cos, 18.74) F(cos, 19.761) F(cos, 19.1) F(cos, 7.293)
    F(cos, 4.409) F(cos, 4.537) F(cos, 3.934) F(cos, 4.087) F(cos, 12.481) F(cos, 18.006) F(cos, 16.809) F(cos, 9.589)
    F(cos, 13.06) F(cos, 15.993) F(cos, 1.696) F(cos, 13.212) F(cos, 18.196) F(cos, 15.646) F(cos, 15.003) F(cos, 9.561)
    F(cos, 3.57) F(cos, 15.783) F(cos, 6.65) F(cos, 16.016) F(cos, 19.433) F(cos, 7.917) F(cos, 8.028) F(cos, 18.936)
    F(cos, 14.496) F(cos, 3.4) F(cos, 2.541) F(cos, 3.023) F(cos, 18.097) F(cos, 16.13) F(cos, 2.923) F(cos, 16.53)
    F(cos, 19.606) F(cos, 13.145) F(cos, 7.008) F(cos, 10.973) F(cos, 2.62) F(cos, 0.285) F(cos, 19.418) F(cos, 12.993)
    F(cos, 10.532) F(cos, 18.672) F(cos, 8.676) F(cos, 17.435) F(cos, 16.523) F(cos, 4.221) F(cos, 5.037) F(cos, 5.859)
    F(cos, 4.811) F(cos, 11.729)
}
void of_tan(double *to) {
    F(tan, -0.722) F(tan, -0.243) F(tan, -1.107) F(tan, 1.23) F(tan, -0.439) F(tan, -0.126) F(tan, 0.25) F(tan, 1.213)
    F(tan, -0.238) F(tan, 1.253) F(tan, 0.005) F(tan, 0.095) F(tan, 0.071) F(tan, -1.444) F(tan, -0.18) F(tan, -0.951)
    F(tan, -1.488) F(tan, 0.898) F(tan, -0.983) F(tan, -0.08) F(tan, 0.676) F(tan, 0.169) F(tan, -0.522) F(tan, 0.055)
    F(tan, 0.166) F(tan, 0.853) F(tan, -1.182) F(tan, 0.181) F(tan, -0.755) F(tan, -0.669) F(tan, 0.817) F(tan, 0.023)
    F(tan, 0.185) F(tan, 0.78) F(tan, 1.237) F(tan, -0.17) F(tan, 0.338) F(tan, 0.017) F(tan, 0.036) F(tan, 0.578)
    F(tan, -0.143) F(tan, 0.1) F(tan, -0.066) F(tan, 1.325) F(tan, 0.598) F(tan, 1.13) F(tan, 1.327) F(tan, -0.721)
    F(tan, 0.179) F(tan, 1.33) F(tan, 1.02) F(tan, -1.089) F(tan, -1.135) F(tan, -0.174) F(tan, -1.282) F(tan, -0.778)
    F(tan, -1.281) F(tan, 0.508) F(tan, 0.852) F(tan, 1.191) F(tan, -1.037) F(tan, 0.648) F(tan, 0.481) F(tan, -1.071)
    F(tan, 1.148) F(tan, 1.403) F(tan, -0.841) F(tan, 1.358) F(tan, -0.305) F(tan, -0.038) F(tan, 1.47) F(tan, 0.997)
    F(tan, -1.016) F(tan, -0.205) F(tan, 0.047) F(tan, -0.483) F(tan, -0.913) F(tan, -0.544) F(tan, 0.666) F(tan, -1.442)
    F(tan, 0.162) F(tan, -0.179) F(tan, -1.446) F(tan, -0.506) F(tan, 0.372) F(tan, 0.037) F(tan, -1.307) F(tan, 1.455)
    F(tan, 0.865) F(tan, 1.415) F(tan, -1.186) F(tan, -0.703) F(tan, -1.381) F(tan, 0.837) F(tan, -0.689) F(tan, -1.111)
    F(tan, -0.233) F(tan, 1.234) F(tan, 0.957) F(tan, -0.724) F(tan, -1.052) F(tan, 1.258) F(tan, 0.212) F(tan, 0.601)
    F(tan, -1.232) F(tan, -1.327) F(tan, 0.565) F(tan, -0.224) F(tan, -1.283) F(tan, 1.315) F(tan, 0.403) F(tan, 0.905)
    F(tan, -1.249) F(tan, 1.069) F(tan, -1.3) F(tan, 1.088) F(tan, -0.139) F(tan, -0.483) F(tan, 0.159) F(tan, 1.28)
}
void of_exp(double *to) {
    F(exp, 0.529) F(exp, 0.663) F(exp, -2.321) F(exp, -3.708) F(exp, 0.269) F(exp, -2.616) F(exp, -3.905) F(exp, -3.386)
    F(exp, -4.496) F(exp, -2.982) F(exp, -1.88) F(exp, -1.95) F(exp, 2.595) F(exp, -2.1) F(exp, 0.001) F(exp, -3.221)
    F(exp, -1.53) F(exp, -4.818) F(exp, -2.496) F(exp, -4.847) F(exp, 2.331) F(exp, 0.51) F(exp, -3.105) F(exp, -0.252)
    F(exp, 4.346) F(exp, -3.937) F(exp, 3.189) F(exp, -0.678) F(exp, -0.05) F(exp, 3.346) F(exp, -1.069) F(exp, 0.067)
    F(exp, 1.877) F(exp, 4.824) F(exp, -1.573) F(exp, 3.323) F(exp, 2.067) F(exp, 1.36) F(exp, -0.953) F(exp, -1.524)
    F(exp, -4.456) F(exp, -3.702) F(exp, -4.293) F(exp, 2.409) F(exp, -2.444) F(exp, -3.368) F(exp, -4.155) F(exp, 3.413)
    F(exp, 3.705) F(exp, 1.705) F(exp, -2.181) F(exp, -2.578) F(exp, -2.069) F(exp, -0.405) F(exp, -3.425) F(exp, -0.542)
    F(exp, -2.368) F(exp, 4.618) F(exp, 4.726) F(exp, 0.471) F(exp, -2.556) F(exp, 4.657) F(exp, -1.905) F(exp, -1.434)
    F(exp, -4.989) F(exp, -1.184) F(exp, -0.254) F(exp, 0.028) F(exp, -2.99) F(exp, 0.047) F(exp, -4.95) F(exp, -2.358)
    F(exp, -4.102) F(exp, -1.005) F(exp, -4.583) F(exp, -4.775) F(exp, -1.958) F(exp, -2.672) F(exp, 0.856) F(exp, 0.292)
    F(exp, 2.505) F(exp, 1.575) F(exp, 2.16) F(exp, 3.791) F(exp, -1.105) F(exp, -1.739) F(exp, 4.847) F(exp, -3.505)
    F(exp, 2.242) F(exp, 1.432) F(exp, -4.562) F(exp, 3.353) F(exp, 3.919) F(exp, 1.273) F(exp, 2.339) F(exp, 3.122)
    F(exp, -3.607) F(exp, 0.238) F(exp, 0.044) F(exp, 3.349) F(exp, 3.047) F(exp, 3.264) F(exp, 0.841) F(exp, 3.928)
    F(exp, 1.829) F(exp, 1.933) F(exp, -2.701) F(exp, -4.688) F(exp, -3.669) F(exp, -1.393) F(exp, -3.951) F(exp, 3.358)
    F(exp, 0.585) F(exp, 1.278) F(exp, 1.262) F(exp, 1.807) F(exp, -0.107) F(exp, -4.967) F(exp, 2.977) F(exp, 2.483)
    F(exp, 0.03) F(exp, 0.352)
}
void of_log(double *to) {
    F(log, 32.968) F(log, 3.312) F(log, 36.842) F(log, 12.617) F(log, 3.732) F(log, 13.285) F(log, 36.469) F(log, 10.269)
    F(log, 36.994) F(log, 48.787) F(log, 24.702) F(log, 19.134) F(log, 23.956) F(log, 34.188) F(log, 38.351) F(log, 30.853)
    F(log, 32.142) F(log, 3.883) F(log, 7.38) F(log, 12.704) F(log, 37.163) F(log, 15.228) F(log, 28.392) F(log, 0.633)
    F(log, 3.042) F(log, 13.446) F(log, 33.603) F(log, 34.612) F(log, 33.789) F(log, 14.55) F(log, 25.832) F(log, 23.238)
    F(log, 23.322) F(log, 5.934) F(log, 44.684) F(log, 9.971) F(log, 48.907) F(log, 46.813) F(log, 0.885) F(log, 22.954)
    F(log, 40.997) F(log, 48.406) F(log, 22.478) F(log, 13.44) F(log, 10.5) F(log, 47.28) F(log, 10.543) F(log, 29.078)
    F(log, 7.096) F(log, 26.208) F(log, 47.637) F(log, 6.639) F(log, 41.013) F(log, 25.442) F(log, 44.344) F(log, 35.17)
    F(log, 11.577) F(log, 44.886) F(log, 24.312) F(log, 1.251) F(log, 0.189) F(log, 24.59) F(log, 22.544) F(log, 15.105)
    F(log, 7.044) F(log, 17.205) F(log, 15.811) F(log, 42.013) F(log, 0.097) F(log, 37.539) F(log, 41.957) F(log, 6.011)
    F(log, 46.321) F(log, 35.654) F(log, 45.079) F(log, 14.499) F(log, 18.617) F(log, 19.651) F(log, 49.94) F(log, 29.463)
    F(log, 18.042) F(log, 21.408) F(log, 13.765) F(log, 2.423) F(log, 5.094) F(log, 41.735) F(log, 14.288) F(log, 46.78)
    F(log, 12.474) F(log, 13.294) F(log, 25.553) F(log, 9.501) F(log, 18.674) F(log, 47.809) F(log, 44.214) F(log, 40.6)
    F(log, 31.548) F(log, 45.672) F(log, 47.036) F(log, 27.466) F(log, 35.981) F(log, 2.483) F(log, 36.62) F(log, 22.549)
    F(log, 37.636) F(log, 32.228) F(log, 14.318) F(log, 2.458) F(log, 46.34) F(log, 6.374) F(log, 23.614) F(log, 17.19)
    F(log, 14.896) F(log, 36.954) F(log, 48.815) F(log, 13.016) F(log, 32.803) F(log, 15.049) F(log, 27.871) F(log, 19.724)
}
void of_log2(double *to) {
    F(log2, 8.375) F(log2, 8.091) F(log2, 10.402) F(log2, 45.299) F(log2, 24.859) F(log2, 11.009) F(log2, 45.314) F(log2, 49.824)
    F(log2, 22.504) F(log2, 6.988) F(log2, 9.628) F(log2, 4.545) F(log2, 17.104) F(log2, 4.564) F(log2, 11.964) F(log2, 12.925)
    F(log2, 28.485) F(log2, 44.364) F(log2, 37.485) F(log2, 20.645) F(log2, 20.7) F(log2, 26.213) F(log2, 18.85) F(log2, 16.917)
    F(log2, 3.112) F(log2, 13.883) F(log2, 48.385) F(log2, 6.302) F(log2, 25.175) F(log2, 31.485) F(log2, 43.144) F(log2, 10.806)
    F(log2, 13.558) F(log2, 12.43) F(log2, 19.994) F(log2, 22.298) F(log2, 47.698) F(log2, 42.436) F(log2, 43.646) F(log2, 1.1)
    F(log2, 1.622) F(log2, 35.478) F(log2, 44.786) F(log2, 23.669) F(log2, 29.363) F(log2, 0.019) F(log2, 19.582) F(log2, 46.342)
    F(log2, 41.281) F(log2, 42.775) F(log2, 48.612) F(log2, 12.431) F(log2, 5.461) F(log2, 7.727) F(log2, 26.123) F(log2, 34.107)
    F(log2, 47.075) F(log2, 36.09) F(log2, 32.371) F(log2, 38.242) F(log2, 22.872) F(log2, 27.58) F(log2, 1.987) F(log2, 39.117)
    F(log2, 11.637) F(log2, 45.997) F(log2, 32.279) F(log2, 15.196) F(log2, 6.407) F(log2, 12.597) F(log2, 31.818) F(log2, 34.932)
    F(log2, 5.616) F(log2, 3.527) F(log2, 26.227) F(log2, 29.149) F(log2, 19.41) F(log2, 11.187) F(log2, 30.057) F(log2, 0.533)
    F(log2, 15.083) F(log2, 23.04) F(log2, 47.947) F(log2, 32.232) F(log2, 44.19) F(log2, 23.77) F(log2, 11.746) F(log2, 12.36)
    F(log2, 48.031) F(log2, 35.236) F(log2, 15.377) F(log2, 1.099) F(log2, 24.921) F(log2, 33.726) F(log2, 21.007) F(log2, 12.87)
    F(log2, 33.371) F(log2, 46.259) F(log2, 11.347) F(log2, 1.715) F(log2, 16.909) F(log2, 21.034) F(log2, 34.132) F(log2, 9.912)
    F(log2, 39.855) F(log2, 36.959) F(log2, 25.249) F(log2, 10.269) F(log2, 48.493) F(log2, 15.593) F(log2, 41.002) F(log2, 11.548)
    F(log2, 11.08) F(log2, 38.026) F(log2, 14.754) F(log2, 47.597) F(log2, 24.793) F(log2, 9.374) F(log2, 11.174) F(log2, 20.857)
}
void of_log10(double *to) {
    F(log10, 33.268) F(log10, 47.439) F(log10, 7.328) F(log10, 19.679) F(log10, 10.655) F(log10, 48.706) F(log10, 7.104) F(log10, 2.602)
    F(log10, 3.016) F(log10, 19.672) F(log10, 44.909) F(log10, 44.18) F(log10, 36.639) F(log10, 49.877) F(log10, 46.58) F(log10, 16.469)
    F(log10, 9.284) F(log10, 46.795) F(log10, 37.318) F(log10, 1.604) F(log10, 33.225) F(log10, 18.937) F(log10, 18.7) F(log10, 16.592)
    F(log10, 8.471) F(log10, 0.154) F(log10, 13.998) F(log10, 17.58) F(log10, 47.776) F(log10, 6.194) F(log10, 48.214) F(log10, 10.378)
    F(log10, 17.838) F(log10, 41.08) F(log10, 41.102) F(log10, 21.628) F(log10, 2.472) F(log10, 23.678) F(log10, 18.642) F(log10, 45.976)
    F(log10, 9.659) F(log10, 18.219) F(log10, 44.851) F(log10, 1.524) F(log10, 20.546) F(log10, 40.593) F(log10, 38.336) F(log10, 2.042)
    F(log10, 1.752) F(log10, 3.138) F(log10, 46.005) F(log10, 12.858) F(log10, 37.367) F(log10, 44.929) F(log10, 16.96) F(log10, 13.623)
    F(log10, 47.885) F(log10, 30.853) F(log10, 13.116) F(log10, 35.835) F(log10, 15.831) F(log10, 13.789) F(log10, 0.199) F(log10, 37.785)
    F(log10, 45.824) F(log10, 31.703) F(log10, 47.163) F(log10, 1.223) F(log10, 11.701) F(log10, 23.765) F(log10, 47.839) F(log10, 47.696)
    F(log10, 19.332) F(log10, 12.56) F(log10, 21.503) F(log10, 24.679) F(log10, 46.406) F(log10, 9.155) F(log10, 40.13) F(log10, 36.927)
    F(log10, 41.14) F(log10, 38.643) F(log10, 30.367) F(log10, 16.397) F(log10, 15.984) F(log10, 18.099) F(log10, 39.115) F(log10, 3.96)
    F(log10, 9.874) F(log10, 37.647) F(log10, 12.373) F(log10, 3.246) F(log10, 1.703) F(log10, 27.634) F(log10, 16.295) F(log10, 49.013)
    F(log10, 44.175) F(log10, 49.391) F(log10, 13.252) F(log10, 4.213) F(log10, 4.83) F(log10, 24.929) F(log10, 35.491) F(log10, 22.354)
    F(log10, 11.717) F(log10, 20.848) F(log10, 31.019) F(log10, 33.709) F(log10, 37.401) F(log10, 42.351) F(log10, 33.225) F(log10, 6.067)
    F(log10, 42.045) F(log10, 14.696) F(log10, 28.349) F(log10, 18.655) F(log10, 36.906) F(log10, 9.968) F(log10, 12.379) F(log10, 12.275)
}
void of_sinh(double *to) {
    F(sinh, -2.773) F(sinh, 3.073) F(sinh, 0.626) F(sinh, -1.389) F(sinh, -0.831) F(sinh, 3.94) F(sinh, 0.059) F(sinh, -2.149)
    F(sinh, 2.468) F(sinh, 1.227) F(sinh, 3.928) F(sinh, -3.181) F(sinh, -0.202) F(sinh, 2.553) F(sinh, 2.724) F(sinh, 3.315)
    F(sinh, -3.677) F(sinh, -1.651) F(sinh, -3.046) F(sinh, -2.483) F(sinh, 3.784) F(sinh, 0.666) F(sinh, 3.441) F(sinh, -1.022)
    F(sinh, 2.929) F(sinh, -0.407) F(sinh, -1.92) F(sinh, 2.222) F(sinh, 3.566) F(sinh, -3.154) F(sinh, 0.769) F(sinh, 0.96)
    F(sinh, -2.259) F(sinh, -1.05) F(sinh, -2.869) F(sinh, -2.368) F(sinh, -1.961) F(sinh, 0.795) F(sinh, 1.213) F(sinh, -2.372)
    F(sinh, -3.909) F(sinh, -1.382) F(sinh, 1.427) F(sinh, -2.519) F(sinh, -1.502) F(sinh, -2.373) F(sinh, 2.362) F(sinh, 0.384)
    F(sinh, -3.494) F(sinh, -3.189) F(sinh, -0.838) F(sinh, 0.401) F(sinh, 1.113) F(sinh, -3.271) F(sinh, -2.69) F(sinh, 1.563)
    F(sinh, -0.722) F(sinh, -1.734) F(sinh, -1.539) F(sinh, 3.626) F(sinh, -1.501) F(sinh, 0.532) F(sinh, -1.143) F(sinh, -0.668)
    F(sinh, 2.914) F(sinh, 3.973) F(sinh, -1.09) F(sinh, -2.422) F(sinh, 1.824) F(sinh, -2.371) F(sinh, -3.953) F(sinh, 3.213)
    F(sinh, -0.61) F(sinh, 2.563) F(sinh, -0.75) F(sinh, 3.063) F(sinh, -0.313) F(sinh, -2.7) F(sinh, -3.881) F(sinh, 0.412)
    F(sinh, 1.125) F(sinh, 3.278) F(sinh, -3.288) F(sinh, 0.978) F(sinh, -1.033) F(sinh, 0.036) F(sinh, -2.833) F(sinh, -1.734)
    F(sinh, 0.169) F(sinh, 3.404) F(sinh, -3.13) F(sinh, -0.076) F(sinh, 2.439) F(sinh, 3.735) F(sinh, -2.421) F(sinh, -2.987)
    F(sinh, 3.545) F(sinh, 3.804) F(sinh, -0.138) F(sinh, -3.573) F(sinh, 3.409) F(sinh, -0.897) F(sinh, 3.234) F(sinh, 0.963)
    F(sinh, 2.596) F(sinh, -2.718) F(sinh, 2.287) F(sinh, -2.223) F(sinh, -0.764) F(sinh, 2.771) F(sinh, 2.634) F(sinh, -2.536)
    F(sinh, -2.255) F(sinh, -0.802) F(sinh, 0.143) F(sinh, -0.931) F(sinh, -3.016) F(sinh, -2.024) F(sinh, 1.799) F(sinh, 3.178)
}
void of_cosh(double *to) {
    F(cosh, -3.671) F(cosh, 0.499) F(cosh, 2.06) F(cosh, -3.695) F(cosh, 2.706) F(cosh, -3.058) F(cosh, 0.796) F(cosh, 0.4)
    F(cosh, 1.016) F(cosh, -1.55) F(cosh, -0.639) F(cosh, 0.661) F(cosh, -0.594) F(cosh, 1.271) F(cosh, -0.426) F(cosh, -0.493)
    F(cosh, -3.813) F(cosh, 0.951) F(cosh, -0.084) F(cosh, -2.118) F(cosh, 2.109) F(cosh, 2.24) F(cosh, -0.334) F(cosh, -2.563)
    F(cosh, -0.214) F(cosh, -3.143) F(cosh, -2.972) F(cosh, -0.555) F(cosh, -3.266) F(cosh, -0.464) F(cosh, 0.081) F(cosh, -3.674)
    F(cosh, 1.091) F(cosh, -3.342) F(cosh, 1.868) F(cosh, 2.221) F(cosh, 0.092) F(cosh, -3.566) F(cosh, 0.031) F(cosh, -0.977)
    F(cosh, 3.607) F(cosh, -2.911) F(cosh, 2.857) F(cosh, 3.969) F(cosh, 1.857) F(cosh, 2.52) F(cosh, -2.45) F(cosh, 3.854)
    F(cosh, -0.065) F(cosh, 3.653) F(cosh, 3.328) F(cosh, -2.679) F(cosh, 2.307) F(cosh, 3.445) F(cosh, -3.476) F(cosh, -1.193)
    F(cosh, 2.049) F(cosh, -2.73) F(cosh, 3.172) F(cosh, -1.8) F(cosh, 2.525) F(cosh, -2.851) F(cosh, 0.018) F(cosh, 3.359)
    F(cosh, -2.333) F(cosh, -1.897) F(cosh, 0.048) F(cosh, -1.447) F(cosh, -3.705) F(cosh, -2.543) F(cosh, -2.71) F(cosh, 3.491)
    F(cosh, 1.437) F(cosh, 3.163) F(cosh, -2.65) F(cosh, 2.279) F(cosh, -3.079) F(cosh, 0.246) F(cosh, 1.091) F(cosh, -1.122)
    F(cosh, 2.984) F(cosh, 0.441) F(cosh, 0.64) F(cosh, 3.06) F(cosh, -3.163) F(cosh, 3.944) F(cosh, 1.038) F(cosh, -0.846)
    F(cosh, 2.381) F(cosh, -1.882) F(cosh, 3.924) F(cosh, 0.619) F(cosh, -1.118) F(cosh, 2.117) F(cosh, -0.462) F(cosh, -2.586)
    F(cosh, 1.949) F(cosh, -3.614) F(cosh, 2.559) F(cosh, -1.971) F(cosh, 1.114) F(cosh, 3.872) F(cosh, 0.687) F(cosh, 1.31)
    F(cosh, -1.499) F(cosh, -3.986) F(cosh, -3.73) F(cosh, -2.805) F(cosh, 0.928) F(cosh, -0.542) F(cosh, 0.101) F(cosh, 3.164)
    F(cosh, -2.944) F(cosh, -2.182) F(cosh, 1.225) F(cosh, -3.822) F(cosh, -3.979) F(cosh, -1.16) F(cosh, -3.149) F(cosh, -1.143)
}
void of_tanh(double *to) {
    F(tanh, -1.654) F(tanh, 0.502) F(tanh, 0.535) F(tanh, -1.775) F(tanh, 0.744) F(tanh, -0.151) F(tanh, -2.192) F(tanh, 2.62)
    F(tanh, -1.538) F(tanh, -2.104) F(tanh, -2.425) F(tanh, 0.829) F(tanh, 2.228) F(tanh, 1.693) F(tanh, -0.588) F(tanh, -1.415)
    F(tanh, -2.931) F(tanh, 0.87) F(tanh, 0.374) F(tanh, -0.898) F(tanh, 0.874) F(tanh, -0.337) F(tanh, 2.623) F(tanh, 1.401)
    F(tanh, -1.509) F(tanh, 2.421) F(tanh, -2.736) F(tanh, 0.189) F(tanh, -0.564) F(tanh, -1.574) F(tanh, -2.65) F(tanh, 1.673)
    F(tanh, -2.926) F(tanh, 0.306) F(tanh, 2.646) F(tanh, -2.146) F(tanh, -1.803) F(tanh, 0.648) F(tanh, 0.042) F(tanh, 0.849)
    F(tanh, 1.88) F(tanh, -1.952) F(tanh, -1.144) F(tanh, -1.198) F(tanh, -2.709) F(tanh, 2.336) F(tanh, 1.698) F(tanh, 1.292)
    F(tanh, -2.962) F(tanh, 2.067) F(tanh, 1.471) F(tanh, -0.208) F(tanh, 1.451) F(tanh, -0.285) F(tanh, -1.644) F(tanh, -2.368)
    F(tanh, -1.606) F(tanh, -2.767) F(tanh, -0.987) F(tanh, 1.498) F(tanh, 1.171) F(tanh, 2.072) F(tanh, 1.27) F(tanh, -1.404)
    F(tanh, 0.323) F(tanh, -0.384) F(tanh, 1.731) F(tanh, 0.139) F(tanh, -1.408) F(tanh, 0.852) F(tanh, 2.791) F(tanh, -1.698)
    F(tanh, 2.28) F(tanh, -2.909) F(tanh, -1.438) F(tanh, -1.583) F(tanh, 1.463) F(tanh, 2.668) F(tanh, 1.477) F(tanh, -1.039)
    F(tanh, 2.281) F(tanh, -1.029) F(tanh, -1.565) F(tanh, 2.445) F(tanh, 0.784) F(tanh, 1.157) F(tanh, 0.991) F(tanh, 2.874)
    F(tanh, -0.183) F(tanh, 2.038) F(tanh, 1.186) F(tanh, 2.145) F(tanh, -0.377) F(tanh, 1.348) F(tanh, 0.422) F(tanh, -1.153)
    F(tanh, -1.728) F(tanh, 0.736) F(tanh, -2.533) F(tanh, 2.465) F(tanh, -2.132) F(tanh, -2.839) F(tanh, -2.36) F(tanh, 2.574)
    F(tanh, -0.931) F(tanh, -2.149) F(tanh, -2.828) F(tanh, -2.75) F(tanh, 1.156) F(tanh, 0.803) F(tanh, 1.182) F(tanh, 1.421)
    F(tanh, -2.605) F(tanh, 0.543) F(tanh, -0.82) F(tanh, 1.905) F(tanh, 1.917) F(tanh, 2.348) F(tanh, -2.604) F(tanh, 2.207)
}
void of_asin(double *to) {
    F(asin, 0.829) F(asin, 0.889) F(asin, -0.786) F(asin, -0.589) F(asin, -0.776) F(asin, -0.931) F(asin, 0.695) F(asin, 0.624)
    F(asin, 0.268) F(asin, 0.65) F(asin, 0.263) F(asin, -0.425) F(asin, -0.8) F(asin, -0.804) F(asin, 0.515) F(asin, -0.59)
    F(asin, -0.362) F(asin, -0.152) F(asin, -0.958) F(asin, -0.487) F(asin, -0.435) F(asin, 0.432) F(asin, -0.264) F(asin, -0.358)
    F(asin, 0.928) F(asin, 0.007) F(asin, 0.703) F(asin, 0.237) F(asin, -0.938) F(asin, -0.174) F(asin, -0.127) F(asin, 0.546)
    F(asin, -0.306) F(asin, 0.409) F(asin, 0.076) F(asin, -0.567) F(asin, 0.724) F(asin, -0.818) F(asin, 0.64) F(asin, -0.659)
    F(asin, -0.997) F(asin, -0.596) F(asin, 0.524) F(asin, 0.956) F(asin, -0.991) F(asin, -0.018) F(asin, -0.017) F(asin, 0.594)
    F(asin, -0.631) F(asin, -0.011) F(asin, -0.306) F(asin, 0.664) F(asin, -0.479) F(asin, 0.888) F(asin, -0.433) F(asin, -0.571)
    F(asin, 0.399) F(asin, -0.003) F(asin, -0.78) F(asin, 0.273) F(asin, -0.838) F(asin, 0.576) F(asin, 0.394) F(asin, 0.574)
    F(asin, 0.256) F(asin, -0.289) F(asin, -0.197) F(asin, -0.211) F(asin, 0.781) F(asin, -0.828) F(asin, 0.777) F(asin, -0.95)
    F(asin, -0.588) F(asin, -0.474) F(asin, 0.802) F(asin, 0.002) F(asin, -0.241) F(asin, 0.768) F(asin, -0.533) F(asin, -0.078)
    F(asin, 0.063) F(asin, 0.509) F(asin, 0.506) F(asin, 0.293) F(asin, -0.303) F(asin, -0.347) F(asin, -0.689) F(asin, 0.686)
    F(asin, 0.324) F(asin, 0.484) F(asin, -0.661) F(asin, -0.122) F(asin, 0.547) F(asin, 0.158) F(asin, -0.748) F(asin, -0.076)
    F(asin, 0.77) F(asin, -0.524) F(asin, -0.617) F(asin, -0.397) F(asin, 0.406) F(asin, 0.687) F(asin, -0.691) F(asin, -0.688)
    F(asin, -0.505) F(asin, -0.347) F(asin, 0.044) F(asin, -0.678) F(asin, -0.344) F(asin, -0.621) F(asin, 0.95) F(asin, 0.457)
    F(asin, -0.796) F(asin, 0.925) F(asin, -0.797) F(asin, -0.232) F(asin, 0.968) F(asin, 0.59) F(asin, 0.467) F(asin, -0.13)
}
void of_acos(double *to) {
    F(acos, -0.608) F(acos, 0.276) F(acos, -0.786) F(acos, -0.587) F(acos, -0.223) F(acos, -0.932) F(acos, -0.202) F(acos, 0.582)
    F(acos, 0.387) F(acos, 0.001) F(acos, 0.265) F(acos, -0.073) F(acos, -0.716) F(acos, 0.207) F(acos, -0.191) F(acos, 0.482)
    F(acos, 0.816) F(acos, -0.14) F(acos, 0.148) F(acos, 0.498) F(acos, -0.158) F(acos, -0.543) F(acos, 0.444) F(acos, 0.76)
    F(acos, 0.548) F(acos, 0.4) F(acos, 0.705) F(acos, 0.359) F(acos, 0.283) F(acos, -0.092) F(acos, -0.374) F(acos, 0.257)
    F(acos, -0.804) F(acos, -0.161) F(acos, 0.565) F(acos, 0.426) F(acos, 0.259) F(acos, -0.5) F(acos, -0.153) F(acos, -0.09)
    F(acos, 0.243) F(acos, -0.181) F(acos, 0.35) F(acos, 0.86) F(acos, -0.634) F(acos, 0.309) F(acos, 0.556) F(acos, -0.223)
    F(acos, -0.02) F(acos, 0.949) F(acos, -0.924) F(acos, 0.087) F(acos, -0.678) F(acos, 0.564) F(acos, 0.881) F(acos, 0.038)
    F(acos, -0.798) F(acos, 0.149) F(acos, 0.082) F(acos, 0.435) F(acos, 0.024) F(acos, 0.279) F(acos, 0.658) F(acos, 0.043)
    F(acos, -0.179) F(acos, 0.896) F(acos, -0.58) F(acos, 0.369) F(acos, -0.215) F(acos, 0.525) F(acos, -0.755) F(acos, 0.969)
    F(acos, -0.289) F(acos, -0.887) F(acos, -0.451) F(acos, -0.201) F(acos, -0.973) F(acos, -0.163) F(acos, -0.159) F(acos, 0.397)
    F(acos, -0.296) F(acos, -0.47) F(acos, -0.551) F(acos, 0.483) F(acos, 0.88) F(acos, 0.054) F(acos, -0.562) F(acos, 0.603)
    F(acos, -0.216) F(acos, -0.576) F(acos, -0.741) F(acos, 0.553) F(acos, 0.619) F(acos, 0.269) F(acos, -0.062) F(acos, 0.124)
    F(acos, -0.548) F(acos, 0.928) F(acos, -0.294) F(acos, 0.278) F(acos, 0.637) F(acos, 0.632) F(acos, -0.064) F(acos, -0.411)
    F(acos, 0.097) F(acos, -0.75) F(acos, 0.667) F(acos, -0.291) F(acos, 0.701) F(acos, -0.465) F(acos, -0.248) F(acos, -0.493)
    F(acos, -0.148) F(acos, -0.628) F(acos, -0.995) F(acos, 0.444) F(acos, -0.438) F(acos, -0.51) F(acos, -0.396) F(acos, -0.041)
}
void of_atan(double *to) {
    F(atan, -1.287) F(atan, 2.471) F(atan, 2.867) F(atan, -2.476) F(atan, 7.717) F(atan, 6.38) F(atan, -7.973) F(atan, 5.902)
    F(atan, 7.305) F(atan, 5.113) F(atan, -6.473) F(atan, 5.964) F(atan, 2.397) F(atan, -8.73) F(atan, -8.793) F(atan, 8.132)
    F(atan, 2.807) F(atan, -4.5) F(atan, -7.173) F(atan, -6.431) F(atan, -4.794) F(atan, 4.974) F(atan, -2.764) F(atan, -6.252)
    F(atan, 7.274) F(atan, 5.25) F(atan, -5.978) F(atan, 7.04) F(atan, 1.951) F(atan, 5.063) F(atan, 3.032) F(atan, 7.09)
    F(atan, 5.185) F(atan, 6.098) F(atan, -5.447) F(atan, 3.47) F(atan, 0.554) F(atan, 4.354) F(atan, -1.105) F(atan, 6.888)
    F(atan, 0.991) F(atan, -4.239) F(atan, -4.785) F(atan, -6.492) F(atan, -0.125) F(atan, -7.948) F(atan, -0.592) F(atan, -6.4)
    F(atan, -0.155) F(atan, -0.033) F(atan, 0.712) F(atan, 6.532) F(atan, -8.881) F(atan, 6.134) F(atan, -0.577) F(atan, 1.126)
    F(atan, 2.975) F(atan, 6.13) F(atan, -2.251) F(atan, -1.461) F(atan, 8.291) F(atan, -7.643) F(atan, 2.467) F(atan, 2.45)
    F(atan, -8.486) F(atan, 1.974) F(atan, 3.287) F(atan, 7.767) F(atan, -3.052) F(atan, 8.671) F(atan, 0.191) F(atan, -0.276)
    F(atan, 7.156) F(atan, -8.39) F(atan, 3.927) F(atan, 2.255) F(atan, -2.905) F(atan, 6.51) F(atan, -2.409) F(atan, -0.458)
    F(atan, 0.46) F(atan, 4.87) F(atan, -5.207) F(atan, -1.167) F(atan, -1.397) F(atan, 0.972) F(atan, 5.881) F(atan, -3.728)
    F(atan, 5.899) F(atan, -1.733) F(atan, 0.067) F(atan, -4.109) F(atan, 0.116) F(atan, 8.55) F(atan, 2.782) F(atan, 5.255)
    F(atan, -3.044) F(atan, -3.292) F(atan, -3.614) F(atan, 1.556) F(atan, 2.427) F(atan, 5.116) F(atan, -8.279) F(atan, 4.008)
    F(atan, 6.941) F(atan, 0.817) F(atan, -8.105) F(atan, -3.593) F(atan, -8.888) F(atan, -5.581) F(atan, 7.586) F(atan, 1.956)
    F(atan, 2.844) F(atan, 5.202) F(atan, 7.377) F(atan, 2.011) F(atan, 2.101) F(atan, 2.283) F(atan, 3.535) F(atan, 1.734)
}
void of_exp2(double *to) {
    F(exp2, 1.81) F(exp2, -2.875) F(exp2, 1.67) F(exp2, -0.421) F(exp2, 2.627) F(exp2, -3.986) F(exp2, -3.187) F(exp2, -4.63)
    F(exp2, 2.745) F(exp2, 4.141) F(exp2, 1.557) F(exp2, -1.311) F(exp2, 3.226) F(exp2, 2.865) F(exp2, 0.621) F(exp2, -2.42)
    F(exp2, -1.98) F(exp2, -0.782) F(exp2, -1.815) F(exp2, -0.693) F(exp2, 1.418) F(exp2, 4.339) F(exp2, -4.454) F(exp2, 0.675)
    F(exp2, -4.606) F(exp2, -3.812) F(exp2, 3.103) F(exp2, 0.753) F(exp2, 4.186) F(exp2, -0.535) F(exp2, -4.859) F(exp2, -1.129)
    F(exp2, 0.92) F(exp2, 4.377) F(exp2, 4.808) F(exp2, -0.246) F(exp2, -0.876) F(exp2, -3.98) F(exp2, 1.445) F(exp2, -2.877)
    F(exp2, -3.482) F(exp2, -4.845) F(exp2, -4.952) F(exp2, 1.838) F(exp2, -3.783) F(exp2, 4.663) F(exp2, -4.119) F(exp2, 3.695)
    F(exp2, -3.71) F(exp2, -4.822) F(exp2, 2.194) F(exp2, -2.577) F(exp2, 2.336) F(exp2, -3.126) F(exp2, -4.499) F(exp2, 2.74)
    F(exp2, 2.136) F(exp2, 3.555) F(exp2, 2.297) F(exp2, -4.157) F(exp2, 1.286) F(exp2, 2.092) F(exp2, -0.394) F(exp2, 4.323)
    F(exp2, -2.459) F(exp2, 4.643) F(exp2, 2.172) F(exp2, -4.886) F(exp2, -4.853) F(exp2, 1.507) F(exp2, 3.173) F(exp2, -4.203)
    F(exp2, -1.889) F(exp2, 2.294) F(exp2, -3.34) F(exp2, 3.61) F(exp2, -0.137) F(exp2, -4.402) F(exp2, -1.324) F(exp2, 0.75)
    F(exp2, -0.613) F(exp2, 1.769) F(exp2, -3.551) F(exp2, 2.974) F(exp2, -1.367) F(exp2, 1.449) F(exp2, 1.297) F(exp2, -0.82)
    F(exp2, -1.143) F(exp2, 2.862) F(exp2, 4.449) F(exp2, 2.846) F(exp2, 0.668) F(exp2, -2.076) F(exp2, -4.394) F(exp2, 4.74)
    F(exp2, 2.033) F(exp2, 3.274) F(exp2, -1.68) F(exp2, 1.058) F(exp2, 4.774) F(exp2, 3.313) F(exp2, 1.011) F(exp2, -1.914)
    F(exp2, -0.714) F(exp2, 3.881) F(exp2, -1.233) F(exp2, 1.848) F(exp2, 1.018) F(exp2, 3.961) F(exp2, 3.075) F(exp2, -2.167)
    F(exp2, -4.983) F(exp2, -2.37) F(exp2, -0.775) F(exp2, 0.866) F(exp2, 3.16) F(exp2, 3.874) F(exp2, -4.577) F(exp2, 3.332)
}
void of_pow(double *to) {
    P(7.325, 2.938) P(5.19, -1.809) P(7.676, 2.456) P(6.193, 3.31) P(3.187, -3.319) P(5.028, 2.379) P(1.884, 2.001) P(8.392, -2.128)
    P(5.501, 1.421) P(4.241, -2.347) P(2.367, 2.009) P(7.146, -0.322) P(0.881, 2.453) P(6.972, -2.137) P(5.258, 3.175) P(7.977, 0.175)
    P(4.342, 0.715) P(1.783, -2.461) P(1.708, 1.609) P(3.329, 0.515) P(3.682, 0.138) P(1.426, -3.643) P(8.975, -1.008) P(1.044, 1.062)
    P(7.107, -2.751) P(5.415, -1.241) P(4.723, -3.835) P(0.399, 3.923) P(7.808, -0.109) P(5.148, -1.907) P(7.035, -0.592) P(8.524, 2.138)
    P(7.388, 3.708) P(2.361, -3.697) P(1.889, -2.554) P(0.845, -3.592) P(5.061, 2.965) P(4.179, 3.578) P(8.198, -3.487) P(5.423, -0.821)
    P(1.167, 3.674) P(2.389, 0.516) P(5.802, 3.651) P(6.061, -0.855) P(4.09, -2.722) P(8.695, 3.934) P(2.073, -3.691) P(2.377, -1.184)
    P(8.135, 3.237) P(7.551, -3.624) P(7.099, 1.677) P(5.856, 3.883) P(0.596, -2.842) P(6.819, 3.515) P(6.124, -1.61) P(5.364, 2.063)
    P(1.038, -1.409) P(2.387, -3.007) P(4.384, -2.651) P(2.222, -2.855) P(6.131, -3.899) P(6.483, -2.439) P(0.421, 3.421) P(2.063, 3.472)
    P(7.814, 3.11) P(1.344, -0.422) P(0.963, 3.43) P(7.596, 1.027) P(4.126, -1.282) P(7.425, -0.18) P(5.691, -2.858) P(2.073, -3.546)
    P(6.452, 0.427) P(1.388, 2.966) P(2.471, -0.706) P(1.486, -1.831) P(7.572, -1.324) P(1.593, -0.072) P(2.931, 3.225) P(1.116, 3.829)
    P(0.606, 3.16) P(6.048, -2.311) P(4.349, -1.71) P(2.394, -2.387) P(3.342, 3.928) P(8.983, 3.401) P(0.968, -1.685) P(8.076, -3.54)
    P(6.566, -1.652) P(8.81, -3.872) P(7.283, -1.273) P(1.347, -3.985) P(7.507, 0.213) P(1.754, -0.518) P(8.217, -2.254) P(5.185, -2.895)
    P(1.703, 2.164) P(6.433, -2.426) P(0.805, -3.301) P(5.516, -0.036) P(2.538, -2.352) P(5.551, 1.662) P(7.323, 0.663) P(1.9, -3.474)
    P(6.621, -0.735) P(6.523, -3.557) P(7.315, -1.318) P(7.593, 2.916) P(4.488, -3.876) P(8.201, -0.187) P(7.861, -1.87) P(1.756, 2.653)
    P(3.367, -2.692) P(3.403, 0.759) P(0.141, 0.159) P(4.067, 0.125) P(1.175, 1.717) P(7.367, 2.924) P(2.957, 1.689) P(3.494, 2.011)
    P(0.645, 2.982) P(8.591, -0.042) P(4.668, 0.244) P(4.882, -3.834) P(8.71, -2.21) P(1.723, -3.179) P(2.329, 2.537) P(0.368, -3.228)
    P(6.321, -2.439) P(0.257, 0.795) P(5.231, 0.183) P(6.354, -3.177) P(7.839, 1.737) P(0.502, -3.016) P(4.493, 0.006) P(2.589, -3.024)
    P(3.71, -2.904) P(5.367, 2.889) P(1.41, 0.583) P(6.745, -2.685) P(7.452, 3.501) P(3.56, -0.636) P(7.574, 0.205) P(3.621, 3.53)
    P(7.014, -1.292) P(2.239, -1.319) P(3.977, 3.85) P(7.259, 3.302) P(7.354, 2.781) P(0.577, 0.139) P(8.625, 3.475) P(2.319, -0.623)
    P(5.731, -1.085) P(4.824, -3.446) P(3.954, 0.038) P(0.285, -2.885) P(8.73, 2.213) P(8.439, 1.066) P(7.302, 3.075) P(7.973, -3.725)
}
