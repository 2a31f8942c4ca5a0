// Three loops that do one thing each as fast as this machine does it, on every thread: what `rates.py` times.
// The result of each is stored, so that no compiler leaves it out.
#include <atomic>
typedef void (*crew)(void (*)(void *), void *, unsigned, unsigned);
struct effort { real *out; const real *in; long count; std::atomic<long> next; };
constexpr int CHAINS = 12;  // more multiply-adds in flight than latency times units, few enough for registers
static void multiply_adds(void *data) {
  effort &e = *(effort *)data;
  const long thread = e.next++;
  vec x[CHAINS];
  const vec a = all(real(0.999)), b = all(real(1e-3));
  for (int i = 0; i < CHAINS; i++) x[i] = all(real(i));
  for (long n = 0, count = e.count; n < count; n++)
    for (int i = 0; i < CHAINS; i++) x[i] = x[i] * a + b;
  vec total = {};
  for (int i = 0; i < CHAINS; i++) total += x[i];
  store(e.out + thread * LANES, total);
}
static void exponentials(void *data) {
  effort &e = *(effort *)data;
  const long thread = e.next++;
  vec x[4], total = {};
  for (int i = 0; i < 4; i++) x[i] = all(real(-0.1) * (i + 1));
  for (long n = 0, count = e.count; n < count; n++)
    for (int i = 0; i < 4; i++) total += vexp(x[i] = x[i] * real(0.9999));
  store(e.out + thread * LANES, total);
}
static void additions(void *data) {  // out = in + out: two reads and a write
  effort &e = *(effort *)data;
  const long block = 1 << 14;
  for (long first; (first = e.next.fetch_add(block)) < e.count;) {
    const long last = first + block < e.count ? first + block : e.count;
    for (long i = first; i + LANES <= last; i += LANES) store(e.out + i, load(e.in + i) + load(e.out + i));
  }
}
static void on_all(void (*work)(void *), void *const *buffers, long count, crew run, unsigned threads) {
  effort e = {(real *)buffers[0], (const real *)buffers[1], count, {0}};
  if (run && threads > 1) run(work, &e, threads, 0); else work(&e);
}
#define RATE(name, work) extern "C" void name(void *const *b, const long *n, crew run, unsigned threads) { on_all(work, b, n[0], run, threads); }
RATE(rate_products, multiply_adds)
RATE(rate_functions, exponentials)
RATE(rate_bytes, additions)
