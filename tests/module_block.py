"""A module that has everything, and the same by torch's own layers."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from agreement import nearly
from plait.backends.budget import Way, longest_way, there_and_back
from plait.backends.module import PlaitModule, make_module
from plait.dsl.constructors.initialisers import bernoulli, trunc_normal
from plait.dsl.elaboration.declarations import buffer, draw, mode, param, update
from plait.dsl.elaboration.mixer import mixer
from plait.dsl.program import Axis
from plait.dsl.python.functions import axes, near
from plait.dsl.python.pointwise import sqrt

b, c, h, w = axes("b c h w")


@mixer("x[b, h, w, c] -> o[b, h, w, c]")
def block(x, *, radius: int = 1, drop: float = 0.25):
    """A depthwise convolution, a batch norm and a linear layer, with dropped samples."""
    dh, dw = near("dh dw", radius)
    u = (param("dwconv.weight", c, 1, dh, dw, init=trunc_normal(0.02)) * x[h + dh, w + dw]).sum(dh, dw)
    u = u + param("dwconv.bias", c)
    mean, variance = buffer("norm.running_mean", c), buffer("norm.running_var", c, init=1)
    steps = buffer("norm.num_batches_tracked", kind="int")
    if mode() == "train":
        here, n = u.mean(b, h, w), u.count(b, h, w)
        spread = ((u - here) ** 2).mean(b, h, w)
        update(mean, 0.9 * mean + 0.1 * here)
        update(variance, 0.9 * variance + 0.1 * spread * n / (n - 1))
        update(steps, steps + 1)
        mean, variance = here, spread
    z = (u - mean) / sqrt(variance + 1e-5) * param("norm.weight", c) + param("norm.bias", c)
    j = c.like("j")
    z = (param("fc.weight", c, j, also=("tied.weight",)) * z[{c: j}]).sum(j)
    z = z * param("gamma", c, init=0.5, grad=False)
    if mode() == "train" and drop:
        z = z * draw("keep", b, dist=bernoulli(1 - drop)) / (1 - drop)
    return x + z


class Block(nn.Module):
    """The same by torch's own layers."""

    def __init__(self, width: int, drop: float = 0.25) -> None:
        super().__init__()
        self.drop = drop
        self.gamma = nn.Parameter(torch.full((width,), 0.5), requires_grad=False)
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, width, bias=False)
        self.tied = self.fc

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        z = self.norm(self.dwconv(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        z = self.fc(z) * self.gamma
        return x + (z if keep is None else z * keep[:, None, None, None] / (1 - self.drop))


def make_pair() -> tuple[PlaitModule, Block]:
    """The module and its twin with the same weights, in float64."""
    torch.manual_seed(0)
    ours = make_module(block, given={"c": 6}, dtype=torch.float64)
    torchs = Block(6).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@mixer("x[b, c], g[b]? -> y[b, c], total[b]")
def gated(x, g=None):
    y = x * param("scale", c) if g is None else x * g * param("other", c)
    return y, y.sum(c)


def pictures(count: int = 4, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(count, 5, 7, 6, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@cache
def way(order: int) -> Way:
    """The longest one to a derivative of this order of the block in training, of `pictures()`."""
    program = block.program(mode="train", c=6)
    found = longest_way(program, {Axis(name): size for name, size in zip("bhwc", (4, 5, 7, 6), strict=True)})
    for _ in range(order):
        found = there_and_back(found)
    return found


def close(found: Tensor | None, expected: Tensor | None, order: int = 1) -> bool:
    """The twin's, within the budget of the way to derivatives of this order; of the narrower of the two dtypes."""
    assert found is not None and expected is not None
    nearly(found, expected, way(order).length, way(order).operations)
    return True
