"""Blocks of papers as mixers, with their PyTorch forms: what kernel counts are asserted for.

Written from the sheets. The operators themselves belong to `stdlib/papers/`; these are the parts of them that ask
something of the fuser: chains of gates, global means inside a block, joint norms, iterated retrieval.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait import AxisValue, Value, axes, axis, mixer, param, sqrt
from plait.stdlib.activations import gelu, sigmoid
from plait.stdlib.attention import attention
from plait.stdlib.convolutions import depthwise_convolution
from plait.stdlib.linears import linear, pointwise_convolution, squeeze_excitation
from plait.stdlib.norms import layer_norm

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


# --- squeeze and excitation (sheet 07) and a channel attention (arXiv 2505.11196, sheet 24)


@mixer(IMAGES)
def excited(x: Value) -> Value:
    """The gate of a channel is made of the means of all channels over the image."""
    return squeeze_excitation(
        x, c, (h, w), axis("r", c.size // 4), ones=(1, 1), names=("down", "up"), name=""
    )


class Excited(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(dim, dim // 4, 1), nn.Conv2d(dim // 4, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


@mixer(IMAGES)
def channel_attention(x: Value) -> Value:
    """1x1, depthwise 3x3, GELU, a gate of the global means, 1x1: steps 2 to 4 of DiCo."""
    wide = c.like("wide")
    inner = pointwise_convolution(x, c, wide, name="conv1")[{wide: c}]
    y = gelu(depthwise_convolution(inner, c, (h, w), 3, name="conv2"))
    gate = sigmoid(pointwise_convolution(y.mean(h, w), c, wide, name="ca")[{wide: c}])
    return pointwise_convolution(y * gate, c, wide, name="conv3")[{wide: c}]


class ChannelAttention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.conv3, self.ca = (nn.Conv2d(dim, dim, 1) for _ in range(3))
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.conv2(self.conv1(x)))
        return self.conv3(y * self.ca(y.mean((2, 3), keepdim=True)).sigmoid())


# --- global response normalisation (arXiv 2301.00808; sheet 07) and joint norms (sheets 12 and 43)


def response_norm(x: Value, channels: AxisValue, name: str) -> Value:
    """`(gamma G / (mean G + eps) + 1) x + beta`, G the norm of each channel over the image."""
    norm = sqrt((x * x).sum(h, w))
    gain = param(f"{name}gamma", channels) * (norm / (norm.mean(channels) + 1e-6)) + 1
    return gain * x + param(f"{name}beta", channels)


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def responsive(x: Value) -> Value:
    """GRN by itself."""
    return response_norm(x, c, "")


class ResponseNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.square().sum((1, 2), keepdim=True).sqrt()
        return (self.gamma * norm / (norm.mean(-1, keepdim=True) + 1e-6) + 1) * x + self.beta


@mixer(IMAGES)
def responsive_block(x: Value) -> Value:
    """The block of ConvNeXt V2."""
    wide = axis("e", 4 * c.size)
    u = depthwise_convolution(x, c, (h, w), 7, name="dwconv")
    a = gelu(linear(layer_norm(u, c, eps=1e-6, name="norm"), c, wide, name="pwconv1"))
    return x + linear(response_norm(a, wide, "grn."), wide, c, name="pwconv2")


class ResponsiveBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm, self.grn = nn.LayerNorm(dim, eps=1e-6), ResponseNorm(4 * dim)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pwconv1(self.norm(self.dwconv(x).permute(0, 2, 3, 1)))
        return x + self.pwconv2(self.grn(functional.gelu(y))).permute(0, 3, 1, 2)


@mixer(IMAGES)
def jointly_normed(x: Value) -> Value:
    """A layer norm over the channels and the image together, affine in the channels."""
    return layer_norm(x, (c, h, w), affine_over=c, name="")


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
