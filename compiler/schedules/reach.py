"""How far a predicate lets a coordinate go: `dh*dh + dw*dw < 64` keeps |dh| below 8, whatever dw is."""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt

from ...dsl.program import Axis, Const, Coordinate, Form, Map
from ...dsl.proofs.presence import terms

Range = tuple[int | None, int | None]
"""The least and the greatest value; None where there is none."""

SWAPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def confined(predicates: Iterable[Form], axis: Axis, least: int, most: int) -> bool:
    """Whether all predicates hold only where the coordinate of an axis lies in least .. most."""
    low: int | None = None
    high: int | None = None
    for predicate in predicates:
        for part in terms("and", predicate):
            first, last = _reach(part, axis)
            low = first if low is None else low if first is None else max(low, first)
            high = last if high is None else high if last is None else min(high, last)
    return low is not None and high is not None and least <= low and high <= most


def _reach(part: Form, axis: Axis) -> Range:
    """Where a comparison with a whole number may hold; (None, None) where it may hold anywhere."""
    match part:
        case Map(op=("lt" | "le" | "gt" | "ge") as op, args=(value, Const(value=int() as bound))):
            return _compared(value, op, bound, axis)
        case Map(op=("lt" | "le" | "gt" | "ge") as op, args=(Const(value=int() as bound), value)):
            return _compared(value, SWAPPED[op], bound, axis)
        case _:
            return None, None


def _compared(value: Form, op: str, bound: int, axis: Axis) -> Range:
    if value == Coordinate(axis):
        match op:
            case "lt":
                return None, bound - 1
            case "le":
                return None, bound
            case "gt":
                return bound + 1, None
            case _:
                return bound, None
    if op in ("gt", "ge"):
        return None, None
    most = bound - 1 if op == "lt" else bound
    parts = terms("add", value)
    reach = next((each for part in parts if (each := _within(part, axis, most)) is not None), None)
    if reach is None or not all(_positive(part) for part in parts):
        return None, None
    return -reach, reach


def _within(part: Form, axis: Axis, most: int) -> int | None:
    """How far the coordinate goes where a square or the size of it is at most `most`, which is less than
    0 for nothing at all."""
    here = Coordinate(axis)
    if part in (Map("mul", (here, here)), Map("pow", (here, Const(2)))):
        return isqrt(most) if most >= 0 else 0
    if part == Map("abs", (here,)):
        return max(0, most)
    return None


def _positive(part: Form) -> bool:
    """Whether a term is certainly not less than 0."""
    match part:
        case Map(op="mul", args=(a, b)):
            return a == b
        case Map(op="pow", args=(_, Const(value=2))) | Map(op="abs"):
            return True
        case Const(value=int() | float() as number):
            return number >= 0
        case _:
            return False
