"""Depthwise 7x7 + LayerNorm and the ConvNeXt block, beside eager PyTorch and torch.compile.

    python -m benchmarks.convnext [--save]

Forward in eval mode, and for the block a training step (forward, then the gradients of the input and of all weights),
channels first as in the official code: 4x96x56x56 in float32 on the threads that torch has, or
128x96x56x56 in float32 (IEEE products) and bfloat16 on the GPU where torch sees one. Both
peers run the official block: depthwise convolution, permute to channels last, LayerNorm, two linear maps
around GELU, layer scale, permute back, residual. The peers also get channels-last memory, and the better
of the two counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait import Value, axes, mixer
from plait.stdlib.convolutions import depthwise_convolution
from plait.stdlib.norms import layer_norm
from plait.stdlib.papers.convnext import convnext_block

from . import timing
from .timing import Row, compare

WIDTH = 96
SHAPES = {"cpu": (4, WIDTH, 56, 56), "cuda": (128, WIDTH, 56, 56)}
b, c, h, w = axes("b c h w")


@mixer("x[b, c, h, w] -> out[b, c, h, w]")
def depthwise_norm(x: Value) -> Value:
    """A depthwise 7x7 with a border of zeros, then LayerNorm over channels."""
    u = depthwise_convolution(x, c, (h, w), 7, name="dwconv")
    return layer_norm(u, c, eps=1e-6, name="norm")


class DepthwiseNorm(nn.Module):
    """The same in PyTorch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.dwconv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(DepthwiseNorm):
    """The official ConvNeXt block."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        z = self.pwconv2(functional.gelu(self.pwconv1(z)))
        return x + (self.gamma * z).permute(0, 3, 1, 2)


def same_weights(ours: nn.Module, peer: nn.Module, device: str, real: torch.dtype) -> None:
    """Both on the device, with the peer's weights."""
    ours.load_state_dict(
        {key: each.reshape(ours.state_dict()[key].shape) for key, each in peer.state_dict().items()}
    )
    ours.to(device, real)
    peer.to(device, real)


def candidates(
    ours: nn.Module, peer: nn.Module, x: Tensor, run: Callable[[Callable[[Tensor], Tensor], Tensor], object]
) -> dict[str, Callable[[], object]]:
    """What is timed: `run` of a network, or of what was compiled of it, on x in either layout."""
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_(x.requires_grad)
    compiled = torch.compile(peer)
    return {
        "plait": lambda: run(ours, x),
        "eager": lambda: run(peer, x),
        "eager, channels last": lambda: run(peer, last),
        "torch.compile": lambda: run(compiled, x),
        "torch.compile, channels last": lambda: run(compiled, last),
    }


def title(name: str, x: Tensor) -> str:
    return f"{name}, {'x'.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}"


def case(name: str, ours: nn.Module, peer: nn.Module, device: str, real: torch.dtype) -> tuple[Row, float]:
    """The timings of one block with the peer's weights, and our error against it in float64."""
    same_weights(ours, peer, device, real)
    x = torch.randn(SHAPES[device], device=device, dtype=real)
    ours, peer = ours.eval(), peer.eval()
    timed = candidates(ours, peer, x, lambda net, x: net(x))
    row = compare(title(name, x), timed, device=device)
    return row, timing.error(ours(x[:4]).double(), peer.double()(x[:4].double()))


def training(
    name: str, ours: nn.Module, peer: nn.Module, device: str, real: torch.dtype
) -> tuple[Row, float]:
    """The timings of a training step, the gradients of the input and of all weights, and the largest error of one
    against the peer's in float64."""
    same_weights(ours, peer, device, real)
    x = torch.randn(SHAPES[device], device=device, dtype=real, requires_grad=True)
    cotangent = torch.randn_like(x)

    def step(net: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, ...]:
        weights = (ours if net is ours else peer).parameters()
        with torch.enable_grad():  # benchmarks are run without
            return torch.autograd.grad(net(x), [x, *weights], cotangent.to(x.dtype))

    row = compare(title(name, x), candidates(ours, peer, x, step), device=device)
    names = ["x", *(name for name, _ in ours.named_parameters())]
    got = dict(zip(names, step(ours, x), strict=True))
    peer.double()
    wide = step(peer, x.detach().double().requires_grad_())
    want = dict(zip(["x", *(name for name, _ in peer.named_parameters())], wide, strict=True))
    return row, max(timing.error(got[key].double().reshape(each.shape), each) for key, each in want.items())


def cases(device: str) -> Iterator[tuple[Row, float]]:
    for real in timing.reals(device):
        for name, ours, peer in (
            ("depthwise 7x7 + LayerNorm", depthwise_norm, DepthwiseNorm),
            ("ConvNeXt block", convnext_block, Block),
        ):
            yield case(name, ours.module(c=WIDTH), peer(WIDTH), device, real)
        yield training(
            "ConvNeXt block, training step", convnext_block.module(c=WIDTH), Block(WIDTH), device, real
        )


def main() -> None:
    timing.main("convnext", __doc__, cases)


if __name__ == "__main__":
    main()
