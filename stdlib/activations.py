"""Activations: functions of one number, index by index. Their derivatives at corners are PyTorch's."""

from __future__ import annotations

from math import pi

from .. import Value, erf, exp, expm1, layer, log1p, param, refuse, relu, select, sigmoid, tanh
from .common import Axes, chosen, demand_entries, listed

__all__ = [
    "elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "mish", "prelu", "relu", "relu6", "selu", "sigmoid",
    "silu", "softplus", "squared_relu", "star_relu", "tanh",
]  # fmt: skip


def gelu(x: Value, *, approximate: str = "none") -> Value:
    """`x * (1 + erf(x / sqrt(2))) / 2`; "tanh": `x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x**3))) / 2`.

    "quick" is `x * sigmoid(1.702 x)`. Same axes as x. Raises InvalidArgument for another form.
    Source: arXiv 1606.08415, section 2; torch.nn.functional.gelu.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> h = axes("h")
    >>> @mixer("x[h] -> exact[h], near[h]")
    ... def two(x):
    ...     return gelu(x), gelu(x, approximate="tanh")
    >>> x, F = torch.linspace(-4, 4, 9).double(), torch.nn.functional
    >>> exact, near = compile(two, backend="reference")(x)
    >>> torch.allclose(exact, F.gelu(x)), torch.allclose(near, F.gelu(x, approximate="tanh"))
    (True, True)
    """
    match chosen(approximate, ("none", "tanh", "quick"), "approximate"):
        case "none":
            return 0.5 * x * (1 + erf(x * 0.5**0.5))
        case "tanh":
            return 0.5 * x * (1 + tanh((2 / pi) ** 0.5 * (x + 0.044715 * x * x * x)))
        case _:
            return x * sigmoid(1.702 * x)


def silu(x: Value) -> Value:
    """`x * sigmoid(x)`, also called swish.

    Same axes as x. Source: arXiv 1606.08415, section 4; torch.nn.functional.silu.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> h = axes("h")
    >>> y = compile(mixer("x[h] -> y[h]")(silu), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.silu(x))
    True
    """
    return x * sigmoid(x)


def relu6(x: Value) -> Value:
    """`min(max(x, 0), 6)`, with derivative 0 at both corners.

    Same axes as x. Source: torch.nn.functional.relu6.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(relu6), backend="reference")
    >>> x = torch.linspace(-4, 8, 13).double()
    >>> torch.allclose(y(x), torch.nn.functional.relu6(x))
    True
    """
    return select((x > 0) & (x < 6), x, select(x > 0, 6.0, 0.0))


def squared_relu(x: Value) -> Value:
    """`max(x, 0)**2`.

    Same axes as x. Source: Primer, arXiv 2109.08668, section 3.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(squared_relu), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.relu(x) ** 2)
    True
    """
    positive = relu(x)
    return positive * positive


@layer
def star_relu(
    x: Value, *, scale: float = 1.0, bias: float = 0.0, learned: tuple[bool, bool] = (True, True)
) -> Value:
    """`scale * max(x, 0)**2 + bias`, two learned numbers.

    Same axes as x; `scale` and `bias` have shape (1,) and begin at the arguments, or are those numbers where
    `learned` says so. The paper's fixed form is 0.8944 and -0.4472. Source: arXiv 2210.13452, equation 3.

    >>> import torch
    >>> from plait import axes, mixer
    >>> h = axes("h")
    >>> @mixer("x[h] -> y[h]")
    ... def star(x):
    ...     return star_relu(x, scale=0.8944, bias=-0.4472, name="act")
    >>> x = torch.linspace(-4, 4, 9)
    >>> torch.allclose(star.module(backend="reference")(x), 0.8944 * torch.relu(x) ** 2 - 0.4472)
    True
    """
    demand_entries(learned, 2, "learned")
    factor = param("scale", 1, init=scale) if learned[0] else scale
    shift = param("bias", 1, init=bias) if learned[1] else bias
    return factor * squared_relu(x) + shift


def leaky_relu(x: Value, *, slope: float = 0.01) -> Value:
    """`x` where x > 0, `slope * x` elsewhere.

    Same axes as x. Source: torch.nn.functional.leaky_relu.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(lambda x: leaky_relu(x, slope=0.2)), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.leaky_relu(x, 0.2))
    True
    """
    return select(x > 0, x, slope * x)


@layer
def prelu(x: Value, channels: Axes | None = None, *, init: float = 0.25) -> Value:
    """`x` where x > 0, `weight * x` elsewhere: one learned slope, or one a channel.

    Same axes as x; `weight` has shape (1,) or is over the channels. Source: arXiv 1502.01852, equation 1;
    torch.nn.PReLU.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c = axes("b c")
    >>> @mixer("x[b, c] -> y[b, c]")
    ... def sloped(x):
    ...     return prelu(x, c, name="act")
    >>> net, x = sloped.module(c=3, backend="reference").double(), torch.randn(4, 3, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.prelu(x, net.act.weight))
    True
    """
    weight = param("weight", *((1,) if channels is None else listed(channels)), init=init)
    return select(x > 0, x, weight * x)


def softplus(x: Value, *, beta: float = 1.0) -> Value:
    """`log(1 + exp(beta * x)) / beta`, computed without overflow.

    Same axes as x. PyTorch replaces it by x where `beta * x > 20`, which differs by less than 2.1e-9 / beta.
    Source: torch.nn.functional.softplus.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(softplus), backend="reference")
    >>> x = torch.linspace(-30, 30, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.softplus(x))
    True
    """
    if beta == 0:
        refuse("`beta` is a number other than 0")
    scaled = x if beta == 1 else beta * x
    y = select(scaled > 0, scaled + log1p(exp(-scaled)), log1p(exp(scaled)))
    return y if beta == 1 else y / beta


def elu(x: Value, *, alpha: float = 1.0) -> Value:
    """`x` where x > 0, `alpha * (exp(x) - 1)` elsewhere.

    Same axes as x. Source: arXiv 1511.07289, equation 15; torch.nn.functional.elu.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(elu), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.elu(x))
    True
    """
    return select(x > 0, x, alpha * expm1(x))


def selu(x: Value) -> Value:
    """`1.0507 * elu(x, alpha=1.6733)`, with the paper's digits.

    Same axes as x. Source: arXiv 1706.02515, equation 2; torch.nn.functional.selu.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(selu), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.selu(x))
    True
    """
    return 1.0507009873554805 * elu(x, alpha=1.6732632423543772)


def mish(x: Value) -> Value:
    """`x * tanh(softplus(x))`.

    Same axes as x. Source: arXiv 1908.08681, equation 1; torch.nn.functional.mish.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(mish), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.mish(x))
    True
    """
    return x * tanh(softplus(x))


def hardsigmoid(x: Value) -> Value:
    """`min(max(x + 3, 0), 6) / 6`, with derivative 0 at both corners.

    Same axes as x. Source: arXiv 1905.02244, section 5.2; torch.nn.functional.hardsigmoid.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(hardsigmoid), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.hardsigmoid(x))
    True
    """
    return relu6(x + 3) / 6


def hardswish(x: Value) -> Value:
    """`x * hardsigmoid(x)`.

    Same axes as x. Source: arXiv 1905.02244, equation 3; torch.nn.functional.hardswish.

    >>> import torch
    >>> from plait import compile, mixer
    >>> y = compile(mixer("x[h] -> y[h]")(hardswish), backend="reference")
    >>> x = torch.linspace(-4, 4, 9).double()
    >>> torch.allclose(y(x), torch.nn.functional.hardswish(x))
    True
    """
    return x * hardsigmoid(x)
