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
