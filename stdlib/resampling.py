"""Changes of resolution by index arithmetic: pixel shuffles, patches, interpolation."""

from __future__ import annotations

from functools import reduce

from .. import AxisValue, Value, clamp, layer, lerp, maximum, refuse, require
from .common import Axes, Init, chosen, listed, paired, whole
from .convolutions import Settings, convolution


def pixel_shuffle(
    x: Value, channels: AxisValue, over: Axes, into: Axes, target: AxisValue, factor: Settings
) -> Value:
    """`y[c, h, w] = x[channels: (c*r + h%r)*r + w%r, over: (h//r, w//r)]`.

    x over channels and `over` becomes y over `target` and `into`: r*r times fewer channels, r times longer axes
    (RequirementFailed). Source: arXiv 1609.05158, equation 4; torch.nn.PixelShuffle.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> c, h, w = axes("c h w")
    >>> @mixer("x[..., c, h, w] -> y[..., o, H, W]")
    ... def up(x):
    ...     o, H, W = axis("o", c.size // 4), axis("H", 2 * h.size), axis("W", 2 * w.size)
    ...     return pixel_shuffle(x, c, (h, w), (H, W), o, 2)
    >>> x = torch.randn(2, 8, 3, 5)
    >>> torch.equal(compile(up, backend="reference")(x), torch.nn.functional.pixel_shuffle(x, 2))
    True
    """
    factors = whole(factor, listed(over), "factor", 1)
    index: Value = target
    read: dict[AxisValue, Value] = {}
    for (own, wide), r in zip(paired(over, into), factors, strict=True):
        require(wide.size == own.size * r)
        index = index * r + wide % r
        read[own] = wide // r
    require(channels.size == reduce(lambda a, b: a * b, factors, target.size))
    return x[{channels: index, **read}]


def pixel_unshuffle(
    x: Value, channels: AxisValue, over: Axes, into: Axes, target: AxisValue, factor: Settings
) -> Value:
    """`y[(c*r + i)*r + j, h, w] = x[channels: c, over: (h*r + i, w*r + j)]`: the inverse of `pixel_shuffle`.

    x over channels and `over` becomes y over `target` and `into`: r*r times more channels, r times shorter axes
    (RequirementFailed). Source: torch.nn.PixelUnshuffle.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> c, h, w = axes("c h w")
    >>> @mixer("x[..., c, h, w] -> y[..., o, oh, ow]")
    ... def down(x):
    ...     o, oh, ow = axis("o", 4 * c.size), axis("oh", h.size // 2), axis("ow", w.size // 2)
    ...     return pixel_unshuffle(x, c, (h, w), (oh, ow), o, 2)
    >>> x = torch.randn(2, 3, 4, 6)
    >>> torch.equal(compile(down, backend="reference")(x), torch.nn.functional.pixel_unshuffle(x, 2))
    True
    """
    factors = whole(factor, listed(over), "factor", 1)
    index: Value = target
    read: dict[AxisValue, Value] = {}
    for (own, narrow), r in reversed(list(zip(paired(over, into), factors, strict=True))):
        require(own.size == narrow.size * r)
        read[own] = narrow * r + index % r
        index = index // r
    require(target.size == reduce(lambda a, b: a * b, factors, channels.size))
    return x[{channels: index, **read}]


@layer
def patch_embedding(
    x: Value, channels: AxisValue, target: AxisValue, over: Axes, into: Axes, *, patch: Settings, bias: bool = True,
    init: Init = None,
) -> Value:  # fmt: skip
    """`convolution` with kernel and stride both `patch` and no padding: one linear map a patch.

    x over channels and `over` becomes y over `target` and `into`, whose sizes are `patch` times smaller
    (RequirementFailed). Source: arXiv 2010.11929, equation 1; the `proj` of timm's `PatchEmbed`.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> b, c, h, w = axes("b c h w")
    >>> @mixer("x[b, c, h, w] -> y[b, oh, ow, d]")
    ... def embedded(x):
    ...     d, oh, ow = axis("d", 5), axis("oh", h.size // 2), axis("ow", w.size // 2)
    ...     return patch_embedding(x, c, d, (h, w), (oh, ow), patch=2, name="proj")
    >>> net, x = embedded.module(c=3, backend="reference").double(), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    >>> expected = torch.nn.functional.conv2d(x, net.proj.weight, net.proj.bias, stride=2)
    >>> torch.allclose(net(x), expected.permute(0, 2, 3, 1))
    True
    """
    sizes = whole(patch, listed(over), "patch", 1)
    for (own, small), size in zip(paired(over, into), sizes, strict=True):
        require(own.size == small.size * size)
    return convolution(
        x, channels, target, over, patch, into=into, stride=patch, padding=0, bias=bias, init=init, name=""
    )


MODES = ("nearest", "linear")


def interpolate(
    x: Value, over: Axes, into: Axes, *, mode: str = "nearest", align_corners: bool = False
) -> Value:
    """`x[over: o*H // O]`, or "linear" between the entries around `(o + 0.5)*H/O - 0.5`, not below 0.

    x over `over` becomes y over `into`, one axis after the other. With `align_corners` the linear place is
    `o*(H - 1)/(O - 1)`. Raises InvalidArgument for another mode, and for
    corners of "nearest".
    Source: torch.nn.functional.interpolate ("nearest", "linear", "bilinear", "trilinear").

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> h, w = axes("h w")
    >>> @mixer("x[..., h, w] -> y[..., oh, ow]")
    ... def resized(x):
    ...     return interpolate(x, (h, w), (axis("oh", 5), axis("ow", 7)), mode="linear")
    >>> x = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    >>> expected = torch.nn.functional.interpolate(x, (5, 7), mode="bilinear")
    >>> torch.allclose(compile(resized, backend="reference")(x), expected)
    True
    """
    if chosen(mode, MODES, "mode") == "nearest" and align_corners:
        refuse('`align_corners` says where the corners lie for `mode="linear"`, and this is "nearest"')
    for own, target in paired(over, into):
        if mode == "nearest":
            x = x[{own: target * own.size // target.size}]
        else:
            x = _linear(x, own, target, align_corners)
    return x


def _linear(x: Value, own: AxisValue, target: AxisValue, align_corners: bool) -> Value:
    """Along one axis. First entry and fraction are exact: a quotient of whole numbers and its rest."""
    if align_corners:
        steps = target.size - 1
        place, unit = target * (own.size - 1), maximum(steps, 1)
    else:
        place, unit = maximum((2 * target + 1) * own.size - target.size, 0), 2 * target.size
    return lerp(x, own, place // unit, place % unit / unit, border=clamp)
