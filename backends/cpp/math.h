// Real numbers beyond + - * /: their storage in 16 bits, and elementary functions over vectors. The text follows plait.h in every source.
// Laws: as in plait.h; in addition the scalar and the vector form of a conversion agree in every bit.
typedef unsigned int word;
typedef float fvec __attribute__((vector_size(LANES * 4)));
typedef int fmask __attribute__((vector_size(LANES * 4)));
typedef word wordvec __attribute__((vector_size(LANES * 4)));
typedef unsigned short halfvec __attribute__((vector_size(LANES * 2)));
template <class To, class From> INLINE To bits_as(From x) { static_assert(sizeof(To) == sizeof(From)); To r; memcpy(&r, &x, sizeof r); return r; }
// float -> the upper half of its bits, rounded to nearest even; a NaN keeps its sign and stays a NaN. F is float and W word, or vectors of both.
template <class F, class W> INLINE W to_bf16(F x) { W u = bits_as<W>(x), r = (u + 0x7fff + ((u >> 16) & 1)) >> 16; return x != x ? (u >> 16) | 0x40 : r; }
template <class F, class W> INLINE F of_bf16(W h) { return bits_as<F>(h << 16); }
// The same for IEEE half precision. Subnormal halves are made and read by sums with 0.5, whose last place is their last place, so that
// no float is subnormal on the way. `chosen(test, yes, no)` works on words and on vectors of them.
template <class T, class W> INLINE W chosen(T test, W yes, W no) { return test ? yes : no; }
template <class F, class W> INLINE W to_f16(F x) {
  W u = bits_as<W>(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
  W half = bits_as<W>(F{} + 0.5f), tiny = bits_as<W>(bits_as<F>(chosen(a < 0x38800000u, a, W{})) + 0.5f) - half;
  W normal = (a - 0x38000000u + 0xfff + ((a >> 13) & 1)) >> 13, special = chosen(a > 0x7f800000u, W{} + 0x7e00u, W{} + 0x7c00u);
  return sign | chosen(a >= 0x47800000u, special, chosen(a < 0x38800000u, tiny, normal));
}
template <class F, class W> INLINE F of_f16(W h) {
  W sign = (h & 0x8000) << 16, a = (h & 0x7fff) << 13, half = bits_as<W>(F{} + 0.5f);
  W normal = a + chosen(a >= 0x0f800000u, W{} + 0x70000000u, W{} + 0x38000000u), tiny = bits_as<W>(bits_as<F>((h & 0x3ff) | half) - 0.5f);
  return bits_as<F>(sign | chosen(a < 0x00800000u, tiny, normal));
}
// Memory of 16 bits a number. An entry converts to `real` where one is asked for and to nothing else, and takes a `real` by `=`; `load` and
// `store` do so for a vector. From double it goes through float.
#define MEMBER inline __attribute__((always_inline))
template <class T> using only_real = typename std::enable_if<std::is_same<T, real>::value>::type;
struct bf16 {
  unsigned short bits;
  template <class T, class = only_real<T>> MEMBER operator T() const { return of_bf16<float, word>(bits); }
  MEMBER void operator=(real x) { bits = (unsigned short)to_bf16<float, word>((float)x); }
};
struct f16 {
  unsigned short bits;
  template <class T, class = only_real<T>> MEMBER operator T() const { return of_f16<float, word>(bits); }
  MEMBER void operator=(real x) { bits = (unsigned short)to_f16<float, word>((float)x); }
};
INLINE wordvec load_half(const void *p) { halfvec h; memcpy(&h, p, sizeof h); return __builtin_convertvector(h, wordvec); }
INLINE void store_half(void *p, wordvec u) { halfvec h = __builtin_convertvector(u, halfvec); memcpy(p, &h, sizeof h); }
INLINE vec load(const bf16 *p) { return __builtin_convertvector((of_bf16<fvec, wordvec>(load_half(p))), vec); }
INLINE vec load(const f16 *p) { return __builtin_convertvector((of_f16<fvec, wordvec>(load_half(p))), vec); }
INLINE void store(bf16 *p, vec x) { store_half(p, to_bf16<fvec, wordvec>(__builtin_convertvector(x, fvec))); }
INLINE void store(f16 *p, vec x) { store_half(p, to_f16<fvec, wordvec>(__builtin_convertvector(x, fvec))); }
// --- elementary functions
// Polynomials were fitted at Chebyshev nodes in 60 digits and rounded; beside each stand its interval and its relative error in the result.
// `rbits` are the bits of a real, `bitvec` those of a vector. Bounds of the functions: 3e-7 (float), 1e-15 (double) relative; tests/test_math.py.
constexpr bool WIDE = sizeof(real) == 8;
typedef std::conditional<WIDE, unsigned long, unsigned>::type rbits;
typedef rbits bitvec __attribute__((vector_size(PLAIT_BYTES)));
constexpr int DIGITS = WIDE ? 52 : 23, BIAS = WIDE ? 1023 : 127;
constexpr rbits SIGN = rbits(1) << (8 * sizeof(real) - 1), FRACTION = (rbits(1) << DIGITS) - 1;
constexpr rbits UPPER = ~(WIDE ? rbits(0x7ffffff) : rbits(0xfff));   // the bits of half of the digits: a product of two such halves is exact
constexpr real ROUNDER = WIDE ? real(0x1.8p52) : real(0x1.8p23);     // adding it leaves no digits behind the point
constexpr real LN2_HIGH = WIDE ? real(0.6931471805598903) : real(0.693145751953125), LN2_LOW = WIDE ? real(5.497923018708371e-14) : real(1.428606765330187e-06);
constexpr real FAINT = WIDE ? real(0x1p-55) : real(0x1p-26);   // beside 1 nothing
constexpr real LOWEST_EXP = WIDE ? -746 : -104, HIGHEST_EXP = WIDE ? 710 : 89;   // exp is 0 below and infinite above
#define LANEWISE(name, expression) INLINE vec name(vec x) { vec r = {}; for (int i = 0; i < LANES; i++) { real e = x[i]; r[i] = expression; } return r; }
template <int N> INLINE vec horner(vec x, const real (&c)[N]) {
  vec r = all(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; i--) r = r * x + c[i];
  return r;
}
// The same in two chains, one of x^2 for each half of the coefficients: half as long to wait for, one operation more
template <int N> INLINE vec horner_by_two(vec x, const real (&c)[N]) {
  vec y = x * x, last = all(c[N - 1]), before = all(c[N - 2]);
#pragma GCC unroll 16
  for (int i = N - 3; i >= 0; i -= 2) {
    last = last * y + c[i];
    if (i > 0) before = before * y + c[i - 1];
  }
  return N % 2 ? before * x + last : last * x + before;
}
// x or the bound, NaN where x is
#if PLAIT_BYTES == 32 && defined(__AVX__)
template <class V> INLINE V above(V low, V x) { if constexpr (WIDE) return __builtin_ia32_maxpd256(low, x); else return __builtin_ia32_maxps256(low, x); }
template <class V> INLINE V below(V high, V x) { if constexpr (WIDE) return __builtin_ia32_minpd256(high, x); else return __builtin_ia32_minps256(high, x); }
#else
template <class V> INLINE V above(V low, V x) { return x < low ? low : x; }
template <class V> INLINE V below(V high, V x) { return x > high ? high : x; }
#endif
INLINE vec magnitude(vec x) { return bits_as<vec>(bits_as<bitvec>(x) & ~SIGN); }
INLINE vec with_sign(vec x, vec of) { return bits_as<vec>(bits_as<bitvec>(x) | (bits_as<bitvec>(of) & SIGN)); }   // x >= 0
INLINE vec upper(vec x) { return bits_as<vec>(bits_as<bitvec>(x) & UPPER); }
INLINE vec power_of_two(mask n) { return bits_as<vec>((n + BIAS) << DIGITS); }   // -BIAS < n <= BIAS
INLINE vec small_to_real(mask n) { return bits_as<vec>(n + bits_as<mask>(all(ROUNDER))) - ROUNDER; }   // |n| < 2^22
// x = n ln 2 + f, |f| <= 0.3467, for x within the bounds of exp
struct reduced { mask n; vec f; };
INLINE reduced reduce(vec x) {
  vec t = x * real(1.44269504088896340736) + ROUNDER, m = t - ROUNDER;
  return {bits_as<mask>(t) - bits_as<mask>(all(ROUNDER)), (x - m * LN2_HIGH) - m * LN2_LOW};
}
// (exp(f) - 1 - f) / f^2, |f| <= 0.3467: 8e-10 and 2e-17 of exp, 2e-9 and 4e-17 of expm1
INLINE vec exp_tail(vec f) {
  if constexpr (WIDE) {
    constexpr real c[] = {0.5, 0.16666666666666669, 0.04166666666662399, 0.008333333333330051, 0.0013888888917281794, 0.00019841269863105968, 2.480152119021773e-05,
                          2.7557268378684192e-06, 2.7620138719733994e-07, 2.5100424157005067e-08};
    return horner(f, c);
  } else {
    constexpr real c[] = {0.5, 0.1666666716337204, 0.041666463017463684, 0.00833331048488617, 0.0013933685841038823, 0.00019891030387952924};
    return horner(f, c);
  }
}
// exp, with 2^n in two factors so that results below the normal range are rounded, not flushed
INLINE vec scaled_exp(reduced r) {
  vec p = (exp_tail(r.f) * r.f + real(1)) * r.f + real(1);
  mask half = r.n >> 1;
  return p * power_of_two(half) * power_of_two(r.n - half);
}
INLINE vec vexp(vec x) {
  return scaled_exp(reduce(below(all(HIGHEST_EXP), above(all(LOWEST_EXP), x))));
}
// 2^n (exp(f) - 1) + (2^n - 1), in halves so that 2^n does not overflow before the result does
INLINE vec vexpm1(vec x) {
  constexpr real low = WIDE ? -60 : -30;   // the result is -1
  reduced r = reduce(below(all(HIGHEST_EXP), above(all(low), x)));
  vec p = exp_tail(r.f) * r.f * r.f + r.f, s = power_of_two(r.n - 1), e = (s * p + (s - real(0.5))) * real(2);
  return magnitude(x) < FAINT ? x : e;
}
INLINE vec vsigmoid(vec x) { vec e = vexp(-magnitude(x)); return (x < 0 ? e : all(1)) / (real(1) + e); }
INLINE real ssigmoid(real x) { real e = libm::exp(x < 0 ? x : -x); return (x < 0 ? e : real(1)) / (real(1) + e); }
// (exp(2a) - 1) / (exp(2a) + 1), a = |x|; beyond the bound it is 1
INLINE vec vtanh(vec x) {
  constexpr real bound = WIDE ? 20 : 10;
  vec a = below(all(bound), magnitude(x));
  reduced r = reduce(a + a);
  vec p = exp_tail(r.f) * r.f * r.f + r.f, s = power_of_two(r.n), e = s * p + (s - real(1));
  return with_sign(e / (e + real(2)), x);
}
// A positive normal x = 2^n (1 + f), 1 + f from the root of 1/2 to that of 2
constexpr rbits ONE = rbits(BIAS) << DIGITS, HALF_ROOT = WIDE ? rbits(0x3fe6a09e667f3bcdUL) : rbits(0x3f3504f3U);
INLINE reduced reduce_log(vec x) {
  bitvec u = bits_as<bitvec>(x) + (ONE - HALF_ROOT);
  return {bits_as<mask>(u >> DIGITS) - BIAS, bits_as<vec>((u & FRACTION) + HALF_ROOT) - real(1)};
}
// (log((1 + s) / (1 - s)) - 2 s) / s^3 in z = s^2, |s| <= 0.1716: 3e-10 and 5e-18 of the logarithm
INLINE vec log_tail(vec z) {
  if constexpr (WIDE) {
    constexpr real c[] = {0.666666666666667, 0.39999999999899505, 0.28571428625975487, 0.22222211134795078, 0.1818288912526188, 0.1533172160055169, 0.14616449685088906};
    return horner(z, c);
  } else {
    constexpr real c[] = {0.6666666865348816, 0.4000012278556824, 0.2855082154273987, 0.2333046793937683};
    return horner(z, c);
  }
}
// log(2^n (1 + f)) + more, |more| tiny beside it. In float log(1 + f) = f - f^2 / 2 + f^3 P(f), f from -0.293 to 0.415: 3e-9.
INLINE vec log_sum(reduced r, vec n, vec more) {
  vec f = r.f;
  if constexpr (WIDE) {
    vec s = f / (f + real(2)), z = s * s;
    return n * LN2_HIGH + ((s + s) + (s * z * log_tail(z) + (n * LN2_LOW + more)));
  } else {
    constexpr real c[] = {0.3333333134651184, -0.2499999701976776, 0.20000715553760529, -0.1666780263185501, 0.14249058067798615, -0.12425687164068222, 0.11685419827699661,
                          -0.11479733884334564, 0.06971611827611923};
    vec z = f * f;
    return n * LN2_HIGH + (f + (f * z * horner(f, c) + (n * LN2_LOW + more) - real(0.5) * z));
  }
}
// The logarithm at x for which `made` is right where x > low: the border, what lies beyond it, infinity
INLINE vec log_ends(vec x, real low, vec made) {
  made = x > low ? made : (x == low ? all(-INFINITY) : all(NAN));
  return x == real(INFINITY) ? x : made;
}
INLINE vec vlog(vec x) {
  constexpr real least = WIDE ? real(0x1p-1022) : real(0x1p-126), factor = WIDE ? real(0x1p54) : real(0x1p25);
  mask tiny = x < least;
  reduced r = reduce_log(tiny ? x * factor : x);
  vec n = small_to_real(r.n);
  return log_ends(x, 0, log_sum(r, tiny ? n - real(WIDE ? 54 : 25) : n, vec{}));
}
// log(u) with what u = 1 + x has lost
INLINE vec vlog1p(vec x) {
  vec u = x + real(1), lost = x > 1 ? real(1) - (u - x) : x - (u - real(1));
  reduced r = reduce_log(u);
  vec made = log_ends(x, -1, log_sum(r, small_to_real(r.n), lost / u));
  return x == 0 ? x : made;
}
// x^y for x > 0 as exp(y log x), the logarithm and the product in two parts each; unusual arguments go to libm.
INLINE vec vpow(vec x, vec y) {
  constexpr real least = WIDE ? real(0x1p-1022) : real(0x1p-126), most = WIDE ? real(0x1.fffffffffffffp1023) : real(0x1.fffffep127);
  mask usual = (x >= least) & (x <= most) & (magnitude(y) < real(0x1p60)), nothing = (bits_as<mask>(x) == 0) & (y > 0);
  if (any_lane(~(usual | nothing))) {
    vec r = {};
    for (int i = 0; i < LANES; i++) r[i] = libm::pow(x[i], y[i]);
    return r;
  }
  reduced r = reduce_log(nothing ? all(1) : x);
  vec f = r.f, d = f + real(2), dh = upper(d), dl = f - (dh - real(2)), sh = upper(f / d), sl = ((f - sh * dh) - sh * dl) / d, s = sh + sl, z = s * s;
  vec n = small_to_real(r.n), a = n * LN2_HIGH, b = sh + sh, high = a + b;
  vec low = ((a - high) + b) + ((sl + sl) + (s * z * log_tail(z) + n * LN2_LOW));
  vec hh = upper(high), hl = (high - hh) + low, yh = upper(y), p = yh * hh, q = y * hl + (y - yh) * hh, total = p + q;
  mask inside = (total >= LOWEST_EXP) & (total <= HIGHEST_EXP);
  r = reduce(inside ? total : vec{});
  r.f += (p - total) + q;
  vec made = scaled_exp(r);
  made = total > HIGHEST_EXP ? all(INFINITY) : total < LOWEST_EXP ? vec{} : made;
  return nothing ? vec{} : made;
}
// erf(a), a = |x|, is 1 from the bound on. float: a (1 + P(a^2)) below 1: 1e-8; above it Q(a - 2.25), a < 3.93: 9e-8 (1 from 3.9 on).
// double: a P(a^2) below 1: 3e-17; above it 1 - exp(-a^2) Q(t), t = (a - 3) / (a + 3): 6e-17.
INLINE vec verf(vec x) {
  constexpr real bound = WIDE ? 6 : real(3.9);
  vec a = magnitude(x), z = a * a, r;
  if constexpr (WIDE) {
    constexpr real c[] = {1.1283791670955126, -0.37612638903183526, 0.11283791670944511, -0.026866170643154937, 0.005223977606409527, -0.0008548325940347794,
                          0.00012055293826001049, -1.4924715648472067e-05, 1.6447156404670932e-06, -1.6206386920233234e-07, 1.3710825882100364e-08, -7.778360120518542e-10};
    constexpr real d[] = {0.17900115118139004, -0.3262335600430366, 0.2456038017122154, -0.150115936501214, 0.07166583721878925, -0.024392499208708143,
                          0.004269135245829936, 0.0007077375235071635, -0.0005970599232999257, 4.545820947641154e-05, 6.479648797346439e-05, -1.1985221518921739e-05,
                          -8.52850889110735e-06};
    r = a < 1 ? a * horner(z, c) : real(1) - vexp(-z) * horner((a - real(3)) / (a + real(3)), d);
  } else {
    constexpr real c[] = {0.9985373020172119, 0.0071423850022256374, -0.016070425510406494, 0.02172246389091015, -0.01908210478723049, 0.010670723393559456,
                          -0.0029099639505147934, -0.0007013928261585534, 0.0010145544074475765, -0.00033617651206441224, -3.181074498570524e-05,
                          4.9763941206038e-05, -9.6460098575335e-06};
    constexpr real d[] = {0.1283791670955126, -0.3761262595653534, 0.11283589899539948, -0.02685399167239666, 0.005188620183616877, -0.0008012318867258728,
                          7.859428296796978e-05};
    r = below(all(1), horner_by_two(below(all(bound), a) - real(2.25), c));   // 1 at the bound
    return with_sign(a < 1 ? a * horner(z, d) + a : r, x);
  }
  return with_sign(a >= bound ? all(1) : r, x);
}
// x = n pi / 2 + f, |f| <= 0.786, by parts of pi / 2 whose products with n are exact; beyond the bound sin and cos go to libm
constexpr real FARTHEST = WIDE ? 1e6 : 6000;
INLINE reduced reduce_angle(vec x) {
  vec t = x * real(0.63661977236758134308) + ROUNDER, m = t - ROUNDER, f;
  if constexpr (WIDE) f = ((x - m * real(1.5707963267341256)) - m * real(6.077100506303966e-11)) - m * real(2.0222662487959506e-21);
  else f = (((x - m * real(1.5703125)) - m * real(0.0004837512969970703)) - m * real(7.549533620476723e-08)) - m * real(2.5633440682570896e-12);
  return {bits_as<mask>(t) - bits_as<mask>(all(ROUNDER)), f};
}
// sin of f + n pi / 2. sin(f) = f + f^3 P(f^2), cos(f) = 1 - f^2 / 2 + f^4 Q(f^2), |f| <= 0.786: 4e-9 and 1e-9, 2e-17 and 2e-18.
INLINE vec sin_quarter(vec f, mask n) {
  vec z = f * f, s, c;
  if constexpr (WIDE) {
    constexpr real p[] = {-0.16666666666666666, 0.008333333333330925, -0.00019841269836722418, 2.755731608381636e-06, -2.5051127944014184e-08, 1.5917848524808034e-10};
    constexpr real q[] = {0.041666666666666664, -0.0013888888888887382, 2.480158729874307e-05, -2.7557317260008837e-07, 2.087614382799313e-09, -1.1382456778061164e-11};
    s = f * z * horner(z, p) + f, c = z * z * horner(z, q) - real(0.5) * z + real(1);
  } else {
    constexpr real p[] = {-0.1666666716337204, 0.008333331905305386, -0.00019840082677546889, 2.7249313916399842e-06};
    constexpr real q[] = {0.0416666641831398, -0.0013888300163671374, 2.4547436623834074e-05};
    s = f * z * horner(z, p) + f, c = z * z * horner(z, q) - real(0.5) * z + real(1);
  }
  vec r = (n & 1) != 0 ? c : s;
  return (n & 2) != 0 ? -r : r;
}
LANEWISE(libm_sin, libm::sin(e)) LANEWISE(libm_cos, libm::cos(e))
INLINE vec vsin(vec x) {
  if (any_lane(~(magnitude(x) <= FARTHEST))) return libm_sin(x);
  reduced r = reduce_angle(x);
  return x == 0 ? x : sin_quarter(r.f, r.n);
}
INLINE vec vcos(vec x) {
  if (any_lane(~(magnitude(x) <= FARTHEST))) return libm_cos(x);
  reduced r = reduce_angle(x);
  return sin_quarter(r.f, r.n + 1);
}
#if defined(__has_builtin) && __has_builtin(__builtin_elementwise_sqrt)
INLINE vec vsqrt(vec x) { return __builtin_elementwise_sqrt(x); }
#else
LANEWISE(vsqrt, libm::sqrt(e))   // GCC makes one instruction of it
#endif
// Whole numbers near x, half to even for `round`: above 2^DIGITS every number is whole. Zeros keep the sign of x. GCC makes one instruction
// of the loops where the machine has one.
#if defined(__SSE4_1__) || defined(__aarch64__)
LANEWISE(vfloor, libm::floor(e)) LANEWISE(vceil, libm::ceil(e)) LANEWISE(vtrunc, libm::trunc(e)) LANEWISE(vround, libm::nearbyint(e))
#else
INLINE vec rounded(vec a) { return (a + real(rbits(1) << DIGITS)) - real(rbits(1) << DIGITS); }
INLINE vec whole_unless_large(vec x, vec made) { return magnitude(x) < real(rbits(1) << DIGITS) ? with_sign(magnitude(made), x) : x; }
INLINE vec vround(vec x) { return whole_unless_large(x, rounded(magnitude(x))); }
INLINE vec vtrunc(vec x) { vec a = magnitude(x), r = rounded(a); return whole_unless_large(x, r > a ? r - real(1) : r); }
INLINE vec vfloor(vec x) { vec r = vround(x); return whole_unless_large(x, r > x ? r - real(1) : r); }
INLINE vec vceil(vec x) { vec r = vround(x); return whole_unless_large(x, r < x ? r + real(1) : r); }
#endif
