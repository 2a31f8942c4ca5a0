"""The one statement of rounding errors: what it grows with, that kernels keep it, and that it tells if they did not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree_gradients
from plait.backends.budget import OPERATION, SPREAD, Way, budget, computed, longest_way, unit
from plait.backends.compiled import Compiled
from plait.dsl.program import Axis
from precisions import ATTENTION, FAMILIES, bound, exact, name_of, off, program, tensors

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def test_units() -> None:
    assert unit(torch.bfloat16) == 2**-8 and unit(torch.float16) == 2**-11
    assert unit(torch.float32) == 2**-24 and unit(torch.float64) == 2**-53
    assert {computed(dtype) for dtype in DTYPES[1:]} == {torch.float32}


@dtypes
def test_it_grows_with_what_it_is_a_function_of(dtype: torch.dtype) -> None:
    at_least = unit(dtype)
    assert at_least < budget(dtype, 1) < budget(dtype, 10) < budget(dtype, 1000) < budget(dtype, 1000, 20)
    assert budget(dtype, 10, condition=2) > budget(dtype, 10)
    assert budget(dtype, 0, 0) == (0 if dtype == computed(dtype) else at_least)


def test_short_sums_are_bounded_for_sure_and_long_ones_by_chance() -> None:
    own = unit(torch.float32)
    assert budget(torch.float32, 60, 0) == pytest.approx(60 * own)
    assert budget(torch.float32, 10_000, 0) == pytest.approx(SPREAD * 100 * own)
    assert budget(torch.float32, 1, 3) == pytest.approx((3 * OPERATION + 1) * own)


def way(text: str, **sizes: int) -> Way:
    return longest_way(program(text), {Axis(name): size for name, size in sizes.items()})


def test_the_longest_way() -> None:
    assert way("mixer a(x[t]) -> z[t]:\n  z = exp(x) + x", t=5) == Way(2, 0)
    assert way("mixer a(x[t, c]) -> z[t]:\n  z = sum[c](exp(x)) * 2.0", t=5, c=7) == Way(3, 7)
    twice = "mixer a(x[t, c]) -> y[t], z:\n  y = sum[c](x)\n  z = sum[t](y * y)"
    assert way(twice, t=5, c=7) == Way(3, 12)
    maps = "mixer a(x[t, c], u[e, c], v[c, e]) -> z[t, c]:\n  h = exp(sum[c](u * x))\n  z = sum[e](v * h)"
    assert way(maps, t=5, c=7, e=9) == Way(5, 16, 2)
    assert way("mixer a(x[t, c]) -> z:\n  z = sum[t, c](x)", t=5, c=7) == Way(1, 35)


@dtypes
@pytest.mark.parametrize("text", FAMILIES, ids=name_of)
def test_kernels_keep_it(text: str, dtype: torch.dtype) -> None:
    made = program(text)
    for seed in range(3):
        given = tensors(text, dtype, seed)
        (found,) = Compiled(made, on_unfused="error").run(given).values()
        (wanted,) = exact(made, given).values()
        assert off(found, wanted) <= bound(made, given, dtype), seed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_keep_it(dtype: torch.dtype) -> None:
    made = program(ATTENTION)
    given = {name: each.requires_grad_() for name, each in tensors(ATTENTION, dtype).items()}
    out = plait.compile(made)(**given)
    assert isinstance(out, Tensor)
    found = dict(zip(given, torch.autograd.grad(out.sum(), list(given.values())), strict=True))
    agree_gradients(found, made, given, {"o": torch.ones_like(out)}, dtype)


# --- what it must not let pass


def summed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A running sum whose every step is rounded to `dtype`."""
    total = torch.zeros(x.shape[0], dtype=dtype)
    for column in x.unbind(1):
        total = (total + column.to(dtype)).to(dtype)
    return total


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_sum_that_is_carried_in_16_bits_breaks_it(dtype: torch.dtype) -> None:
    x = torch.randn(8, 400, generator=torch.Generator().manual_seed(2)).to(dtype)
    meant = x.double().sum(1)
    assert off(summed(x, torch.float32).to(dtype), meant) <= budget(dtype, 400)
    assert off(summed(x, dtype), meant) > budget(dtype, 400)


def test_a_result_that_went_through_16_bits_breaks_that_of_float32() -> None:
    x = torch.randn(8, 400)
    assert off(x.sum(1).bfloat16().float(), x.double().sum(1)) > budget(torch.float32, 400)


def test_a_value_in_float32_breaks_that_of_float64() -> None:
    x = torch.randn(8, 400, dtype=torch.float64)
    assert off(x.exp().float(), x.exp()) > budget(torch.float64)
