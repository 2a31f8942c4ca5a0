"""The same idea along one axis that must not look ahead, and over three: a window is offsets, whatever the rank.

What you learn: `span` makes one-sided offsets, so that causality is a range and not a mask; three window axes are
written as two are; batch axes `...` are whatever stands in front.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from plait import axes, mixer, near, softmax, span

z, y, x, t, d = axes("z y x t d")


@mixer("q[..., t, d], k[..., t, d], v[..., t, d] -> o[..., t, d]")
def causal(q, k, v, *, past: int = 16):
    """Each token sees itself and the `past` tokens before it."""
    dt = span("dt", -past, 1)
    p = softmax((q * k[t + dt]).sum(d) * d.size**-0.5, over=dt)
    return (p * v[t + dt]).sum(dt)


@mixer("q[..., z, y, x, d], k[..., z, y, x, d], v[..., z, y, x, d] -> o[..., z, y, x, d]")
def ball(q, k, v, *, radius: int = 2):
    """Each voxel sees those nearer than `radius`."""
    dz, dy, dx = near("dz dy dx", radius)
    there = {z: z + dz, y: y + dy, x: x + dx}
    s = (q * k[there]).sum(d) * d.size**-0.5
    p = softmax(s, over=(dz, dy, dx), where=dz * dz + dy * dy + dx * dx < radius * radius)
    return (p * v[there]).sum(dz, dy, dx)


def main() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 37, 8)
    behind = torch.arange(37)[:, None] - torch.arange(37)
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind <= 5))
    first = (causal(q, k, v, past=5) - wanted).abs().max().item()
    q, k, v = torch.randn(3, 2, 5, 6, 7, 8)
    place = torch.cartesian_prod(torch.arange(5), torch.arange(6), torch.arange(7))
    distance = (place[:, None] - place).square().sum(-1)
    flat = (each.flatten(1, 3) for each in (q, k, v))
    wanted = scaled_dot_product_attention(*flat, attn_mask=distance < 9).view(q.shape)
    second = (ball(q, k, v, radius=3) - wanted).abs().max().item()
    print(causal.program(past=5), ball.program(radius=3), sep="\n")
    print(f"largest difference from masked dense attention: 1-D {first:.1e}, 3-D {second:.1e}")
    assert max(first, second) < 1e-5


if __name__ == "__main__":
    main()
