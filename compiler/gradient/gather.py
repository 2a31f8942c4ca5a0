"""Place turned into reads: the sum over what lands at h becomes a sum over where it comes from.

`place(y, {h: e(i)})` at h sums y over the i with e(i) = h. Each equation is solved for one summed axis,
which is then read at the solution; the other axes stay summed. The steps, for each equation:

    no summed axis in e         e = h                   when(h == e, .)
    all digits of a number      e = s*i + k, k in 0..s  k := h % s, i := h // s
    both parts of a division    h = u // s, g = u % s   u = s*h + g
    a unit coefficient          e = rest + i            i := h - rest; outside i's range is the border
    round a circle              e = (rest + i) % n      i := (h - rest) % n, where i has n indices
                                e = u % n               the line of u, folded (`reflections.py`)
    one part of a division      e = u // s              u = s*h + r, summed over r in 0..s
    a stride alone              e = rest + s*i          when((h - rest) % s == 0, .), i := (h - rest) // s
    a clamp                     e = clamp(u, lo, hi)    the interior, and the two borders as a union
    a reflection                e = reflect(u, n)       the line of u, folded (`reflections.py`)

What depends on data stays a place; so does what lands by its place in `...`, which stands for
any number of axes and is read at no index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from ...dsl.constructors.build import apply, like_axis, low, make_axis, size
from ...dsl.program import (
    BATCH,
    Axis,
    Const,
    Coordinate,
    Form,
    Map,
    Piece,
    Place,
    Program,
    Reduce,
)
from ..rewrites.affine import (
    Polynomial,
    affine,
    combination,
    divided,
    from_polynomial,
    is_positive,
    normal,
    polynomial,
    unturned,
)
from ..rewrites.conditions import Conditions, optional_leaves
from ..rewrites.rewrite import border, guarded, push_read, pushed, spread
from ..rewrites.simplify import Rewriter, rewrite_program
from .indices import into_clamp, parts, quotients
from .reflections import unfolded
from .skewed import Skewed


def gather(program: Program) -> Program:
    """The program with every place that can be turned into reads turned into them."""
    conditions = Conditions(optional_leaves(program))
    rule = partial(place_to_reads, positive=quotients(program))
    return rewrite_program(program, Rewriter({Place: (rule,)}, conditions))


def place_to_reads(
    form: Form, conditions: Conditions, positive: frozenset[Form] = frozenset()
) -> Form | None:
    """place(y, {h: h + dh}) -> sum[dh](y[{h: h - dh}]). What is `positive` is so by what the program requires."""
    if not isinstance(form, Place):
        return None
    reflected = unfolded(form)
    if reflected is None:
        solved = _solved(form, positive)
        if solved is not None:
            return spread(solved, form.axes)
        reflected = unfolded(form, round_a_circle=True)
    if reflected is None:
        return None
    straight, fold = reflected
    made = place_to_reads(straight, conditions, positive)
    return None if made is None else spread(fold(made), form.axes)


def _solved(form: Place, positive: frozenset[Form]) -> Form | None:
    """The sum of the solutions of a place; None where one of its parts has none."""
    parts = [_Solution(each, positive).result() for each in _without_clamps(form)]
    solved = [part for part in parts if part is not None]
    if len(solved) < len(parts):
        return None
    return solved[0] if len(solved) == 1 else Reduce("sum", tuple(Piece(part, ()) for part in solved))


def _sum(value: Form, axes: Iterable[Axis]) -> Form:
    over = tuple(axes)
    return Reduce("sum", (Piece(spread(value, over), over),), span=value.span) if over else value


# --- clamps


def _without_clamps(form: Place) -> list[Place]:
    """Places with disjoint entries and without clamped indices that add to this one."""
    waiting, done = [form], list[Place]()
    while waiting:
        place = waiting.pop()
        split = next((s for s in (_at_clamp(place, axis) for axis, _ in place.indices) if s), None)
        if split is None:
            done.append(place)
        else:
            waiting += split
    return done


def _at_clamp(place: Place, target: Axis) -> list[Place] | None:
    """The interior and the borders of one index `min(max(u, lo), hi)`; either end may be missing."""
    index = dict(place.indices)[target]
    free = set(place.keep)
    upper, rest = _bound("minimum", index, free)
    lower, inner = _bound("maximum", rest, free)
    if upper is None and lower is None:
        return None
    inside: list[Form] = []
    parts: list[Place] = []
    if lower is not None:
        below = lower if upper is None else apply("minimum", lower, upper)
        parts.append(_restricted(place, target, below, [apply("lt", inner, lower)]))
        inside.append(apply("ge", inner, lower))
    if upper is not None:
        parts.append(_restricted(place, target, upper, [*inside, apply("gt", inner, upper)]))
        inside.append(apply("le", inner, upper))
    return [_restricted(place, target, inner, inside), *parts]


def _bound(op: str, index: Form, free: set[Axis]) -> tuple[Form | None, Form]:
    """The argument of a minimum or maximum that has no summed axis, and the one that has."""
    moved = into_clamp(index, free)
    if isinstance(moved, Map) and moved.op == op:
        for one, other in (moved.args, moved.args[::-1]):
            if free.issuperset(one.axes) and not free.issuperset(other.axes):
                return one, other
    return None, index


def _restricted(place: Place, target: Axis, index: Form, predicates: list[Form]) -> Place:
    indices = tuple((axis, index if axis == target else e) for axis, e in place.indices)
    used = {axis for _, e in indices for axis in e.axes}
    value = guarded(place.value, predicates)
    lost = [axis for axis in place.keep if axis not in value.axes and axis not in used]
    return Place(spread(value, lost), indices, place.keep, span=place.span)


# --- equations


@dataclass(frozen=True, slots=True)
class _Equation:
    """`left`, over summed and kept axes, equals `right`, over copies of the targets (and, after a step,
    over the other side's axes too)."""

    left: Form
    right: Form


class _Solution:
    """The equations of one place, solved step by step. The targets go by copies, since a summed axis
    may bear the same name."""

    def __init__(self, place: Place, positive: frozenset[Form]) -> None:
        self.place = place
        self.positive = positive
        self.target = {axis: like_axis(axis) for axis, _ in place.indices}
        self.pending = {
            axis: _Equation(index, Coordinate(self.target[axis])) for axis, index in place.indices
        }
        inside = (axis for each in (place.value, *(e for _, e in place.indices)) for axis in each.axes)
        self.summed = [axis for axis in dict.fromkeys(inside) if axis not in place.keep]
        self.found: dict[Axis, Form] = {}
        self.guards: list[Form] = []

    def result(self) -> Form | None:
        """The sum over what is left, or None where an equation has no solution here."""
        steps = (
            self.constant, self.digits, self.both_parts, self.unit, self.circle, self.parts, self.quotient,
            self.stride,
        )  # fmt: skip
        while self.pending:
            if not any(step(axis) for step in steps for axis in tuple(self.pending)):
                return None
        return self.assembled()

    def divides(self, by: Form) -> bool:
        return not by.axes and (is_positive(by) or by in self.positive)

    # --- steps: each solves or changes the equation of one target, or returns False

    def constant(self, target: Axis) -> bool:
        equation = self.pending[target]
        if any(axis in self.summed for axis in equation.left.axes):
            return False
        self.guards.append(apply("eq", equation.right, equation.left))
        del self.pending[target]
        return True

    def digits(self, target: Axis) -> bool:
        equation = self.pending[target]
        found = affine(equation.left)
        if found is None:
            return False
        inner = [axis for axis in found.coefficients if axis in self.summed]
        moving, steady = self.apart(found.rest)
        for axis in inner:
            others = {other: polynomial(found.coefficients[other]) for other in inner if other != axis}
            count = polynomial(size(axis))
            scaled = {other: divided(terms, count) for other, terms in others.items()}
            higher = divided(moving, count)
            if found.coefficients[axis] != Const(1) or not others or any(e is None for e in scaled.values()):
                continue
            if axis == BATCH or higher is None:
                continue
            kept = {o: c for o, c in found.coefficients.items() if o not in inner}
            rest = apply("add", combination(kept, steady), low(axis))
            digits = normal(apply("sub", equation.right, rest))
            left = {o: from_polynomial(terms or {}) for o, terms in scaled.items()}
            left = combination(left, from_polynomial(higher))
            self.pending[target] = _Equation(left, apply("floordiv", digits, size(axis)))
            self.solve(axis, apply("add", low(axis), apply("mod", digits, size(axis))))
            return True
        return False

    def apart(self, form: Form) -> tuple[Polynomial, Form]:
        """The terms of a sum that summed axes move, and the others."""
        terms = polynomial(form)
        moving = {
            monomial: factor
            for monomial, factor in terms.items()
            if any(axis in self.summed for atom in monomial for axis in atom.axes)
        }
        rest = {monomial: factor for monomial, factor in terms.items() if monomial not in moving}
        return moving, from_polynomial(rest)

    def both_parts(self, target: Axis) -> bool:
        match self.pending[target]:
            case _Equation(left=Map(op="floordiv", args=(u, s))) as whole if self.divides(s):
                pass
            case _:
                return False
        for other, part in self.pending.items():
            if part.left == Map("mod", (u, s)):
                self.guards += (apply("ge", part.right, Const(0)), apply("lt", part.right, s))
                self.pending[target] = _Equation(u, apply("add", apply("mul", whole.right, s), part.right))
                del self.pending[other]
                return True
        return False

    def unit(self, target: Axis) -> bool:
        equation = self.pending[target]
        chosen = self.unit_axis(equation.left)
        if chosen is None:
            return False
        axis, sign = chosen
        term = Coordinate(axis)
        rest = apply("sub", equation.left, term) if sign > 0 else apply("add", equation.left, term)
        left, right = (equation.right, rest) if sign > 0 else (rest, equation.right)
        del self.pending[target]
        self.solve(axis, apply("sub", left, right))
        return True

    def unit_axis(self, form: Form, count: Form | None = None) -> tuple[Axis, int] | None:
        """A summed axis with coefficient 1 or -1 that occurs nowhere else in the form: of several, one
        of a size that is not known, else the longest. With `count`, one that has so many indices."""
        found = affine(form)
        if found is None:
            return None
        signs: dict[Form, int] = {Const(1): 1, Const(-1): -1}
        fitting = [
            (axis, signs[coefficient])
            for axis, coefficient in found.coefficients.items()
            if coefficient in signs
            and axis in self.summed
            and axis != BATCH
            and axis not in found.rest.axes
            and (count is None or _same(size(axis), count))
        ]
        return max(fitting, key=lambda pair: _extent(pair[0]), default=None)

    def circle(self, target: Axis) -> bool:
        match self.pending[target]:
            case _Equation(left=Map(op="mod", args=(u, n)), right=right) if self.divides(n):
                chosen = self.unit_axis(u := unturned(u, n), n)
            case _:
                return False
        if chosen is None:
            return False
        axis, sign = chosen
        rest = normal(apply("sub" if sign > 0 else "add", u, Coordinate(axis)))
        start = apply("sub", right, rest) if sign > 0 else apply("sub", rest, right)
        turned = apply("mod", normal(apply("sub", start, low(axis))), n)
        self.guards += (apply("ge", right, Const(0)), apply("lt", right, n))
        del self.pending[target]
        self.solve(axis, apply("add", low(axis), turned))
        return True

    def parts(self, target: Axis) -> bool:
        """What `quotient` and `circle` solve has one part of an axis alone."""
        left = self.pending[target].left
        found = None if isinstance(left, Map) and left.op in ("floordiv", "mod") else parts(
            (each.left for each in self.pending.values()), self.summed
        )  # fmt: skip
        if found is None or found.axis not in left.axes:
            return False
        self.pending = {
            key: _Equation(found.replaced(each.left), each.right) for key, each in self.pending.items()
        }
        self.summed += (found.whole, found.rest)
        self.solve(found.axis, found.solution)
        return True

    def quotient(self, target: Axis) -> bool:
        match self.pending[target]:
            case _Equation(left=Map(op="floordiv", args=(u, s)), right=right) if self.divides(s):
                rest = make_axis("r", Const(0), s, "axis")
            case _:
                return False
        self.summed.append(rest)
        self.pending[target] = _Equation(u, apply("add", apply("mul", right, s), Coordinate(rest)))
        return True

    def stride(self, target: Axis) -> bool:
        equation = self.pending[target]
        found = affine(equation.left)
        if found is None:
            return False
        for axis, coefficient in found.coefficients.items():
            negative = isinstance(coefficient, Const) and coefficient.value.real < 0
            step = apply("neg", coefficient) if negative else coefficient
            if axis not in self.summed or axis == BATCH or axis in found.rest.axes or not _is_step(step):
                continue
            rest = normal(apply("sub", equation.left, apply("mul", coefficient, Coordinate(axis))))
            way = normal(apply("sub", *((rest, equation.right) if negative else (equation.right, rest))))
            self.guards.append(apply("eq", apply("mod", way, step), Const(0)))
            del self.pending[target]
            self.solve(axis, apply("floordiv", way, step))
            return True
        return False

    # --- solutions

    def solve(self, axis: Axis, solution: Form) -> None:
        """Take `axis` out of the sum, and out of every equation, solution and guard."""
        self.summed.remove(axis)
        self.found[axis] = normal(solution)
        there = {axis: self.found[axis]}

        def replaced(form: Form) -> Form:
            return normal(pushed(form, there).form) if axis in form.axes else form

        self.found = {key: replaced(form) for key, form in self.found.items()}
        self.guards = [replaced(form) for form in self.guards]
        self.pending = {
            key: _Equation(replaced(each.left), replaced(each.right)) for key, each in self.pending.items()
        }

    def assembled(self) -> Form:
        """sum over the summed axes of y at the solutions."""
        place = self.place
        copies = {axis: like_axis(axis) for axis in self.summed if axis in self.target}
        back = {copy: Coordinate(axis) for axis, copy in self.target.items()}
        back |= {axis: Coordinate(copy) for axis, copy in copies.items()}

        def named(form: Form) -> Form:
            return pushed(form, back).form

        found = {axis: normal(named(form)) for axis, form in self.found.items()}
        guards = [named(form) for form in self.guards]
        indices = {**found, **{axis: Coordinate(copy) for axis, copy in copies.items()}}
        outside = (axis for axis in found if axis not in place.value.axes)
        guards += (each for axis in outside for each in border(found[axis], axis))
        value = push_read(place.value, indices, Skewed())
        left = [copies.get(axis, axis) for axis in self.summed]
        inner = [each for each in guards if set(each.axes) & set(left)]
        summed = _sum(guarded(value, inner), left)
        return guarded(summed, (each for each in guards if each not in inner))


def _same(one: Form, other: Form) -> bool:
    """Whether two sizes are equal for all sizes."""
    return polynomial(one, expand_sizes=True) == polynomial(other, expand_sizes=True)


def _extent(axis: Axis) -> float:
    known = size(axis)
    return float(known.value.real) if isinstance(known, Const) else float("inf")


def _is_step(form: Form) -> bool:
    """Whether a coefficient is a positive number or a product of sizes."""
    terms = polynomial(form)
    return all(factor > 0 and all(map(is_positive, atoms)) for atoms, factor in terms.items()) and bool(terms)
