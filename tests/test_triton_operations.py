"""Every operation printed for Triton, on every choice of kinds that it takes and at its corners."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from interpreting import Interpreting
from kernel_sketches import (
    INF,
    Case,
    Sketch,
    elementwise,
)
from plait.backends.triton.ops import FOLDS, IDENTITY, SPELLINGS, WITHOUT_KERNEL
from plait.backends.triton.printer import library
from plait.compiler.meaning.interpret import OPERATIONS
from plait.compiler.meaning.partial import DTYPES
from plait.dsl.ops import OPS, Kind, join
from triton_cases import agrees, budget, launched


def test_every_operation_is_spelled() -> None:
    assert SPELLINGS.keys() | set(WITHOUT_KERNEL) == OPS.keys()
    assert not SPELLINGS.keys() & set(WITHOUT_KERNEL)
    assert FOLDS.keys() == IDENTITY.keys() == {"sum", "prod", "max", "min", "any", "all"}


def test_every_function_of_a_spelling_is_in_the_library() -> None:
    rows = (*SPELLINGS.values(), *FOLDS.values())
    templates = [text for row in rows for text in (row.reals, row.integers or "")]
    called = {name for text in templates for name in re.findall(r"(?<![\w.])(\w+)\(", text)}
    assert called <= library().keys()


REALS = [
    0.0,
    -0.0,
    1e-4,
    -1e-4,
    0.3,
    -0.3,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.5,
    -2.5,
    3.0,
    -4.0,
    6.75,
    20.0,
    -20.0,
]
REALS += [300.0, -300.0, 1e10, -1e10, float("inf"), float("-inf"), float("nan")]
INTEGERS = [-7, -3, -2, -1, 0, 1, 2, 3, 5, 1000]
SAMPLES: dict[Kind, list[float] | list[int] | list[bool]] = {
    "real": REALS,
    "int": INTEGERS,
    "bool": [True, False],
}


def samples(kinds: tuple[Kind, ...], real: torch.dtype) -> list[Tensor]:
    """All pairs of samples of these kinds."""
    columns = zip(*product(*(SAMPLES[kind] for kind in kinds)), strict=True)
    types = [real if kind == "real" else DTYPES[kind] for kind in kinds]
    return [torch.tensor(column, dtype=dtype) for column, dtype in zip(columns, types, strict=True)]


def operation_cases(op: str, real: torch.dtype, tile: int) -> list[tuple[Case, Tensor]]:
    """An operation on every choice of kinds that it takes, and the float64 values that it should give."""
    kinds: tuple[Kind, ...] = ("real", "int", "bool")
    made: list[tuple[Case, Tensor]] = []
    for chosen in product(kinds, repeat=OPS[op].arity):
        result = OPS[op].rule(chosen)
        if result not in kinds or (op == "pow" and "real" not in chosen):
            continue
        tensors = samples(chosen, real)
        common = DTYPES[join(*chosen, result)]
        wanted = OPERATIONS[op](*(tensor.to(common) for tensor in tensors)).to(DTYPES[result])
        made.append((elementwise(op, chosen, result, tensors, tile), wanted))
    assert made
    return made


@pytest.mark.parametrize("real", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", sorted(SPELLINGS))
def test_operations(triton: Interpreting, op: str, real: torch.dtype) -> None:
    for case, wanted in operation_cases(op, real, 256):
        (found,) = triton.call(launched, case)
        right(op, case, found, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("real", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", sorted(SPELLINGS))
def test_operations_on_a_gpu(op: str, real: torch.dtype) -> None:
    for case, wanted in operation_cases(op, real, 256):
        (found,) = launched(replace(case, tensors=[tensor.cuda() for tensor in case.tensors]))
        right(op, case, found.cpu(), wanted)


def right(op: str, case: Case, found: Tensor, wanted: Tensor) -> None:
    """Equal integers, truth values, infinities and NaN; reals within the budget of an operation."""
    if not found.is_floating_point():
        assert torch.equal(found, wanted), case.kernel
        return
    wanted = wanted.to(found.dtype)
    assert torch.equal(found.isnan(), wanted.isnan()), case.kernel
    finite = wanted.isfinite()
    assert torch.equal(found[wanted.isinf()], wanted[wanted.isinf()]), case.kernel
    tiny = torch.finfo(found.dtype).tiny
    size = wanted[finite].abs().clamp_min(tiny)
    error = (found - wanted)[finite].abs() / size
    # a power is exp of a logarithm, whose own rounding error grows with it
    chain = size.log().abs() * (8 if op == "pow" else 0)
    assert bool((error <= budget(found.dtype) + budget(found.dtype) / 8 * chain).all()), case.kernel


@pytest.mark.parametrize("op", ["floordiv", "round", "tanh", "and"])
def test_operations_on_numbers(triton: Interpreting, op: str) -> None:
    """The same without lanes, one number a program."""
    for case, _ in operation_cases(op, torch.float32, 1):
        agrees(triton, Case(case.kernel, [tensor[:7] for tensor in case.tensors], [min(7, case.sizes[0])]))


def test_truth_values_become_numbers(triton: Interpreting) -> None:
    results: dict[str, Kind] = {"to_int": "int", "to_real": "real"}
    for op, result in results.items():
        case = elementwise(op, ("bool",), result, [torch.tensor([True, False, True])], 2)
        agrees(triton, case)


@pytest.mark.parametrize("power", [-4, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 1.7, INF])
def test_powers_of_literals(triton: Interpreting, power: float) -> None:
    k = Sketch({"N": 9})
    k.given("x", torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 1e-3, 1e3, 7.0, 0.1]))
    k.output("o", 9)
    k.tiled("i", "N", 4)
    k.load("X", "x", "i", mask="i.valid")
    k.let("r", "pow", "X", power)
    k.store("o", "i", value="r", mask="i.valid")
    agrees(triton, k.case())
