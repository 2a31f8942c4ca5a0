// Sums of products by a mask: tests of what would be multiplied by an absent entry. The text follows tiles.h in every source.
// A finite number times 0 is 0, any other is NaN, and NaN stays in every sum.
INLINE bool not_finite(vec v) { v *= 0; return any_lane(v != v); }
template <int N> INLINE bool not_finite(const vec (&v)[N]) {
  vec all_of = v[0] * 0;
#pragma GCC unroll 8
  for (int n = 1; n < N; n++) all_of += v[n] * 0;
  return any_lane(all_of != all_of);
}
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
  return any_lane(a != a) || c != c;
}
// Marks the branch that it stands in as one for which speed is nothing
static __attribute__((noinline, cold)) void seldom() { asm volatile(""); }
