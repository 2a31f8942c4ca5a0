"""Where a token stands: rotary embeddings, tables of relative biases, ALiBi, sines, and masks of attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log, log2, pi

from .. import AxisValue, Value, cos, exp, layer, near, param, refuse, require, select, sin, to_real
from .common import Axes, Init, chosen, item, listed, positive, whole, whole_number

PAIRS = ("interleaved", "halves")
"""Which channels turn together: 2i and 2i + 1, or i and i + D / 2."""


def rotate_pairs(
    x: Value, channels: AxisValue, *, pairs: str = "interleaved", width: int | None = None
) -> Value:
    """`-x[d + 1]` at even d and `x[d - 1]` at odd d; "halves": `-x[d + D/2]`, then `x[d - D/2]`.

    A quarter turn of each pair of channels: same axes as x. With a `width` only the first channels turn, and D is
    that width; the others are 0. Raises InvalidArgument for an odd width or another order, RequirementFailed for an
    odd number of channels. Source: arXiv 2104.09864, equation 34 ("interleaved"); GPT-NeoX and LLaMA ("halves").

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> d = axes("d")
    >>> @mixer("x[d] -> one[d], other[d]")
    ... def turned(x):
    ...     return rotate_pairs(x, d), rotate_pairs(x, d, pairs="halves")
    >>> one, other = compile(turned, backend="reference")(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    >>> one.tolist(), other.tolist()
    ([-2.0, 1.0, -4.0, 3.0], [-3.0, -4.0, 1.0, 2.0])
    """
    chosen(pairs, PAIRS, "pairs")
    half = _half(channels, width)
    if pairs == "interleaved":
        y = select(channels % 2 == 0, -x[{channels: channels + 1}], x[{channels: channels - 1}])
    else:
        y = select(channels < half, -x[{channels: channels + half}], x[{channels: channels - half}])
    return y if width is None else select(channels < width, y, 0.0)


def rotary(
    x: Value, channels: AxisValue, position: Value, *, base: float = 10000.0, pairs: str = "interleaved",
    width: int | None = None,
) -> Value:  # fmt: skip
    """`x * cos(a) + rotate_pairs(x) * sin(a)`, `a = position * base**(-2*i/D)` for the pair i.

    Same axes as x, and those of the position, which is a value such as the axis of the tokens. With a `width` only
    the first channels turn, and D is that width. Errors as those of `rotate_pairs`.
    Source: arXiv 2104.09864, equations 15 and 34.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> t, d = axes("t d")
    >>> @mixer("x[t, d] -> y[t, d]")
    ... def turned(x):
    ...     return rotary(x, d, t)
    >>> x = torch.randn(5, 4, dtype=torch.float64)
    >>> angle = torch.arange(5)[:, None] * torch.tensor([1.0, 0.01]).double()
    >>> expected = torch.view_as_real(torch.view_as_complex(x.reshape(5, 2, 2)) * torch.exp(1j * angle))
    >>> torch.allclose(compile(turned, backend="reference")(x), expected.reshape(5, 4))
    True
    """
    half, base = _half(channels, width), positive(base, "base")
    pair = channels // 2 if chosen(pairs, PAIRS, "pairs") == "interleaved" else channels % half
    angle = position * exp(pair * (-log(base)) / half)
    y = x * cos(angle) + rotate_pairs(x, channels, pairs=pairs, width=width) * sin(angle)
    return y if width is None else select(channels < width, y, x)


def _half(channels: AxisValue, width: int | None) -> Value | int:
    if width is None:
        require(channels.size % 2 == 0)
        return channels.size // 2
    if whole_number(width, "width", 0) < 2 or width % 2:
        refuse(f"`width` is an even number of channels, and this is {width}")
    require(channels.size >= width)
    return width // 2


@layer
def relative_position_bias(
    queries: Axes, keys: Axes, heads: AxisValue, *, size: int | Sequence[int], init: Init = 0,
    key: str = "relative_position_bias_table",
) -> Value:  # fmt: skip
    """`table[query - key, head]`: a learned bias for each offset, in one dimension or several.

    A value over queries, keys and heads. The table has the layout of the official code, ((2*n - 1) * ..., heads),
    row-major over the offsets from `1 - n` to `n - 1` of each axis; the index is computed from coordinates. `size`
    are the n, which the axes must not exceed (RequirementFailed). Raises InvalidArgument where they are not one an
    axis. Source: Swin, arXiv 2103.14030, equation 4.

    >>> import torch
    >>> from plait import axes, axis, mixer
    >>> h, w = axes("h w")
    >>> @mixer("x[h, w] -> y[m, h, w, h2, w2]")
    ... def biased(x):
    ...     h2, w2, m = h.like("h2"), w.like("w2"), axis("m", 3)
    ...     return x + relative_position_bias((h, w), (h2, w2), m, size=(2, 2), name="")
    >>> net = biased.module(backend="reference")
    >>> table = torch.nn.init.normal_(net.relative_position_bias_table)
    >>> net(torch.zeros(2, 2))[1, 0, 1, 1, 0].item() == table[(0 - 1 + 1) * 3 + (1 - 0 + 1), 1].item()
    True
    """
    sizes = whole(size, listed(queries), "size", 1)
    if len(listed(keys)) != len(sizes):
        refuse(f"`keys` names {len(listed(keys))} axes for {len(sizes)} of the queries")
    offsets = tuple(near(f"offset_{q.axis.name}", n - 1) for q, n in zip(listed(queries), sizes, strict=True))
    for each, n in zip((*listed(queries), *listed(keys)), (*sizes, *sizes), strict=True):
        require(each.size <= n)
    table = param(key, item(offsets), heads, init=init)
    return table[{offset: q - k for offset, q, k in zip(offsets, listed(queries), listed(keys), strict=True)}]


def alibi(queries: AxisValue, keys: AxisValue, heads: AxisValue, *, count: int) -> Value:
    """`-slope(head) * abs(query - key)`, with slopes `2**(-8*(head + 1)/count)` for a power of two.

    A value over queries, keys and heads, of which there must be `count` (RequirementFailed). For other counts the
    slopes are those of the power of two below, then every second one of the power above, as in the official code.
    Source: arXiv 2108.12409, section 3.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> t = axes("t")
    >>> @mixer("x[t] -> y[m, t, s]")
    ... def biased(x):
    ...     return x + alibi(t, t.like("s"), axis("m", 8), count=8)
    >>> compile(biased, backend="reference")(torch.zeros(3).double())[:2, 2].tolist()
    [[-1.0, -0.5, 0.0], [-0.5, -0.25, 0.0]]
    """
    require(heads.size == whole_number(count, "count"))
    below = 2 ** floor(log2(count))
    slope = exp((heads + 1) * (-8 * log(2) / below))
    if below != count:
        above = exp((2 * (heads - below) + 1) * (-4 * log(2) / below))
        slope = select(heads < below, slope, above)
    return -(slope * to_real(abs(queries - keys)))


def sinusoidal(position: Value, channels: AxisValue, *, base: float = 10000.0) -> Value:
    """`sin(position * base**(-2*i/D))` at channel 2i, and the cosine at 2i + 1.

    A value over the channels and the axes of the position. Source: arXiv 1706.03762, section 3.5.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> t, d = axes("t d")
    >>> @mixer("x[t, d] -> y[t, d]")
    ... def placed(x):
    ...     return x + sinusoidal(t, d)
    >>> angle = torch.arange(5)[:, None] * torch.tensor([1.0, 0.01]).double()
    >>> found = compile(placed, backend="reference")(torch.zeros(5, 4).double())
    >>> torch.allclose(found[:, 0::2], angle.sin()), torch.allclose(found[:, 1::2], angle.cos())
    (True, True)
    """
    angle = position * exp((channels // 2) * (-2 * log(positive(base, "base"))) / channels.size)
    return sin(angle + (channels % 2) * (pi / 2))


def causal(query: Value, key: Value) -> Value:
    """`key <= query`: what a query may see.

    A predicate over the axes of both. Source: arXiv 1706.03762, section 3.2.3.

    >>> import torch
    >>> from plait import axes, compile, mixer, select
    >>> t = axes("t")
    >>> @mixer("x[t] -> y[t, s]")
    ... def seen(x):
    ...     s = t.like("s")
    ...     return x + select(causal(t, s), 1.0, 0.0)
    >>> torch.equal(compile(seen, backend="reference")(torch.zeros(3)), torch.ones(3, 3).tril())
    True
    """
    return key <= query


def within(query: Value, key: Value, radius: int | Value) -> Value:
    """`abs(query - key) <= radius`: a band of 2*radius + 1 keys.

    A predicate over the axes of both; `within(...) & causal(...)` looks back only. Source: Longformer, arXiv
    2004.05150, section 3.1.

    >>> import torch
    >>> from plait import axes, compile, mixer, select
    >>> t = axes("t")
    >>> @mixer("x[t] -> y[t, s]")
    ... def seen(x):
    ...     s = t.like("s")
    ...     return x + select(within(t, s, 1), 1.0, 0.0)
    >>> band = torch.ones(4, 4).tril(1).triu(-1)
    >>> torch.equal(compile(seen, backend="reference")(torch.zeros(4)), band)
    True
    """
    return abs(query - key) <= radius
