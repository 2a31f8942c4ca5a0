"""Attention inside stripes of an image, whose local term stops at the stripe's border: CSWin's cross-shaped windows.

What you learn: an axis is cut into windows by reading it at `outer * size + inner`, and put back by `//` and `%`. A
border is that of the axis one reads, so a convolution over *inner* axes sees zeros at the stripe's edge.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, scaled_dot_product_attention

from plait import axes, axis, mixer, near, require, softmax

b, h, w, c = axes("b h w c")


@mixer("q[b, h, w, c], k[b, h, w, c], v[b, h, w, c], weight[c, i=3, j=3] -> o[b, h, w, c]")
def stripes(q, k, v, weight, *, rows: int = 4, columns: int = 2):
    """Attention in windows of rows x columns, and a depthwise convolution of the values (arXiv 2107.00652)."""
    require(h.size % rows == 0, w.size % columns == 0)
    y, p, x, s = axis("y", h.size // rows), axis("p", rows), axis("x", w.size // columns), axis("s", columns)
    cut = {h: y * rows + p, w: x * columns + s}
    q, k, v = q[cut], k[cut], v[cut]
    other = {p: p.like(), s: s.like()}
    score = (q * k[other]).sum(c) * c.size**-0.5
    seen = (softmax(score, over=tuple(other.values())) * v[other]).sum(*other.values())
    dp, ds = near("dp ds", 1)
    i, j = axes("i j")
    local = (weight[{i: dp + 1, j: ds + 1}] * v[p + dp, s + ds].otherwise(0)).sum(dp, ds)
    return (seen + local)[{y: h // rows, p: h % rows, x: w // columns, s: w % columns}]


def partitioned(q: Tensor, k: Tensor, v: Tensor, weight: Tensor, rows: int, columns: int) -> Tensor:
    """The same by copies of windows, as the official code has it."""
    size, height, width, channels = q.shape
    grid = (size, height // rows, rows, width // columns, columns, channels)
    q, k, v = (x.view(grid).transpose(2, 3).reshape(-1, rows * columns, channels) for x in (q, k, v))
    seen = scaled_dot_product_attention(q, k, v)
    image = v.view(-1, rows, columns, channels).permute(0, 3, 1, 2)
    local = conv2d(image, weight[:, None], padding=1, groups=channels).permute(0, 2, 3, 1).flatten(1, 2)
    return (seen + local).view(size, height // rows, width // columns, rows, columns, channels) \
        .transpose(2, 3).reshape(size, height, width, channels)  # fmt: skip


def main() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 12, 8, 16)
    weight = torch.randn(16, 3, 3)
    (q1, k1, v1), (q2, k2, v2) = ([x[..., half] for x in (q, k, v)] for half in (slice(0, 8), slice(8, 16)))
    upright = stripes(q1, k1, v1, weight[:8], rows=12, columns=2)
    lying = stripes(q2, k2, v2, weight[8:], rows=2, columns=8)
    cross = torch.cat([upright, lying], dim=-1)
    wanted = [partitioned(q1, k1, v1, weight[:8], 12, 2), partitioned(q2, k2, v2, weight[8:], 2, 8)]
    error = (cross - torch.cat(wanted, dim=-1)).abs().max().item()
    print(stripes.program())
    print(f"upright and lying stripes, largest difference from copies of windows: {error:.1e}")
    assert error < 1e-5


if __name__ == "__main__":
    main()
