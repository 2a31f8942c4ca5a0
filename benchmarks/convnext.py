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


def case(name: str, ours: nn.Module, peer: nn.Module, device: str, real: torch.dtype) -> tuple[Row, float]:
    """The timings of one block with the peer's weights, and our error against it in float64."""
    same_weights(ours, peer, device, real)
    x = torch.randn(SHAPES[device], device=device, dtype=real)
    last = x.to(memory_format=torch.channels_last)
    ours, peer = ours.eval(), peer.eval()
    compiled = torch.compile(peer)
    candidates: dict[str, Callable[[], object]] = {
        "plait": lambda: ours(x),
        "eager": lambda: peer(x),
        "eager, channels last": lambda: peer(last),
        "torch.compile": lambda: compiled(x),
        "torch.compile, channels last": lambda: compiled(last),
    }
    dtype = str(real).removeprefix("torch.")
    row = compare(f"{name}, {'x'.join(map(str, x.shape))} {dtype}", candidates, device=device)
    got = ours(x[:4]).double()
    want = peer.double()(x[:4].double())
    return row, ((got - want).norm() / want.norm()).item()


def slopes(
    run: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor, cotangent: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of the input and of all weights, by the network or what was compiled of it."""
    return torch.autograd.grad(run(x), [x, *net.parameters()], cotangent)


def training(
    name: str, ours: nn.Module, peer: nn.Module, device: str, real: torch.dtype
) -> tuple[Row, float]:
    """The timings of a training step, and the largest error of a gradient against the peer's in float64."""
    same_weights(ours, peer, device, real)
    x = torch.randn(SHAPES[device], device=device, dtype=real, requires_grad=True)
    cotangent = torch.randn_like(x)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    compiled = torch.compile(peer)
    candidates: dict[str, Callable[[], object]] = {
        "plait": lambda: slopes(ours, ours, x, cotangent),
        "eager": lambda: slopes(peer, peer, x, cotangent),
        "eager, channels last": lambda: slopes(peer, peer, last, cotangent),
        "torch.compile": lambda: slopes(compiled, peer, x, cotangent),
        "torch.compile, channels last": lambda: slopes(compiled, peer, last, cotangent),
    }
    dtype = str(real).removeprefix("torch.")
    row = compare(f"{name}, {'x'.join(map(str, x.shape))} {dtype}", candidates, device=device)
    got = dict(zip(("x", *dict(ours.named_parameters())), slopes(ours, ours, x, cotangent), strict=True))
    peer = peer.double()
    wide = slopes(peer, peer, x.detach().double().requires_grad_(), cotangent.double())
    want = dict(zip(("x", *dict(peer.named_parameters())), wide, strict=True))
    wrong = (
        (got[key].double().reshape(each.shape) - each).norm() / each.norm() for key, each in want.items()
    )
    return row, max(each.item() for each in wrong)


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
