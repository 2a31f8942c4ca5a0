"""Normalisation over any axes. Where papers differ, an argument says which: the place of eps, the divisor of
the variance (`correction`, as in `torch.var`), and what the affine parameters are over."""

from __future__ import annotations

from math import prod

from .. import AxisValue, Value, axis, buffer, layer, maximum, merge, mode, param, require, split

from .. import sqrt, update, when  # isort: skip
from .common import Axes, Over, affine, chosen, listed, several, whole_number


def standardize(
    x: Value, over: Over, *, eps: float = 1e-5, eps_in: str = "variance", correction: int = 0, where: object = None
) -> Value:  # fmt: skip
    """`(x - mean) / sqrt(var + eps)`, where var is `sum((x - mean)**2) / (count - correction)`.

    Same axes as x. `eps_in="deviation"` divides by `sqrt(var) + eps` instead (CNM divides so, by the unbiased
    deviation: `correction=1`). `where` leaves entries out of both statistics; y is absent where none is left.
    Raises InvalidArgument for another `eps_in`. Source: arXiv 1607.06450, equation 3.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> b, c = axes("b c")
    >>> @mixer("x[b, c] -> y[b, c]")
    ... def plain(x):
    ...     return standardize(x, c)
    >>> x = torch.randn(3, 5, dtype=torch.float64)
    >>> expected = torch.nn.functional.layer_norm(x, (5,))
    >>> torch.allclose(compile(plain, backend="reference")(x), expected)
    True
    """
    chosen(eps_in, ("variance", "deviation"), "eps_in")
    centred = x - x.mean(over, where=where)
    squares = centred * centred
    if correction:
        variance = squares.sum(over, where=where) / (x.count(over, where=where) - correction)
    else:
        variance = squares.mean(over, where=where)
    return centred / (sqrt(variance + eps) if eps_in == "variance" else sqrt(variance) + eps)


@layer
def layer_norm(
    x: Value, over: Over, *, affine_over: Axes | None = None, eps: float = 1e-5, eps_in: str = "variance",
    correction: int = 0, weight: bool = True, bias: bool = True,
) -> Value:  # fmt: skip
    """`weight * standardize(x, over) + bias`.

    Same axes as x. `weight` and `bias` are over `affine_over`, or over the normalised axes themselves: with
    `over=(c, h, w)` an entry each, and with `affine_over=c` one a channel, which is a group norm of one group.
    Raises InvalidArgument for a parameter over `...`. Source: arXiv 1607.06450, equation 3; torch.nn.LayerNorm.

    >>> import torch
    >>> from plait import axes, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., c]")
    ... def norm(x):
    ...     return layer_norm(x, c, eps=1e-6, name="norm")
    >>> net, x = norm.module(c=5, backend="reference").double(), torch.randn(2, 3, 5, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.layer_norm(x, (5,), net.norm.weight, net.norm.bias, 1e-6))
    True
    """
    y = standardize(x, over, eps=eps, eps_in=eps_in, correction=correction)
    return affine(y, over if affine_over is None else affine_over, weight, bias)


@layer
def rms_norm(
    x: Value, over: Over, *, affine_over: Axes | None = None, eps: float = 1e-6, weight: bool = True
) -> Value:
    """`weight * x / sqrt(mean(x**2) + eps)`.

    Same axes as x; `weight` is over `affine_over` or the normalised axes. PyTorch's default eps is that of the
    dtype, so give it one. Source: arXiv 1910.07467, equation 4; torch.nn.RMSNorm.

    >>> import torch
    >>> from plait import axes, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., c]")
    ... def norm(x):
    ...     return rms_norm(x, c, name="norm")
    >>> net, x = norm.module(c=5, backend="reference").double(), torch.randn(2, 5, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.rms_norm(x, (5,), net.norm.weight, eps=1e-6))
    True
    """
    y = x / sqrt((x * x).mean(over) + eps)
    return affine(y, over if affine_over is None else affine_over, weight, False)


