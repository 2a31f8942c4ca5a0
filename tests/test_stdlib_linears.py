"""Linear maps, perceptrons and gates of the standard library against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from against_torch import agree, random
from plait import axes, axis, mixer, relu
from plait.dsl.errors import PlaitError
from plait.stdlib import (
    gated_mlp,
    geglu,
    gelu,
    glu,
    hardsigmoid,
    linear,
    mlp,
    pointwise_convolution,
    silu,
    squeeze_excitation,
    swiglu,
)

b, c, h, w, m, e = axes("b c h w m e")


@pytest.mark.parametrize(("width", "bias"), [(7, True), (1, True), (4, False)])
def test_linear(width: int, bias: bool) -> None:
    @mixer("x[..., c] -> y[..., o]")
    def project(x, *, width: int = 4):
        return linear(x, c, axis("o", width), bias=bias, name="")

    agree(project, nn.Linear(5, width, bias=bias), random(2, 3, 5), c=5, width=width, kernels=width == 7)


def test_linear_on_its_own_axis_adds_to_x() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def residual(x):
        return x + linear(x, c, c, name="fc")

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)

    agree(residual, Residual(), random(3, 5), c=5)


def test_linear_to_packed_axes() -> None:
    @mixer("x[b, c] -> q[b, m, e], k[b, m, e]")
    def two(x):
        part, m, e = axis("part", 2), axis("m", 3), axis("e", 2)
        y = linear(x, c, (part, m, e), name="")
        return y[{part: 0}], y[{part: 1}]

    official = nn.Linear(4, 12)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = official.weight, official.bias

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = F.linear(x, self.weight, self.bias).reshape(-1, 2, 3, 2)
            return y[:, 0], y[:, 1]

    agree(two, Two(), random(3, 4), c=4)


def test_linear_from_packed_axes_one_of_which_stays() -> None:
    @mixer("x[b, m, e] -> y[b, m, c]")
    def project(x):
        c = axis("c", 5)
        return linear(x, (m, e), (m, c), bias=False, name="")

    official = nn.Linear(6, 10, bias=False)

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = official.weight

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x.reshape(-1, 6), self.weight).reshape(-1, 2, 5)

    agree(project, Packed(), random(3, 2, 3), kernels=False, m=2, e=3)


def test_linear_over_an_axis_that_x_lacks_is_shown_at_the_call() -> None:
    with pytest.raises(PlaitError) as caught:

        @mixer("x[b, c] -> y[b, h]")
        def wrong(x):
            return linear(x, w, h, name="fc")

    assert 'linear(x, w, h, name="fc")' in str(caught.value)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pointwise_convolution(rank: int) -> None:
    places = ", ".join(("h", "w", "d")[:rank])

    @mixer(f"x[b, c, {places}] -> y[b, o, {places}]")
    def project(x):
        return pointwise_convolution(x, c, axis("o", 4), rank=rank, name="")

    official = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](3, 4, 1)
    agree(project, official, random(2, 3, *(5, 1, 2)[:rank]), c=3, kernels=rank == 2)


@pytest.mark.parametrize("hidden", [1, 11])
def test_mlp(hidden: int) -> None:
    @mixer("x[..., c] -> y[..., c]")
    def feed_forward(x, *, hidden: int = 4):
        return mlp(x, c, axis("e", hidden), names=("0", "2"), name="")

    official = nn.Sequential(nn.Linear(5, hidden), nn.GELU(), nn.Linear(hidden, 5))
    agree(feed_forward, official, random(2, 3, 5), c=5, hidden=hidden, kernels=hidden > 1)


def test_mlp_to_another_width_without_bias() -> None:
    @mixer("x[..., c] -> y[..., o]")
    def head(x):
        return mlp(x, c, axis("e", 4), axis("o", 2), activation=relu, bias=False, names=("0", "2"), name="")

    official = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    agree(head, official, random(7, 3), kernels=False, c=3)


GATES = {
    "glu": (glu, F.glu),
    "geglu": (geglu, lambda x: x.chunk(2, -1)[0] * F.gelu(x.chunk(2, -1)[1])),
    "swiglu": (swiglu, lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1]),
    "reglu": (
        lambda x, c, half: glu(x, c, half, gate=relu),
        lambda x: x.chunk(2, -1)[0] * F.relu(x.chunk(2, -1)[1]),
    ),
}


@pytest.mark.parametrize("name", GATES)
def test_gates(name: str) -> None:
    function, official = GATES[name]

    @mixer("x[..., c] -> y[..., half]")
    def gated(x):
        return function(x, c, axis("half", c.size // 2))

    agree(gated, official, random(2, 3, 10), kernels=name == "glu")


def test_an_odd_width_has_no_halves() -> None:
    @mixer("x[..., c] -> y[..., half]")
    def gated(x):
        return glu(x, c, axis("half", c.size // 2))

    with pytest.raises(PlaitError, match="requires"):
        gated(torch.randn(2, 5))


def test_gated_mlp() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj, self.up_proj = nn.Linear(3, 7, bias=False), nn.Linear(3, 7, bias=False)
            self.down_proj = nn.Linear(7, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(F.gelu(self.gate_proj(x)) * self.up_proj(x))

    @mixer("x[b, c] -> y[b, c]")
    def feed_forward(x):
        return gated_mlp(x, c, axis("e", 7), gate=gelu, name="")

    agree(feed_forward, Gated(), random(5, 3), c=3)


def test_squeeze_excitation_stored_as_convolutions() -> None:
    """The layout of torchvision's."""

    class Excited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Conv2d(5, 2, 1), nn.Conv2d(2, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            z = self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True))))
            return x * F.relu6(z + 3) / 6

    @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    def gated(x):
        options = {"activation": silu, "gate": hardsigmoid, "ones": (1, 1)}
        return squeeze_excitation(x, c, (h, w), axis("r", 2), name="", **options)

    agree(gated, Excited(), random(2, 5, 3, 4), c=5)
