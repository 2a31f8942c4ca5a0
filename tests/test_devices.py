"""What a call makes lies on the device of its tensors, whatever device the caller's own tensors start on.

Without a GPU the other device is `meta`: a tensor made there by mistake has no values, and mixing fails.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

import plait
from plait.compiler.meaning.interpret import interpret

SCATTERED = """
mixer scattered(x[h], at: index h, y[h]) -> o[h], n:
  o = (place(x, h: 2*h) otherwise 0) + y[h: at]
  n = count[h | x > 0](x)
"""
"""Reference operations: a place whose index is data, a read at it, a count."""


def tensors(device: torch.device) -> dict[str, Tensor]:
    return {
        "x": torch.tensor([1.0, -2.0, 3.0], device=device),
        "at": torch.tensor(2, device=device),
        "y": torch.tensor([5.0, 6.0, 7.0], device=device),
    }


WANTED = {"o": [8.0, 7.0, 5.0], "n": 2}


@pytest.mark.parametrize("backend", ["reference", None])
def test_the_callers_default_device_does_not_matter(backend: Literal["reference"] | None) -> None:
    given = tensors(torch.device("cpu"))
    compiled = plait.compile(plait.parse(SCATTERED), backend=backend, on_unfused="quiet")
    with torch.device("meta"):
        o, n = compiled(**given)
        assert interpret(plait.parse(SCATTERED).program(), given)["o"].tolist() == WANTED["o"]
    assert (o.tolist(), n.item()) == (WANTED["o"], WANTED["n"])


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["reference", None])
def test_reference_operations_on_a_gpu(backend: Literal["reference"] | None) -> None:
    given = tensors(torch.device("cuda"))
    o, n = plait.compile(plait.parse(SCATTERED), backend=backend, on_unfused="quiet")(**given)
    assert o.is_cuda
    assert n.is_cuda
    assert (o.tolist(), n.item()) == (WANTED["o"], WANTED["n"])
