/* Integers: promotions, shifts, division by constants, bit fields, switch tables. */
typedef __UINT64_TYPE__ uint64_t;
typedef __UINT32_TYPE__ uint32_t;
#define INT_MAX __INT_MAX__
#define INT_MIN (-INT_MAX - 1)

struct bits { unsigned a : 3; int b : 7; unsigned long long c : 41; signed char d; } __attribute__((packed));
struct pair { long first; short second; };
enum kind { NONE, ONE = 7, MANY = 1 << 20, LEAST = -3 };

static const char words[][9] = { "alpha", "beta", "gamma", "\xff\x80" };
volatile int sink;

unsigned divide(unsigned n, int m, long long w) { return n / 7 + n % 10 + (unsigned)(m / -3) + (unsigned)(w / 1000003); }
uint64_t rotate(uint64_t x, unsigned n) { return x << (n & 63) | x >> (-n & 63); }
uint32_t swap(uint32_t x) { return x >> 24 | (x >> 8 & 0xff00) | (x << 8 & 0xff0000) | x << 24; }
int sign(char c, signed char s, unsigned char u) { return c < 0 ? s - u : s + u * 3; }
int count(uint64_t x) { int n = 0; while (x) { x &= x - 1; n++; } return n + __builtin_clzll(x | 1) + __builtin_ctz(n | 1); }
long long wide(long long a, long long b) { return (a * b) % 4093 + (a ^ b) * 0x9e3779b97f4a7c15ull; }
#ifdef __SIZEOF_INT128__
unsigned long long high(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
#endif
int field(struct bits *b, int n) { b->a += n; b->b -= n; b->c ^= (unsigned long long)n << 20; return b->a * b->b + b->d + (int)b->c; }
struct pair make(long a, struct pair b) { b.first += a; b.second = (short)(a * b.second); return b; }
int choose(int n) {
    switch (n) {
    case 0: return 3; case 1: return 91; case 2: return -4; case 3: return 17; case 4: return 5;
    case 6: return 8; case 7: return 1; case 9: return 4; case 10: return words[1][2]; case 1000: return 2;
    case -5 ... -2: return n * n;
    default: return INT_MIN + 1;
    }
}
int interpret(const unsigned char *code) {
    static void *table[] = { &&add, &&sub, &&twice, &&end };
    int value = 1;
    goto *table[*code & 3];
add: value += *++code; goto *table[*++code & 3];
sub: value -= *++code; goto *table[*++code & 3];
twice: value <<= 1; goto *table[*++code & 3];
end: return value;
}
int overflow(int a, int b) { int r; return __builtin_add_overflow(a, b, &r) ? INT_MAX : __builtin_mul_overflow(r, 3, &r) ? 0 : r; }
int compare(const char *a, const char *b) { return __builtin_strcmp(a, b) + (int)__builtin_strlen(words[2]) + (int)__builtin_offsetof(struct pair, second); }
void loop(unsigned *a, int n, enum kind k) { for (int i = n; i-- > 0;) { a[i] = a[i] * 5 + (unsigned)k; if (a[i] % 3 == 1) sink = (int)a[i]; } }
int recurse(int n) { return n < 2 ? n : recurse(n - 1) + recurse(n - 2); }
