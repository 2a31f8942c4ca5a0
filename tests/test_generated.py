"""A hundred programs: what the interpreter, the book, fx and the text say of them; test_attack.py asks the backends.

`examples()` writes all forms at random; `FAMILIES` are networks of the layers that kernels are written for.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement import agree
from attention_family import attention_examples
from denotation import Meaning, differences
from kernel_families import FAMILIES
from plait.compiler.meaning.interpret import interpret, run
from plait.compiler.meaning.memory import plan
from plait.compiler.meaning.partial import batch
from plait.compiler.meaning.storage import load_all
from plait.compiler.meaning.to_fx import to_fx
from plait.dsl.canonical import canonical
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.mistakes import AbsentOutput
from plait.dsl.printing.show import show
from plait.dsl.program import BATCH, Program, Scalar
from plait.dsl.proofs.check import check, check_sizes
from plait.dsl.proofs.totality import analyse
from plait.dsl.shapes.size_forms import program_axes
from plait.dsl.shapes.sizes import bind_sizes
from plait.dsl.text.parse import parse_text
from strategies import Example, any_tensors, examples

MOST_BY_THE_BOOK = 20_000
"""Entries of all values together, above which a program is not read by the book: it is slow."""


FAMILY = st.one_of(*FAMILIES.values())
"""A program of any family."""


@settings(max_examples=100)
@given(examples() | FAMILY)
def test_fx_equals_the_interpreter(example: Example) -> None:
    module = to_fx(example.program)
    module.graph.lint()
    expected = interpret(example.program, example.tensors)
    found = module(*(example.tensors[each.leaf.name] for each in example.program.declarations))
    torch.testing.assert_close(found, tuple(expected.values()), rtol=0, atol=0, equal_nan=True)


@settings(max_examples=100)
@given(examples(depth=3, most=3))
def test_interpreter_by_the_book(example: Example) -> None:
    assert wrong_by_the_book(example) == []


@settings(max_examples=20)
@given(attention_examples(most=3) | FAMILY)
def test_families_by_the_book(example: Example) -> None:
    assert wrong_by_the_book(example) == []


def wrong_by_the_book(example: Example) -> list[str]:
    """Where a value of the interpreter is not what its form means; nothing for a large program."""
    sizes = bind_sizes(example.program, shapes(example))
    leaves = load_all(example.program, example.tensors, sizes)
    values = run([(form, ()) for form, _ in plan(example.program.roots)], leaves, sizes)
    if sum(value.data.numel() for value in values.values()) > MOST_BY_THE_BOOK:
        return []
    return differences(values, Meaning({leaf: value.data for leaf, value in leaves.items()}, sizes))


@settings(max_examples=50)
@given(examples())
def test_an_expanded_batch_means_the_same(example: Example) -> None:
    count = len(batch(bind_sizes(example.program, shapes(example))))
    expanded = expand_batch(example.program, count)
    assert BATCH not in {axis for form in expanded.forms for axis in form.axes}
    agree(interpret(expanded, example.tensors), example.program, example.tensors, torch.float64)


@settings(max_examples=100)
@given(examples() | FAMILY)
def test_the_text_reads_back_to_an_equal_program(example: Example) -> None:
    program = example.program
    again = read(show(program), dict(program.statics))
    assert canonical(again) == canonical(program)
    assert again == program
    assert read(show(again), dict(program.statics)) == program
    torch.testing.assert_close(
        interpret(again, example.tensors), interpret(program, example.tensors), rtol=0, atol=0, equal_nan=True
    )


def read(text: str, statics: Mapping[str, Scalar | str]) -> Program:
    """The program of the one mixer in a text."""
    (mixer,) = parse_text(text)
    return elaborate(mixer, statics, {})


@settings(max_examples=100)
@given(examples() | FAMILY)
def test_the_checker_lets_them_pass(example: Example) -> None:
    check(example.program)
    check_sizes(example.program, bind_sizes(example.program, shapes(example)))


@settings(max_examples=200)
@given(examples(depth=2, filled=False))
def test_what_the_checker_passes_is_present(example: Example) -> None:
    """Programs that may be absent somewhere: none that is proved, or checked for its sizes, is."""
    try:
        check(example.program)
        check_sizes(example.program, bind_sizes(example.program, shapes(example)))
    except AbsentOutput:
        return
    interpret(example.program, example.tensors)


@settings(max_examples=200)
@given(examples(depth=2, filled=False))
def test_what_is_refuted_is_absent(example: Example) -> None:
    """Where the checker is sure of an absence, the interpreter finds it at the sizes that it names."""
    signature = {axis: 1 for axis in program_axes(example.program) if axis.size is None}
    for _, absence in analyse(example.program).refuted:
        if absence.surely:
            sizes = {**signature, BATCH: (), **absence.sizes}
            with pytest.raises(AbsentOutput):
                interpret(example.program, any_tensors(example.program, sizes), sizes)


def shapes(example: Example) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in example.tensors.items()}
