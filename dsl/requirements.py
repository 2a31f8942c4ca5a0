"""What a program says of its sizes, told to a prover before it is asked anything."""

from __future__ import annotations

from .bounds import OPPOSITE, Bounds
from .polynomial import TooHard, as_polynomial
from .presence import terms
from .program import Axis, Const, Form, Map, Program, Size
from .prove import THOROUGH, Prover
from .size_forms import program_axes


def prover_of(program: Program) -> Prover:
    """A prover that knows the program's fixed sizes, its requirements, and that no axis is empty."""
    prover = Prover()
    bounds = prover.bounds
    bounds.work = THOROUGH
    for axis, size in program.fixed:
        bounds.extents[axis] = as_polynomial(size)
    tests = [test for require in program.requires for test in terms("and", require.predicate)]
    try:
        left = [test for test in tests if not _defines(bounds, test)]
        for test in left:
            _learn(bounds, test)
        for axis in program_axes(program):
            if axis.size is not None:
                bounds.learn(bounds.extent(axis) - 1)
    except TooHard:
        pass
    bounds.forget()
    return prover


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
