"""Where the taps of one stencil lie in another one: one index solved for the tap of the other.

Shifts, strides and dilations that agree, a place without a tap (a 1 x 1, the identity), the own channel among
all channels, or the same index but for the name of the tap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...dsl.constructors.build import apply, low, size
from ...dsl.program import At, Axis, Const, Coordinate, Form, Map, Otherwise, When, fresh_axis
from ...dsl.proofs.presence import conjunction
from ...dsl.shapes.size_forms import evaluate_size
from ..fusion.contraction import bases
from ..rewrites.affine import affine, from_polynomial, normal, polynomial
from ..rewrites.rewrite import rename
from ..rewrites.simplify import simplify_form

ZERO = Const(0.0)


@dataclass(frozen=True, slots=True)
class Solved:
    """The tap `axis` of a stencil is at `index`, a form of the frame's; `tests` say where it is. None for
    one without a tap there."""

    axis: Axis | None
    index: Form | None
    tests: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Tap:
    """Along one axis of the value: the frame's tap and index, and where those of both stencils lie in it."""

    axis: Axis | None
    index: Form
    first: Solved
    second: Solved


@dataclass(frozen=True, slots=True)
class Step:
    """An index as `rest + step * tap`."""

    tap: Axis | None
    step: int
    rest: Form


Read = tuple[Mapping[Axis, Form], tuple[Axis, ...]]
"""The indices of a value, and the taps in them."""


def taps(one: Read, other: Read) -> dict[Axis, Tap] | None:
    """For every axis of the value what both stencils read along it; None where that has no common frame."""
    found: dict[Axis, Tap] = {}
    for axis in one[0]:
        tap = _tap(one[0][axis], one[1], other[0][axis], other[1])
        if tap is None:
            return None
        found[axis] = tap
    return found


def _tap(index: Form, over: tuple[Axis, ...], second: Form, others: tuple[Axis, ...]) -> Tap | None:
    own = [axis for axis in index.axes if axis in over]
    its = [axis for axis in second.axes if axis in others]
    if len(own) > 1 or len(its) > 1:
        return None
    nothing = Solved(None, None, ())
    if not own and not its:
        return Tap(None, index, nothing, nothing) if normal(index) == normal(second) else None
    if own and its and _tied(own[0], its[0]) and normal(rename(second, {its[0]: own[0]})) == normal(index):
        same = Solved(its[0], Coordinate(own[0]), ())
        return Tap(own[0], index, Solved(own[0], Coordinate(own[0]), ()), same)
    first, then = _step(index, own), _step(second, its)
    if first is None or then is None or first.tap is None or first.step != 1:
        return None
    return _framed(first, then)


def _tied(one: Axis, other: Axis) -> bool:
    return low(one) == low(other) and size(one) == size(other)


def _step(index: Form, taps: list[Axis]) -> Step | None:
    """An index without a tap, or affine in it."""
    if not taps:
        return Step(None, 0, index)
    found = affine(index)
    step = found.coefficients.get(taps[0]) if found is not None else None
    if found is None or not isinstance(step, Const) or not isinstance(step.value, int) or step.value < 1:
        return None
    rest = normal(Map("sub", (index, Map("mul", (step, Coordinate(taps[0]))))))
    return None if taps[0] in rest.axes else Step(taps[0], step.value, rest)


def _framed(first: Step, then: Step) -> Tap | None:
    """The frame of an index `rest + tap` and another one: its tap is such that `rest` stays."""
    tap = first.tap
    assert tap is not None
    shift = normal(Map("sub", (first.rest, then.rest)))
    if then.tap is None:
        at = normal(Map("add", (Coordinate(tap), shift)))
        here = Solved(None, None, (apply("eq", at, Const(0)),))
        reach = reach_of(tap)
        number = shift.value if isinstance(shift, Const) else None
        inside = isinstance(number, int) and reach is not None and reach[0] <= -number <= reach[1]
        channel = isinstance(then.rest, Coordinate) and first.rest == Const(0) and _tied(then.rest.axis, tap)
        if not inside and not channel:
            return None
        return Tap(tap, _at(first.rest, tap), Solved(tap, Coordinate(tap), ()), here)
    ends, reach = reach_of(then.tap), reach_of(tap)
    if ends is None or reach is None or not isinstance(shift, Const) or not isinstance(shift.value, int):
        return None
    least, most = (then.step * end - shift.value for end in ends)
    lowest, highest = min(least, reach[0]), max(most, reach[1])
    axis = tap
    if (lowest, highest) != reach:
        axis = fresh_axis(tap.name, Const(lowest), Const(highest - lowest + 1), "span")
    moved = normal(Map("add", (Coordinate(axis), shift)))
    tests = () if then.step == 1 else (apply("eq", apply("mod", moved, Const(then.step)), Const(0)),)
    index = moved if then.step == 1 else apply("floordiv", moved, Const(then.step))
    return Tap(axis, _at(first.rest, axis), Solved(tap, Coordinate(axis), ()), Solved(then.tap, index, tests))


def _at(rest: Form, tap: Axis) -> Form:
    return from_polynomial(polynomial(apply("add", rest, Coordinate(tap))))


def reach_of(axis: Axis) -> tuple[int, int] | None:
    """The first and the last index, where they are numbers."""
    if bases(axis):
        return None
    lowest = evaluate_size(low(axis), {})
    return lowest, lowest + evaluate_size(size(axis), {}) - 1


def in_frame(weight: Form, solved: Sequence[tuple[Solved, Axis | None]]) -> Form:
    """A weight at the taps of the frame, 0 where it has none."""
    indices = [
        (each.axis, each.index) for each, _ in solved if each.axis is not None and each.index is not None
    ]
    moved = tuple((axis, index) for axis, index in indices if index != Coordinate(axis))
    made = At(weight, moved) if moved else weight
    tests = [test for each, _ in solved for test in each.tests]
    if not moved and not tests:
        return weight
    masked = When(conjunction(tests), made) if tests else made
    return simplify_form(Otherwise(masked, ZERO))