@layer
def group_norm(
    x: Value, channels: AxisValue, over: Over = (), *, groups: int, eps: float = 1e-5, weight: bool = True,
    bias: bool = True,
) -> Value:  # fmt: skip
    """`weight * standardize(x, over a group of channels and over) + bias`, group g holding C / groups channels.

    Same axes as x; `weight` and `bias` are over the channels, whose number must be a multiple of `groups`
    (RequirementFailed). Source: arXiv 1803.08494, equation 7; torch.nn.GroupNorm.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c, h = axes("b c h")
    >>> @mixer("x[b, c, h] -> y[b, c, h]")
    ... def norm(x):
    ...     return group_norm(x, c, h, groups=2, name="norm")
    >>> net, x = norm.module(c=6, backend="reference").double(), torch.randn(2, 6, 5, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.group_norm(x, 2, net.norm.weight, net.norm.bias))
    True
    """
    require(channels.size % whole_number(groups, "groups") == 0)
    group, member = axis("group", groups), axis("member", channels.size // groups)
    y = standardize(x[split(channels, group, member)], (member, *several(over)), eps=eps)
    return affine(y[merge(channels, group, member)], channels, weight, bias)


@layer
def instance_norm(
    x: Value, channels: AxisValue, over: Over, *, eps: float = 1e-5, weight: bool = False, bias: bool = False
) -> Value:
    """`weight * standardize(x, over) + bias` with parameters over the channels; without them by default.

    Same axes as x. Source: arXiv 1607.08022, equation 4; torch.nn.InstanceNorm2d.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c, h = axes("b c h")
    >>> @mixer("x[b, c, h] -> y[b, c, h]")
    ... def norm(x):
    ...     return instance_norm(x, c, h, weight=True, bias=True, name="norm")
    >>> net, x = norm.module(c=3, backend="reference").double(), torch.randn(2, 3, 5, dtype=torch.float64)
    >>> torch.allclose(net(x), torch.nn.functional.instance_norm(x, weight=net.norm.weight, bias=net.norm.bias))
    True
    """
    return affine(standardize(x, over, eps=eps), channels, weight, bias)


@layer
def batch_norm(
    x: Value, channels: Axes, over: Over, *, eps: float = 1e-5, momentum: float | None = 0.1, weight: bool = True,
    bias: bool = True, running: bool = True, where: object = None,
) -> Value:  # fmt: skip
    """`weight * (x - mean) / sqrt(var + eps) + bias`: statistics over `over` in training, running ones in eval.

    Same axes as x; parameters and buffers are over the channels. In training `running_mean` moves to the mean
    and `running_var` to the unbiased variance by `momentum` (None: the average of all calls), and
    `num_batches_tracked` counts. `running=False` has no buffers and takes the batch's statistics in both modes.
    `where` leaves entries out of them; a channel of which nothing is left keeps its buffers, and its y is absent.
    Where `over` has no `...` it must hold two entries at least (RequirementFailed); where it has, one entry
    gives a running variance of NaN. Source: arXiv 1502.03167, algorithm 1; torch.nn.BatchNorm2d.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c, h = axes("b c h")
    >>> @mixer("x[b, c, h] -> y[b, c, h]")
    ... def norm(x):
    ...     return batch_norm(x, c, (b, h), name="norm")
    >>> net, x = norm.module(c=3, backend="reference").double(), torch.randn(2, 3, 5, dtype=torch.float64)
    >>> same = torch.nn.BatchNorm1d(3).double()
    >>> torch.allclose(net(x), same(x)), torch.allclose(net.norm.running_var, same.running_var)
    (True, True)
    """
    if running and mode() == "eval":
        mean = buffer("running_mean", *listed(channels), init=0)
        variance = buffer("running_var", *listed(channels), init=1)
    else:
        mean = x.mean(over, where=where)
        centred = x - mean
        variance = (centred * centred).mean(over, where=where)
        if running:
            _track(x, channels, over, momentum, where, mean, variance)
    return affine((x - mean) / sqrt(variance + eps), channels, weight, bias)


def _track(
    x: Value, channels: Axes, over: Over, momentum: float | None, where: object, mean: Value, variance: Value
) -> None:
    """Move the running statistics to those of this call, as torch.nn.BatchNorm does."""
    named = several(over)
    sizes = [each.size for each in named if isinstance(each, AxisValue)]
    if where is None and len(sizes) == len(named):
        require(prod(sizes) > 1)
    known_mean = buffer("running_mean", *listed(channels), init=0)
    known_variance = buffer("running_var", *listed(channels), init=1)
    calls = buffer("num_batches_tracked", kind="int")
    count = x.count(over, where=where)
    share = 1 / (calls + 1) if momentum is None else momentum
    moved_mean = (1 - share) * known_mean + share * mean
    moved_variance = (1 - share) * known_variance + share * (variance * count / (count - 1))
    if where is not None:
        moved_mean, moved_variance = (
            moved_mean.otherwise(known_mean),
            moved_variance.otherwise(known_variance),
        )
    update(known_mean, moved_mean)
    update(known_variance, moved_variance)
    update(calls, calls + 1)


def l2_normalize(x: Value, over: Over, *, eps: float = 1e-12, eps_in: str = "maximum") -> Value:
    """`x / max(sqrt(sum(x**2)), eps)`; with `eps_in="square"` it is `x / sqrt(sum(x**2) + eps)`.

    Same axes as x. The norm of zeros has derivative 0, as in PyTorch. Raises InvalidArgument for another
    `eps_in`. Source: torch.nn.functional.normalize.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., c]")
    ... def unit(x):
    ...     return l2_normalize(x, c)
    >>> x = torch.randn(3, 5, dtype=torch.float64)
    >>> torch.allclose(compile(unit, backend="reference")(x), torch.nn.functional.normalize(x, dim=-1))
    True
    """
    chosen(eps_in, ("maximum", "square"), "eps_in")
    total = (x * x).sum(over)
    if eps_in == "square":
        return x / sqrt(total + eps)
    return x / maximum(sqrt(when(total > 0, total)).otherwise(0), eps)


@layer
def layer_scale(x: Value, channels: Axes, *, init: float = 1e-6) -> Value:
    """`gamma * x`, gamma over the channels and begun small.

    Same axes as x. Source: CaiT, arXiv 2103.17239, equation 6; ConvNeXt, arXiv 2201.03545.

    >>> import torch
    >>> from plait import axes, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., c]")
    ... def scaled(x):
    ...     return layer_scale(x, c, name="")
    >>> net, x = scaled.module(c=5, backend="reference"), torch.randn(2, 5)
    >>> torch.equal(net(x), net.gamma * x), net.gamma[0].item() == torch.tensor(1e-6).item()
    (True, True)
    """
    return param("gamma", *listed(channels), init=init) * x
