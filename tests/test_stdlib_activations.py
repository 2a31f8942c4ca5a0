"""The activations of the standard library against PyTorch's, at corners and far out too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from against_torch import agree, meaning, random
from agreement import nearly
from plait import Value, axes, mixer, stdlib
from plait.dsl.errors import PlaitError

b, c, h = axes("b c h")

POINTWISE: dict[str, tuple[Callable[[Value], Value], Callable[[Tensor], Tensor]]] = {
    "relu": (stdlib.relu, F.relu),
    "relu6": (stdlib.relu6, F.relu6),
    "gelu": (stdlib.gelu, F.gelu),
    "gelu tanh": (lambda x: stdlib.gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "gelu quick": (lambda x: stdlib.gelu(x, approximate="quick"), lambda x: x * torch.sigmoid(1.702 * x)),
    "silu": (stdlib.silu, F.silu),
    "sigmoid": (stdlib.sigmoid, torch.sigmoid),
    "tanh": (stdlib.tanh, torch.tanh),
    "softplus": (stdlib.softplus, F.softplus),
    "softplus beta": (
        lambda x: stdlib.softplus(x, beta=0.5),
        lambda x: F.softplus(x, beta=0.5, threshold=50),
    ),
    "elu": (stdlib.elu, F.elu),
    "elu alpha": (lambda x: stdlib.elu(x, alpha=0.3), lambda x: F.elu(x, alpha=0.3)),
    "selu": (stdlib.selu, F.selu),
    "leaky_relu": (lambda x: stdlib.leaky_relu(x, slope=0.2), lambda x: F.leaky_relu(x, 0.2)),
    "mish": (stdlib.mish, F.mish),
    # Not F.hardsigmoid, whose derivative in float64 is a sixth in float32.
    "hardsigmoid": (stdlib.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "hardswish": (stdlib.hardswish, F.hardswish),
    "squared_relu": (stdlib.squared_relu, lambda x: F.relu(x).square()),
}


def test_all_activations_in_one_program_with_gradients() -> None:
    """Each output has a weight of its own, so that no two derivatives can be mistaken for each other."""
    outputs = ", ".join(f"y{number}[h]" for number in range(len(POINTWISE)))

    @mixer(f"x[h] -> {outputs}")
    def every(x):
        return tuple(function(x) for function, _ in POINTWISE.values())

    x = torch.cat([random(13), torch.tensor([0.0, -3.0, 3.0, 6.0, -40.0, 19.0]).double()])
    agree(every, lambda x: tuple(official(x) for _, official in POINTWISE.values()), x)


@pytest.mark.parametrize("name", POINTWISE)
def test_one_activation_at_its_corners(name: str) -> None:
    function, official = POINTWISE[name]

    @mixer("x[h] -> y[h]")
    def one(x):
        return function(x)

    corners = torch.tensor([0.0, -0.0, 3.0, -3.0, 6.0, 1e-9, -1e-9, 50.0, -50.0], dtype=torch.float64)
    agree(one, official, corners, kernels=False)


@given(st.floats(-30, 30))
def test_softplus_is_within_its_bound_of_torch(number: float) -> None:
    @mixer("x -> y")
    def one(x):
        return stdlib.softplus(x, beta=2.0)

    x = torch.tensor(number, dtype=torch.float64)
    found = meaning(one, x)
    assert abs(found - F.softplus(x, beta=2.0)) <= 2.1e-9 / 2


def test_softplus_does_not_overflow() -> None:
    @mixer("x[h] -> y[h]")
    def one(x):
        return stdlib.softplus(x)

    x = torch.tensor([1e4, -1e4], dtype=torch.float64, requires_grad=True)
    y = meaning(one, x)
    y.sum().backward()
    assert y.tolist() == [1e4, 0.0]
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0]


def test_an_unknown_gelu_is_refused() -> None:
    with pytest.raises(PlaitError, match="`approximate` is one of none, tanh, quick, and this is 'fast'"):

        @mixer("x[h] -> y[h]")
        def one(x):
            return stdlib.gelu(x, approximate="fast")


def test_star_relu() -> None:
    class Star(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * F.relu(x).square() + self.bias

    @mixer("x[b, h] -> y[b, h]")
    def star(x):
        return stdlib.star_relu(x, name="")

    agree(star, Star(), random(3, 7))


@pytest.mark.parametrize("learned", [(True, False), (False, True), (False, False)])
def test_star_relu_with_fixed_numbers(learned: tuple[bool, bool]) -> None:
    @mixer("x[h] -> y[h]")
    def star(x):
        return stdlib.star_relu(x, scale=0.8944, bias=-0.4472, learned=learned, name="")

    net, x = star.module(backend="reference").double(), random(7)
    assert list(net.state_dict()) == [
        key for key, wanted in zip(("scale", "bias"), learned, strict=True) if wanted
    ]
    nearly(net(x).float(), 0.8944 * F.relu(x).square() - 0.4472)  # parameters begin in float32


@pytest.mark.parametrize("channels", [1, 5])
def test_prelu(channels: int) -> None:
    @mixer("x[b, c, h] -> y[b, c, h]")
    def sloped(x):
        return stdlib.prelu(x, c if channels > 1 else None, name="")

    agree(sloped, nn.PReLU(channels), random(2, 5, 3), c=5, kernels=channels > 1)
