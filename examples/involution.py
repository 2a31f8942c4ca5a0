"""A convolution whose kernel differs from place to place and is made from the place itself: involution.

What you learn: a value may be over any axes, so a kernel for each pixel is just one more value; groups of channels are
an index (`c // width`); `otherwise(0)` says what a window reads outside the image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import unfold

from plait import axes, axis, mixer, near, param, require
from plait.stdlib import linear, relu

b, c, h, w = axes("b c h w")


@mixer("x[b, c, h, w] -> y[b, c, h, w]")
def involution(x, *, radius: int = 3, groups: int = 4, reduction: int = 4):
    """Kernels generated at each pixel, shared by the channels of a group (arXiv 2103.06255, without its batch norm)."""
    require(c.size % groups == 0, c.size % reduction == 0)
    dh, dw = near("dh dw", radius)
    g, r = axis("g", groups), axis("r", c.size // reduction)
    squeezed = relu(linear(x, c, r, name="reduce"))
    kernel = (param("span.weight", (g, dh, dw), r) * squeezed).sum(r) + param(
        "span.bias", (g, dh, dw), init=0
    )
    own = kernel[{g: c // (c.size // groups)}]
    return (own * x[h + dh, w + dw].otherwise(0)).sum(dh, dw)


def unfolded(x: Tensor, state: dict[str, Tensor], radius: int, groups: int) -> Tensor:
    """The same by a copy of every window, as the official code has it."""
    size, channels, height, width = x.shape
    taps = 2 * radius + 1
    reduced = torch.einsum("rc,bchw->brhw", state["reduce.weight"], x) + state["reduce.bias"][:, None, None]
    kernel = torch.einsum("kr,brhw->bkhw", state["span.weight"], reduced.relu())
    kernel = (kernel + state["span.bias"][:, None, None]).view(size, groups, 1, taps**2, height, width)
    windows = unfold(x, taps, padding=radius).view(size, groups, channels // groups, taps**2, height, width)
    return (kernel * windows).sum(3).view(x.shape)


def main() -> None:
    torch.manual_seed(0)
    net = involution.module(c=16, radius=2)
    x = torch.randn(2, 16, 11, 14)
    y = net(x)
    error = (y - unfolded(x, net.state_dict(), 2, 4)).abs().max().item()
    print(involution.program(radius=2, c=16))
    print(f"largest difference from copies of windows: {error:.1e}, of values up to {y.abs().max():.1f}")
    assert error < 1e-5


if __name__ == "__main__":
    main()
