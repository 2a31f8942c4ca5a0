"""The budget of a call, entry by entry: what it grows with, and what it tells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import plait
from plait.backends.budget import OPERATION, unit
from plait.backends.rounding import allowed
from plait.compiler.meaning.interpret import interpret
from plait.dsl.mistakes import NotYet

OWN = unit(torch.float32)


def bound(text: str, **tensors: Tensor) -> Tensor:
    """That of the one result, computed in float32."""
    (found,) = allowed(plait.parse(text).program(), tensors, torch.float32).values()
    return found


def test_reads_round_nothing() -> None:
    """But for the smallest number there is."""
    text = "mixer f(x[h]) -> y[h]:\n  y = maximum(x[size(h)-1-h], -x) otherwise 0\n"
    assert bound(text, x=torch.randn(5)).max() < 1e-44


def test_an_operation_rounds_by_its_units() -> None:
    x = torch.tensor([1.0, -8.0])
    assert bound("mixer f(x[h]) -> y[h]:\n  y = x * x\n", x=x).tolist() == pytest.approx(
        (OPERATION * OWN * x.double() ** 2).tolist()
    )


def test_cancellation_is_part_of_it() -> None:
    """The sum of what cancels is small, and its error is that of its terms."""
    x = torch.tensor([1e6, -1e6, 1.0])
    found = bound("mixer f(x[h]) -> y:\n  y = sum[h](x)\n", x=x)
    assert found.item() == pytest.approx(3 * OWN * 2e6, rel=1e-3)


def test_what_is_masked_has_no_error() -> None:
    """The error at an index is that of what is read there: not of what is elsewhere, infinite or not."""
    text = "mixer f(x[h]) -> y[h]:\n  y = when(h < 2, x * x) otherwise 0\n"
    found = bound(text, x=torch.tensor([1.0, 2.0, torch.inf, torch.nan]))
    assert found[:2].isfinite().all() and found[2:].max() < 1e-44


def test_a_steep_place_hands_on_more() -> None:
    text = "mixer f(x[h]) -> y[h]:\n  y = 1 / (x - 1)\n"
    near, far = bound(text, x=torch.tensor([1.001, 3.0]))
    assert near > 1e3 * far
    root = bound("mixer f(x[h]) -> y[h]:\n  y = sqrt(x*x - 1)\n", x=torch.tensor([1.0, 2.0]))
    assert OPERATION * OWN < root[0] < 1e-3 and root[1] < 40 * OWN


def test_constants_that_the_type_lacks() -> None:
    x = torch.ones(1)
    exact, rounded = (bound(f"mixer f(x[h]) -> y[h]:\n  y = {c} * x\n", x=x).item() for c in (0.5, 0.1))
    assert exact == pytest.approx(0.5 * OPERATION * OWN) and rounded > 0.1 * (OPERATION + 0.9) * OWN


def test_what_overflows_says_nothing() -> None:
    found = bound("mixer f(x[h]) -> y[h]:\n  y = exp(x)\n", x=torch.tensor([1.0, 100.0]))
    assert found.isinf().tolist() == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_storing_rounds_once_more(dtype: torch.dtype) -> None:
    made = plait.parse("mixer f(x[h]) -> y[h]:\n  y = x * x\n").program()
    x = torch.tensor([3.0, 0.5]).to(dtype)
    (found,) = allowed(made, {"x": x}, dtype).values()
    assert found.tolist() == pytest.approx((unit(dtype) * x.double() ** 2).tolist(), rel=1e-2)


def test_factors_on_matrix_units() -> None:
    made = plait.parse("mixer f(x[h, c], w[c]) -> y[h]:\n  y = sum[c](x * w)\n").program()
    given = {"x": torch.ones(2, 5).bfloat16(), "w": torch.ones(5).bfloat16()}
    (plain,), (rounded,) = (
        allowed(made, given, torch.bfloat16, matrix_units=units).values() for units in (False, True)
    )
    assert (rounded - plain).tolist() == pytest.approx([5 * unit(torch.bfloat16)] * 2, rel=0.01)


def test_float32_keeps_it_and_a_truncated_sum_does_not() -> None:
    """The worst of a run of rounded sums lies within, and one carried in half the digits lies without."""
    made = plait.parse("mixer f(x[h, c]) -> y[h]:\n  y = sum[c](x * x)\n").program()
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(1))
    (meant,) = interpret(made, {"x": x}).values()
    (within,) = allowed(made, {"x": x}, torch.float32).values()
    total, short = torch.zeros(20), torch.zeros(20)
    for column in x.unbind(1):
        total = total + column * column
        short = (short + column * column).bfloat16().float()
    assert ((total - meant).abs() <= within).all()
    assert ((short - meant).abs() > within).all()


def test_whole_numbers_are_exact() -> None:
    (found,) = allowed(
        plait.parse("mixer f(x[h]) -> y[h]: int:\n  y = floor(x)\n").program(),
        {"x": torch.ones(3)},
        torch.float32,
    ).values()
    assert found.tolist() == [0, 0, 0]


def test_a_scan_has_no_bound_yet() -> None:
    h = plait.axes("h")

    @plait.mixer("x[h] -> y[h]")
    def decayed(x):
        before = plait.previous(h, init=0.0)
        return plait.scan(before, 0.5 * before + x)

    with pytest.raises(NotYet):
        allowed(decayed.program(), {"x": torch.ones(3)}, torch.float32)
