"""A local window and global tokens under one softmax, beside FlexAttention and eager PyTorch.

    python -m benchmarks.union_attention [--save]

Forward, on the threads that torch has (float32), or on the GPU where torch sees one (float32 with IEEE
products, and bfloat16). FlexAttention is compiled and gets its concatenated keys and its block mask for
free; eager PyTorch gathers the windows and concatenates the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import pad

import plait

from . import timing
from .timing import Row, compare

CASES = ((8, 56, 56, 32), (8, 56, 56, 64))
"""Heads, height, width, channels a head."""

ON_GPU = ((64, 56, 56, 32), (64, 56, 56, 64))
"""The same, as many as fill a GPU."""

RADIUS, TOKENS = 3, 64
"""Windows of 7 x 7, and as many global tokens."""

b, m, h, w, n, d = plait.axes("b m h w n d")


@plait.mixer(
    "q[b, m, h, w, d], k[b, m, h, w, d], v[b, m, h, w, d], far_k[b, m, n, d], far_v[b, m, n, d]"
    " -> o[b, m, h, w, d]"
)
def local_and_global(
    q: plait.Value, k: plait.Value, v: plait.Value, far_k: plait.Value, far_v: plait.Value, *, radius: int = 3
) -> plait.Value:
    dh, dw = plait.near("dh dw", radius)
    near_scores = (q * k[h + dh, w + dw]).sum(d) * d.size**-0.5
    far_scores = (q * far_k).sum(d) * d.size**-0.5
    near, far = plait.softmax(plait.union((near_scores, (dh, dw)), (far_scores, n)))
    return plait.union((near * v[h + dh, w + dw], (dh, dw)), (far * far_v, n)).sum()


def windows(x: Tensor, height: int, width: int) -> Tensor:
    """The neighbours of every token, those outside as zeros: [heads, h * w, 49, d]."""
    size = 2 * RADIUS + 1
    whole = pad(x.view(-1, height, width, x.shape[-1]), (0, 0, RADIUS, RADIUS, RADIUS, RADIUS))
    found = whole.unfold(1, size, 1).unfold(2, size, 1)
    return found.permute(0, 1, 2, 4, 5, 3).reshape(len(found), height * width, size * size, -1)


def eager(inputs: list[Tensor], seen: Tensor, shape: tuple[int, int]) -> Tensor:
    """The same with PyTorch's operations; q, k, v of [heads, h * w, d], `seen` of [h * w, 49]."""
    q, k, v, far_k, far_v = inputs
    scale = q.shape[-1] ** -0.5
    near = (windows(k, *shape) @ q[..., None])[..., 0] * scale
    near = near.masked_fill(~seen, float("-inf"))
    weights = torch.softmax(torch.cat((near, q @ far_k.mT * scale), -1), -1)
    here, far = weights.split((near.shape[-1], far_k.shape[-2]), -1)
    return (here[..., None, :] @ windows(v, *shape))[..., 0, :] + far @ far_v


def neighbours(height: int, width: int) -> Any:
    """FlexAttention's mask over the tokens of the image and then the global ones."""
    count = height * width

    def seen(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        rows = (i // width - j // width).abs() <= RADIUS
        return (j >= count) | (rows & ((i % width - j % width).abs() <= RADIUS))

    return seen


def case(
    heads: int, height: int, width: int, channels: int, device: str, real: torch.dtype, compiled_flex: Any
) -> tuple[Row, float]:
    """One size: the timings, and our error against eager PyTorch in float64."""
    count = height * width
    q, k, v = (torch.randn(heads, count, channels, device=device, dtype=real) for _ in range(3))
    far_k, far_v = (torch.randn(heads, TOKENS, channels, device=device, dtype=real) for _ in range(2))
    ours = [x.view(1, heads, height, width, channels) for x in (q, k, v)] + [far_k[None], far_v[None]]
    seen = windows(torch.ones(1, count, 1, device=device), height, width)[0, :, :, 0] > 0
    joined = [torch.cat(pair, 1)[None] for pair in ((k, far_k), (v, far_v))]
    block = create_block_mask(neighbours(height, width), 1, 1, count, count + TOKENS, device=device)
    compiled = plait.compile(local_and_global)
    few = slice(0, 2)
    here = [x[few].double() for x in (q, k, v, far_k, far_v)]
    want = eager(here, seen, (height, width))
    error = timing.error(compiled(*ours)[0, few].reshape(want.shape), want)
    dtype = str(real).removeprefix("torch.")
    row = compare(
        f"{heads} heads {height}x{width} d {channels} {dtype}",
        {
            "plait": lambda: compiled(*ours),
            "FlexAttention": lambda: compiled_flex(q[None], *joined, block_mask=block),
            "eager": lambda: eager([q, k, v, far_k, far_v], seen, (height, width)),
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
    timing.main("union_attention", __doc__, cases)


if __name__ == "__main__":
    main()
