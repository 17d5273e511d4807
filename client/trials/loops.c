/* Loops that are vectorised, unrolled, interchanged or recognised. */
typedef __SIZE_TYPE__ size_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT8_TYPE__ int8_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;

void saxpy(float *restrict y, const float *restrict x, float a, int n) { for (int i = 0; i < n; i++) y[i] += a * x[i]; }
int sum(const int *p, size_t n) { int s = 0; for (size_t i = 0; i < n; i++) s += p[i]; return s; }
unsigned char most(const unsigned char *p, int n) { unsigned char m = 0; for (int i = 0; i < n; i++) m = p[i] > m ? p[i] : m; return m; }
void widen(int32_t *restrict to, const int8_t *restrict from, int n) { for (int i = 0; i < n; i++) to[i] = from[i] * 3 - 7; }
void narrow(uint8_t *restrict to, const uint16_t *restrict from, int n) { for (int i = 0; i < n; i++) to[i] = (uint8_t)((from[i] + 128) >> 8); }
void clear(char *p, int n) { for (int i = 0; i < n; i++) p[i] = 0; }
void move(long *p, long *q, int n) { for (int i = 0; i < n; i++) p[i] = q[i]; }
void matrix(double c[8][8], double a[8][8], double b[8][8]) { for (int i = 0; i < 8; i++) for (int j = 0; j < 8; j++) { c[i][j] = 0; for (int k = 0; k < 8; k++) c[i][j] += a[i][k] * b[k][j]; } }
void blur(float *restrict to, const float *restrict from, int n) { for (int i = 1; i < n - 1; i++) to[i] = (from[i - 1] + from[i] + from[i + 1]) / 3; }
int find(const int *p, int n, int wanted) { for (int i = 0; i < n; i++) if (p[i] == wanted) return i; return -1; }
double dot(const double *a, const double *b, int n) { double s = 0; for (int i = 0; i < n; i += 2) s += a[i] * b[i]; return s; }
void conditional(int *p, const int *q, int n) { for (int i = 0; i < n; i++) { if (q[i] > 0) p[i] = q[i]; else p[i] -= 1; } }
unsigned hash(const char *p, unsigned n) { unsigned h = 2166136261u; for (unsigned i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 16777619; return h; }
struct pair { short a, b; };
void pairs(struct pair *p, int n) { for (int i = 0; i < n; i++) { p[i].a += p[i].b; p[i].b ^= 3; } }
void nested(int *restrict p, int n) { for (int i = 0; i < n; i++) for (int j = i; j < n; j++) p[i * n + j] = i == j ? 1 : i - j; }
uint32_t crc(uint32_t c, const uint8_t *p, int n) { while (n--) { c ^= *p++; for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1; } return c; }
static int helper(int n) { int s = 0; for (int i = 1; i <= n; i++) s += i * i; return s; }
int closed(int n) { return helper(n) + helper(10); }
typedef int four __attribute__((vector_size(16)));
four lanes(four a, four b) { return a * b + (a > b) - (four){ 1, 2, 3, 4 }; }
