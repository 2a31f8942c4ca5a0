// Sums of products by a mask: tests of what would be multiplied by an absent entry. The text follows tiles.h in every source.
// A finite number times 0 is 0, any other is NaN, and NaN stays in every sum.
INLINE bool some_lane(mask m) {
#if defined(__AVX__) && PLAIT_BYTES == 32
  typedef long long whole_lanes __attribute__((vector_size(32)));
  return !__builtin_ia32_ptestz256((whole_lanes)m, (whole_lanes)m);
#else
  return any_lane(m);
#endif
}
INLINE bool not_finite(vec v) { v *= 0; return some_lane(v != v); }
template <int N> INLINE vec sum_of(const vec *v) { if constexpr (N == 1) return v[0]; else return sum_of<N / 2>(v) + sum_of<N - N / 2>(v + N / 2); }
// True, too, where the sum of them is too large; whoever asks looks at each of them then
template <int N> INLINE bool not_finite(const vec (&v)[N]) { return not_finite(sum_of<N>(v)); }
// rows runs of n numbers: entries `step` apart, runs `by_row` apart
static __attribute__((noinline)) bool not_finite(const real *p, long by_row, long rows, long step, long n) {
  if (step != 1 && by_row == 1) { long s = by_row; by_row = step; step = s; s = rows; rows = n; n = s; }
  vec a = {}, b = {}; real c = 0;
  for (long r = 0; r < rows; r++, p += by_row) {
    long i = 0;
    if (step == 1) {
      for (; i + 2 * LANES <= n; i += 2 * LANES) { a += load(p + i) * 0; b += load(p + i + LANES) * 0; }
      if (i + LANES <= n) { a += load(p + i) * 0; i += LANES; }
    }
    for (; i < n; i++) c += p[i * step] * 0;
  }
  a += b;
  return some_lane(a != a) || c != c;
}
// Marks the branch that it stands in as one for which speed is nothing
static __attribute__((noinline, cold)) void seldom() { asm volatile(""); }
