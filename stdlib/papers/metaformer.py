"""MetaFormer Baselines for Vision (TPAMI 2024, arXiv 2210.13452).

Official code: sail-sg/metaformer, metaformer_baselines.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ... import Value, axes, axis, layer, mixer, param, require, trunc, trunc_normal, uniform
from ..activations import star_relu
from ..attention import attention
from ..catalogue import Paper, Settled, by_name
from ..convolutions import depthwise_convolution, window_size
from ..linears import linear
from ..norms import layer_norm
from ..pooling import average_pool
from ..settings import demand, demand_positive, demand_rate
from ..stochastic import drop_path

b, h, w, c = axes("b h w c")
TRUNCATED = trunc_normal(0.02)
"""How weights of convolutions and linear maps begin; scales begin at 1."""


def pooling(x: Value, size: int) -> Value:
    """The mean of the window's pixels that exist, minus the pixel itself. Code: `Pooling`."""
    return average_pool(x, (h, w), size) - x


@layer
def random_mixing(x: Value, tokens: int) -> Value:
    """`sum_n A[m, n] x[n]` over the tokens of the image, row-major; A is frozen. Code: `RandomMixing`."""
    require(h.size * w.size == tokens)
    t, s = axis("t", tokens), axis("s", tokens)
    y, u = h.like("y"), w.like("u")
    matrix = param("random_matrix", t, s, init=uniform(0, 1), grad=False)
    return (matrix[{t: h * w.size + w, s: y * w.size + u}] * x[{h: y, w: u}]).sum(y, u)


@layer
def separable_convolution(
    x: Value, *, expansion: float, kernel: int, padding: int, bias: bool, second: bool
) -> Value:
    """`W2 act2(depthwise(StarReLU(W1 x)))`, act2 StarReLU or nothing. Code: `SepConv`.

    x over h and w becomes a value over oh and ow where the padding does not keep the size.
    """
    d = axis("d", trunc(expansion * c.size))
    u = star_relu(linear(x, c, d, bias=bias, init=TRUNCATED, name="pwconv1"), name="act1")
    into = (h, w)
    if 2 * padding + 1 != kernel:
        into = tuple(
            axis(f"o{each.axis.name}", window_size(each.size, kernel, padding=padding)) for each in (h, w)
        )
    u = depthwise_convolution(
        u, d, (h, w), kernel, into=into, padding=padding, bias=bias, init=TRUNCATED, name="dwconv"
    )
    u = star_relu(u, name="act2") if second else u
    return linear(u, d, c, bias=bias, init=TRUNCATED, name="pwconv2")


@layer
def self_attention(x: Value, *, heads: int, width: int, qkv_bias: bool, proj_bias: bool) -> Value:
    """`softmax(q k / sqrt(width)) v` over all tokens, `heads` of them `width` wide. Code: `Attention`."""
    z, m, e = axis("z", 3), axis("m", heads), axis("e", width)
    y, u = h.like("y"), w.like("u")
    qkv = linear(x, c, (z, m, e), bias=qkv_bias, init=TRUNCATED, name="qkv")
    q, k, v = qkv[{z: 0}], qkv[{z: 1, h: y, w: u}], qkv[{z: 2, h: y, w: u}]
    y = attention(q, k, v, (y, u), e, scale=width**-0.5)
    return linear(y, (m, e), c, bias=proj_bias, init=TRUNCATED, name="proj")


def mixed(n: Value, token_mixer: str, *, tokens: int, size: int, heads: int, width: int) -> Value:
    """The token mixer of a block, with the defaults of its class."""
    match token_mixer:
        case "Pooling":
            return pooling(n, size)
        case "RandomMixing":
            return random_mixing(n, tokens, name="token_mixer")
        case "SepConv":
            return separable_convolution(
                n, expansion=2, kernel=7, padding=3, bias=False, second=False, name="token_mixer"
            )
        case "Attention":
            return self_attention(
                n, heads=heads, width=width, qkv_bias=False, proj_bias=False, name="token_mixer"
            )
        case _:
            return n


