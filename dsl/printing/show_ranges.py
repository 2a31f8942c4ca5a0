"""The statement that makes an axis: the shortest whose range is exactly the axis's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..constructors import build
from ..errors import CompilerFault
from ..program import Axis, Const, Form, Map, Size
from .written import difference, opposite


@dataclass(frozen=True, slots=True)
class Range:
    """`near u: first`, `span u: first, second`, `axis u: first from second`, `like u: of`."""

    how: Literal["near", "span", "axis", "like"]
    forms: tuple[Form, ...] = ()
    of: Axis | None = None


def range_of(axis: Axis) -> Range:
    """How a statement says the range of a fresh axis."""
    low, size = build.low(axis), axis.size
    if size is None:
        raise CompilerFault("show", f"the fresh axis `{axis.name}` has no size")
    found = None
    match axis.how:
        case "like":
            found = _like(low, size)
        case "near":
            found = _near(low, size)
        case "span":
            found = _span(low, size)
        case _:
            pass
    if found is not None:
        return found
    return Range("axis", (size,) if low == Const(0) else (size, low))


def _like(low: Form, size: Form) -> Range | None:
    if isinstance(size, Size) and build.low(size.axis) == low and build.size(size.axis) == size:
        return Range("like", of=size.axis)
    return None


def _near(low: Form, size: Form) -> Range | None:
    match low:
        case Map(op="neg", args=(inner,)):
            radius = inner
        case Const(value=int(lowest)):
            radius = Const(-lowest, written=opposite(low))
        case _:
            return None
    wide = build.apply("add", build.apply("mul", Const(2), radius), Const(1))
    fits = build.apply("neg", radius) == low and wide == size
    return Range("near", (radius,)) if fits else None


def _span(low: Form, size: Form) -> Range | None:
    match low, size:
        case Const(value=int(lowest)), Const(value=int(extent)):
            stop = Const(lowest + extent, written=difference(size))
        case _, Map(op="sub", args=(inner, other)) if other == low:
            stop = inner
        case _:
            return None
    return Range("span", (low, stop)) if build.apply("sub", stop, low) == size else None
