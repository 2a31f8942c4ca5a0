"""Blocks of papers as mixers, with their PyTorch forms: what kernel counts are asserted for.

Written from the sheets; those with a global reduction are the ones that `benchmarks/phases.py` times. The operators
themselves belong to `stdlib/papers/`; these are the parts of them that ask something of the fuser: chains of
gates, global means inside a block, joint norms, iterated retrieval.
"""

from __future__ import annotations

import sys

from torch import Tensor, nn
from torch.nn import functional

from plait import Value, axes, axis, mixer
from plait.stdlib.attention import attention
from plait.stdlib.convolutions import depthwise_convolution
from plait.stdlib.linears import linear, pointwise_convolution
from plait.stdlib.norms import layer_norm
from tree import ROOT

sys.path.append(str(ROOT))

from benchmarks.phases import ChannelAttention as ChannelAttention
from benchmarks.phases import Excited as Excited
from benchmarks.phases import ResponseNorm as ResponseNorm
from benchmarks.phases import ResponsiveBlock as ResponsiveBlock
from benchmarks.phases import channel_attention as channel_attention
from benchmarks.phases import excited as excited
from benchmarks.phases import joint_norm as joint_norm
from benchmarks.phases import responsive as responsive
from benchmarks.phases import responsive_block as responsive_block

b, c, h, s, t, w = axes("b c h s t w")

IMAGES = "x[b, c, h, w] -> out[b, c, h, w]"


def across(x: Tensor, norm: nn.Module) -> Tensor:
    """A norm or linear map over the channels of channels-first maps."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


# --- HorNet (arXiv 2207.14284, sheet 01)


@mixer(IMAGES)
def gnconv(x: Value, *, order: int = 3, window: int = 7, scale: float = 0.5) -> Value:
    """The gates of all orders are filtered in space once; then products with linear maps between them."""
    widths = [c.size // 2 ** (order - 1 - i) for i in range(order)]
    f, own, gates = axis("f", 2 * c.size), axis("p0", widths[0]), axis("s", sum(widths[1:], widths[0]))
    fused = pointwise_convolution(x, c, f, name="proj_in")
    gate = scale * depthwise_convolution(fused[{f: gates + widths[0]}], gates, (h, w), window, name="dwconv")
    y, offset = fused[{f: own}] * gate[{gates: own}], widths[0]
    for i, width in enumerate(widths[1:]):
        wide = axis(f"p{i + 1}", width)
        y = pointwise_convolution(y, own, wide, name=f"pws.{i}") * gate[{gates: wide + offset}]
        own, offset = wide, offset + width
    return pointwise_convolution(y, own, c, name="proj_out")


class GnConv(nn.Module):
    def __init__(self, dim: int, window: int, order: int = 3, scale: float = 0.5) -> None:
        super().__init__()
        self.dims, self.scale = [dim // 2 ** (order - 1 - i) for i in range(order)], scale
        gates = sum(self.dims)
        self.proj_in, self.proj_out = nn.Conv2d(dim, 2 * dim, 1), nn.Conv2d(dim, dim, 1)
        self.dwconv = nn.Conv2d(gates, gates, window, padding=window // 2, groups=gates)
        self.pws = nn.ModuleList(nn.Conv2d(a, o, 1) for a, o in zip(self.dims, self.dims[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        start, gates = self.proj_in(x).split((self.dims[0], sum(self.dims)), 1)
        first, *rest = (self.dwconv(gates) * self.scale).split(self.dims, 1)
        y = start * first
        for linear_map, gate in zip(self.pws, rest, strict=True):
            y = linear_map(y) * gate
        return self.proj_out(y)


# --- Hopfield (arXiv 2008.02217, sheet 57)


@mixer("r[b, t, c], y[b, s, c] -> out[b, t, c]")
def hopfield(r: Value, y: Value, *, heads: int = 2, updates: int = 2) -> Value:
    """States retrieved from stored patterns `updates` times, then by the last association from the values."""
    m, d = axis("m", heads), axis("d", c.size // heads)
    r, y = layer_norm(r, c, name="norm_state_pattern"), layer_norm(y, c, name="norm_stored_pattern")
    q, k, v = (linear(x, c, (m, d), name=name) for x, name in ((r, "q_proj"), (y, "k_proj"), (y, "v_proj")))
    q, k = (layer_norm(x, d, weight=False, bias=False, name="") for x in (q, k))
    for _ in range(updates):
        q = attention(q, k, k, s, d)
    return linear(attention(q, k, v, s, d), (m, d), c, name="out_proj")


class Hopfield(nn.Module):
    def __init__(self, dim: int, heads: int = 2, updates: int = 2) -> None:
        super().__init__()
        self.heads, self.updates = heads, updates
        self.norm_state_pattern, self.norm_stored_pattern = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, r: Tensor, y: Tensor) -> Tensor:
        r, y = self.norm_state_pattern(r), self.norm_stored_pattern(y)
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.q_proj(r), self.k_proj(y), self.v_proj(y))
        )
        q, k = (functional.layer_norm(each, each.shape[-1:]) for each in (q, k))
        for _ in range(self.updates):
            q = functional.scaled_dot_product_attention(q, k, k)
        o = functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(o.transpose(1, 2).flatten(2))
