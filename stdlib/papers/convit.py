"""ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases (ICML 2021, arXiv 2103.10697).

Official code: facebookresearch/convit, convit.py.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from ... import AxisValue, Value, axes, axis, layer, mixer, param, require, sigmoid, softmax, trunc_normal
from ..attention import attention
from ..catalogue import Paper, Settled, by_name
from ..linears import linear, mlp
from ..norms import layer_norm
from ..settings import demand, demand_positive, demand_rate
from ..stochastic import drop_path

if TYPE_CHECKING:
    from torch import nn

b, n, c, h, w = axes("b n c h w")
TRUNCATED = trunc_normal(0.02)
"""How weights begin; biases begin at 0 and gates at 1."""


@layer
def gated_positional_attention(x: Value, m: AxisValue, e: AxisValue, *, scale: float, bias: bool) -> Value:
    """`proj(sum_j A_ij v_j)`, A blended of two softmaxes over the whole grid: `(1 - G) content + G position`.

    G is one gate a head. Positions are linear in the columns, the rows and the squared distance from i to j. The
    code divides A by its row sums, which are 1, as those of both softmaxes are: so the sum over j is taken of each
    map apart, and no map is stored. Paper: equations 6 to 8. Code: `GPSA`.
    """
    z, r = axis("z", 2), axis("r", 3)
    y, u = h.like("y"), w.like("u")
    qk = linear(x, c, (z, m, e), bias=bias, init=TRUNCATED, name="qk")
    v = linear(x, c, (m, e), bias=bias, init=TRUNCATED, name="v")[{h: y, w: u}]
    q, k = qk[{z: 0}], qk[{z: 1, h: y, w: u}]
    content = attention(q, k, v, (y, u), e, scale=scale)

    dx, dy = u - w, y - h
    along = param("pos_proj.weight", m, r, init=TRUNCATED)
    seen = along[{r: 0}] * dx + along[{r: 1}] * dy + along[{r: 2}] * (dx * dx + dy * dy)
    position = (softmax(seen + param("pos_proj.bias", m, init=0), over=(y, u)) * v).sum(y, u)

    gate = sigmoid(param("gating_param", m, init=1))
    mixed = (1 - gate) * content + gate * position
    return linear(mixed, (m, e), c, init=TRUNCATED, name="proj")


@layer
def self_attention(x: Value, m: AxisValue, e: AxisValue, *, scale: float, bias: bool) -> Value:
    """`proj(softmax_j(scale q_i.k_j) v_j)` over all tokens. Paper: equations 1 and 2. Code: `MHSA`."""
    z, t = axis("z", 3), n.like("t")
    qkv = linear(x, c, (z, m, e), bias=bias, init=TRUNCATED, name="qkv")
    q, k, v = qkv[{z: 0}], qkv[{z: 1, n: t}], qkv[{z: 2, n: t}]
    return linear(attention(q, k, v, t, e, scale=scale), (m, e), c, init=TRUNCATED, name="proj")


def heads_of(heads: int) -> tuple[AxisValue, AxisValue]:
    """The axes of the heads and of a head's channels."""
    require(c.size % heads == 0)
    return axis("m", heads), axis("e", c.size // heads)


def feed_forward(y: Value, hidden: int, eps: float, drop_rate: float) -> Value:
    """The second half of a block: `y + MLP(LN(y))`."""
    normed = layer_norm(y, c, eps=eps, name="norm2")
    fed = mlp(normed, c, axis("f", hidden), init=TRUNCATED, name="mlp")
    return y + drop_path(fed, b, rate=drop_rate, name="drop_path2")


@mixer("x[b, (h w), c] -> out[b, (h w), c]")
def convit_gpsa(x: Value, *, heads: int = 4, scale: float = 0.25, bias: bool = False) -> Value:
    """Gated positional self-attention over a square grid. Paper: section 3. Code: `GPSA`."""
    require(h.size == w.size)
    return gated_positional_attention(x, *heads_of(heads), scale=scale, bias=bias, name="")


@mixer("x[b, (h w), c] -> out[b, (h w), c]")
def convit_block(
    x: Value, *, heads: int = 4, scale: float = 0.25, bias: bool = False, hidden: int = 64, eps: float = 1e-6,
    drop_rate: float = 0.0,
) -> Value:  # fmt: skip
    """`y = x + GPSA(LN(x))`, then `y + MLP(LN(y))`. Paper: figure 2. Code: `Block` with `use_gpsa`."""
    require(h.size == w.size)
    normed = layer_norm(x, c, eps=eps, name="norm1")
    mixed = gated_positional_attention(normed, *heads_of(heads), scale=scale, bias=bias, name="attn")
    return feed_forward(x + drop_path(mixed, b, rate=drop_rate, name="drop_path1"), hidden, eps, drop_rate)


@mixer("x[b, n, c] -> out[b, n, c]")
def convit_block_without_gpsa(
    x: Value, *, heads: int = 4, scale: float = 0.25, bias: bool = False, hidden: int = 64, eps: float = 1e-6,
    drop_rate: float = 0.0,
) -> Value:  # fmt: skip
    """The block with ordinary self-attention, over any number of tokens. Code: `Block` without `use_gpsa`."""
    normed = layer_norm(x, c, eps=eps, name="norm1")
    mixed = self_attention(normed, *heads_of(heads), scale=scale, bias=bias, name="attn")
    return feed_forward(x + drop_path(mixed, b, rate=drop_rate, name="drop_path1"), hidden, eps, drop_rate)


# --- how it starts


def start_locally(attention: nn.Module, *, strength: float = 1.0) -> None:
    """Let each head look at one neighbour: K * K heads, K = floor(sqrt(heads)), start as a K x K convolution.

    `attention` is a GPSA module, or the `attn` of a block. The values become the identity, and head `i + K * j`
    looks at row offset `i - centre` and column offset `j - centre`, the more sharply the larger `strength`; heads
    beyond K * K keep their weights. Paper: equation 9 and section 3, convolutional initialisation. Code:
    `GPSA.local_init`.
    """
    import torch  # not at the top: who lists the catalogue needs no torch

    tensors = dict(attention.named_parameters())
    along, values = tensors["pos_proj.weight"], tensors["v.weight"]
    side = isqrt(along.shape[0])
    centre = (side - 1) / 2 if side % 2 == 0 else side // 2
    with torch.no_grad():
        values.copy_(torch.eye(values.shape[0]))
        for i in range(side):
            for j in range(side):
                features = torch.tensor([2 * (j - centre), 2 * (i - centre), -1.0])
                along[i + side * j] = strength * features


# --- official configs


def _attention(dim: int, num_heads: int, qk_scale: float | None, qkv_bias: bool) -> dict[str, object]:
    demand_positive(dim=dim, num_heads=num_heads)
    demand(dim % num_heads == 0, "the heads share the channels evenly", dim=dim, num_heads=num_heads)
    return {"c": dim, "heads": num_heads, "scale": qk_scale or (dim // num_heads) ** -0.5, "bias": qkv_bias}


def _grid(tokens: int) -> dict[str, object]:
    side = isqrt(max(tokens, 0))
    demand(side >= 1 and side * side == tokens, "GPSA's tokens are a square grid", N=tokens)
    return {"h": side, "w": side}


def _gpsa(
    *, dim: int, num_heads: int = 8, qkv_bias: bool = False, qk_scale: float | None = None, N: int,
    locality_strength: float = 1.0, use_local_init: bool = True,
) -> Settled:  # fmt: skip
    """The last two say how weights begin, which the state overrides."""
    return Settled(convit_gpsa, {**_attention(dim, num_heads, qk_scale, qkv_bias), **_grid(N)})


def _block(
    *, dim: int, num_heads: int, mlp_ratio: float = 4.0, qkv_bias: bool = False, qk_scale: float | None = None,
    drop_path: float = 0.0, norm_eps: float = 1e-6, use_gpsa: bool = True, N: int,
    locality_strength: float = 1.0, use_local_init: bool = True,
) -> Settled:  # fmt: skip
    hidden = int(dim * mlp_ratio)
    demand(hidden >= 1, "the MLP has a hidden channel at least", dim=dim, mlp_ratio=mlp_ratio)
    demand_rate(drop_path=drop_path)
    given = _attention(dim, num_heads, qk_scale, qkv_bias)
    given |= {"hidden": hidden, "eps": norm_eps, "drop_rate": drop_path}
    demand_positive(N=N)
    return (
        Settled(convit_block, given | _grid(N))
        if use_gpsa
        else Settled(convit_block_without_gpsa, given | {"n": N})
    )


_TINY = {"dim": 192, "num_heads": 4, "N": 196}
"""ConViT-Ti at 224 pixels."""

_PAPER = Paper(
    "27-convit",
    "ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases",
    2021,
    "2103.10697",
)

OPERATORS = by_name(
    _PAPER.operator("convit-block", convit_block, _block, _TINY),
    _PAPER.operator("convit-gpsa", convit_gpsa, _gpsa, _TINY),
)
