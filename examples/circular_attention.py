"""Attention inside a disc, as the paper writes it, beside dense attention in float64.

What you learn: named axes, a window of offsets, softmax over what exists, and that a key outside the
image is absent, so that no mask and no padding is ever written.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from plait import axes, mixer, near, softmax

h, w, d = axes("h w d")


@mixer("q[..., h, w, d], k[..., h, w, d], v[..., h, w, d] -> o[..., h, w, d]")
def circular_attention(q, k, v, *, radius: int = 8):
    """Attention over the tokens nearer than `radius` (CLEAR, arXiv 2412.16112)."""
    dh, dw = near("dh dw", radius)
    s = (q * k[h + dh, w + dw]).sum(d) * d.size**-0.5
    p = softmax(s, over=(dh, dw), where=dh * dh + dw * dw < radius * radius)
    return (p * v[h + dh, w + dw]).sum(dh, dw)


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, radius: int) -> torch.Tensor:
    """The same by a mask over all pairs of tokens, in float64."""
    height, width, channels = q.shape[-3:]
    i = torch.arange(height * width)
    rows, columns = i[:, None] // width - i // width, i[:, None] % width - i % width
    flat = (x.double().reshape(-1, height * width, channels) for x in (q, k, v))
    out = scaled_dot_product_attention(*flat, attn_mask=rows**2 + columns**2 < radius**2)
    return out.reshape(q.shape)


def main() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 20, 24, 16)
    out = circular_attention(q, k, v, radius=5)
    error = ((out - dense(q, k, v, 5)).norm() / out.norm()).item()
    print(circular_attention.program(radius=5))
    print(f"relative error against dense attention in float64: {error:.1e}")
    assert error < 1e-6


if __name__ == "__main__":
    main()
