"""Generated programs through the whole pipe on the Triton backend, under its interpreter: values only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import on_triton
import plait
from attention_family import attention_examples
from interpreting import Interpreting
from kernel_families import FAMILIES
from plait.compiler.interpret import interpret
from plait.dsl.mistakes import WrongDevice
from strategies import Example, examples
from test_programs import PROGRAMS, header, tensors_for

BOUNDS = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture(scope="module")
def process() -> Iterator[Interpreting]:
    made = Interpreting()
    yield made
    made.close()


def agree(want: dict[str, Tensor], got: dict[str, Tensor], bound: float) -> None:
    assert list(want) == list(got)
    for name, value in want.items():
        if not (value.is_floating_point() or value.is_complex()):
            assert torch.equal(value, got[name]), name
            continue
        finite = value[value.isfinite()]
        scale = max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
        found = got[name].to(value.dtype)
        assert torch.allclose(value, found, rtol=0, atol=bound * scale, equal_nan=True), name


@settings(max_examples=60)
@given(attention_examples(most=5))
def test_attention_programs(process: Interpreting, example: Example) -> None:
    real = next(t.dtype for t in example.tensors.values() if t.is_floating_point())
    want = interpret(example.program, example.tensors)
    agree(want, process.call(on_triton.run, str(example.program), dict(example.tensors)), BOUNDS[real])


@settings(max_examples=40)
@given(examples(most=4))
def test_any_program(process: Interpreting, example: Example) -> None:
    """In float64: what has a kernel by its kernel, the rest by its reference operation."""
    double = {name: t.double() if t.is_floating_point() else t for name, t in example.tensors.items()}
    double = {name: t.to(torch.complex128) if t.is_complex() else t for name, t in double.items()}
    want = interpret(example.program, double)
    agree(want, process.call(on_triton.run, str(example.program), double), 1e-9)


@pytest.mark.parametrize("family", ["pointwise", "contractions", "mixed"])
@settings(max_examples=6)
@given(data=st.data())
def test_families(process: Interpreting, family: str, data: st.DataObject) -> None:
    example = data.draw(FAMILIES[family])
    double = {name: t.double() if t.is_floating_point() else t for name, t in example.tensors.items()}
    want = interpret(example.program, double)
    agree(want, process.call(on_triton.run, str(example.program), double), 1e-9)


RUNNING = [path for path in PROGRAMS if header(path.read_text()).error is None]


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: path.stem)
def test_regression_programs(process: Interpreting, path: Path) -> None:
    text = path.read_text()
    program, case = plait.parse(text).program(), header(text)
    for sizes in case.sizes or [{}]:
        tensors = tensors_for(program, case, sizes)
        agree(interpret(program, tensors), process.call(on_triton.run, text, tensors), 1e-10)


def test_cpu_tensors_without_the_interpreter() -> None:
    assert os.environ.get("TRITON_INTERPRET") != "1"
    mixer = plait.parse("mixer twice(x[h]) -> y[h]:\n  y = 2*x\n")
    with pytest.raises(WrongDevice):
        plait.compile(mixer, backend="triton")(torch.ones(3))
