"""The tile schedule printed as C++: the programs of test_tiles.py on ugly sizes against the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from agreement import agree
from plait.backends.compiled import Compiled
from test_tiles import PROGRAMS
from tiled import read


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-O0")
        yield


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_in_cpp(name: str, real: torch.dtype) -> None:
    text, shapes = PROGRAMS[name]
    program = read(text)
    generator = torch.Generator().manual_seed(5)
    tensors = {key: torch.randn(shape, generator=generator).to(real) for key, shape in shapes.items()}
    found = Compiled(program, backend="cpp", on_unfused="quiet").run(tensors)
    agree(found, program, tensors, real)