@layer
def star_mlp(x: Value) -> Value:
    """`fc2(StarReLU(fc1 x))`, four times as wide inside, without biases. Code: `Mlp`."""
    f = axis("f", 4 * c.size)
    a = star_relu(linear(x, c, f, bias=False, init=TRUNCATED, name="fc1"), name="act")
    return linear(a, f, c, bias=False, init=TRUNCATED, name="fc2")


def _half(
    x: Value, number: str, joint: bool, layer_scale: float, res_scale: float, drop_rate: float,
    branch: Callable[[Value], Value],
) -> Value:  # fmt: skip
    """`r x + l DropPath(branch(norm(x)))`."""
    n = layer_norm(x, (h, w, c) if joint else c, affine_over=c, eps=1e-6, bias=False, name=f"norm{number}")
    y = drop_path(branch(n), b, rate=drop_rate, name=f"drop_path{number}")
    if layer_scale:
        y = param(f"layer_scale{number}.scale", c, init=layer_scale) * y
    return (param(f"res_scale{number}.scale", c, init=res_scale) * x if res_scale else x) + y


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def metaformer_pooling(x: Value, *, size: int = 3) -> Value:
    """Average pooling minus the identity. Paper: section 2.2; PoolFormerV2. Code: `Pooling`."""
    return pooling(x, size)


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def metaformer_randommixing(x: Value, *, tokens: int = 196) -> Value:
    """A frozen random matrix over the tokens. Paper: section 3.2, equation 5. Code: `RandomMixing`.

    The official matrix begins as the row softmax of what `uniform(0, 1)` gives here.
    """
    return random_mixing(x, tokens, name="")


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def metaformer_sepconv(
    x: Value, *, expansion: float = 2.0, kernel: int = 7, bias: bool = False, second: bool = False
) -> Value:
    """The inverted separable convolution with a padding that keeps the size. Paper: equation 6. Code: `SepConv`."""
    return separable_convolution(
        x, expansion=expansion, kernel=kernel, padding=kernel // 2, bias=bias, second=second, name=""
    )


@mixer("x[b, h, w, c] -> out[b, oh, ow, c]")
def metaformer_sepconv_resizing(
    x: Value,
    *,
    expansion: float = 2.0,
    kernel: int = 7,
    padding: int = 0,
    bias: bool = False,
    second: bool = False,
) -> Value:
    """The same with any padding: the output has `2 * padding + 1 - kernel` rows and columns more than x."""
    return separable_convolution(
        x, expansion=expansion, kernel=kernel, padding=padding, bias=bias, second=second, name=""
    )


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def metaformer_attention(
    x: Value, *, heads: int = 2, width: int = 32, qkv_bias: bool = False, proj_bias: bool = False
) -> Value:
    """Self-attention over all pixels. Paper: section 3.3, CAFormer. Code: `Attention`."""
    return self_attention(x, heads=heads, width=width, qkv_bias=qkv_bias, proj_bias=proj_bias, name="")


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def metaformer_block(
    x: Value, *, token_mixer: str = "SepConv", joint: bool = False, layer_scale: float = 0.0,
    res_scale: float = 0.0, drop_rate: float = 0.0, tokens: int = 196, size: int = 3, heads: int = 1,
    width: int = 32,
) -> Value:  # fmt: skip
    """`y = r1 x + l1 DropPath(mixer(norm1(x)))`, then `r2 y + l2 DropPath(mlp(norm2(y)))`.

    The norm has no bias and is over channels, or over pixels and channels jointly; eps is 1e-6. A scale that
    begins at 0 does not exist. Paper: equations 1, 2 and 8, section 3.4. Code: `MetaFormerBlock`.
    """
    options = {"tokens": tokens, "size": size, "heads": heads, "width": width}
    y = _half(x, "1", joint, layer_scale, res_scale, drop_rate, lambda n: mixed(n, token_mixer, **options))
    return _half(y, "2", joint, layer_scale, res_scale, drop_rate, lambda n: star_mlp(n, name="mlp"))


# --- official configs


