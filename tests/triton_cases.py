"""Kernels run by Triton's interpreter, and how far their results may be off."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import kernel_meaning
from interpreting import Interpreting
from kernel_sketches import (
    Case,
)
from plait.backends.triton.options import Options, default_options


def launched(case: Case, options: Options | None = None) -> list[Tensor]:
    """The outputs of a case, no factor of a product rounded if nothing else is asked for. Runs in the
    interpreting process."""
    from plait.backends.triton.launch import build

    chosen = options or default_options(case.kernel, precision="ieee")
    build(case.kernel, chosen)(case.tensors, case.sizes)
    pairs = zip(case.kernel.buffers, case.tensors, strict=True)
    return [tensor for buffer, tensor in pairs if buffer.role == "out"]


def budget(dtype: torch.dtype, length: int = 1) -> float:
    """The relative error that rounding explains: a few units in the last place for every operation of a
    chain and for every eight terms of a sum. The interpreter truncates to bfloat16, which doubles it."""
    return torch.finfo(dtype).eps * (8 + length / 8) * (2 if dtype == torch.bfloat16 else 1)


def close(found: Tensor, wanted: Tensor, length: int = 1) -> None:
    """Equal integers and truth values; reals within the budget, of the largest of their row of results."""
    if not found.is_floating_point():
        assert torch.equal(found, wanted.to(found.dtype))
        return
    wanted = wanted.to(torch.float64)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert torch.equal(found.isinf(), wanted.isinf())
    finite = wanted.isfinite()
    error = (found.double() - wanted)[finite].abs()
    scale = wanted[finite].abs().max() if error.numel() else torch.tensor(1.0)
    assert error.numel() == 0 or error.max() <= budget(found.dtype, length) * scale


def agrees_on_a_gpu(case: Case, length: int = 1) -> None:
    """The same natively, in this process."""
    wanted = kernel_meaning.run(case.kernel, case.tensors, case.sizes)
    found = launched(replace(case, tensors=[tensor.cuda() for tensor in case.tensors]))
    for each, value in zip(found, wanted, strict=True):
        close(each.cpu(), value, length)


def agrees(triton: Interpreting, case: Case, length: int = 1) -> None:
    """Triton's outputs are what the kernel means."""
    wanted = kernel_meaning.run(case.kernel, case.tensors, case.sizes)
    for found, value in zip(triton.call(launched, case), wanted, strict=True):
        close(found, value, length)


def dense(case: Case, radius: int) -> Tensor:
    """Circular attention in float64 by its definition, every pair of places at once."""
    q, k, v = (tensor.double().flatten(1, 2) for tensor in case.tensors[:3])
    batch, height, width, channels = case.tensors[0].shape
    at = torch.arange(height * width)
    y, x = at // width, at % width
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 < radius**2
    scores = (q @ k.transpose(1, 2) * channels**-0.5).masked_fill(~near, float("-inf"))
    return (scores.softmax(-1) @ v).reshape(batch, height, width, channels)


def half(case: Case) -> Case:
    kernel = replace(
        case.kernel,
        real="bfloat16",
        buffers=tuple(replace(buffer, real="bfloat16") for buffer in case.kernel.buffers),
    )
    return Case(kernel, [tensor.bfloat16() for tensor in case.tensors], case.sizes)
