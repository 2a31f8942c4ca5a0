"""Circular attention beside FlexAttention (compiled, with a block mask) and dense attention.

    python -m benchmarks.circular_attention [--save]

Forward, on the threads that torch has (float32), or on the GPU where torch sees one (float32 with IEEE
products, and bfloat16). FlexAttention gets its block mask for free.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from examples.circular_attention import circular_attention

from . import timing
from .timing import Row, compare

CASES = ((8, 64, 64, 8), (6, 60, 44, 7), (2, 96, 96, 16))
"""Heads, height, width, radius."""

ON_GPU = ((64, 64, 64, 8), (48, 60, 44, 7), (16, 128, 128, 16))
"""The same, as many as fill a GPU."""


def disc(width: int, radius: int) -> Any:
    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i // width - j // width) ** 2 + (i % width - j % width) ** 2 < radius * radius

    return seen


def case(
    heads: int, height: int, width: int, radius: int, device: str, real: torch.dtype, compiled_flex: Any
) -> tuple[Row, float]:
    """One size: the timings, and our error against dense attention in float64."""
    n = height * width
    q, k, v = (torch.randn(1, heads, n, 64, device=device, dtype=real) for _ in range(3))
    ours = [x.view(1, heads, height, width, 64) for x in (q, k, v)]
    block = create_block_mask(disc(width, radius), 1, 1, n, n, device=device)
    i = torch.arange(n, device=device)
    mask = disc(width, radius)(i, i, i[:, None], i[None, :])
    out = circular_attention(*ours, radius=radius).view(q.shape)
    few = slice(0, 2)  # heads: dense weights in float64 for all would not fit
    doubles = (x[:, few].double() for x in (q, k, v))
    want = scaled_dot_product_attention(*doubles, attn_mask=mask)
    error = timing.error(out[:, few], want)
    dtype = str(real).removeprefix("torch.")
    row = compare(
        f"{heads} heads {height}x{width} radius {radius} {dtype}",
        {
            "plait": lambda: circular_attention(*ours, radius=radius),
            "FlexAttention": lambda: compiled_flex(q, k, v, block_mask=block),
            "dense SDPA": lambda: scaled_dot_product_attention(q, k, v),
        },
        device=device,
    )
    return row, error


def cases(device: str) -> Iterator[tuple[Row, float]]:
    flex = torch.compile(flex_attention)
    for real in timing.reals(device):
        for sizes in CASES if device == "cpu" else ON_GPU:
            yield case(*sizes, device, real, flex)


def main() -> None:
    timing.main("circular_attention", __doc__, cases)


if __name__ == "__main__":
    main()
