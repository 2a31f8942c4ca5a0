// A runner with the signature of GOMP_parallel for machines whose torch brings no libgomp: plain threads, one call at a time.
#include <thread>
#include <vector>
extern "C" void plait_pool(void (*work)(void *), void *data, unsigned threads, unsigned) {
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; i++) others.emplace_back(work, data);
  work(data);
  for (auto &each : others) each.join();
}
