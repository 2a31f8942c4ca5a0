"""The arithmetic of a group, counted over its index domain, and the least bytes that it can move.

Both are formulas in the sizes: FLOPs are additions, multiplications, comparisons and functions of
reals, each one; integer arithmetic on indices is free. What masks exclude is counted all the same for
plain loops; for streams the window's ranges bound it, so the count is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..dsl.build import size
from ..dsl.program import Axis, Const, Form, Leaf, Map, Otherwise, Reduce, When, children, walk
from ..dsl.size_forms import Extent, evaluate_size, spell
from .plan import Group, Stored
from .traffic import BYTES


@dataclass(frozen=True, slots=True)
class Term:
    """`count` operations at every index of `axes`."""

    count: int
    axes: tuple[Axis, ...]

    def at(self, sizes: Mapping[Axis, Extent]) -> int:
        """The number at these sizes."""
        total = self.count
        for axis in self.axes:
            total *= evaluate_size(size(axis), sizes)
        return total

    def __str__(self) -> str:
        number, symbols = self.count, list[str]()
        for axis in self.axes:
            extent = size(axis)
            if isinstance(extent, Const) and isinstance(extent.value, int):
                number *= extent.value
            else:
                symbols.append(axis.name if axis.serial == 0 else f"({spell(extent)})")
        return "*".join([str(number), *symbols])


def operations(group: Group, stored: Mapping[Form, Stored]) -> tuple[Term, ...]:
    """The terms of a group's arithmetic, the largest domains together."""
    root = group.result.form

    def below(form: Form) -> tuple[Form, ...]:
        return () if form in stored and form != root else children(form)

    counts: dict[frozenset[Axis], tuple[int, tuple[Axis, ...]]] = {}
    for form in walk((root,), below):
        if (form in stored and form != root) or form.kind not in ("real", "complex"):
            continue
        for term in _terms(form):
            key = frozenset(term.axes)
            counts[key] = (counts.get(key, (0, ()))[0] + term.count, term.axes)
    return tuple(Term(count, axes) for count, axes in counts.values())


def _terms(form: Form) -> Iterable[Term]:
    match form:
        case Reduce(pieces=pieces):
            cost = 4 if form.op == "lse" else 1
            return [Term(cost, piece.value.axes) for piece in pieces]
        case Map() | When() | Otherwise():
            return [Term(1, form.axes)]
        case _:
            return []


def least_bytes(group: Group, stored: Mapping[Form, Stored], real_bytes: int) -> tuple[Term, ...]:
    """Every tensor that the group reads once, and its result written once."""
    root = group.result.form

    def below(form: Form) -> tuple[Form, ...]:
        return () if form in stored and form != root else children(form)

    read = [
        form for form in walk((root,), below) if (form in stored and form != root) or isinstance(form, Leaf)
    ]
    width = {"real": real_bytes, "complex": 2 * real_bytes}
    tensors = [*read, root]
    return tuple(Term(width.get(form.kind, BYTES[form.kind]), form.axes) for form in tensors)
