"""Programs with headers: one runner for all of them, on every backend.

A header is the comment lines at the top of `tests/programs/*.plait` that start with `#!`:

    #! sizes: h=5 w=7            sizes of the axes, for inputs of random numbers; several lines are several runs
    #! x: [[1, 2], [3, 4]]       an input given instead
    #! y: [3, 7]                 what an output must be, on the reference too
    #! kernels: 1                how many kernels there are, and that nothing else runs
    #! gradients: 2              derivatives up to this order are tested, too
    #! error: REGEX              reading or checking the program raises a PlaitError that matches

Without `error` every backend must agree with the reference in every run, and with `gradients` its derivatives
also with differences.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree, check_gradients, check_second
from plait.backends.compiled import Compiled
from plait.compiler.meaning.interpret import interpret
from plait.dsl.program import BATCH, Axis, Program
from plait.dsl.proofs.check import check
from plait.dsl.shapes.size_forms import axis_range
from plait.dsl.shapes.sizes import Sizes, bind_sizes
from poison import poisoning
from strategies import Example

FOLDER = Path(__file__).parent / "programs"
PROGRAMS = sorted(FOLDER.glob("*.plait"))


@dataclass
class Case:
    """A program's header, read."""

    sizes: list[dict[str, int]] = field(default_factory=list[dict[str, int]])
    values: dict[str, object] = field(default_factory=dict[str, object])
    kernels: int | None = None
    gradients: int = 0
    error: str | None = None


def header(text: str) -> Case:
    case = Case()
    for line in text.splitlines():
        if not line.startswith("#!"):
            continue
        key, _, value = line[2:].partition(":")
        match key.strip():
            case "sizes":
                pairs = (pair.split("=") for pair in value.split())
                case.sizes.append({name: int(size) for name, size in pairs})
            case "kernels":
                case.kernels = int(value)
            case "gradients":
                case.gradients = int(value)
            case "error":
                case.error = value.strip()
            case name:
                case.values[name] = ast.literal_eval(value.strip())
    return case


def tensors_for(program: Program, case: Case, sizes: dict[str, int]) -> dict[str, Tensor]:
    """Random tensors of these sizes, or the ones that the header gives."""
    generator = torch.Generator().manual_seed(1)
    known: Sizes = {Axis(name): size for name, size in sizes.items()}
    known |= dict(program.fixed)
    known.setdefault(BATCH, (2,))
    made: dict[str, Tensor] = {}
    for declaration in program.declarations:
        leaf = declaration.leaf
        if leaf.name in case.values:
            dtype = {"int": torch.int64, "bool": torch.bool}.get(leaf.declared, torch.float64)
            made[leaf.name] = torch.tensor(case.values[leaf.name], dtype=dtype)
            continue
        shape: list[int] = []
        for item in declaration.items:
            if item == (BATCH,):
                shape += known[BATCH]  # pyright: ignore[reportOperatorIssue]
                continue
            shape.append(1)
            for axis in item:
                shape[-1] *= len(axis_range(axis, known))
        match leaf.declared:
            case "bool":
                made[leaf.name] = torch.rand(shape, generator=generator) < 0.5
            case "int":
                top = len(axis_range(leaf.ranges_over, known)) if leaf.ranges_over else 5
                made[leaf.name] = torch.randint(0, top, shape, generator=generator)
            case _:
                made[leaf.name] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return made


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_program(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiler := poisoning():
        monkeypatch.setenv("CXX", compiler)
    text = path.read_text(encoding="utf-8")
    case = header(text)
    assert case != Case(), f"{path.name} has no header, so nothing of it would be tested"
    if case.error is not None:
        with pytest.raises(plait.PlaitError) as caught:
            check(plait.parse(text, path.name).program())
        assert re.search(case.error, str(caught.value)), str(caught.value)
        return
    program = plait.parse(text, path.name).program()
    check(program)
    assert plait.parse(str(program)).program() == program
    for sizes in case.sizes or [{}]:
        tensors = tensors_for(program, case, sizes)
        want = interpret(program, tensors)
        for name, value in want.items():
            if name in case.values:
                given = torch.tensor(case.values[name], dtype=value.dtype)
                assert torch.allclose(value, given, rtol=1e-12, atol=1e-12, equal_nan=True), (name, value)
        compiled = Compiled(program, on_unfused="quiet")
        agree(compiled.run(tensors), program, tensors, torch.float64)
        single = {name: t.float() if t.dtype == torch.float64 else t for name, t in tensors.items()}
        agree(compiled.run(single), program, single, torch.float32)
        if case.kernels is not None:
            assert compiled.last is not None
            assert compiled.last.executable.portable
            assert len(compiled.last.executable.steps) == case.kernels
        for given in (tensors, single) if case.gradients else ():
            derivatives(Example(program, dict(given), bind(program, given)), case.gradients)


def bind(program: Program, tensors: Mapping[str, Tensor]) -> Sizes:
    return bind_sizes(program, {name: tuple(tensor.shape) for name, tensor in tensors.items()})


def derivatives(example: Example, order: int) -> None:
    """Those of the program, and of its gradient along random cotangents where a second order is asked for."""
    check_gradients(example)
    if order > 1:
        check_second(example)
