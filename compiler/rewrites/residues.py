"""Coordinates by their residue: what moves by steps of s is, in each class of coordinates modulo s, contiguous.

A coordinate h of an axis is `low + s*u + r` with its place u in its class and its residue r. An index
`h + s*j` is `low + s*(u + j) + r`: within a class a dilated window is a plain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ...dsl.constructors.build import apply, low, make_axis, size
from ...dsl.program import Axis, Const, Coordinate, Form, Map
from .affine import Monomial, Polynomial, divided, from_polynomial, polynomial


@dataclass(frozen=True, slots=True)
class Classes:
    """The coordinates of an axis modulo `step`: low + step * place + residue. The residue runs over the classes that
    are not empty; a class has as many places as the longest, of which the last may lie beyond the axis."""

    axis: Axis
    step: Form
    place: Axis
    residue: Axis

    @property
    def coordinate(self) -> Form:
        """The coordinate, over place and residue."""
        whole = apply("add", apply("mul", self.step, Coordinate(self.place)), Coordinate(self.residue))
        return apply("add", low(self.axis), whole)

    def places(self, residue: Form) -> Form:
        """How many places of the class of a residue lie on the axis."""
        return count_from(self.axis, self.step, residue)


def count_from(axis: Axis, step: Form, first: Form) -> Form:
    """How many coordinates low + first + step*i an axis has: 0 < first + 1 <= step."""
    beyond = apply("sub", apply("add", size(axis), apply("sub", step, Const(1))), first)
    return apply("floordiv", beyond, step)


@lru_cache(maxsize=4096)
def classes_of(axis: Axis, step: Form) -> Classes:
    """The classes of an axis: the same two axes for the same step, so that what is solved for them compares."""
    return Classes(
        axis,
        step,
        make_axis(f"{axis.name}_place", Const(0), count_from(axis, step, Const(0)), "axis"),
        make_axis(f"{axis.name}_residue", Const(0), apply("minimum", step, size(axis)), "axis"),
    )


def remainder(form: Form, step: Form) -> Form:
    """An integer that is the same as `form` modulo `step`, of as few terms as can be seen."""
    terms = _modulo(polynomial(form), step)
    found = Const(0) if not terms else from_polynomial(terms)
    if isinstance(found, Const) and isinstance(step, Const):
        return apply("mod", found, step)
    return found


def _modulo(terms: Polynomial, step: Form) -> dict[Monomial, int]:
    """The terms that are no multiples of the step; `x % step` is x."""
    kept: dict[Monomial, int] = {}
    for monomial, factor in terms.items():
        for left, times in _plainly(monomial, factor, step).items():
            kept[left] = kept.get(left, 0) + times
    return _others({monomial: factor for monomial, factor in kept.items() if factor}, step)


def _plainly(monomial: Monomial, factor: int, step: Form) -> dict[Monomial, int]:
    match monomial:
        case (Map(op="mod", args=(number, by)),) if by == step:
            return {left: factor * times for left, times in _modulo(polynomial(number), step).items()}
        case _:
            return {monomial: factor}


def _others(terms: Polynomial, step: Form) -> dict[Monomial, int]:
    """The terms that are no multiples of the step, with the least factors that are not negative, of a number."""
    if isinstance(step, Const):
        by = int(step.value.real)
        return {monomial: factor % by for monomial, factor in terms.items() if factor % by}
    by_step = polynomial(step)
    return {m: factor for m, factor in terms.items() if divided({m: factor}, by_step) is None}


def only_residues(form: Form, axis: Axis) -> bool:
    """Whether a remainder depends on a coordinate by its residue only: it occurs in sums and products."""
    return all(
        isinstance(atom, Coordinate) or axis not in atom.axes
        for monomial in polynomial(form)
        for atom in monomial
    )


def placed(form: Form, classes: Mapping[Axis, Classes]) -> Form:
    """An integer over places and residues in place of the coordinates of some axes; `(step*u + r) // step` is u."""
    if not set(form.axes) & set(classes):
        return form
    match form:
        case Coordinate(axis=axis):
            return classes[axis].coordinate
        case Map(op="floordiv" | "mod" as op, args=(number, by)):
            return _digit(op, placed(number, classes), by, classes)
        case Map(op=op, args=args):
            return _normal(apply(op, *(placed(each, classes) for each in args)))
        case _:
            return form


def residue(form: Form, step: Form, classes: Mapping[Axis, Classes]) -> Form:
    """form % step, for one over places and residues."""
    return _digit("mod", form, step, classes)


def _normal(form: Form) -> Form:
    return from_polynomial(polynomial(form)) if form.kind == "int" else form


def _digit(op: str, number: Form, by: Form, classes: Mapping[Axis, Classes]) -> Form:
    """(by*n + rest) // by = n + rest // by; the quotient of a residue is 0."""
    terms, step = polynomial(number), polynomial(by)
    whole = {m: factor for m, factor in terms.items() if divided({m: factor}, step) is not None}
    rest = from_polynomial({m: factor for m, factor in terms.items() if m not in whole})
    small = any(rest == Coordinate(each.residue) and by == each.step for each in classes.values())
    if op == "mod":
        return rest if small else apply("mod", rest, by)
    quotient = from_polynomial(divided(whole, step) or {})
    if isinstance(rest, Const) and isinstance(by, Const):
        return _normal(apply("add", quotient, apply("floordiv", rest, by)))
    return quotient if small else _normal(apply("add", quotient, apply("floordiv", rest, by)))
