"""The error that rounding may cause, stated once: tests and reports take their bounds from here.

Let u be the unit roundoff of the type that is computed in (float32; float64 for float64 tensors) and n the
number of terms of the longest sum. Each operation on the way to a result rounds to within 5 u (the bound
that tests/test_math.py holds the elementary functions to; + - * / and square roots to 1 u). Sums are of n
rounded terms in some order: n u at worst, and with near certainty less than 8 sqrt(n) u, since the errors
are of random sign (N. J. Higham and T. Mary, A new approach to probabilistic rounding error analysis, SIAM
J. Sci. Comput. 41, 2019, theorem 3.1). What is stored in fewer bits is rounded once more, by its own unit.

On a GPU the matrix units take a factor that was computed in the 16 bits that the other factor is stored in:
it is rounded once, so each product on the way adds the unit of that type, of the size of its terms. Their sum
is float32's. The CPU rounds no factor.

All of it is relative to the size of the terms that the result is a sum of. `condition` is how many times
smaller than these the scale is that a test divides by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..compiler.fusion.contraction import is_product
from ..dsl.constructors.build import size
from ..dsl.program import Axis, Form, Map, Place, Program, Reduce, Scan, children, walk
from ..dsl.shapes.size_forms import evaluate_size

OPERATION = 5.0
"""Units that one operation may be off by."""

POWER = 2
"""Operations that a power counts for: it is exp of a product with a logarithm."""

SPREAD = 8.0
"""How many standard deviations of a random walk are granted to a sum."""


def unit(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def computed(dtype: torch.dtype) -> torch.dtype:
    """The dtype that tensors of `dtype` are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def budget(
    dtype: torch.dtype, length: int = 1, operations: int = 8, condition: float = 1.0, products: int = 0
) -> float:
    """The largest error of a result of `dtype` beside its scale, after `operations` one after another, of
    which the sums have `length` terms altogether. `products` of 16-bit numbers run on matrix units."""
    own = unit(computed(dtype))
    grown = own * (OPERATION * operations + min(length, SPREAD * length**0.5)) * condition
    return grown if dtype == computed(dtype) else grown + unit(dtype) * (1 + products * condition)


@dataclass(frozen=True, slots=True)
class Way:
    """The longest way through a program to a result: operations, terms of the sums on it, and how many of
    these are sums of products."""

    operations: int
    length: int
    products: int = 0


def there_and_back(way: Way) -> Way:
    """The way of a gradient: the values first, then each operation once more by its slope and the product with
    it, each sum once more."""
    return Way(3 * way.operations, 2 * way.length, 3 * way.products)


def longest_way(program: Program, sizes: Mapping[Axis, int]) -> Way:
    """Of all outputs and updates, at the sizes of a call (batch axes explicit). A place may add up as many
    terms as its value has along the axes that go."""
    ways: dict[Form, Way] = {}
    results = [each.value for each in (*program.outputs, *program.updates)]
    for form in walk(tuple(results), children):
        before = [ways[child] for child in children(form)]
        operations = max((way.operations for way in before), default=0)
        length = max((way.length for way in before), default=0)
        products = max((way.products for way in before), default=0) + is_product(form, ())
        ways[form] = replace(_after(form, operations, length, sizes), products=products)
    found = [ways[form] for form in results]
    return Way(*(max(getattr(way, key) for way in found) for key in ("operations", "length", "products")))


def _after(form: Form, operations: int, length: int, sizes: Mapping[Axis, int]) -> Way:
    match form:
        case Map(op="pow"):
            return Way(operations + POWER, length)
        case Map():
            return Way(operations + 1, length)
        case Reduce(pieces=pieces):
            terms = [_terms(piece.axes, sizes) for piece in pieces]
            return Way(operations + 1, length + sum(terms))
        case Place(value=value):
            summed = tuple(axis for axis in value.axes if axis not in form.axes)
            return Way(operations + 1, length + _terms(summed, sizes))
        case Scan(axis=axis):
            steps = max(1, _terms((axis,), sizes))
            return Way(operations * steps, length * steps)
        case _:
            return Way(operations, length)


def _terms(axes: tuple[Axis, ...], sizes: Mapping[Axis, int]) -> int:
    count = 1
    for axis in axes:
        count *= evaluate_size(size(axis), sizes)
    return count
