"""Pools: a maximum or a mean over windows, over whole axes, or over bins."""

from __future__ import annotations

from .. import AxisValue, Value, axis, cdiv
from .common import Axes, Over, chosen, each, listed, paired, whole
from .convolutions import Settings, windows

DIVISORS = ("existing", "full", "padded")
"""What a mean at a border divides by: the taps inside, all taps, or those inside the padded input."""


def average_pool(
    x: Value, over: Axes, kernel: Settings, *, into: Axes | None = None, stride: Settings = 1,
    padding: Settings | None = None, divisor: str = "existing",
) -> Value:  # fmt: skip
    """`sum[d](x[over: stride*o + d]) / n`, n the taps inside x ("existing") or all taps of the window ("full").

    x over `over` becomes y over `into`. "padded" counts the taps inside the padded input, which differs from
    "full" where `ceil_mode` lets a window stick out of it. The three are PyTorch's `count_include_pad=False`, True
    and True with `ceil_mode`. Windows and errors as those of `windows`. Source: torch.nn.AvgPool2d; MetaFormer
    (arXiv 2111.11418) divides by the existing taps.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> b, h, w = axes("b h w")
    >>> @mixer("x[b, h, w] -> y[b, h, w]")
    ... def pooled(x):
    ...     return average_pool(x, (h, w), 3)
    >>> x = torch.randn(2, 4, 5, dtype=torch.float64)
    >>> expected = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    >>> torch.allclose(compile(pooled, backend="reference")(x), expected)
    True
    """
    chosen(divisor, DIVISORS, "divisor")
    window = windows(over, kernel, into=into, stride=stride, padding=padding, border="absent")
    taken = window.of(x)
    if divisor == "existing":
        return taken.mean(window.taps)
    total = taken.sum(window.taps)
    if divisor == "full":
        count = 1
        for number in whole(kernel, listed(over), "kernel", 1):
            count *= number
        return total / count
    paddings = each(padding, listed(over), "padding")
    for own, tap, number, extent in zip(
        listed(over), window.taps, paddings, whole(kernel, listed(over), "kernel", 1), strict=True
    ):
        side = (extent - 1) // 2 if number is None else number
        total = total / tap.count(tap, where=window.read[own] < own.size + side)
    return total


def max_pool(
    x: Value, over: Axes, kernel: Settings, *, into: Axes | None = None, stride: Settings = 1,
    padding: Settings | None = None, dilation: Settings = 1,
) -> Value:  # fmt: skip
    """`max[d](x[over: stride*o + dilation*d])` over the taps inside x.

    x over `over` becomes y over `into`. Windows and errors as those of `windows`; a window wholly outside is an
    AbsentOutput. Of equal entries the first has the derivative. Source: torch.nn.MaxPool2d.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> from plait.stdlib.convolutions import window_size
    >>> b, h = axes("b h")
    >>> @mixer("x[b, h] -> y[b, oh]")
    ... def pooled(x):
    ...     oh = axis("oh", window_size(h.size, 3, stride=2, padding=1))
    ...     return max_pool(x, h, 3, into=oh, stride=2, padding=1)
    >>> x = torch.randn(2, 7, dtype=torch.float64)
    >>> expected = torch.nn.functional.max_pool1d(x, 3, stride=2, padding=1)
    >>> torch.allclose(compile(pooled, backend="reference")(x), expected)
    True
    """
    window = windows(
        over, kernel, into=into, stride=stride, padding=padding, dilation=dilation, border="absent"
    )
    return window.of(x).max(window.taps)


def global_average_pool(x: Value, over: Over) -> Value:
    """`mean[over](x)`.

    The axes `over` go. Source: arXiv 1312.4400, section 3.2; torch.nn.AdaptiveAvgPool2d(1).

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> b, h, w = axes("b h w")
    >>> @mixer("x[b, h, w] -> y[b]")
    ... def pooled(x):
    ...     return global_average_pool(x, (h, w))
    >>> x = torch.randn(2, 4, 5, dtype=torch.float64)
    >>> torch.allclose(compile(pooled, backend="reference")(x), x.mean((1, 2)))
    True
    """
    return x.mean(over)


def adaptive_average_pool(x: Value, over: Axes, into: Axes) -> Value:
    """`mean[i](x[over: i])` over the bin `o*H // O <= i < cdiv((o + 1)*H, O)`.

    x over `over` becomes y over `into`; bins may overlap, and none is empty. Source:
    torch.nn.AdaptiveAvgPool2d.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> b, h = axes("b h")
    >>> @mixer("x[b, h] -> y[b, o]")
    ... def pooled(x):
    ...     return adaptive_average_pool(x, h, axis("o", 3))
    >>> x = torch.randn(2, 7, dtype=torch.float64)
    >>> expected = torch.nn.functional.adaptive_avg_pool1d(x, 3)
    >>> torch.allclose(compile(pooled, backend="reference")(x), expected)
    True
    """
    for own, target in paired(over, into):
        x = _binned(x, own, target)
    return x


def _binned(x: Value, own: AxisValue, target: AxisValue) -> Value:
    """One axis after the other: the mean over a box of bins is the mean of the means.

    Bin o has at most `H // O + 2` entries, counted from its first.
    """
    first = target * own.size // target.size
    stop = cdiv((target + 1) * own.size, target.size)
    offset = axis(f"in_{own.axis.name}", own.size // target.size + 2)
    return x[{own: first + offset}].mean(offset, where=first + offset < stop)
