"""The arithmetic of a group, counted over its index domain, and the least bytes that it can move.

Both are formulas in the sizes: FLOPs are additions, multiplications, comparisons and functions of
reals, each one; integer arithmetic on indices is free. What masks exclude is counted all the same for
plain loops; for streams the window's ranges bound it, so the count is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...dsl.constructors.build import size
from ...dsl.ops import Kind
from ...dsl.program import Axis, Form, Leaf, Map, Otherwise, Reduce, When, children, walk
from ...dsl.proofs.algebra import formula
from ...dsl.shapes.size_forms import Extent, evaluate_size, is_batch
from .plan import Group, Stored


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


def word_of(axis: Axis) -> str:
    """A word for an axis: batch axes have none of their own."""
    return axis.name.replace("..", "batch") if is_batch(axis) else axis.name


def joined(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms over the same axes added up, largest domains first."""
    counts: dict[frozenset[Axis], Term] = {}
    for term in terms:
        key = frozenset(term.axes)
        before = counts[key].count if key in counts else 0
        counts[key] = Term(before + term.count, term.axes)
    return tuple(sorted(counts.values(), key=lambda term: (-len(term.axes), -term.count)))


def formula_of(terms: Iterable[Term]) -> str:
    """The terms as one formula in the sizes."""
    return formula([(term.count, [size(axis) for axis in term.axes]) for term in terms])


def traffic(form: Form) -> str:
    """Bytes of writing a value once and reading it once, reals at float32: `8*h*w`."""
    return formula_of([_traffic(form)])


def traffic_at(form: Form, sizes: Mapping[Axis, Extent]) -> int:
    """The same at these sizes."""
    return _traffic(form).at(sizes)


def _traffic(form: Form) -> Term:
    return Term(2 * BYTES[form.kind], form.axes)


BYTES: dict[Kind, int] = {"bool": 1, "int": 8, "real": 4, "complex": 8}
"""Bytes of one element; reals at float32."""


def operations(group: Group, stored: Mapping[Form, Stored]) -> tuple[Term, ...]:
    """The terms of a group's arithmetic, the largest domains together."""
    root = group.result.form

    def below(form: Form) -> tuple[Form, ...]:
        return () if form in stored and form != root else children(form)

    found: list[Term] = []
    for form in walk((root,), below):
        if (form in stored and form != root) or form.kind not in ("real", "complex"):
            continue
        found += _terms(form)
    return joined(found)


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
    return joined(Term(width.get(form.kind, BYTES[form.kind]), form.axes) for form in tensors)
