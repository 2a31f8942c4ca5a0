"""Blocks with a global reduction inside: joint norms, gates of global means, response norms, beside PyTorch.

    python -m benchmarks.phases [--save]

Forward in float32, eager and by torch.compile: a joint norm (`nn.GroupNorm(1, c)`) of images of three sizes;
squeeze and excitation, a global response norm alone and in the block of ConvNeXt V2, and a channel attention of
8 x 96 channels x 28 x 28, or eight times as many images on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait import AxisValue, Mixer, Value, axes, axis, mixer, param, sqrt
from plait.stdlib.activations import gelu, sigmoid
from plait.stdlib.convolutions import depthwise_convolution
from plait.stdlib.linears import linear, pointwise_convolution, squeeze_excitation
from plait.stdlib.norms import layer_norm

from . import timing
from .timing import Row, compare

WIDTH = 96
IMAGES = ((8, WIDTH, 28, 28), (8, WIDTH, 56, 56), (32, 64, 14, 14))
TIMES_ON_GPU = 8
SEVERAL = 9
"""Rounds at least: five times as many where a call is quick (`timing.MOST`)."""

b, c, h, w = axes("b c h w")


@mixer("x[b, c, h, w] -> out[b, c, h, w]")
def joint_norm(x: Value) -> Value:
    """One mean and one variance an image."""
    return layer_norm(x, (c, h, w), affine_over=c, name="")


@mixer("x[b, c, h, w] -> out[b, c, h, w]")
def excited(x: Value) -> Value:
    """The gate of a channel is made of the means of all channels."""
    names = ("down", "up")
    return squeeze_excitation(x, c, (h, w), axis("r", c.size // 4), ones=(1, 1), names=names, name="")


@mixer("x[b, c, h, w] -> out[b, c, h, w]")
def channel_attention(x: Value) -> Value:
    """1x1, depthwise 3x3, GELU, a gate of the global means, 1x1 (DiCo, arXiv 2505.11196)."""
    wide = c.like("wide")
    inner = pointwise_convolution(x, c, wide, name="conv1")[{wide: c}]
    y = gelu(depthwise_convolution(inner, c, (h, w), 3, name="conv2"))
    gate = sigmoid(pointwise_convolution(y.mean(h, w), c, wide, name="ca")[{wide: c}])
    return pointwise_convolution(y * gate, c, wide, name="conv3")[{wide: c}]


def response_norm(x: Value, over: AxisValue, name: str) -> Value:
    """`(gamma G / (mean G + eps) + 1) x + beta`, G the norm of a channel over its image (arXiv 2301.00808)."""
    norm = sqrt((x * x).sum(h, w))
    gain = param(f"{name}gamma", over) * (norm / (norm.mean(over) + 1e-6)) + 1
    return gain * x + param(f"{name}beta", over)


@mixer("x[b, h, w, c] -> out[b, h, w, c]")
def responsive(x: Value) -> Value:
    """The global response norm by itself."""
    return response_norm(x, c, "")


@mixer("x[b, c, h, w] -> out[b, c, h, w]")
def responsive_block(x: Value) -> Value:
    """The block of ConvNeXt V2."""
    wide = axis("e", 4 * c.size)
    u = depthwise_convolution(x, c, (h, w), 7, name="dwconv")
    a = gelu(linear(layer_norm(u, c, eps=1e-6, name="norm"), c, wide, name="pwconv1"))
    return x + linear(response_norm(a, wide, "grn."), wide, c, name="pwconv2")


class Excited(nn.Module):
    """Squeeze and excitation in PyTorch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class ChannelAttention(nn.Module):
    """The channel attention in PyTorch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv3, self.ca = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.conv2(self.conv1(x)))
        return self.conv3(y * self.ca(y.mean((2, 3), keepdim=True)).sigmoid())


class ResponseNorm(nn.Module):
    """The global response norm in PyTorch, channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.square().sum((1, 2), keepdim=True).sqrt()
        return (self.gamma * norm / (norm.mean(-1, keepdim=True) + 1e-6) + 1) * x + self.beta


class ResponsiveBlock(nn.Module):
    """The block of ConvNeXt V2 in PyTorch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.grn = nn.LayerNorm(width, eps=1e-6), ResponseNorm(4 * width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pwconv1(self.norm(self.dwconv(x).permute(0, 2, 3, 1)))
        return x + self.pwconv2(self.grn(functional.gelu(y))).permute(0, 3, 1, 2)


def case(
    name: str, block: Mixer, peer: nn.Module, shape: tuple[int, ...], device: str, real: torch.dtype
) -> tuple[Row, float]:
    """The timings of one block with the peer's weights, and our error against it in float64."""
    ours = block.module(c=shape[-1] if name == "GRN" else shape[1])
    ours.load_state_dict(peer.state_dict())
    ours, peer = ours.to(device, real).eval(), peer.to(device, real).eval()
    x = torch.randn(shape, device=device, dtype=real)
    compiled = torch.compile(peer)
    candidates: dict[str, Callable[[], object]] = {
        "plait": lambda: ours(x),
        "eager": lambda: peer(x),
        "torch.compile": lambda: compiled(x),
    }
    dtype = str(real).removeprefix("torch.")
    row = compare(f"{name}, {'x'.join(map(str, shape))} {dtype}", candidates, rounds=SEVERAL, device=device)
    got, want = ours(x[:4]).double(), peer.double()(x[:4].double())
    return row, timing.error(got, want)


def cases(device: str) -> Iterator[tuple[Row, float]]:
    times = TIMES_ON_GPU if device == "cuda" else 1
    for real in timing.reals(device):
        for images, *sizes in IMAGES:
            shape = (images * times, *sizes)
            yield case("joint norm", joint_norm, nn.GroupNorm(1, sizes[0]), shape, device, real)
        first, last = (8 * times, WIDTH, 28, 28), (8 * times, 28, 28, 4 * WIDTH)
        yield case("SE", excited, Excited(WIDTH), first, device, real)
        yield case("GRN", responsive, ResponseNorm(4 * WIDTH), last, device, real)
        yield case("ConvNeXt V2 block", responsive_block, ResponsiveBlock(WIDTH), first, device, real)
        yield case("channel attention", channel_attention, ChannelAttention(WIDTH), first, device, real)


def main() -> None:
    timing.main("phases", __doc__, cases)


if __name__ == "__main__":
    main()
