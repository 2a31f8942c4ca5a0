"""CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows (CVPR 2022, arXiv 2107.00652).

Official code: microsoft/CSWin-Transformer, models/cswin.py (classification: square images, stripes that fit) and
segmentation/backbone/cswin_transformer.py (any image; maps are padded to whole stripes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Literal

from ... import AxisValue, Value, axes, axis, cdiv, layer, mixer, near, param, require, trunc_normal
from ..attention import attention
from ..catalogue import Paper, Settled, by_name
from ..linears import linear, mlp
from ..norms import layer_norm
from ..settings import demand, demand_positive, demand_rate
from ..stochastic import drop_path

if TYPE_CHECKING:
    from torch import Tensor

b, z, c, m, e, h, w = axes("b z c m e h w")
TRUNCATED = trunc_normal(0.02)


@dataclass(frozen=True, slots=True)
class Stripes:
    """One axis of the image cut into stripes, with cells of zeros at both ends where they do not fit.

    `inside` are the positions in a stripe, `padded` whether some of them lie outside the image; `apart` is the
    read that cuts, `together` the read that leads back.
    """

    inside: AxisValue
    padded: bool
    apart: dict[AxisValue, Value]
    together: dict[AxisValue, Value]


def stripes(along: AxisValue, width: int) -> Stripes:
    """Stripes of this width; of width 0, one stripe, which is the axis itself."""
    if width == 0:
        return Stripes(along, False, {}, {})
    count = cdiv(along.size, width)
    outer, inside = axis(f"{along.axis.name}_stripe", count), axis(f"{along.axis.name}_in", width)
    padding = count * width - along.size
    before = padding // 2
    place = along + before
    padded = not (isinstance(padding, int) and padding == 0)
    return Stripes(
        inside,
        padded,
        {along: outer * width + inside - before},
        {outer: place // width, inside: place % width},
    )


@layer
def stripe_attention(
    q: Value, k: Value, v: Value, m: AxisValue, e: AxisValue, *, rows: int, columns: int, scale: float
) -> Value:
    """Attention inside windows of rows x columns (0: all of them), and LePE added to it.

    LePE is a depthwise 3x3 convolution of the values whose border of zeros is the window's. Padded cells are keys
    as others are: logit 0 and value 0. Paper: equations 1 to 3 and 7. Code: `LePEAttention`.
    """
    down, across = stripes(h, rows), stripes(w, columns)
    p, s = down.inside, across.inside
    p2, s2, (dp, ds) = p.like(), s.like(), near("dp ds", 1)
    if rows or columns:
        q, k, v = (each[down.apart | across.apart] for each in (q, k, v))
    if down.padded or across.padded:
        k, v = k.otherwise(0), v.otherwise(0)
    attended = attention(q, k[{p: p2, s: s2}], v[{p: p2, s: s2}], (p2, s2), e, scale=scale)
    weight = param("get_v.weight", (m, e), 1, dp, ds)
    lepe = (weight * v[p + dp, s + ds]).sum(dp, ds) + param("get_v.bias", (m, e), init=0)
    y = attended + lepe
    return y[down.together | across.together] if rows or columns else y


@mixer("qkv[b, z=3, (m e), h, w] -> out[b, (h w), (m e)]")
def cswin_lepe(qkv: Value, *, rows: int = 0, columns: int = 2, scale: float = 0.25) -> Value:
    """Attention in stripes with locally enhanced positions. Paper: section 3.2 and 3.3. Code: `LePEAttention`."""
    q, k, v = (qkv[{z: which}] for which in range(3))
    return stripe_attention(q, k, v, m, e, rows=rows, columns=columns, scale=scale, name="")


@mixer("x[b, (h w), c] -> out[b, (h w), c]")
def cswin_block(
    x: Value, *, branches: Literal[1, 2] = 2, heads: int = 4, split: int = 2, scale: float = 0.25, bias: bool = True,
    hidden: int = 64, drop_rate: float = 0.0,
) -> Value:  # fmt: skip
    """`y = x + CSA(LN(x))`, then `y + MLP(LN(y))`: half of the heads look along columns, half along rows.

    The first branch has stripes of `split` columns and the full height, the second of `split` rows and the full
    width; a single branch looks everywhere. Paper: equations 4 to 6 and 8. Code: `CSWinBlock`.
    """
    require(c.size % branches == 0, heads >= branches)
    g, m, z = axis("g", branches), axis("m", heads // branches), axis("z", 3)
    e = axis("e", c.size // branches // (heads // branches))
    n = layer_norm(x, c, eps=1e-5, name="norm1")
    qkv = linear(n, c, (z, g, m, e), bias=bias, init=TRUNCATED, name="qkv")
    weight = param("proj.weight", c, (g, m, e), init=TRUNCATED)
    attended = param("proj.bias", c, init=0)
    for branch in range(branches):
        rows, columns = ((0, split), (split, 0))[branch] if branches == 2 else (0, 0)
        q, k, v = (qkv[{z: which, g: branch}] for which in range(3))
        y = stripe_attention(q, k, v, m, e, rows=rows, columns=columns, scale=scale, name=f"attns.{branch}")
        attended = attended + (weight[{g: branch}] * y).sum(m, e)
    y = x + drop_path(attended, b, rate=drop_rate, name="drop_path1")
    fed = mlp(layer_norm(y, c, eps=1e-5, name="norm2"), c, axis("f", hidden), init=TRUNCATED, name="mlp")
    return y + drop_path(fed, b, rate=drop_rate, name="drop_path2")


# --- official configs


def _stripe(idx: int, split_size: int) -> dict[str, object]:
    """Stripes of `split_size` columns (0) or rows (1), or the whole image (-1)."""
    return {"rows": split_size if idx == 1 else 0, "columns": split_size if idx == 0 else 0}


def _heads(dim: int, heads: int, scale: float | None, which: str) -> dict[str, object]:
    demand(heads >= 1 and dim % heads == 0, f"the heads share the {which} evenly", heads=heads, channels=dim)
    return {"scale": scale or (dim // heads) ** -0.5}


def _lepe(
    *, dim: int, resolution: int, idx: Literal[-1, 0, 1], split_size: int = 7, num_heads: int = 8,
    qk_scale: float | None = None,
) -> Settled:  # fmt: skip
    """`qkv` is (3, b, tokens of a square image, c), as in the classification code, or (b, 3, c, h, w), as in the
    segmentation code, and then of any resolution."""
    demand_positive(dim=dim, resolution=resolution, split_size=split_size, num_heads=num_heads)
    given = _heads(dim, num_heads, qk_scale, "channels") | _stripe(idx, split_size)
    return Settled(cswin_lepe, given | {"m": num_heads, "e": dim // num_heads}, _as_maps)


def _as_maps(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tokens of a square image as its rows and columns."""
    qkv = tensors.get("qkv")
    if qkv is None or qkv.dim() != 4 or (side := isqrt(qkv.shape[2])) ** 2 != qkv.shape[2]:
        return tensors  # maps already, or wrong, which the module says
    return {**tensors, "qkv": qkv.unflatten(2, (side, side)).permute(1, 0, 4, 2, 3)}


