"""Reductions over `...`: values and gradients, for any number of batch axes."""

from __future__ import annotations

import pytest
import torch

import plait
from agreement import check_gradients, check_values
from plait.dsl.mistakes import NotYet
from strategies import Example

BATCHES = [(), (2, 3)]


def example(statement: str, batch: tuple[int, ...], header: str = "y[h]") -> Example:
    program = plait.parse(f"mixer reduced(x[..., h], z[h]) -> {header}:\n  {statement}\n").program()
    x = torch.randn(*batch, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Example(program, {"x": x, "z": x.reshape(-1, 4).sum(0)}, {})


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    "statement",
    [
        "y = max[...](x) + z",
        "y = z * min[..., h](x*x)",
        "y = lse[...](x) * z",
        "y = mean[... | h != 1](x * z) otherwise 1",
    ],
)
def test_gradients(statement: str, batch: tuple[int, ...]) -> None:
    check_values(example(statement, batch))
    check_gradients(example(statement, batch))


@pytest.mark.parametrize("batch", BATCHES)
def test_argmax_beside_the_batch(batch: tuple[int, ...]) -> None:
    check_values(example("y = argmax[..., h: h](x + z)", batch, "y"))


def test_gradient_of_a_product_is_refused() -> None:
    with pytest.raises(NotYet, match=r"the derivative of a product over `\.\.\.`"):
        check_gradients(example("y = prod[...](x) * z", (2,)))
