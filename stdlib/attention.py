"""Attention: its core over any key axes, heads, grouped queries, and the layer of several heads.

Keys stand over axes of their own: for keys that are the queries' own tokens, prime them with
`s = t.like()` and read `k[{t: s}]`.
"""

from __future__ import annotations

from .. import AxisValue, Value, axis, layer, merge, param, refuse, require, softmax, split
from .common import Axes, Init, chosen, demand_entries, item, listed, whole_number
from .linears import linear


def attention(
    q: Value, k: Value, v: Value, keys: Axes, channels: Axes, *, scale: Value | float | None = None,
    bias: Value | None = None, where: object = None,
) -> Value:  # fmt: skip
    """`sum[keys](softmax[keys](scale * sum[channels](q * k) + bias) * v)`, scale 1 / sqrt(channels) by default.

    q is over queries and channels, k over keys and channels, v over keys and what the result is to have; all other
    axes (batch, heads) join by name. Absent keys and those that `where` leaves out take no part; a query without
    keys is absent, and `.otherwise(...)` says what it is. Raises UnknownAxis where no operand has a key axis.
    Source: arXiv 1706.03762, equation 1; torch.nn.functional.scaled_dot_product_attention.

    >>> import torch
    >>> from plait import axes, compile, mixer
    >>> b, t, s, d = axes("b t s d")
    >>> @mixer("q[b, t, d], k[b, s, d], v[b, s, d] -> y[b, t, d]")
    ... def attend(q, k, v):
    ...     return attention(q, k, v, s, d)
    >>> q, (k, v) = torch.randn(2, 5, 4).double(), torch.randn(2, 2, 7, 4).double()
    >>> expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    >>> torch.allclose(compile(attend, backend="reference")(q, k, v), expected)
    True
    """
    if scale is None:
        width = 1
        for each in listed(channels):
            width = each.size * width
        scale = width**-0.5
    score = (q * k).sum(channels) * scale
    if bias is not None:
        score = score + bias
    return (softmax(score, over=keys, where=where) * v).sum(keys)


def split_heads(x: Value, channels: AxisValue, heads: AxisValue, width: AxisValue) -> Value:
    """`x[channels: head * size(width) + d]`: the channels taken apart, row-major.

    x over the channels becomes y over heads and width, whose product is the channels (RequirementFailed).
    Source: arXiv 1706.03762, section 3.2.2.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> c = axes("c")
    >>> @mixer("x[..., c] -> y[..., m, e]")
    ... def apart(x, *, heads: int = 2):
    ...     return split_heads(x, c, axis("m", heads), axis("e", c.size // heads))
    >>> x = torch.randn(3, 6)
    >>> torch.equal(compile(apart, backend="reference")(x.double()), x.double().reshape(3, 2, 3))
    True
    """
    require(channels.size == heads.size * width.size)
    return x[split(channels, heads, width)]


def merge_heads(x: Value, channels: AxisValue, heads: AxisValue, width: AxisValue) -> Value:
    """`x[heads: c // size(width), width: c % size(width)]`: the heads put together, row-major.

    x over heads and width becomes y over the channels, whose number is their product (RequirementFailed).
    Source: arXiv 1706.03762, section 3.2.2.

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> m, e = axes("m e")
    >>> @mixer("x[..., m, e] -> y[..., c]")
    ... def together(x):
    ...     return merge_heads(x, axis("c", m.size * e.size), m, e)
    >>> x = torch.randn(3, 2, 4).double()
    >>> torch.equal(compile(together, backend="reference")(x), x.reshape(3, 8))
    True
    """
    require(channels.size == heads.size * width.size)
    return x[merge(channels, heads, width)]


