// The vector primitives of every generated kernel. Plain C++17 with the vector extensions of GCC and Clang: no torch headers, no OpenMP.
// The file that includes this text first defines PLAIT_BYTES (vector width), PLAIT_REAL (float or double), PLAIT_INT (the lanes' integer).
// Laws: every function is right on all inputs, NaN, infinities and subnormals included; nothing here changes the floating-point state.
#include <climits>
#include <cstring>
#include <type_traits>
#include <utility>
typedef PLAIT_REAL real;
typedef PLAIT_INT inum;
constexpr int LANES = PLAIT_BYTES / sizeof(real);
typedef real vec __attribute__((vector_size(PLAIT_BYTES)));
typedef inum ivec __attribute__((vector_size(LANES * sizeof(inum))));
typedef decltype(vec{} < vec{}) mask;      // lanes of all ones or zeros, as wide as the reals
typedef decltype(ivec{} < ivec{}) imask;   // the same, as wide as the integers
#define INLINE static inline __attribute__((always_inline))
// libm under the compilers' own names: reading <cmath> takes longer than compiling most kernels.
#undef INFINITY
#undef NAN
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
namespace libm {
#define LIBM(name) \
  INLINE float name(float x) { return __builtin_##name##f(x); } \
  INLINE double name(double x) { return __builtin_##name(x); } \
  template <class T> INLINE double name(T x) { return __builtin_##name((double)x); }
LIBM(exp) LIBM(expm1) LIBM(log) LIBM(log1p) LIBM(sqrt) LIBM(sin) LIBM(cos) LIBM(tanh) LIBM(erf)
LIBM(floor) LIBM(ceil) LIBM(trunc) LIBM(nearbyint)
INLINE float pow(float x, float y) { return __builtin_powf(x, y); }
INLINE double pow(double x, double y) { return __builtin_pow(x, y); }
template <class S, class T> INLINE double pow(S x, T y) { return __builtin_pow((double)x, (double)y); }
}
INLINE vec all(real x) { return x - vec{}; }
INLINE ivec alli(inum x) { return x + ivec{}; }
INLINE mask allb(bool x) { return mask{} - (decltype(mask{}[0] + 0))(x ? 1 : 0); }
INLINE vec load(const real *p) { vec r; memcpy(&r, p, sizeof r); return r; }
INLINE void store(real *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE vec to_real(ivec x) { return __builtin_convertvector(x, vec); }
INLINE vec to_real(vec x) { return x; } // what is a real stays one
INLINE mask to_mask(imask x) { return __builtin_convertvector(x, mask); }
INLINE bool any_lane(mask m) { unsigned long w[sizeof m / 8], r = 0; memcpy(w, &m, sizeof m); for (unsigned i = 0; i < sizeof m / 8; i++) r |= w[i]; return r != 0; }
// maximum and minimum hand on a NaN from either side, as torch does
INLINE vec vmax(vec a, vec b) { vec r = a > b ? a : b; return a != a ? a : r; }
INLINE vec vmin(vec a, vec b) { vec r = a < b ? a : b; return a != a ? a : r; }
INLINE ivec vmaxi(ivec a, ivec b) { return a > b ? a : b; }
INLINE ivec vmini(ivec a, ivec b) { return a < b ? a : b; }
template <class T> INLINE T smax(T a, T b) { return a != a ? a : (a > b ? a : b); }
template <class T> INLINE T smin(T a, T b) { return a != a ? a : (a < b ? a : b); }
// An integer that does not exist is NO_INTEGER: present, and outside every axis. Nothing here traps.
constexpr long NO_INTEGER = PLAIT_NO_INTEGER;
INLINE long whole(double x) { return x >= -0x1p63 && x < 0x1p63 ? (long)x : NO_INTEGER; }
INLINE long floordiv(long a, long b) { if (b == 0) return NO_INTEGER; if (b == -1) return (long)(0UL - (unsigned long)a); long q = a / b; return q - ((a % b != 0) && ((a < 0) != (b < 0))); }
INLINE long floormod(long a, long b) { if (b == 0) return NO_INTEGER; if (b == -1) return 0; long r = a % b; return r + ((r != 0 && ((r < 0) != (b < 0))) ? b : 0); }
INLINE ivec floordiv(ivec a, ivec b) { ivec r = {}; for (int i = 0; i < LANES; i++) r[i] = (inum)floordiv((long)a[i], (long)b[i]); return r; }
INLINE ivec floormod(ivec a, ivec b) { ivec r = {}; for (int i = 0; i < LANES; i++) r[i] = (inum)floormod((long)a[i], (long)b[i]); return r; }
INLINE long ipow(long a, long n) { long r = 1; for (; n > 0; n--) r *= a; return r; }
INLINE real rpow(real a, int n) { real r = 1; for (; n; n >>= 1, a *= a) if (n & 1) r *= a; return r; }
INLINE vec vabs(vec x) { vec r = x < 0 ? -x : x; return x == 0 ? vec{} : r; }
template <class T> INLINE T sabs(T x) { return x < 0 ? -x : (x == 0 ? T(0) : x); }
template <class T> INLINE T ssign(T x) { return T((x > 0) - (x < 0)); }
INLINE vec vsign(vec x) { return x > 0 ? all(1) : (x < 0 ? all(-1) : vec{}); }
INLINE ivec vwhole(vec x) { ivec r = {}; for (int i = 0; i < LANES; i++) r[i] = (inum)whole(x[i]); return r; }
// Intervals, to tell what a predicate of integers is on a whole tile: NONE, SOME or ALL of it. Doubles hold every integer that coordinates
// make up to 2^53 and saturate beyond; a quotient of such integers is never rounded across a whole number.
struct span { double lo, hi; };
enum part { NONE = 0, SOME = 1, ALL = 2 };
constexpr double FAR = 1e300;
INLINE span point(double x) { return {x, x}; }
INLINE span iadd(span a, span b) { return {a.lo + b.lo, a.hi + b.hi}; }
INLINE span isub(span a, span b) { return {a.lo - b.hi, a.hi - b.lo}; }
INLINE span ineg(span a) { return {-a.hi, -a.lo}; }
INLINE span imul(span a, span b) {
  double p = a.lo * b.lo, q = a.lo * b.hi, r = a.hi * b.lo, s = a.hi * b.hi;
  return {smin(smin(p, q), smin(r, s)), smax(smax(p, q), smax(r, s))};
}
INLINE span isquare(span a) { double p = a.lo * a.lo, q = a.hi * a.hi; return {a.lo <= 0 && a.hi >= 0 ? 0 : smin(p, q), smax(p, q)}; }
INLINE span iabs(span a) { return a.lo >= 0 ? a : a.hi <= 0 ? ineg(a) : span{0, smax(-a.lo, a.hi)}; }
INLINE span imin(span a, span b) { return {smin(a.lo, b.lo), smin(a.hi, b.hi)}; }
INLINE span imax(span a, span b) { return {smax(a.lo, b.lo), smax(a.hi, b.hi)}; }
INLINE span idiv(span a, span b) { if (b.lo != b.hi || b.lo <= 0) return {-FAR, FAR}; return {libm::floor(a.lo / b.lo), libm::floor(a.hi / b.lo)}; }
INLINE span imod(span a, span b) {
  if (b.lo != b.hi || b.lo <= 0) return {-FAR, FAR};
  const double q = libm::floor(a.lo / b.lo);
  if (q == libm::floor(a.hi / b.lo)) return {a.lo - q * b.lo, a.hi - q * b.lo};
  return {0, b.lo - 1};
}
INLINE part lt(span a, span b) { return a.hi < b.lo ? ALL : a.lo >= b.hi ? NONE : SOME; }
INLINE part le(span a, span b) { return a.hi <= b.lo ? ALL : a.lo > b.hi ? NONE : SOME; }
INLINE part eq(span a, span b) { return a.lo == a.hi && b.lo == b.hi && a.lo == b.lo ? ALL : a.hi < b.lo || b.hi < a.lo ? NONE : SOME; }
INLINE part both(part a, part b) { return a < b ? a : b; }
INLINE part either(part a, part b) { return a > b ? a : b; }
INLINE part opposite(part a) { return (part)(2 - a); }
// Tiles are handed out one by one; `runner` is GOMP_parallel of the libgomp that torch has loaded, or a pool with the same signature.
typedef void (*runner)(void (*)(void *), void *, unsigned, unsigned);
// `image` says which tiles of a phase there are: those of one image, by its coordinate along each axis, or all.
struct job { void *const *buffers; const long *numbers; long next; long threads; const long *image; };
// Whether `threads` that take image after image through all phases are busy for three quarters of the time, at least
INLINE bool image_by_image(long images, long threads) { return images > 0 && (images + threads - 1) / threads * threads <= images + images / 3; }
