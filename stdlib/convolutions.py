"""Convolutions in any number of dimensions, and the windows that they and the pools read.

Nothing is padded: a tap outside the input is absent, and `border` says what is read there. Where the output has
another size than the input the caller makes its axes and passes them as `into`, so that what follows can name them;
`window_size` and `transposed_size` are PyTorch's formulas for their sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import AxisValue, Value, axis, clamp, layer, param, reflect, refuse, require, span
from .common import Axes, Init, Whole, chosen, paired, whole, whole_number

Settings = int | Sequence[int]
"""One number for all axes, or one each."""

BORDERS = ("zero", "reflect", "replicate", "circular", "absent")
"""What a tap outside reads; the first four are PyTorch's `padding_mode`, and "absent" leaves the tap out."""


def window_size(
    size: Whole, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> Whole:
    """`(size + 2*padding - dilation*(kernel - 1) - 1) // stride + 1`: the windows that fit.

    With `ceil_mode` the division rounds up; a last window that would start in the right padding is the caller's
    to leave out, as it depends on the size. Source: torch.nn.Conv2d, torch.nn.MaxPool2d.

    >>> window_size(224, 7, stride=2, padding=3), window_size(5, 2, stride=2, ceil_mode=True)
    (112, 3)
    """
    kernel, stride, dilation = (
        whole_number(kernel, "kernel"),
        whole_number(stride, "stride"),
        whole_number(dilation, "dilation"),
    )
    room = size - kernel if dilation == 1 else size - dilation * (kernel - 1) - 1
    room = room + 2 * padding if padding else room
    if stride == 1:
        return room + 1
    return (room + (stride - 1) if ceil_mode else room) // stride + 1


def transposed_size(
    size: Whole, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, output_padding: int = 0
) -> Whole:
    """`(size - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1`.

    Source: torch.nn.ConvTranspose2d.

    >>> transposed_size(7, 4, stride=2, padding=1)
    14
    """
    return (size - 1) * stride + (dilation * (kernel - 1) + output_padding + 1 - 2 * padding)


@dataclass(frozen=True, slots=True)
class Windows:
    """A window over some axes: its own axes, and the read that turns x into its taps."""

    taps: tuple[AxisValue, ...]
    read: dict[AxisValue, Value]
    zeros: bool
    """Whether an absent tap must be read as 0, since a window may lie outside as a whole."""

    def of(self, x: Value, also: Mapping[AxisValue, Value] | None = None) -> Value:
        """x at the taps, and at the indices of `also`. One outside the input is what the border says: absent for
        "absent" and, where each window has a tap inside, for "zero", which then is the same under a sum."""
        read = x[{**(also or {}), **self.read}]
        return read.otherwise(0) if self.zeros else read


def windows(
    over: Axes, kernel: Settings, *, into: Axes | None = None, stride: Settings = 1,
    padding: Settings | None = None, dilation: Settings = 1, border: str = "zero",
) -> Windows:  # fmt: skip
    """Tap d of the window at o reads `stride * o + dilation * d`, d from `-padding / dilation` on.

    The windows lie at `into`, or one at each index of the axes themselves. Without a padding the window is
    centred: `dilation * (kernel - 1) // 2`, as PyTorch's `padding="same"`. Raises InvalidArgument for a setting
    that cannot be, and where a stride has no `into`.

    >>> from plait import axes, mixer
    >>> h = axes("h")
    >>> @mixer("x[h] -> y[h]")
    ... def neighbours(x):
    ...     window = windows(h, 3)
    ...     return window.of(x).sum(window.taps)
    >>> print(neighbours.program())
    mixer neighbours(x[h]) -> y[h]:
      span dh: -1, 2
      y = sum[dh](x[h+dh])
    """
    axes, targets = zip(*paired(over, over if into is None else into), strict=True)
    chosen(border, BORDERS, "border")
    kernels, strides = whole(kernel, axes, "kernel", 1), whole(stride, axes, "stride", 1)
    dilations = whole(dilation, axes, "dilation", 1)
    paddings = _paddings(padding, axes, kernels, dilations)
    if into is None and any(number != 1 for number in strides):
        refuse("a stride makes other axes, and `into` does not name them",
               'make them: `oh = axis("oh", window_size(h.size, 3, stride=2, padding=1))`, then `into=oh`')  # fmt: skip
    taps: list[AxisValue] = []
    read: dict[AxisValue, Value] = {}
    for number, (own, target) in enumerate(zip(axes, targets, strict=True)):
        tap, index = _tap(target, kernels[number], strides[number], paddings[number], dilations[number], own)
        taps.append(tap)
        read[own] = _bordered(index, own, border)
    centred = all(p % d == 0 and p // d < k for k, p, d in zip(kernels, paddings, dilations, strict=True))
    inside = not any(paddings) or (into is None and centred)
    return Windows(tuple(taps), read, border == "zero" and not inside)


def _paddings(
    padding: Settings | None, axes: Sequence[AxisValue], kernels: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """The paddings that are given, or those that centre the window."""
    if padding is None:
        return tuple(d * (k - 1) // 2 for k, d in zip(kernels, dilations, strict=True))
    return whole(padding, axes, "padding", 0)


def _tap(
    target: AxisValue, kernel: int, stride: int, padding: int, dilation: int, own: AxisValue
) -> tuple[AxisValue, Value]:
    """The axis of the taps, counted from the centre where the padding allows it, and the index they read."""
    left, rest = divmod(padding, dilation)
    name = f"d{own.axis.name}"
    tap = span(name, -left, kernel - left) if left else axis(name, kernel)
    index = (target if stride == 1 else stride * target) + (tap if dilation == 1 else dilation * tap)
    return tap, index - rest if rest else index


def _bordered(index: Value, own: AxisValue, border: str) -> Value:
    match border:
        case "reflect":
            return reflect(index, own.size)
        case "replicate":
            return clamp(index, 0, own.size - 1)
        case "circular":
            return index % own.size
        case _:
            return index


@layer
def convolution(
    x: Value, source: AxisValue, target: AxisValue, over: Axes, kernel: Settings, *, into: Axes | None = None,
    stride: Settings = 1, padding: Settings | None = None, dilation: Settings = 1, groups: int = 1,
    border: str = "zero", bias: bool = True, init: Init = None,
) -> Value:  # fmt: skip
    """`y[target, o] = sum[i, d](weight[target, i, d] * x[source: i, over: stride*o + dilation*d]) + bias[target]`.

    x over source and `over` becomes y over target and `into`; other axes stay. The weight has the layout of
    PyTorch; with groups, i runs over the C / groups channels of target's group, and both numbers of channels must
    be multiples (RequirementFailed). Padding, borders and errors as those of `windows`; a reflecting border needs a
    padding smaller than the input. Source: torch.nn.Conv1d, Conv2d, Conv3d.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> b, c, h = axes("b c h")
    >>> @mixer("x[b, c, h] -> y[b, o, oh]")
    ... def strided(x):
    ...     o, oh = axis("o", 4), axis("oh", window_size(h.size, 3, stride=2, padding=1))
    ...     return convolution(x, c, o, h, 3, into=oh, stride=2, padding=1, name="conv")
    >>> net, x = strided.module(c=2, backend="reference").double(), torch.randn(3, 2, 7, dtype=torch.float64)
    >>> expected = torch.nn.functional.conv1d(x, net.conv.weight, net.conv.bias, stride=2, padding=1)
    >>> torch.allclose(net(x), expected)
    True
    """
    window = windows(
        over, kernel, into=into, stride=stride, padding=padding, dilation=dilation, border=border
    )
    if whole_number(groups, "groups") == 1:
        inner = source.like()
        index: Value = inner
    else:
        require(source.size % groups == 0, target.size % groups == 0)
        inner = axis(f"{source.axis.name}_in", source.size // groups)
        index = target // (target.size // groups) * inner.size + inner
    weight = param("weight", target, inner, *window.taps, init=init)
    y = (weight * window.of(x, {source: index})).sum(inner, window.taps)
    return y + param("bias", target, init=0) if bias else y


@layer
def depthwise_convolution(
    x: Value, channels: AxisValue, over: Axes, kernel: Settings, *, into: Axes | None = None, stride: Settings = 1,
    padding: Settings | None = None, dilation: Settings = 1, border: str = "zero", bias: bool = True, init: Init = None,
) -> Value:  # fmt: skip
    """`y[c, o] = sum[d](weight[c, 1, d] * x[c, over: stride*o + dilation*d]) + bias[c]`.

    x over the channels and `over` becomes y over the channels and `into`; other axes stay. Padding, borders and
    errors as those of `windows`. Source: torch.nn.Conv2d with `groups=channels`.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, c, h, w = axes("b c h w")
    >>> @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    ... def mixed(x):
    ...     return depthwise_convolution(x, c, (h, w), 3, name="dwconv")
    >>> net, x = mixed.module(c=2, backend="reference").double(), torch.randn(3, 2, 5, 4, dtype=torch.float64)
    >>> weight, bias = net.dwconv.weight, net.dwconv.bias
    >>> torch.allclose(net(x), torch.nn.functional.conv2d(x, weight, bias, padding=1, groups=2))
    True
    """
    window = windows(
        over, kernel, into=into, stride=stride, padding=padding, dilation=dilation, border=border
    )
    weight = param("weight", channels, 1, *window.taps, init=init)
    y = (weight * window.of(x)).sum(window.taps)
    return y + param("bias", channels, init=0) if bias else y


@layer
def transposed_convolution(
    x: Value, source: AxisValue, target: AxisValue, over: Axes, kernel: Settings, into: Axes, *,
    stride: Settings = 1, padding: Settings = 0, dilation: Settings = 1, groups: int = 1, bias: bool = True,
    init: Init = None,
) -> Value:  # fmt: skip
    """`y[target, o] = sum[c, k](weight[c, target, k] * x[c, i]) + bias[target]`, `stride*i + dilation*k = o + padding`.

    The index i is solved for: a tap k counts where `o + padding - dilation*k` is a multiple of the stride. x over
    source and `over` becomes y over target and `into`, whose sizes are the caller's (`transposed_size`). With groups
    the weight is over C and the O / groups channels of the group. Source: torch.nn.ConvTranspose2d.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> b, c, h = axes("b c h")
    >>> @mixer("x[b, c, h] -> y[b, o, oh]")
    ... def up(x):
    ...     o, oh = axis("o", 4), axis("oh", transposed_size(h.size, 4, stride=2, padding=1))
    ...     return transposed_convolution(x, c, o, h, 4, oh, stride=2, padding=1, name="up")
    >>> net, x = up.module(c=2, backend="reference").double(), torch.randn(3, 2, 5, dtype=torch.float64)
    >>> expected = torch.nn.functional.conv_transpose1d(x, net.up.weight, net.up.bias, stride=2, padding=1)
    >>> torch.allclose(net(x), expected)
    True
    """
    axes, targets = zip(*paired(over, into), strict=True)
    kernels, strides = whole(kernel, axes, "kernel", 1), whole(stride, axes, "stride", 1)
    paddings, dilations = whole(padding, axes, "padding", 0), whole(dilation, axes, "dilation", 1)
    taps = [axis(f"k{own.axis.name}", number) for own, number in zip(axes, kernels, strict=True)]
    read: dict[AxisValue, Value] = {}
    met: Value | None = None
    for number, (own, target_axis) in enumerate(zip(axes, targets, strict=True)):
        step = dilations[number] * taps[number] if dilations[number] > 1 else taps[number]
        place = target_axis + paddings[number] - step
        read[own] = place // strides[number] if strides[number] > 1 else place
        if strides[number] > 1:
            hit = place % strides[number] == 0
            met = hit if met is None else met & hit
    y = _spread(x, read, source, target, taps, groups, met, init)
    return (y + param("bias", target, init=0)) if bias else y


def _spread(
    x: Value, read: Mapping[AxisValue, Value], source: AxisValue, target: AxisValue, taps: Sequence[AxisValue],
    groups: int, met: Value | None, init: Init,
) -> Value:  # fmt: skip
    """The sum over the channels and the taps of a transposed convolution; 0 where no tap meets the index."""
    if whole_number(groups, "groups") == 1:
        inner = source.like()
        weight = param("weight", inner, target, *taps, init=init)
        product = weight * x[{source: inner, **read}]
    else:
        require(source.size % groups == 0, target.size % groups == 0)
        outer = axis(f"{target.axis.name}_out", target.size // groups)
        inner = axis(f"{source.axis.name}_in", source.size // groups)
        stored = source.like()
        index = target // outer.size * inner.size + inner
        weight = param("weight", stored, outer, *taps, init=init)
        product = weight[{stored: index, outer: target % outer.size}] * x[{source: index, **read}]
    return product.sum(inner, tuple(taps), where=met).otherwise(0)