def grouped(x: Value, key_heads: AxisValue, heads: AxisValue, *, order: str = "div") -> Value:
    """`x[key_heads: h // r]`, r queries a key head; with `order="mod"` it is `x[key_heads: h % size(key_heads)]`.

    Keys or values over their heads become ones over the heads of the queries, a multiple of theirs
    (RequirementFailed). Raises InvalidArgument for another order. Source: arXiv 2305.13245, section 2.2 ("div");
    Chain-of-Model's head index ("mod").

    >>> import torch
    >>> from plait import axes, axis, compile, mixer
    >>> g, d = axes("g d")
    >>> @mixer("k[g, d] -> y[m, d], z[m, d]")
    ... def both(k):
    ...     m = axis("m", 2 * g.size)
    ...     return grouped(k, g, m), grouped(k, g, m, order="mod")
    >>> k = torch.randn(2, 3).double()
    >>> y, z = compile(both, backend="reference")(k)
    >>> torch.equal(y, k.repeat_interleave(2, 0)), torch.equal(z, k.repeat(2, 1))
    (True, True)
    """
    require(heads.size % key_heads.size == 0)
    if chosen(order, ("div", "mod"), "order") == "mod":
        return x[{key_heads: heads % key_heads.size}]
    return x[{key_heads: heads // (heads.size // key_heads.size)}]


@layer
def multi_head_self_attention(
    x: Value, tokens: Axes, channels: AxisValue, *, heads: int, where: object = None, bias: Value | None = None,
    keys: Axes | None = None, head_axis: AxisValue | None = None, qkv_bias: bool = True, out_bias: bool = True,
    names: tuple[str, str] = ("qkv.", "proj"), init: Init = None,
) -> Value:  # fmt: skip
    """`linear(merge_heads(attention(q, k, v)))`, where q, k, v are one linear map of x, split into heads.

    Same axes as x; the tokens may be several axes (rows and columns of a map). The packed weight lies under
    `names[0] + "weight"`, its rows row-major over (q k v, heads, width); PyTorch's own layer has
    `names=("in_proj_", "out_proj")`. For a `bias` or a `where` over queries and keys pass the axes they stand on:
    `keys` as `tokens.like()` each, `head_axis` with `heads` indices. The channels must be a multiple of the heads
    (RequirementFailed). Source: arXiv 1706.03762, section 3.2.2; torch.nn.MultiheadAttention, timm's `Attention`.

    >>> import torch
    >>> from plait import axes, mixer
    >>> b, t, c = axes("b t c")
    >>> @mixer("x[b, t, c] -> y[b, t, c]")
    ... def mixed(x):
    ...     return multi_head_self_attention(x, t, c, heads=2, names=("in_proj_", "out_proj"), name="")
    >>> net, same = mixed.module(c=6, backend="reference"), torch.nn.MultiheadAttention(6, 2, batch_first=True)
    >>> loaded, x = net.load_state_dict(same.state_dict()), torch.randn(3, 5, 6)
    >>> torch.allclose(net(x), same(x, x, x)[0], atol=1e-6)
    True
    """
    require(channels.size % whole_number(heads, "heads") == 0)
    demand_entries(names, 2, "names")
    part = axis("qkv", 3)
    m = axis("m", heads) if head_axis is None else head_axis
    require(m.size == heads)
    e = axis("e", channels.size // heads)
    primed = [each.like() for each in listed(tokens)] if keys is None else listed(keys)
    if len(primed) != len(listed(tokens)):
        refuse(f"`keys` names {len(primed)} axes for {len(listed(tokens))} of the tokens")
    mixed = (param(f"{names[0]}weight", item((part, m, e)), channels, init=init) * x).sum(channels)
    if qkv_bias:
        mixed = mixed + param(f"{names[0]}bias", item((part, m, e)), init=0)
    moved = dict(zip(listed(tokens), primed, strict=True))
    q, k, v = mixed[{part: 0}], mixed[{part: 1, **moved}], mixed[{part: 2, **moved}]
    y = attention(q, k, v, tuple(primed), e, bias=bias, where=where)
    return linear(y, (m, e), channels, bias=out_bias, init=init, name=names[1])
