"""The operators of the papers on the Triton backend, under its interpreter: outputs of the golden cases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import on_triton
from golden_cases import EXACT, PATHS, errors, load
from interpreting import Interpreting

QUICK = ("convnext-downsample", "convit-gpsa", "cswin-lepe", "metaformer-pooling", "metaformer-randommixing")
"""One operator a paper and what is cheaper; interpreted matrix products take seconds."""


@pytest.fixture(scope="module")
def process() -> Iterator[Interpreting]:
    made = Interpreting()
    yield made
    made.close()


def marked(path: Path) -> object:
    quick = load(path).operator in QUICK
    return pytest.param(path, id=path.stem, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("path", [marked(path) for path in PATHS])
def test_outputs(process: Interpreting, path: Path) -> None:
    case = load(path)
    program, tensors = case.program()
    text = str(program)
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    found = process.call(on_triton.run, text, tensors)
    wrong = errors(found, {"out": case.tensors["out"]})
    assert wrong["out"] <= EXACT
