"""What a breakage of tests/breakages once got away with: each test here was written for one that no other test noticed
(docs/trust.md names them)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import plait
from agreement import close
from plait.backends import compiled as calls
from plait.backends.compiled import Compiled
from plait.backends.cpp import build as cpp_build
from plait.compiler.target import AVX2

DOUBLED = "mixer doubled(x[h]) -> y[h]:\n  y = x + x\n"


@pytest.mark.parametrize("part", ["sources_digest", "machine_digest", "optimisation"])
def test_each_part_of_a_key_makes_another_entry(
    part: str, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder outlives a version of plait, and may be carried to another machine."""

    def entries() -> int:
        Compiled(plait.parse(DOUBLED).program(), "cpp").run({"x": torch.ones(3)})
        return len(list((cache_folder / "index").iterdir()))

    before = entries()
    assert entries() == before > 0
    monkeypatch.setattr(calls, part, lambda: "another")
    assert entries() == 2 * before


def test_a_library_is_that_of_its_processor(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-march=native` is one flag and means other instructions on another machine."""
    target, source = replace(AVX2, flags=("-march=native",)), 'extern "C" int one() { return 1; }\n'
    first = cpp_build.build(source, target)
    assert cpp_build.build(source, target) == first
    monkeypatch.setattr(cpp_build, "machine_digest", lambda: "another")
    assert cpp_build.build(source, target) != first


def test_the_comparison_refuses_what_is_just_outside() -> None:
    """What every test of a backend stands on: `agreement.close`."""
    value, within = torch.tensor([1.0, -2.0, torch.inf]), torch.tensor([1e-3, 1e-3, 1e-3])
    close(value + torch.tensor([0.9e-3, 0.0, 0.0]), value, within, "y")
    close(value * torch.tensor([9.0, 1.0, 1.0]), value, torch.tensor([torch.inf, 0.0, 0.0]), "y")
    for wrong in ([1.1e-3, 0.0, 0.0], [0.0, torch.nan, 0.0], [0.0, 0.0, -torch.inf], [torch.inf, 0.0, 0.0]):
        with pytest.raises(AssertionError, match="times what rounding may do"):
            close(value + torch.tensor(wrong), value, within, "y")