def _block(
    *, dim: int, num_heads: int, split_size: int = 7, mlp_ratio: float = 4.0, qkv_bias: bool | None = None,
    qk_scale: float | None = None, drop_path: float = 0.0, last_stage: bool = False, reso: int | None = None,
    patches_resolution: int | None = None, H: int | None = None, W: int | None = None,
) -> Settled:  # fmt: skip
    """`reso` is the classification code's, where stripes as large as the image make the stage the last one;
    `patches_resolution` the segmentation code's, whose qkv has a bias always and whose image is H x W."""
    demand((reso is None) != (patches_resolution is None), "the size is one of the two", reso=reso,
           patches_resolution=patches_resolution)  # fmt: skip
    side = patches_resolution if reso is None else reso
    high, wide = side if H is None else H, side if W is None else W
    assert side is not None and high is not None and wide is not None
    demand_positive(dim=dim, num_heads=num_heads, split_size=split_size, H=high, W=wide)
    demand(
        reso is None or (high == wide == reso),
        "the classification code's image is reso x reso",
        reso=reso,
        H=H,
        W=W,
    )
    branches = 1 if last_stage or reso == split_size else 2
    demand(num_heads >= branches, "each branch has a head", num_heads=num_heads)
    demand(dim % branches == 0, "the branches share the channels evenly", dim=dim)
    hidden = int(dim * mlp_ratio)
    demand(hidden >= 1, "the MLP has a hidden channel at least", dim=dim, mlp_ratio=mlp_ratio)
    demand_rate(drop_path=drop_path)
    given = _heads(dim // branches, num_heads // branches, qk_scale, "channels of a branch")
    given |= {"c": dim, "h": high, "w": wide, "branches": branches, "heads": num_heads, "split": split_size}
    biased = reso is None or bool(qkv_bias)
    return Settled(cswin_block, given | {"bias": biased, "hidden": hidden, "drop_rate": drop_path})


_BLOCK = {"dim": 128, "reso": 28, "num_heads": 4, "split_size": 2, "qkv_bias": True}
_LEPE = {"dim": 64, "resolution": 28, "idx": 0, "split_size": 2, "num_heads": 2}
"""CSWin-T at 224 pixels: its second stage, and the first branch of it."""

_PAPER = Paper(
    "31-cswin",
    "CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows",
    2021,
    "2107.00652",
)

OPERATORS = by_name(
    _PAPER.operator("cswin-block", cswin_block, _block, _BLOCK),
    _PAPER.operator("cswin-lepe", cswin_lepe, _lepe, _LEPE),
)
