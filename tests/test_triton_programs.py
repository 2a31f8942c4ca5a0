"""Generated programs through the whole pipe on the Triton backend, under its interpreter: values only."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

import on_triton
import plait
from agreement import agree, real_of
from attention_family import attention_examples
from interpreting import Interpreting
from kernel_families import FAMILIES
from plait.dsl.mistakes import WrongDevice
from strategies import Example, drawn, examples
from test_programs import PROGRAMS, header, tensors_for


def check_in(triton: Interpreting, example: Example) -> None:
    """bfloat16 is asked for on a GPU only: the interpreter of Triton truncates to it."""
    tensors = {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in example.tensors.items()}
    example = replace(example, tensors=tensors)
    found = triton.call(on_triton.run, str(example.program), dict(tensors))
    agree(found, example.program, tensors, real_of(example), "triton")


@settings(max_examples=30)
@given(attention_examples(most=4, outer_most=2))
def test_attention_programs(triton: Interpreting, example: Example) -> None:
    check_in(triton, example)


@settings(max_examples=20)
@given(examples(most=4))
def test_any_program(triton: Interpreting, example: Example) -> None:
    """What has a kernel by its kernel, the rest by its reference operation."""
    check_in(triton, example)


SOME = {"pointwise": 5, "reductions": 4, "windows": 2, "contractions": 4, "heads": 2, "unions": 2, "mixed": 3}
"""How many programs of each family: the interpreter takes about a second a kernel."""


def test_every_family_is_drawn() -> None:
    assert {*SOME, "attention"} == set(FAMILIES)


@pytest.mark.parametrize("family", SOME)
def test_families(triton: Interpreting, family: str) -> None:
    drawn(FAMILIES[family], SOME[family], lambda example: check_in(triton, example))


RUNNING = [path for path in PROGRAMS if header(path.read_text()).error is None]


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: path.stem)
def test_regression_programs(triton: Interpreting, path: Path) -> None:
    text = path.read_text()
    program, case = plait.parse(text).program(), header(text)
    for sizes in case.sizes or [{}]:
        tensors = tensors_for(program, case, sizes)
        found = triton.call(on_triton.run, text, tensors)
        agree(found, program, tensors, torch.float64, "triton")


def test_cpu_tensors_without_the_interpreter() -> None:
    assert os.environ.get("TRITON_INTERPRET") != "1"
    mixer = plait.parse("mixer twice(x[h]) -> y[h]:\n  y = 2*x\n")
    with pytest.raises(WrongDevice):
        plait.compile(mixer, backend="triton")(torch.ones(3))
