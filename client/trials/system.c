/* What a compiler asks of its system: thread-local storage, sections, weak names, variable
   arguments, arrays on the stack, attributes, assembly. */
/* Headers of the compiler's own, which a tree must bring to where it looks for them. */
#include <stdarg.h>
#include <stddef.h>

_Thread_local int own = 3;
static _Thread_local char buffer[64];
extern _Thread_local long others;
extern int far_away(const char *, ...);
__attribute__((weak)) int maybe(void);
__attribute__((section(".data.kept"), used)) static int kept[4] = { 1, 2 };
__attribute__((visibility("hidden"))) int hidden(int n) { return n + kept[1]; }
__attribute__((constructor)) static void begin(void) { own++; }
__attribute__((noinline, cold)) static int rare(int n) { return far_away("rare %d %s", n, __func__); }
const char *const names[] = { "one", "two", "three", 0 };
int (*const calls[])(int) = { hidden, rare };
int common[200];
static struct { const char *name; int (*call)(int); void *at; } table[] = { { "a", rare, &common[7] }, { "b", hidden, &own + 0 == 0 ? 0 : (void *)names } };

int sum(int n, ...) { va_list list; int s = 0; va_start(list, n); while (n--) s += va_arg(list, int) + (int)va_arg(list, double); va_end(list); return s; }
int guarded(const char *s) { char text[40]; __builtin_strcpy(text, s); return far_away(text) + buffer[3]; }
int grown(int n) { int p[n]; char *q = __builtin_alloca((size_t)n * 2); for (int i = 0; i < n; i++) p[i] = q[i] = (char)i; return far_away(q, p); }
int caller(int n) { if (__builtin_expect(n < 0, 0)) return rare(n); return maybe ? maybe() : calls[n & 1](n) + table[n & 1].call(n); }
long thread(long n) { others += n; return others * own; }
void barrier(int *p) { p[0] = 1; __asm__ volatile("" ::: "memory"); p[1] = 2; __sync_synchronize(); __atomic_fetch_add(&p[2], 3, __ATOMIC_SEQ_CST); }
int swap(int *p, int to) { int from = 4; return __atomic_compare_exchange_n(p, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) ? from : -from; }
int tail(int n) { return n > 100 ? hidden(n - 1) : far_away(names[n & 3]); }
typedef struct { char c[24]; } large;
large copy(large a, int n) { a.c[n & 15] = 'x'; return a; }
void trap(int n) { if (n) __builtin_trap(); __builtin_unreachable(); }
static inline int inlined(int n) { static int calls_so_far; return calls_so_far += n; }
int twice(int n) { return inlined(n) + inlined(-n); }
__attribute__((aligned(64))) char line[3] = "ab";
int returned(void) { return (int)(size_t)__builtin_return_address(0) & 1; }
extern int elsewhere, many_elsewhere[];
int get(int n) { return elsewhere + many_elsewhere[n]; }
int *address(int n) { return n ? &elsewhere : many_elsewhere; }
int instruction(int n) { __asm__ volatile("nop" : "+r"(n)); return n; }
int overflows(char *to, const char *from, int n) { char text[16], more[8]; int p[4]; for (int i = 0; i < n; i++) text[i] = from[i], more[i & 7] = to[i], p[i & 3] = n; return far_away(text, more, p); }
