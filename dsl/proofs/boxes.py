"""How much there is to evaluate, and in which parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product

from ..program import At, Axis, Form, Reduce, walk
from ..shapes.size_forms import Extent, axis_range
from .presence import parts_of

Ranges = Mapping[Axis, range]

PART_CELLS = 1 << 20
"""The cells that are evaluated at once; a larger box is done in parts."""


def tabulated(predicate: Form) -> list[Form]:
    """The predicates that are read at other indices and have an `any` inside: each is evaluated on its own
    box first, operands before users, so that nested windows add up and do not multiply."""
    reduced: set[Form] = set()
    found: list[Form] = []
    for form in walk((predicate,), parts_of):
        if isinstance(form, Reduce) or any(part in reduced for part in parts_of(form)):
            reduced.add(form)
        if isinstance(form, At) and form.value in reduced and form.value not in found:
            found.append(form.value)
    return found


def nested_cells(predicate: Form, sizes: Mapping[Axis, Extent]) -> int:
    """The most cells that reductions add to one cell, what is tabulated left out."""
    tables = set(tabulated(predicate))

    def operands(form: Form) -> tuple[Form, ...]:
        return () if form in tables and form != predicate else parts_of(form)

    weights: dict[Form, int] = {}
    for form in walk((predicate,), operands):
        weight = max((weights[part] for part in operands(form)), default=1)
        if isinstance(form, Reduce):
            weight *= math.prod(len(axis_range(axis, sizes)) for piece in form.pieces for axis in piece.axes)
        weights[form] = weight
    return weights[predicate]


def volume(predicate: Form, sizes: Mapping[Axis, Extent]) -> int:
    """The cells that evaluating the predicate everywhere goes through, about."""
    return sum(
        math.prod(len(axis_range(axis, sizes)) for axis in form.axes) * nested_cells(form, sizes)
        for form in (*tabulated(predicate), predicate)
    )


def parts(ranges: Ranges, cells: int) -> Iterator[dict[Axis, range]]:
    """The box cut along its first axes into boxes of at most `cells` cells, at least one each."""
    room = max(1, cells)
    pieces: list[list[range]] = []
    for indices in reversed(list(ranges.values())):
        step = max(1, min(len(indices), room))
        room //= max(1, step)
        pieces.append([indices[at : at + step] for at in range(0, len(indices), step)])
    for chosen in product(*reversed(pieces)):
        yield dict(zip(ranges, chosen, strict=True))
