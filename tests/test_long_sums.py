"""Long sums on a CPU: how many additions an entry goes through, and what that leaves of it."""

from __future__ import annotations

import pytest
import torch

import plait
from plait.backends.budget import unit

TENTH = 0.1
"""A number whose sums are rounded nearly always, and nearly always the same way."""


LEAST_LANES = 8 * 4
"""Sums side by side in a tile of the narrowest vectors."""


def error(program: str, count: int, *tensors: torch.Tensor) -> float:
    """The largest relative error of a result, each entry of which is a sum of so many tenths."""
    found = plait.compile(plait.parse(f"mixer add{program}"))(*tensors)
    want = count * torch.tensor(TENTH).double()
    return float(((found.double() - want) / want).abs().max())


def test_a_sum_along_the_lanes_adds_by_blocks() -> None:
    """At most 64 entries in a lane, then their sums, then the lanes. An axis of the call is not taken in parts."""
    count = 2**20 + 2001
    additions = 64 + count / LEAST_LANES / 64 + 2 * LEAST_LANES
    found = error("(x[b, n]) -> y[b]:\n  y = sum[n](x)\n", count, torch.full((1, count), TENTH))
    assert found <= additions * unit(torch.float32)


MOST_CHUNK, LEAST_CHUNK = 128, 16
"""Entries of an axis that a stream takes at once, with vectors of any machine."""


@pytest.mark.parametrize(
    ("program", "block"),
    [
        ("(x[n, k]) -> y[k]:\n  y = sum[n](x)\n", MOST_CHUNK + 64),
        ("(x[n, k], z[n, k]) -> y[k]:\n  y = sum[n](x * z)\n", MOST_CHUNK + 64),
        ("(x[n, k], z[n, j]) -> y[k, j]:\n  y = sum[n](x * z)\n", MOST_CHUNK * 64),
    ],
    ids=["numbers", "products", "contraction"],
)
def test_a_sum_beside_the_lanes_adds_by_blocks(program: str, block: int) -> None:
    """A carry takes 64 chunks, of which a fold is one term and a contraction as many as it has; then it goes into the
    second accumulator."""
    count = 2**18 + 2001
    additions = block + count / LEAST_CHUNK / 64
    tensors = [torch.full((count, 3), TENTH), *([torch.ones(count, 3)] if "z" in program else [])]
    assert error(program, count, *tensors) <= additions * unit(torch.float32)
