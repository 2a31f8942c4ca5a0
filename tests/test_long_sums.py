"""Long sums on a CPU: how many additions an entry goes through, and what that leaves of it."""

from __future__ import annotations

import torch

import plait
from plait.backends.budget import unit

TENTH = 0.1
"""A number whose sums are rounded nearly always, and nearly always the same way."""


def total_of_rows(count: int) -> float:
    """The relative error of the sum of `count` tenths, to one entry of an axis of the call: it is not taken in parts."""
    add = plait.compile(plait.parse("mixer add(x[b, n]) -> y[b]:\n  y = sum[n](x)\n"))
    x = torch.full((1, count), TENTH)
    want = x.double().sum()
    return float((add(x).double() - want).abs() / want)


def test_a_sum_along_the_lanes_adds_by_blocks() -> None:
    """At most 64 entries in a lane, then their sums, then the lanes: no term is rounded more often than that."""
    count = 2**20 + 2001
    lanes = 8 * 4  # of the narrowest vectors
    additions = 64 + count / lanes / 64 + 2 * lanes
    assert total_of_rows(count) <= additions * unit(torch.float32)
