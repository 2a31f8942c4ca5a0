"""How far two computations of one function of torch may be apart: the budget, times what the function makes of
a unit in what it is given.

For results of which no program is at hand, such as a Hessian through several calls; `agreement.beside` has the
bound of each entry where one is. A computation whose every operation keeps the budget gives the exact results of
numbers that are off by as many units (backward errors: N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 1.5). What one unit does is measured, not chosen: each number given moves by `STEP` of
itself, up or down, and so do the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from plait.backends.budget import Way, budget

STEP = 2.0**-26
"""The square root of float64's unit: what it hides, and what its square adds, are equally little."""

DRAWS = 4
"""How often all numbers move at once, with other signs."""

Function = Callable[..., Tensor | Sequence[Tensor]]


def same(found: Tensor | Sequence[Tensor], function: Function, *tensors: Tensor, way: Way) -> None:
    """`found` are the results of `function` at `tensors`, which it is given in float64: each to within the
    budget of the longest `way` to it, beside its largest entry."""
    results = _several(found)
    wide = [_wide(each) for each in tensors]
    wanted = [each.detach() for each in _several(function(*wide))]
    assert len(results) == len(wanted)
    moves = moved(function, wanted, wide)
    for place, (got, value, move) in enumerate(zip(results, wanted, moves, strict=True)):
        assert got.shape == value.shape, place
        if not value.numel():
            continue
        real = got.dtype.to_real()
        granted = budget(real, way.length, way.operations, products=way.products)
        granted += budget(torch.float64, way.length, way.operations)
        off = (got.detach().to(value.dtype).cpu() - value).abs().max().item()
        assert off <= granted * (value.abs().max().item() + move), (place, off, granted, move)


def condition(function: Function, *tensors: Tensor) -> float:
    """How many units the results of a function move, beside their largest entry, when all numbers given move
    by one; and one for the last rounding."""
    at = [each.detach() for each in _several(function(*tensors))]
    moves = moved(function, at, tensors)
    largest = [each.abs().max().item() for each in at]
    return 1 + max(move / most for move, most in zip(moves, largest, strict=True) if most)


def moved(function: Function, at: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[float]:
    """How far the furthest entry of each result moves, in units, when every number given moves by one."""
    generator = torch.Generator().manual_seed(17)
    most = [0.0] * len(at)
    for _ in range(DRAWS):
        near = [_nudged(each, generator) for each in tensors]
        for place, value in enumerate(_several(function(*near))):
            change = (value.detach() - at[place]).abs()
            most[place] = max(most[place], change.max().item() / STEP if change.numel() else 0.0)
    return most


def _nudged(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor
    signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
    return (tensor.detach() * (1 + STEP * signs)).requires_grad_(tensor.requires_grad)


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        wide = tensor.detach().to(torch.complex128)
    else:
        wide = tensor.detach().double() if tensor.is_floating_point() else tensor
    return wide.requires_grad_(tensor.requires_grad)


def _several(made: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (made,) if isinstance(made, Tensor) else tuple(made)
