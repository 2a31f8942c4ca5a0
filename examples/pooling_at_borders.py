"""What a window does at the border of an image: three answers, and each is said where it is meant.

What you learn: outside an axis there is nothing, not zero. A mean of a window divides by what exists; who wants
zeros or the nearest pixel writes `otherwise(0)` or `clamp`, and a reduction over nothing has to be answered.
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from plait import axes, axis, clamp, mixer, near

b, c, h, w = axes("b c h w")


@mixer("x[b, c, h, w] -> existing[b, c, h, w], full[b, c, h, w], nearest[b, c, h, w], top[b, c, h, w]")
def means(x, *, radius: int = 1):
    """The mean over the pixels that exist, over zeros too, over repeated border pixels; and the largest."""
    dh, dw = near("dh dw", radius)
    seen = x[h + dh, w + dw]
    inside = {h: clamp(h + dh, 0, h.size - 1), w: clamp(w + dw, 0, w.size - 1)}
    return seen.mean(dh, dw), seen.otherwise(0).mean(dh, dw), x[inside].mean(dh, dw), seen.max(dh, dw)


@mixer("x[b, c, h, w] -> y[b, c, oh, ow]")
def shrunk(x, *, stride: int = 2):
    """Windows of stride x stride; those at the far border hold what is left of the image (ceil_mode)."""
    oh, ow = axis("oh", -(-h.size // stride)), axis("ow", -(-w.size // stride))
    i, j = axis("i", stride), axis("j", stride)
    return x[{h: oh * stride + i, w: ow * stride + j}].mean(i, j)


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 9)
    found = [*means(x), shrunk(x)]
    wanted = [
        avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        avg_pool2d(x, 3, 1, 1),
        avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1),
        max_pool2d(x, 3, 1, 1),
        avg_pool2d(x, 2, 2, ceil_mode=True),
    ]
    names = ("existing", "full", "nearest", "top", "shrunk")
    errors = [(a - b).abs().max().item() for a, b in zip(found, wanted, strict=True)]
    for name, error in zip(names, errors, strict=True):
        print(f"{name:9} differs from PyTorch by {error:.1e}")
    corners = ", ".join(f"{each[0, 0, 0, 0]:.3f}" for each in found[:3])
    print(f"one corner, by the three rules of a mean: {corners}")
    assert max(errors) < 1e-6


if __name__ == "__main__":
    main()
