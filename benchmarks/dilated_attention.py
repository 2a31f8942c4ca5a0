"""Dilated neighbourhood attention beside FlexAttention (compiled, with a block mask).

    python -m benchmarks.dilated_attention [--save]

Forward, on the threads that torch has (float32), or on the GPU where torch sees one (float32 with IEEE
products, and bfloat16). FlexAttention gets its block mask for free; it also gets the tokens sorted by their class,
so that the mask has empty blocks ("sorted"), for which it pays nothing either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import plait

from . import timing
from .timing import Row, compare

CASES = ((8, 56, 56, 8), (8, 56, 56, 2), (8, 28, 28, 4))
"""Heads, height, width, dilation: windows of 7 x 7 with 32 channels a head, as in DiNAT."""

ON_GPU = ((64, 56, 56, 8), (64, 56, 56, 2), (128, 28, 28, 4))
"""The same, as many as fill a GPU."""

RADIUS, CHANNELS = 3, 32

b, m, h, w, d = plait.axes("b m h w d")


@plait.mixer("q[b, m, h, w, d], k[b, m, h, w, d], v[b, m, h, w, d] -> o[b, m, h, w, d]")
def dilated(q: plait.Value, k: plait.Value, v: plait.Value, *, radius: int = 3, step: int = 2) -> plait.Value:
    dh, dw = plait.near("dh dw", radius)
    scores = (q * k[h + step * dh, w + step * dw]).sum(d) * d.size**-0.5
    weights = plait.softmax(scores, over=(dh, dw))
    return (weights * v[h + step * dh, w + step * dw]).sum(dh, dw)


def window(places: Tensor, step: int) -> Any:
    """FlexAttention's mask over tokens of which `places` gives row and column."""

    def seen(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        rows, columns = (places[i, axis] - places[j, axis] for axis in (0, 1))
        near = (rows.abs() <= RADIUS * step) & (columns.abs() <= RADIUS * step)
        return near & (rows % step == 0) & (columns % step == 0)

    return seen


def tokens(height: int, width: int, step: int, device: str) -> tuple[Tensor, Tensor]:
    """Row and column of every token, in order and sorted by class."""
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    order = torch.argsort((rows % step) * step + columns % step, stable=True)
    plain = torch.stack((rows, columns), 1).to(device)
    return plain, plain[order.to(device)]


def case(
    heads: int, height: int, width: int, step: int, device: str, real: torch.dtype, compiled_flex: Any
) -> tuple[Row, float]:
    """One size: the timings, and our error against dense attention in float64."""
    n = height * width
    q, k, v = (torch.randn(1, heads, n, CHANNELS, device=device, dtype=real) for _ in range(3))
    ours = [x.view(1, heads, height, width, CHANNELS) for x in (q, k, v)]
    masks = [window(each, step) for each in tokens(height, width, step, device)]
    plain, by_class = (create_block_mask(mask, 1, 1, n, n, device=device) for mask in masks)
    compiled = plait.compile(dilated.program(radius=RADIUS, step=step))
    few = slice(0, 2)
    i = torch.arange(n, device=device)
    doubles = (x[:, few].double() for x in (q, k, v))
    want = scaled_dot_product_attention(*doubles, attn_mask=masks[0](i, i, i[:, None], i[None, :]))
    error = timing.error(compiled(*ours).view(q.shape)[:, few], want)
    dtype = str(real).removeprefix("torch.")
    row = compare(
        f"{heads} heads {height}x{width} steps of {step} {dtype}",
        {
            "plait": lambda: compiled(*ours),
            "FlexAttention": lambda: compiled_flex(q, k, v, block_mask=plain),
            "FlexAttention, sorted": lambda: compiled_flex(q, k, v, block_mask=by_class),
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
    timing.main("dilated_attention", __doc__, cases)


if __name__ == "__main__":
    main()
