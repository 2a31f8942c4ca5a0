"""What a program says of its sizes, told to a prover before it is asked anything; and what it must say
where parts are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..constructors import build, build_special
from ..mistakes import AxisSizeMismatch
from ..program import Axis, Const, Form, Map, Program, Require, Size
from ..shapes.polynomial import TooHard, as_polynomial
from ..shapes.size_forms import program_axes
from ..source import Span
from .bounds import OPPOSITE, Bounds
from .presence import terms
from .prove import THOROUGH, Prover


def prover_of(program: Program, opaque: Iterable[Axis] = ()) -> Prover:
    """A prover that knows the program's fixed sizes, its requirements, and that no axis is empty; of the sizes of
    `opaque` axes nothing else."""
    return _told(dict(program.fixed), program.requires, program_axes(program), opaque)


def _told(
    fixed: Mapping[Axis, int], requires: Iterable[Require], axes: Iterable[Axis], opaque: Iterable[Axis] = ()
) -> Prover:
    prover = Prover()
    bounds = prover.bounds
    bounds.work = THOROUGH
    for axis in opaque:
        bounds.extents[axis] = bounds.symbol() + 1
    for axis, size in fixed.items():
        bounds.extents[axis] = as_polynomial(size)
    tests = [test for require in requires for test in terms("and", require.predicate)]
    try:
        left = [test for test in tests if not _defines(bounds, test)]
        for test in left:
            _learn(bounds, test)
        for axis in axes:
            if axis.size is not None:
                bounds.learn(bounds.extent(axis) - 1)
    except TooHard:
        pass
    bounds.forget()
    return prover


def filled(
    axis: Axis,
    parts: Sequence[Axis],
    fixed: Mapping[Axis, int],
    requires: Iterable[Require],
    span: Span | None,
) -> Require | None:
    """What must hold for the parts, one after another, to fill the axis; None where it always does.

    Raises AxisSizeMismatch where it never does.
    """
    given = build.size(parts[0], span)
    for part in parts[1:]:
        given = build.apply("add", given, build.size(part, span), span=span)
    wanted = build.size(axis, span)
    bounds = _told(fixed, requires, ()).bounds
    try:
        more = bounds.number(wanted, {}) - bounds.number(given, {})
        rest = more.number
        if rest is None and bounds.nonnegative(more) and bounds.nonnegative(-more):
            rest = 0
    except TooHard:
        rest = None
    if rest == 0:
        return None
    if rest is not None:
        count = f"{abs(rest)} {'more' if rest > 0 else 'fewer'} {'index' if abs(rest) == 1 else 'indices'}"
        raise AxisSizeMismatch(
            f"axis `{axis.name}` has {count} than the parts of `cat` together", at=span, label="here",
            helps=["make the axis as long as its parts: its size is the sum of theirs"],
        )  # fmt: skip
    return build_special.requirement(build.apply("eq", wanted, given, span=span), span)


def _defines(bounds: Bounds, test: Form) -> bool:
    """`size(h) % k == 0` makes h a multiple of k, and `size(h) == e` makes it e: for a size that nothing
    was said of before, that is what it is from then on."""
    match test:
        case Map(op="eq", args=(Map(op="mod", args=(Size(axis=axis), divisor)), Const(value=0))):
            factor = bounds.number(divisor, {}) if _free(bounds, axis, divisor) else None
            if factor is None or axis in bounds.extents or not bounds.nonnegative(factor - 1):
                return False
            bounds.extents[axis] = factor * (bounds.symbol() + 1)
            return True
        case Map(op="eq", args=(Size(axis=axis), value)) | Map(op="eq", args=(value, Size(axis=axis))):
            if value.kind != "int" or not _free(bounds, axis, value):
                return False
            extent = bounds.number(value, {})
            if axis in bounds.extents:
                return False
            bounds.extents[axis] = extent
            bounds.learn(extent - 1)
            return True
        case _:
            return False


def _free(bounds: Bounds, axis: Axis, other: Form) -> bool:
    return axis.size is None and axis not in bounds.extents and not other.axes


def _learn(bounds: Bounds, test: Form) -> None:
    match test:
        case Map(op="eq", args=(Map(op="mod", args=(value, divisor)), Const(value=0))):
            a, b = bounds.number(value, {}), bounds.number(divisor, {})
            if bounds.nonnegative(b - 1):
                bounds.divides(a.divide(b)[1], b)
        case Map(op=op) if op in OPPOSITE:
            for fact in bounds.literal(test, {}) or ():
                bounds.learn(fact)
        case _:
            pass
