"""Contractions of channels with a matrix: linear maps and 1x1 convolutions, perceptrons, gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .. import AxisValue, Value, layer, param, relu, require, sigmoid
from .activations import gelu, silu
from .common import Activation, Axes, Init, Over, demand_entries, function, item, listed


@layer
def linear(
    x: Value,
    source: Axes,
    target: Axes,
    *,
    bias: bool = True,
    ones: Sequence[Literal[1]] = (),
    init: Init = None,
) -> Value:
    """`y[target] = sum[source](weight[target, source] * x[source]) + bias[target]`.

    x over the source axes becomes y over the target axes, which may be the same ones; other axes stay. Several
    axes in a tuple are one dimension of the weight, row-major: `linear(x, c, (z, m, e))` makes queries, keys and
    values. `ones=(1, 1)` stores it as a 1x1 convolution. Raises UnknownAxis where x lacks a source axis.
    Source: torch.nn.Linear, torch.nn.Conv2d.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., o]")
    ... def project(x, *, width: int = 4):
    ...     return linear(x, c, axis("o", width), name="fc")
    >>> net, x = project.module(c=3, backend="reference").double(), torch.randn(2, 3, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.linear(x, net.fc.weight, net.fc.bias))
    True
    """
    shared = [each for each in listed(source) if any(each is other for other in listed(target))]
    copies = {each: each.like() for each in shared}
    primed = tuple(copies.get(each, each) for each in listed(source))
    weight = param("weight", item(target), item(primed), *ones, init=init)
    y = (weight * (x[copies] if copies else x)).sum(primed)
    return y + param("bias", item(target), init=0) if bias else y


@layer
def pointwise_convolution(
    x: Value, source: Axes, target: Axes, *, bias: bool = True, rank: int = 2, init: Init = None
) -> Value:
    """`linear` with its weight stored as a convolution's: `weight[target, source, 1, 1]` (`rank` ones).

    Shapes, errors and result as those of `linear`. Source: torch.nn.Conv2d with `kernel_size=1`.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c, h, w = axes("b c h w")
    >>> @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    ... def project(x):
    ...     return pointwise_convolution(x, c, c, name="conv")
    >>> net, x = project.module(c=3, backend="reference").double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.conv2d(x, net.conv.weight, net.conv.bias))
    True
    """
    return linear(x, source, target, bias=bias, ones=(1,) * rank, init=init, name="")


@layer
def mlp(
    x: Value, channels: Axes, hidden: Axes, target: Axes | None = None, *, activation: Activation = gelu,
    bias: bool = True, names: tuple[str, str] = ("fc1", "fc2"), ones: Sequence[Literal[1]] = (), init: Init = None,
) -> Value:  # fmt: skip
    """`linear(activation(linear(x, channels, hidden)), hidden, target)`.

    x over the channels becomes y over `target`, or over the channels again. `names` are those of the two linear
    maps. Source: arXiv 1706.03762, equation 2; keys as timm's `Mlp`.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., c]")
    ... def feed_forward(x):
    ...     return mlp(x, c, axis("e", 4 * c.size), name="mlp")
    >>> net, x = feed_forward.module(c=3, backend="reference").double(), torch.randn(2, 3, dtype=torch.float64)
    >>> fc1, fc2, F = net.mlp.fc1, net.mlp.fc2, torch.nn.functional
    >>> torch.allclose(net(x), F.linear(F.gelu(F.linear(x, fc1.weight, fc1.bias)), fc2.weight, fc2.bias))
    True
    """
    demand_entries(names, 2, "names")
    activation = function(activation, "activation")
    inner = activation(linear(x, channels, hidden, bias=bias, ones=ones, init=init, name=names[0]))
    outer = channels if target is None else target
    return linear(inner, hidden, outer, bias=bias, ones=ones, init=init, name=names[1])


def glu(
    x: Value, channels: AxisValue, half: AxisValue, *, gate: Activation = sigmoid, first: bool = False
) -> Value:
    """`x[channels: half] * gate(x[channels: half + C / 2])`; with `first=True` the gate acts on the first half.

    x over the channels becomes y over `half`, whose size is half of theirs (RequirementFailed). GLU has
    `gate=sigmoid`, GEGLU `gelu`, SwiGLU `silu`, ReGLU `relu`.
    Source: arXiv 1612.08083, equation 1; arXiv 2002.05202, equation 5; torch.nn.functional.glu.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., half]")
    ... def gated(x):
    ...     return glu(x, c, axis("half", c.size // 2))
    >>> x = torch.randn(3, 6, dtype=torch.float64)
    >>> torch.allclose(compile(gated, backend="reference")(x), torch.nn.functional.glu(x))
    True
    """
    require(channels.size == 2 * half.size)
    one, other = x[{channels: half}], x[{channels: half + half.size}]
    gate = function(gate, "gate")
    return gate(one) * other if first else one * gate(other)


def geglu(x: Value, channels: AxisValue, half: AxisValue) -> Value:
    """`glu` with the exact GELU as its gate: `x[half] * gelu(x[half + C / 2])`.

    Shapes and errors as those of `glu`. Source: arXiv 2002.05202, equation 6.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., half]")
    ... def gated(x):
    ...     return geglu(x, c, axis("half", c.size // 2))
    >>> x = torch.randn(3, 6, dtype=torch.float64)
    >>> expected = x[:, :3] * torch.nn.functional.gelu(x[:, 3:])
    >>> torch.allclose(compile(gated, backend="reference")(x), expected)
    True
    """
    return glu(x, channels, half, gate=gelu)


def swiglu(x: Value, channels: AxisValue, half: AxisValue) -> Value:
    """`glu` with SiLU on the first half: `silu(x[half]) * x[half + C / 2]`, as LLaMA's packed form.

    Shapes and errors as those of `glu`. Source: arXiv 2002.05202, equation 6.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., half]")
    ... def gated(x):
    ...     return swiglu(x, c, axis("half", c.size // 2))
    >>> x = torch.randn(3, 6, dtype=torch.float64)
    >>> expected = torch.nn.functional.silu(x[:, :3]) * x[:, 3:]
    >>> torch.allclose(compile(gated, backend="reference")(x), expected)
    True
    """
    return glu(x, channels, half, gate=silu, first=True)


@layer
def gated_mlp(
    x: Value, channels: Axes, hidden: Axes, *, gate: Activation = silu, bias: bool = False,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"), init: Init = None,
) -> Value:  # fmt: skip
    """`down(gate(gate_proj(x)) * up(x))`, three linear maps called `names`.

    Same axes as x, `hidden` between. Source: arXiv 2002.05202, equation 6; keys as LLaMA's.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., c]")
    ... def feed_forward(x):
    ...     return gated_mlp(x, c, axis("e", 2 * c.size), name="")
    >>> net, x = feed_forward.module(c=3, backend="reference").double(), torch.randn(2, 3, dtype=torch.float64)
    >>> gate, up, down = net.gate_proj.weight, net.up_proj.weight, net.down_proj.weight
    >>> torch.allclose(net(x), (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T)
    True
    """
    demand_entries(names, 3, "names")
    gate = function(gate, "gate")
    options = {"bias": bias, "init": init}
    inner = gate(linear(x, channels, hidden, name=names[0], **options))
    inner = inner * linear(x, channels, hidden, name=names[1], **options)
    return linear(inner, hidden, channels, name=names[2], **options)


@layer
def squeeze_excitation(
    x: Value, channels: Axes, over: Over, reduced: Axes, *, activation: Activation = relu, gate: Activation = sigmoid,
    names: tuple[str, str] = ("fc1", "fc2"), ones: Sequence[Literal[1]] = (), init: Init = None,
) -> Value:  # fmt: skip
    """`x * gate(fc2(activation(fc1(mean[over](x)))))`, two linear maps from the channels and back.

    Same axes as x; `reduced` is between. `ones=(1, 1)` stores the maps as 1x1 convolutions.
    Source: arXiv 1709.01507, equations 2 to 4; torchvision.ops.SqueezeExcitation.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> b, c, h = axes("b c h")
    >>> @mixer("x[b, c, h] -> y[b, c, h]")
    ... def gated(x):
    ...     return squeeze_excitation(x, c, h, axis("r", 2), name="")
    >>> net, x = gated.module(c=6, backend="reference").double(), torch.randn(2, 6, 5, dtype=torch.float64)
    >>> with torch.no_grad():
    ...     s = torch.sigmoid(torch.relu(x.mean(-1) @ net.fc1.weight.T) @ net.fc2.weight.T)
    >>> torch.allclose(net(x), x * s[..., None])
    True
    """
    z = mlp(
        x.mean(over), channels, reduced, activation=activation, names=names, ones=ones, init=init, name=""
    )
    return x * function(gate, "gate")(z)
