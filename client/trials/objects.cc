// C++ without a library: classes, templates, exceptions, lambdas, guarded statics.
namespace shapes {
struct Shape { virtual ~Shape(); virtual double area() const = 0; virtual int sides() const { return 0; } int id = 7; };
struct Named { virtual const char *name() const; virtual ~Named() = default; };
struct Square : Shape, virtual Named { double side; explicit Square(double s) : side(s) {} double area() const override { return side * side; } int sides() const final { return 4; } const char *name() const override { return "square"; } };
struct Circle final : Shape { double r = 0.5; double area() const override { return 3.14159265358979 * r * r; } };
Shape::~Shape() {}
}
extern int work(int);
struct Guard { int n; explicit Guard(int k) : n(work(k)) {} ~Guard() { work(-n); } Guard(Guard &&o) noexcept : n(o.n) { o.n = 0; } };
template <typename T, int N> struct Array { T at[N]; constexpr T sum() const { T s{}; for (const T &x : at) s += x; return s; } };
inline int total() { return 0; }
template <typename T, typename... A> auto total(T first, A... rest) { return first + total(rest...); }
template <typename T> T greatest(T a, T b) { return a < b ? b : a; }
constexpr Array<int, 5> numbers{ { 1, 2, 3, 5, 8 } };
static_assert(numbers.sum() == 19, "");
thread_local Guard mine(5);
static int counter = work(3);
Guard &once() { static Guard guard(work(2)); return guard; }
int caught(int n) { try { Guard a(n), b(n + 1); if (n > 3) throw shapes::Square(n); return work(n); } catch (const shapes::Shape &s) { return s.sides(); } catch (int) { throw; } catch (...) { return -1; } }
double areas(shapes::Shape *const *all, int n) { double s = 0; for (int i = 0; i < n; i++) { s += all[i]->area(); if (auto *q = dynamic_cast<shapes::Square *>(all[i])) s += q->side; } return s; }
double direct() { shapes::Circle c; shapes::Square q(3); return c.area() + q.area() + q.name()[1]; }
int closures(int n) { auto add = [n](auto m) { return n + m; }; auto deep = [&] { return add(2) + total(1, 2L, n); }; return deep() + greatest(3, n) + (int)greatest(2.5, 0.1); }
int members(int (shapes::Shape::*f)() const, const shapes::Shape &s) { return (s.*f)() + s.id; }
int nothrow(int n) noexcept { return caught(n) + mine.n + once().n + counter; }
enum class Color : unsigned char { red = 1, blue = 9 };
Color operator|(Color a, Color b) { return static_cast<Color>(static_cast<int>(a) | static_cast<int>(b)); }
int use(Color c) { switch (c) { case Color::red: return 1; case Color::blue: return 2; } return (int)(c | Color::red); }
Guard *make(int n) { return n ? new Guard[3]{ Guard(1), Guard(n), Guard(2) } : nullptr; }
void drop(Guard *g) { delete[] g; }
const char *literal() { return "\u00e9" "x"; }
