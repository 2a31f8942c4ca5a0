"""Circular attention as one writes it in PyTorch today: by a mask, by copies of windows, by a loop over window taps.

Every form takes q, k, v of shape [heads, height, width, channels] and gives the result in the same shape.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.functional import pad, scaled_dot_product_attention


def disc(radius: int) -> list[tuple[int, int]]:
    """The offsets (rows, columns) nearer than `radius`."""
    near = range(1 - radius, radius)
    return [(dh, dw) for dh in near for dw in near if dh * dh + dw * dw < radius * radius]


def masked(q: Tensor, k: Tensor, v: Tensor, radius: int) -> Tensor:
    """All pairs of tokens, those out of reach masked."""
    height, width = q.shape[-3:-1]
    i = torch.arange(height * width, device=q.device)
    rows, columns = i[:, None] // width - i // width, i[:, None] % width - i % width
    seen = rows**2 + columns**2 < radius**2
    flat = (x.flatten(-3, -2) for x in (q, k, v))
    return scaled_dot_product_attention(*flat, attn_mask=seen).view(q.shape)


def windows(x: Tensor, radius: int) -> Tensor:
    """x[heads, h + dh, w + dw, d] as [heads, h, w, taps, d], zero outside."""
    height, width = x.shape[-3:-1]
    reach = radius - 1
    wide = pad(x, (0, 0, reach, reach, reach, reach))
    views = [
        wide[:, reach + dh : reach + dh + height, reach + dw : reach + dw + width] for dh, dw in disc(radius)
    ]
    return torch.stack(views, dim=3)


def unfolded(q: Tensor, k: Tensor, v: Tensor, radius: int) -> Tensor:
    """Every token with a copy of its window of keys and values."""
    scores = (q[..., None, :] * windows(k, radius)).sum(-1) * q.shape[-1] ** -0.5
    there = windows(torch.ones_like(k[:1, ..., :1]), radius)[..., 0] > 0
    weights = scores.masked_fill(~there, -torch.inf).softmax(-1)
    return (weights[..., None] * windows(v, radius)).sum(-2)


def looped(q: Tensor, k: Tensor, v: Tensor, radius: int) -> Tensor:
    """A loop over the window's taps, on padded keys and values."""
    height, width = q.shape[-3:-1]
    reach = radius - 1
    around = (0, 0, reach, reach, reach, reach)
    keys, values = pad(k, around), pad(v, around)
    inside = pad(torch.zeros_like(k[:1, ..., :1]), around, value=-torch.inf)
    places = [
        (slice(None), slice(reach + dh, reach + dh + height), slice(reach + dw, reach + dw + width))
        for dh, dw in disc(radius)
    ]
    scale = q.shape[-1] ** -0.5
    scores = torch.stack([(q * keys[at]).sum(-1) * scale + inside[at][..., 0] for at in places], dim=-1)
    weights = scores.softmax(-1)
    total = torch.zeros_like(q)
    for tap, at in enumerate(places):
        total = total + weights[..., tap, None] * values[at]
    return total


def block_mask(height: int, width: int, radius: int) -> BlockMask:
    """FlexAttention's mask of the disc."""

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i // width - j // width) ** 2 + (i % width - j % width) ** 2 < radius * radius

    return create_block_mask(seen, 1, 1, height * width, height * width, device="cpu")


def flexible(
    compiled_flex: Callable[..., Tensor], block: BlockMask
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention on images of tokens."""

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        flat = (x.flatten(-3, -2)[None] for x in (q, k, v))
        return compiled_flex(*flat, block_mask=block)[0].view(q.shape)

    return call
