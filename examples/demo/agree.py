"""Step 2: the compiled operator, forward and backward, beside its meaning and beside dense attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import plait
from examples.circular_attention import circular_attention

from . import peers, screen

CASES = (
    ((2, 9, 7, 5), 3, torch.float32),
    ((1, 1, 1, 1), 2, torch.float32),
    ((3, 17, 13, 16), 5, torch.float32),
    ((2, 11, 10, 8), 4, torch.float64),
)
"""Heads, height, width and channels; radius; type. Odd ones, since borders and tails are where kernels err."""

Attention = Callable[..., Any]
"""A function of q, k and v."""


def allowed(dtype: torch.dtype, radius: int, channels: int) -> float:
    """How far two orders of summation may lie apart, relative to the largest entry: rounding errors of a sum
    add up like its square root, and a result goes through sums over keys and over channels."""
    return 8 * torch.finfo(dtype).eps * (len(peers.disc(radius)) * channels) ** 0.5


def with_gradients(attention: Attention, inputs: list[Tensor], cotangent: Tensor) -> list[Tensor]:
    """The result and its three gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    result = attention(*leaves)
    return [result.detach(), *torch.autograd.grad(result, leaves, cotangent.to(result.dtype))]


def error(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference, relative to the largest entry of what was wanted."""
    return max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-3)).item()
        for a, b in zip(found, wanted, strict=True)
    )


def case(shape: tuple[int, ...], radius: int, dtype: torch.dtype) -> list[str]:
    """One row of the table. Raises AssertionError where an error is larger than allowed."""
    inputs = [x.to(dtype) for x in torch.randn(3, *shape, dtype=torch.float64)]
    cotangent = torch.randn(shape, dtype=torch.float64)
    program = circular_attention.program(radius=radius)
    wide = [x.double() for x in inputs]
    compiled = with_gradients(plait.compile(program, backend="cpp"), inputs, cotangent)
    meaning = with_gradients(plait.compile(program, backend="reference"), wide, cotangent)
    dense = with_gradients(lambda q, k, v: peers.masked(q, k, v, radius), wide, cotangent)
    bound = allowed(dtype, radius, shape[-1])
    results = error(compiled[:1], meaning[:1]), error(compiled[:1], dense[:1]), error(compiled[1:], dense[1:])
    heads, height, width, channels = shape
    name = f"{heads}x{height}x{width}x{channels}, radius {radius}, {str(dtype).removeprefix('torch.')}"
    assert max(results) <= bound, f"{name}: an error of {max(results):.1e}, and {bound:.1e} is allowed"
    return [name, *(f"{each:.1e}" for each in results), f"{bound:.1e}"]


def run(out: Path) -> str:
    """Every case as a row of a table of errors."""
    torch.manual_seed(0)
    rows = [case(*each) for each in CASES]
    columns = ["heads x h x w x channels", "reference", "PyTorch", "gradients", "allowed"]
    screen.say(
        "  Largest differences, relative to the largest entry; PyTorch is masked dense attention in float64:"
    )
    screen.table(columns, rows)
    return "it and its gradient agree with the reference interpreter and with PyTorch to rounding"
