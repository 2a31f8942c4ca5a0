"""Layers that draw in training and are the identity in eval."""

from __future__ import annotations

from .. import AxisValue, Value, bernoulli, draw, layer, mode, refuse
from .common import Axes, listed


@layer
def dropout(x: Value, over: Axes, *, rate: float) -> Value:
    """`x * keep[over] / (1 - rate)` in training, keep being 1 with probability 1 - rate; x in eval.

    Same axes as x. `keep` is the draw `<name>.keep`, one number for each index of the axes `over`: all axes of x
    for dropout, batch and channels for that of whole channels. Raises InvalidArgument for a rate outside 0 .. 1 or
    for `...`, whose axes have no names. Source: arXiv 1207.0580; torch.nn.Dropout, torch.nn.Dropout2d.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c = axes("b c")
    >>> @mixer("x[b, c] -> y[b, c]")
    ... def dropped(x):
    ...     return dropout(x, (b, c), rate=0.5, name="drop")
    >>> net, x = dropped.module(backend="reference"), torch.ones(1, 2)
    >>> net(x, **{"drop.keep": torch.tensor([[1.0, 0.0]])}).tolist(), net.eval()(x).tolist()
    ([[2.0, 0.0]], [[1.0, 1.0]])
    """
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        refuse(f"`rate` is at least 0 and below 1, and this is {rate!r}")
    if rate == 0 or mode() == "eval":
        return x
    return x * draw("keep", *listed(over), dist=bernoulli(1 - rate)) / (1 - rate)


@layer
def drop_path(x: Value, batch: AxisValue, *, rate: float) -> Value:
    """`x * keep[batch] / (1 - rate)` in training: `dropout` of whole samples.

    Same axes as x; draw and errors as those of `dropout`. Source: stochastic depth, arXiv 1603.09382, section 3,
    scaled as in timm's `DropPath`.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c = axes("b c")
    >>> @mixer("x[b, c] -> y[b, c]")
    ... def dropped(x):
    ...     return drop_path(x, b, rate=0.75, name="drop")
    >>> net, x = dropped.module(backend="reference"), torch.ones(2, 1)
    >>> net(x, **{"drop.keep": torch.tensor([1.0, 0.0])}).tolist(), net.eval()(x).tolist()
    ([[4.0], [0.0]], [[1.0], [1.0]])
    """
    return dropout(x, batch, rate=rate, name="")