def _pooling(*, pool_size: int = 3) -> Settled:
    demand_positive(pool_size=pool_size)
    demand(pool_size % 2 == 1, "an even window gives another size than the image's", pool_size=pool_size)
    return Settled(metaformer_pooling, {"size": pool_size})


def _random_mixing(*, num_tokens: int = 196) -> Settled:
    demand_positive(num_tokens=num_tokens)
    return Settled(metaformer_randommixing, {"tokens": num_tokens})


def _sepconv(
    *, dim: int, expansion_ratio: float = 2, act2: Literal["StarReLU", "Identity"] | None = None, bias: bool = False,
    kernel_size: int = 7, padding: int = 3,
) -> Settled:  # fmt: skip
    demand_positive(dim=dim, kernel_size=kernel_size)
    demand(
        int(expansion_ratio * dim) >= 1,
        "the convolution has a channel at least",
        expansion_ratio=expansion_ratio,
    )
    demand(padding >= 0, "a padding is not negative", padding=padding)
    given = {"c": dim, "expansion": float(expansion_ratio), "kernel": kernel_size, "bias": bias}
    given["second"] = act2 == "StarReLU"
    if 2 * padding + 1 == kernel_size:
        return Settled(metaformer_sepconv, given)
    return Settled(metaformer_sepconv_resizing, given | {"padding": padding})


def _attention(
    *,
    dim: int,
    head_dim: int = 32,
    num_heads: int | None = None,
    qkv_bias: bool = False,
    proj_bias: bool = False,
) -> Settled:
    """Without `num_heads` there are as many as fit, and at least one."""
    demand_positive(dim=dim, head_dim=head_dim)
    demand((num_heads or 0) >= 0, "a number of heads is not negative", num_heads=num_heads)
    heads = num_heads or max(dim // head_dim, 1)
    given = {"c": dim, "heads": heads, "width": head_dim, "qkv_bias": qkv_bias, "proj_bias": proj_bias}
    return Settled(metaformer_attention, given)


TokenMixer = Literal["Identity", "RandomMixing", "Pooling", "SepConv", "Attention"]


def _block(
    *, dim: int, token_mixer: TokenMixer = "Identity", norm: Literal["LayerNormGeneral(1,2,3)", "LayerNormWithoutBias"],
    layer_scale: float | None = None, res_scale: float | None = None, drop_path: float = 0.0, num_tokens: int = 196,
    pool_size: int = 3, head_dim: int = 32,
) -> Settled:  # fmt: skip
    """The last three are the token mixers' own."""
    demand_positive(dim=dim, num_tokens=num_tokens, head_dim=head_dim)
    demand(pool_size >= 1 and pool_size % 2 == 1, "a window has a centre", pool_size=pool_size)
    demand_rate(drop_path=drop_path)
    given = {"c": dim, "token_mixer": token_mixer, "joint": norm == "LayerNormGeneral(1,2,3)"}
    given |= {"layer_scale": layer_scale or 0.0, "res_scale": res_scale or 0.0, "drop_rate": drop_path}
    given |= {"tokens": num_tokens, "size": pool_size, "heads": max(dim // head_dim, 1), "width": head_dim}
    return Settled(metaformer_block, given)


_CONVFORMER = {"dim": 64, "token_mixer": "SepConv", "norm": "LayerNormWithoutBias"}
"""ConvFormer-S18, its first stage. The attention below is of CAFormer-S18's third."""

_PAPER = Paper("43-metaformer", "MetaFormer Baselines for Vision", 2022, "2210.13452")

OPERATORS = by_name(
    _PAPER.operator("metaformer-attention", metaformer_attention, _attention, {"dim": 320}),
    _PAPER.operator("metaformer-block", metaformer_block, _block, _CONVFORMER),
    _PAPER.operator("metaformer-pooling", metaformer_pooling, _pooling, {"pool_size": 3}),
    _PAPER.operator("metaformer-randommixing", metaformer_randommixing, _random_mixing, {"num_tokens": 196}),
    _PAPER.operator("metaformer-sepconv", metaformer_sepconv, _sepconv, {"dim": 64}),
)
