"""What a first call costs: building from nothing, and from the cache in a fresh process.

    python -m benchmarks.first_call

The build is measured in an empty cache folder. The cached first call is measured in a new process
with torch and plait imported, as what it takes beyond the second call.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

CHILD = """
import time, torch, plait
from examples.circular_attention import circular_attention
q, k, v = torch.randn(3, 8, 64, 64, 64)
times = []
for _ in range(3):
    start = time.perf_counter(); circular_attention(q, k, v); times.append(time.perf_counter() - start)
print(times[0], min(times[1:]), "sympy" in __import__("sys").modules, "networkx" in __import__("sys").modules)
"""


def measure(folder: str) -> tuple[float, float, bool]:
    """First call, later call (seconds), and whether sympy or networkx were imported."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=os.environ | {"PLAIT_CACHE_DIR": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    first, later, sympy, networkx = done.stdout.split()
    return float(first), float(later), sympy == "True" or networkx == "True"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, later, _ = measure(folder)
        print(f"first call with an empty cache: {first:.2f} s (later calls {later * 1e3:.0f} ms)")
        runs = [measure(folder) for _ in range(5)]
    extra = statistics.median(first - later for first, later, _ in runs)
    print(f"first call from the cache: {extra * 1e3:.0f} ms more than a later one; imports: {runs[0][2]}")


if __name__ == "__main__":
    main()
