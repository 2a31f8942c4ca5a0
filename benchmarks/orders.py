"""Sums of products in both orders, and which one a call takes: `python -m benchmarks.orders`.

Linear attention as it is written costs t * t * d, in the other order t * d * e. Both are timed in turn over a sweep of
lengths. Ends with 1 where the order that a call takes is slower than `WORST` times the other one.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor

import plait
from plait.backends.compiled import Compiled
from plait.backends.executable import Shapes
from plait.dsl.program import Axis

LINEAR = """mixer linear(q[b, t, d], k[b, t, d], v[b, t, d]) -> o[b, t, d]:
  like s: t
  o = sum[s](sum[d](q * k[t: s]) * v[t: s])
"""
LENGTHS = (32, 64, 96, 128, 256, 512)
SWEEP = [(b, t, d) for b, d in ((8, 64), (1, 64), (4, 32), (16, 128)) for t in LENGTHS]
WORST, RUNS = 1.3, 9


@contextmanager
def answered(order: int) -> Iterator[None]:
    """Calls take this order, whatever it costs."""
    before = Shapes.orders

    def orders(self: Shapes, sizes: Mapping[Axis, int]) -> tuple[int, ...]:
        return (order, *before(self, sizes)[1:])

    Shapes.orders = orders
    try:
        yield
    finally:
        Shapes.orders = before


def called(given: Mapping[str, Tensor]) -> Compiled:
    """A compiled program that has run once on these tensors."""
    made = Compiled(plait.parse(LINEAR).program(), backend="cpp")
    made.run(dict(given))
    return made


def answers(made: Compiled) -> object:
    """What the last call answered to `order_costs`."""
    assert made.last is not None
    return made.last.request[3]


def timed(b: int, t: int, d: int) -> tuple[float, float, bool]:
    """Seconds as written and in the other order, and whether a call takes the other one."""
    given = {name: torch.randn(b, t, d) for name in "qkv"}
    both: list[Compiled] = []
    for order in (0, 1):
        with answered(order):
            both.append(called(given))
    seconds: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for made, found in zip(both, seconds, strict=True):
            start = perf_counter()
            made.run(dict(given))
            found.append(perf_counter() - start)
    written, other = (statistics.median(each) for each in seconds)
    return written, other, answers(called(given)) == answers(both[1])


def main() -> int:
    worst = 0.0
    print("   b     t     d   as written   other order   taken")
    for b, t, d in SWEEP:
        written, other, turned = timed(b, t, d)
        taken, left = (other, written) if turned else (written, other)
        worst = max(worst, taken / left)
        words = "the other one" if turned else "as written"
        print(
            f"{b:4} {t:5} {d:5} {1e6 * written:9.0f} us {1e6 * other:10.0f} us   {words}, {taken / left:.2f}"
        )
    print(f"the order taken is at worst {worst:.2f} times the other one")
    return int(worst > WORST)


if __name__ == "__main__":
    sys.exit(main())
