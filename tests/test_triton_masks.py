"""Masked products printed for Triton: what the mask leaves out reaches nothing, under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import on_triton
import plait
from agreement import nearly
from interpreting import Interpreting
from kernel_masks import MASKED, both_sides_exposed, unseen_taps, unseen_values
from kernel_sketches import Case
from plait.backends.triton.options import default_options
from plait.backends.triton.printer import print_triton
from plait.compiler.meaning.interpret import interpret
from triton_cases import agrees, agrees_on_a_gpu

CAUSAL = """
mixer causal(q[n, d], k[m, d], v[m, d]) -> o[n, d]:
  p = softmax[m | m <= n](sum[d](q * k))
  o = sum[m](p * v)
"""
WINDOW = """
mixer window(q[h, w, d], k[h, w, d], v[h, w, d]) -> o[h, w, d]:
  near dh, dw: 2
  p = softmax[dh, dw | dh*dh + dw*dw < 5](sum[d](q * k[h+dh, w+dw]))
  o = sum[dh, dw](p * v[h+dh, w+dw])
"""
CONVOLUTION = """
mixer convolution(q[h, c], k[e, c, dh], v[h, e]) -> o[h, e]:
  o = sum[c, dh](k * (q[h + dh - 1] otherwise 0)) + v
"""
PROGRAMS = {
    CAUSAL: {"q": (40, 16), "k": (40, 16), "v": (40, 16)},
    WINDOW: dict.fromkeys("qkv", (9, 11, 16)),
    CONVOLUTION: {"q": (40, 16), "k": (17, 16, 3), "v": (40, 17)},
}


@pytest.mark.parametrize("kernel", MASKED, ids=lambda kernel: kernel.__name__)
def test_what_a_mask_leaves_out_reaches_nothing(triton: Interpreting, kernel: Callable[[], Case]) -> None:
    agrees(triton, kernel(), 64)


def test_unseen_values_in_float64(triton: Interpreting) -> None:
    agrees(triton, unseen_values("float64"), 64)


def test_a_stream_is_looked_at_once() -> None:
    """What a chunk costs is as without a mask: the test stands after the last one."""
    kernel = unseen_values().kernel
    text = print_triton(kernel, default_options(kernel)).text
    stream, _, mended = text.partition("    if has_nan(acc):")
    assert text.count("has_nan(") == 2
    assert stream.count("tl.dot(") == 1 and "in range(0, M, 16)" in stream
    assert "tl.dot(" not in mended and "in range(0, M, 1)" in mended


def test_products_outside_of_streams_are_looked_at_where_they_are() -> None:
    for kernel in (unseen_taps().kernel, both_sides_exposed().kernel):
        assert "if has_nan(y):" in print_triton(kernel, default_options(kernel)).text


@pytest.mark.parametrize("name", "qkv")
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("text", PROGRAMS, ids=lambda text: text.split("(")[0].split()[-1])
def test_programs_over_what_is_not_finite(triton: Interpreting, text: str, number: float, name: str) -> None:
    """One number far from the first entries: who sees it is as the meaning says, and so are the others."""
    tensors = not_finite(text, name, number)
    as_meant(text, tensors, triton.call(on_triton.run, text, tensors)["o"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", "kv")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("text", PROGRAMS, ids=lambda text: text.split("(")[0].split()[-1])
def test_programs_over_what_is_not_finite_on_a_gpu(text: str, dtype: torch.dtype, name: str) -> None:
    for number in (float("nan"), float("inf")):
        tensors = {each: t.to(dtype) for each, t in not_finite(text, name, number).items()}
        found = on_triton.run(text, {each: t.cuda() for each, t in tensors.items()})["o"]
        as_meant(text, tensors, found.cpu())


def not_finite(text: str, name: str, number: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = PROGRAMS[text]
    tensors = {each: torch.randn(shape, generator=generator) for each, shape in shapes.items()}
    tensors[name].view(-1)[-5] = number
    return tensors


def as_meant(text: str, tensors: Mapping[str, Tensor], found: Tensor) -> None:
    meant = interpret(plait.parse(text).program(), {each: t.double() for each, t in tensors.items()})["o"]
    assert torch.equal(found.isfinite(), meant.isfinite())
    finite = meant.isfinite()
    nearly(found[finite], meant[finite], max(each.numel() for each in tensors.values()))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", MASKED, ids=lambda kernel: kernel.__name__)
def test_masks_on_a_gpu(kernel: Callable[[], Case]) -> None:
    agrees_on_a_gpu(kernel(), 64)
