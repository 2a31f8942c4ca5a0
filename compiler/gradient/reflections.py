"""Places by a reflected index, or by one that goes round in steps, in two steps: along a straight line, then folded.

`reflect(u, n)` is `min(u % p, p - u % p)` with the period p = max(2*(n - 1), 1). What lands at h comes from the
points p*j + h of the line of u, and, where h is not its own mirror image, from the points p*j + (p - h):

    place(y, {h: reflect(u)}) = sum[j](line[p*j + h]) + sum[j](line[p*j + p - h]),  line = place(y, {l: u})

`u % n` lies at n*j + h for h in 0 .. n - 1, so of a circle it is one piece; where u has a step of one, `gather.py`
solves it without a line.

The line is a fresh axis that holds every value of u, so that the first place has an affine index; the number of
turns j follows from its ends, whatever the sizes are (one point, a window wider than the image).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...dsl.constructors.build import apply, low, make_axis, size
from ...dsl.program import BATCH, At, Axis, Const, Coordinate, Form, Map, Piece, Place, Reduce
from ..rewrites.affine import affine, is_positive, normal, unturned
from ..rewrites.rewrite import guarded

Fold = Callable[[Form], Form]
"""The line of a reflected index folded onto its target."""


def unfolded(place: Place, round_a_circle: bool = False) -> tuple[Place, Fold] | None:
    """The place with one reflected index (or one `round_a_circle`) laid out straight, and the way back; None where
    there is none."""
    for target, index in place.indices:
        found = _circle(index) if round_a_circle else _wave(index)
        line = _line(found[0]) if found is not None else None
        if found is None or line is None or set(index.axes) <= set(place.keep):
            continue
        inner, period = found
        indices = tuple((line, inner) if axis == target else (axis, e) for axis, e in place.indices)
        straight = replace(place, indices=indices)

        def fold(value: Form, target: Axis = target, line: Axis = line, period: Form = period) -> Form:
            return _folded(value, target, line, period, round_a_circle)

        return straight, fold
    return None


def _circle(index: Form) -> tuple[Form, Form] | None:
    """u and n of u % n, n at least 1."""
    match index:
        case Map(op="mod", args=(u, count)) if not count.axes and is_positive(count):
            return unturned(u, count), count
        case _:
            return None


def _wave(index: Form) -> tuple[Form, Form] | None:
    """u and p of min(u % p, p - u % p), p at least 1."""
    match index:
        case Map(
            op="minimum",
            args=(Map(op="mod", args=(u, period)) as wrapped, Map(op="sub", args=(whole, other))),
        ) if (whole, other) == (period, wrapped) and not period.axes and _at_least_one(period):
            return unturned(u, period), period
        case _:
            return None


def _at_least_one(period: Form) -> bool:
    match period:
        case Map(op="maximum", args=args):
            return any(map(is_positive, args))
        case _:
            return is_positive(period)


def _line(u: Form) -> Axis | None:
    """An axis of all values of an affine index, with whole numbers for coefficients."""
    found = affine(u)
    if found is None or found.rest.axes or BATCH in u.axes:
        return None
    lowest, last = found.rest, found.rest
    for axis, coefficient in found.coefficients.items():
        if not isinstance(coefficient, Const):
            return None
        first = apply("mul", coefficient, low(axis))
        reach = apply("mul", coefficient, apply("sub", size(axis), Const(1)))
        far = apply("add", first, reach)
        up = coefficient.value.real > 0
        lowest, last = apply("add", lowest, first if up else far), apply("add", last, far if up else first)
    extent = apply("add", apply("sub", last, lowest), Const(1))
    return make_axis("line", normal(lowest), normal(extent), "axis")


def _folded(value: Form, target: Axis, line: Axis, period: Form, round_a_circle: bool) -> Form:
    """The sum of what lies on the line at the places that are folded to each of the target's."""
    here = Coordinate(target)
    last = apply("sub", apply("add", low(line), size(line)), Const(1))
    first = apply("floordiv", low(line), period)
    turns = apply("add", apply("sub", apply("floordiv", last, period), first), Const(1))
    twice = apply("mul", Const(2), here)
    inside = [apply("ge", twice, Const(0)), apply("le", twice, period)]
    mirrored = apply("ne", apply("mod", twice, period), Const(0))

    def piece(start: Form, predicates: list[Form]) -> Piece:
        turn = make_axis("turn", first, turns, "axis")
        at = apply("add", apply("mul", period, Coordinate(turn)), start)
        return Piece(guarded(At(value, ((line, at),), span=value.span), predicates), (turn,))

    if round_a_circle:
        pieces = (piece(here, [apply("ge", here, Const(0)), apply("lt", here, period)]),)
        return Reduce("sum", pieces, span=value.span)
    pieces = (piece(here, inside), piece(apply("sub", period, here), [*inside, mirrored]))
    return Reduce("sum", pieces, span=value.span)
