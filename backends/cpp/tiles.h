// Tiles: small arrays [rows][lanes] filled from memory and drained to it, and products of them. The text follows math.h in every source.
// Laws: as in plait.h; memory is touched only where a mask or a count says that it is there.
template <class T> INLINE vec get(const T *p) { typedef T held __attribute__((vector_size(LANES * sizeof(T)))); held r; memcpy(&r, p, sizeof r); return __builtin_convertvector(r, vec); }
template <class T> INLINE void put(T *p, vec v) { typedef T held __attribute__((vector_size(LANES * sizeof(T)))); held r = __builtin_convertvector(v, held); memcpy(p, &r, sizeof r); }
INLINE vec get(const bf16 *p) { return load(p); }
INLINE vec get(const f16 *p) { return load(p); }
INLINE void put(bf16 *p, vec v) { store(p, v); }
INLINE void put(f16 *p, vec v) { store(p, v); }
// The first n of LANES numbers, and zeros; the first n of a vector to memory. Nothing beyond is touched.
template <class T> INLINE vec get_part(const T *p, long n) { T held[LANES] = {}; for (long i = 0; i < n; i++) held[i] = p[i]; return get(held); }
template <class T> INLINE void put_part(T *p, vec v, long n) { T held[LANES]; put(held, v); for (long i = 0; i < n; i++) p[i] = held[i]; }
INLINE ivec places() { ivec r = {}; for (int i = 0; i < LANES; i++) r[i] = i; return r; }
// A value that is used often and lies across lines of memory: in a register, where the compiler would read it again for every use
INLINE vec in_register(vec v) {
#if defined(__x86_64__) && defined(__AVX__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}
// LANES numbers `step` apart
template <class T> INLINE vec apart(const T *p, long step) { vec r = {}; for (int i = 0; i < LANES; i++) r[i] = real(p[i * step]); return r; }
// LANES rows of LANES numbers change places with its columns. Rows S apart exchange blocks of S lanes; inside 16 bytes floats go by pairs.
// `chosen_lanes` is the vector of the lanes f(i) of two, those of the second counted from LANES.
#define PLACES std::make_integer_sequence<int, LANES>{}
template <class F, int... I> INLINE vec chosen_lanes(vec a, vec b, F, std::integer_sequence<int, I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, F::of(I)...);
#else
  vec r = {}; for (int i = 0; i < LANES; i++) r[i] = F::of(i) < LANES ? a[F::of(i)] : b[F::of(i) - LANES]; return r;
#endif
}
template <int S> struct low_blocks { static constexpr int of(int i) { return i & S ? i - S + LANES : i; } };
template <int S> struct high_blocks { static constexpr int of(int i) { return i & S ? i + LANES : i + S; } };
struct low_pairs { static constexpr int of(int i) { return (i & ~3) + (i & 3) / 2 + (i & 1 ? LANES : 0); } };
struct high_pairs { static constexpr int of(int i) { return (i & ~3) + 2 + (i & 3) / 2 + (i & 1 ? LANES : 0); } };
template <class F, class G> INLINE void exchange(vec &a, vec &b, F low, G high) { vec c = a; a = chosen_lanes(c, b, low, PLACES); b = chosen_lanes(c, b, high, PLACES); }
template <int S> INLINE void exchange_blocks(vec *v) {
  if constexpr (S < LANES) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) if (!(i & S)) exchange(v[i], v[i + S], low_blocks<S>{}, high_blocks<S>{});
    exchange_blocks<2 * S>(v);
  }
}
INLINE void transpose(vec *v) {
  if constexpr (sizeof(real) == 4 && LANES >= 4) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 4) {
      exchange(v[i], v[i + 1], low_pairs{}, high_pairs{}); exchange(v[i + 2], v[i + 3], low_pairs{}, high_pairs{});
      exchange(v[i], v[i + 2], low_blocks<2>{}, high_blocks<2>{}); exchange(v[i + 1], v[i + 3], low_blocks<2>{}, high_blocks<2>{});
      vec c = v[i + 1]; v[i + 1] = v[i + 2]; v[i + 2] = c;
    }
    exchange_blocks<4>(v);
  } else exchange_blocks<1>(v);
}
// A run of n numbers from memory, from side to side
template <class T> INLINE void copy_run(real *to, const T *from, long n) {
  long l = 0;
  for (; l + LANES <= n; l += LANES) store(to + l, get(from + l));
  if (l < n && n >= LANES) store(to + n - LANES, get(from + n - LANES));
  else for (; l < n; l++) to[l] = real(from[l]);
}
INLINE void clear_run(real *to, long n) {
  long l = 0;
  for (; l + LANES <= n; l += LANES) store(to + l, vec{});
  if (l < n && n >= LANES) store(to + n - LANES, vec{});
  else for (; l < n; l++) to[l] = 0;
}
constexpr long LINE = 64 / sizeof(real) > LANES ? 64 / sizeof(real) : LANES;   // of reals in a line of memory, or a vector
// to[r][l] = from[r * by_row + l * by_lane] where first <= r < end and low <= l < high, and 0 elsewhere in `rows` and `width`; `row` is the
// distance of rows in `to`. What lies `ahead` is asked for early: it is read next, and memory of another plane is not where hardware looks.
template <class T> static __attribute__((noinline)) void fill(real *to, long row, const T *from, long by_row, long by_lane, long rows, long first, long end, long low, long high, long width, long ahead = 0) {
  first = first < 0 ? 0 : first; end = end > rows ? rows : end; low = low < 0 ? 0 : low; high = high > width ? width : high;
  if (high <= low || end <= first) low = high = first = end = 0;
  if (low > 0 || high < width || first > 0 || end < rows) {
    if (row == width) clear_run(to, rows * width);
    else for (long r = 0; r < rows; r++) clear_run(to + r * row, width);
  }
  to += first * row; from += first * by_row; rows = end - first;
  long l = low;
  if (by_lane == 1) {
    for (long r = 0; r < rows; r++) {
      if (ahead) { __builtin_prefetch(from + ahead + r * by_row + low); __builtin_prefetch(from + ahead + r * by_row + high - 1); }
      copy_run(to + r * row + low, from + r * by_row + low, high - low);
    }
    return;
  }
  if (by_row == 1 && rows >= LANES) {
    const long low_whole = l;
    for (long line = 0; line < rows; line += LINE)   // whole lines of memory, and few lines of `to` at a time
      for (l = low_whole; l + LANES <= high; l += LANES) {
        const T *at = from + l * by_lane + line;
        if (line + LINE < rows) for (int i = 0; i < LANES; i++) __builtin_prefetch(at + i * by_lane + LINE);
        for (long r = line; r < rows && r < line + LINE; r += LANES) {
          const long q = r + LANES > rows ? rows - LANES : r;
          vec v[LANES];
#pragma GCC unroll 16
          for (int i = 0; i < LANES; i++) v[i] = get(from + (l + i) * by_lane + q);
          transpose(v);
#pragma GCC unroll 16
          for (int i = 0; i < LANES; i++) store(to + (q + i) * row + l, v[i]);
        }
      }
  }
  for (long r = 0; r < rows; r++)
    for (long i = l; i < high; i++) to[r * row + i] = real(from[r * by_row + i * by_lane]);
}
// Where all entries of such a tile exist and its runs are vectors of reals in memory, it need not be filled: its place, or nullptr
template <class T> INLINE const real *in_place(const T *from, long by_row, long by_lane, long rows, long first, long end, long low, long high, long width, long ahead) {
  if (!std::is_same<T, real>::value || by_lane != 1 || first > 0 || end < rows || low > 0 || high < width) return nullptr;
  for (long r = 0; r < rows; r++) { __builtin_prefetch(from + ahead + r * by_row); __builtin_prefetch(from + ahead + r * by_row + width - 1); }
  return (const real *)from;
}
// to[r * by_row + l * by_lane] = from[r][l] in the first `count` lanes; `row` is the distance of rows in `from`
template <class T> static __attribute__((noinline)) void drain(const real *from, long row, T *to, long by_row, long by_lane, long rows, long count) {
  long l = 0;
  if (by_lane == 1) {
    for (long r = 0; r < rows; r++) {
      for (l = 0; l + LANES <= count; l += LANES) put(to + r * by_row + l, load(from + r * row + l));
      for (; l < count; l++) to[r * by_row + l] = from[r * row + l];
    }
    return;
  }
  if (by_row == 1 && rows >= LANES)
    for (; l + LANES <= count; l += LANES)
      for (long r = 0; r < rows; r += LANES) {
        if (r + LANES > rows) r = rows - LANES;
        if (r % LINE == 0 && l + 2 * LANES <= count) for (int i = 0; i < LANES; i++) __builtin_prefetch(to + (l + LANES + i) * by_lane + r, 1);
        vec v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) v[i] = load(from + (r + i) * row + l);
        transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) put(to + (l + i) * by_lane + r, v[i]);
      }
  for (long i = l; i < count; i++)
    for (long r = 0; r < rows; r++) to[r * by_row + i * by_lane] = from[r * row + i];
}
// C[r][lanes] = sum_k A[r * by_row + k * by_entry] * B[k][lanes] (+ C[r][lanes] * scale[lanes]): R rows by W vectors stay in registers, A is
// read in place by broadcast. Rows of B and C are M apart; `init` says how C starts (0: at nothing, 1: at C, 2: at C * scale). Never inlined:
// beside other loops GCC may find no registers for the sums and keep some of them in memory, at half of the speed.
#define APART static __attribute__((noinline))
template <int R, int W> APART void block(const real *A, long by_row, long by_entry, const real *B, real *C, long M, int init, const vec *scale, long K) {
  vec c[R][W];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int w = 0; w < W; w++) c[r][w] = vec{};
  if (init == 1) {
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int w = 0; w < W; w++) c[r][w] = load(C + r * M + w * LANES);
  } else if (init == 2) {
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int w = 0; w < W; w++) c[r][w] = load(C + r * M + w * LANES) * scale[w];
  }
  for (long k = 0; k < K; k++, A += by_entry, B += M) {
    vec b[W];
#pragma GCC unroll 8
    for (int w = 0; w < W; w++) b[w] = load(B + w * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const real a = A[r * by_row];
#pragma GCC unroll 8
      for (int w = 0; w < W; w++) c[r][w] += a * b[w];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int w = 0; w < W; w++) store(C + r * M + w * LANES, c[r][w]);
}
constexpr int divisor(int of, int most) { return of % most ? divisor(of, most - 1) : most; }
// Blocks of R rows from row r on, as many as there are; returns the next row
template <int R, int W, int M> INLINE long blocks(const real *A, long by_row, long by_entry, const real *B, real *C, int init, const vec *scale, long r, long rows, long K) {
  for (; r + R <= rows; r += R)
    for (int v = 0; v < M / LANES; v += W) block<R, W>(A + r * by_row, by_row, by_entry, B + v * LANES, C + r * M + v * LANES, M, init, scale + v, K);
  return r;
}
// All rows. B is taken in parts of PANEL bytes or little more, which the second cache holds. The rows that are left over are few: wider blocks
// have as many sums in flight.
constexpr long PANEL = 192 * 1024;
template <int R, int W, int M> APART void dot(const real *A, long by_row, long by_entry, const real *B, real *C, int init, const vec *scale, long rows, long K) {
  constexpr int V = M / LANES, WIDER = divisor(V, 2 * W), WIDEST = divisor(V, 4 * W);
  constexpr long most = PANEL / (M * sizeof(real)) + 1;
  long done = 0;
  do {
    const long k = K - done > most + most / 2 ? most : K - done;
    const real *a = A + done * by_entry, *b = B + done * M;
    const int start = done ? 1 : init;
    const long whole = rows / R * R;
    for (int v = 0; v < V; v += W)
      for (long r = 0; r < whole; r += R) block<R, W>(a + r * by_row, by_row, by_entry, b + v * LANES, C + r * M + v * LANES, M, start, scale + v, k);
    long r = whole;
    if constexpr (R > 4) r = blocks<4, W, M>(a, by_row, by_entry, b, C, start, scale, r, rows, k);
    if constexpr (R > 2) r = blocks<2, WIDER, M>(a, by_row, by_entry, b, C, start, scale, r, rows, k);
    blocks<1, WIDEST, M>(a, by_row, by_entry, b, C, start, scale, r, rows, k);
    done += k;
  } while (done < K);
}
// Adds to TALL by ACROSS vectors of lanes what N weights of a column, `by_column` apart, make of the rows of p that they reach: each row is
// read once for all of them. So for each of `others` places, one `step` further in p and `by_other` in k.
template <int N, int TALL, int ACROSS> APART void stencil(const real *k, long by_column, long by_other, const real *p, long row, long step, long others, vec *sums) {
  vec r[TALL * ACROSS];
#pragma GCC unroll 16
  for (int i = 0; i < TALL * ACROSS; i++) r[i] = sums[i];
  for (long o = 0; o < others; o++, k += by_other, p += step) {
    vec w[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; i++) w[i] = all(k[i * by_column]);
    const real *q = p;
#pragma GCC unroll 32
    for (int t = 0; t < TALL + N - 1; t++, q += row)
#pragma GCC unroll 8
      for (int s = 0; s < ACROSS; s++) {
        const vec tap = in_register(load(q + s * LANES));
#pragma GCC unroll 16
        for (int i = 0; i < N; i++) if (t >= i && t - i < TALL) r[(t - i) * ACROSS + s] += w[i] * tap;
      }
  }
#pragma GCC unroll 16
  for (int i = 0; i < TALL * ACROSS; i++) sums[i] = r[i];
}
// One number of all lanes of N vectors
template <int N, class V, class T, class F, class G> INLINE T across(const V (&v)[N], T start, F join, G join_numbers) {
  V all_of = v[0];
#pragma GCC unroll 8
  for (int n = 1; n < N; n++) all_of = join(all_of, v[n]);
  for (int i = 0; i < LANES; i++) start = join_numbers(start, T(all_of[i]));
  return start;
}
constexpr long MOST_FLAT = 1L << (sizeof(inum) == 4 ? 30 : 60);   // two lane axes are one while a lane holds its coordinate
constexpr inum LOWEST = sizeof(inum) == 4 ? inum(INT_MIN) : inum(LONG_MIN), HIGHEST = sizeof(inum) == 4 ? inum(INT_MAX) : inum(LONG_MAX);
