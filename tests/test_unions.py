"""Attention over unions of domains: one kernel each, on every backend, equal to the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

import on_triton
from agreement import agree, check_gradients, check_values, real_of
from attention_unions import union_examples
from interpreting import Interpreting
from plait.compiler.interpret import interpret
from plait.compiler.pipeline import plan_program
from plait.dsl.batch import expand_batch
from strategies import Example


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    """What is asked here is the values, not the speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-O1")
        yield


@settings(max_examples=200)
@given(union_examples())
def test_one_kernel(example: Example) -> None:
    plan = plan_program(expand_batch(example.program, 1), verify=True).plan
    assert [group.family for group in plan.groups] == ["stream"], [
        (group.result.name, group.reason) for group in plan.groups
    ]


@settings(max_examples=25)
@given(union_examples())
def test_values(example: Example) -> None:
    check_values(example)


@pytest.fixture(scope="module")
def process() -> Iterator[Interpreting]:
    made = Interpreting()
    yield made
    made.close()


@settings(max_examples=20)
@given(union_examples(most=4))
def test_values_on_triton(process: Interpreting, example: Example) -> None:
    found = process.call(on_triton.run, str(example.program), dict(example.tensors))
    agree(found, interpret(example.program, example.tensors), real_of(example))


@settings(max_examples=6)
@given(union_examples(most=4))
def test_gradients(example: Example) -> None:
    check_gradients(example)
