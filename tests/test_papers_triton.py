"""The operators of the papers on the Triton backend, under its interpreter: outputs of the golden cases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import on_triton
from golden_cases import PATHS, errors, load
from interpreting import Interpreting

QUICK = ("convit-gpsa", "cswin-lepe", "metaformer-pooling", "metaformer-randommixing")
"""What takes a second or two; interpreted matrix products take ten times as long."""


def marked(path: Path) -> object:
    quick = load(path).operator in QUICK
    return pytest.param(path, id=path.stem, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("path", [marked(path) for path in PATHS])
def test_outputs(triton: Interpreting, path: Path) -> None:
    case = load(path)
    program, tensors = case.program()
    text = str(program)
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    found = triton.call(on_triton.run, text, tensors)
    wrong = errors(found, {"out": case.tensors["out"]})
    assert wrong["out"] <= case.bound(torch.float64)
