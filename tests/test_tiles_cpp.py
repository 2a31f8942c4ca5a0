"""The tile schedule printed as C++: the programs of test_tiles.py on ugly sizes against the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from plait.backends.compiled import Compiled
from plait.compiler.meaning.interpret import interpret
from test_tiles import PROGRAMS
from tiled import read


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-Og")
        yield


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_in_cpp(name: str, real: torch.dtype) -> None:
    text, shapes = PROGRAMS[name]
    program = read(text)
    generator = torch.Generator().manual_seed(5)
    tensors = {key: torch.randn(shape, generator=generator).to(real) for key, shape in shapes.items()}
    found = Compiled(program, backend="cpp", on_unfused="quiet").run(tensors)
    expected = interpret(program, {key: each.double() for key, each in tensors.items()})
    for key, value in expected.items():
        wanted = value.to(real) if value.is_floating_point() else value
        torch.testing.assert_close(found[key], wanted)
