"""How an index or a mask depends on coordinates: steps along axes, and the part of a run that a mask leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.kernels.kernel import Let, Operand
from .layout import Layout

Steps = dict[str, int]
"""How much an index grows for one step along each axis; axes that it ignores are missing."""


def steps_of(layout: Layout, operand: Operand, axes: Sequence[str]) -> Steps | None:
    """The steps of an integer along `axes`; None where they are not the same everywhere."""
    if not isinstance(operand, str) or not layout.lies_on(operand, tuple(axes)):
        return {}
    if operand in axes:
        return {operand: 1}
    match layout.definitions.get(operand):
        case Let(op="add" | "sub" as op, args=(a, b)):
            return _added(steps_of(layout, a, axes), steps_of(layout, b, axes), 1 if op == "add" else -1)
        case Let(op="neg", args=(a,)):
            return _added({}, steps_of(layout, a, axes), -1)
        case Let(op="mul", args=(int() as factor, other)) | Let(op="mul", args=(other, int() as factor)):
            return _added({}, steps_of(layout, other, axes), factor)
        case _:
            return None


def is_straight(layout: Layout, operand: Operand, axis: str) -> bool:
    """Whether an integer grows by the same number for every step along an axis: a number of the call, perhaps
    (`n * t`), where `steps_of` gives None."""
    if not isinstance(operand, str) or not layout.lies_on(operand, (axis,)) or operand == axis:
        return True
    match layout.definitions.get(operand):
        case Let(op="add" | "sub" | "neg", args=args):
            return all(is_straight(layout, arg, axis) for arg in args)
        case Let(op="mul", args=(a, b)):
            steady = any(not isinstance(arg, str) or not layout.lies_on(arg, (axis,)) for arg in (a, b))
            return steady and is_straight(layout, a, axis) and is_straight(layout, b, axis)
        case _:
            return False


def _added(a: Steps | None, b: Steps | None, factor: int) -> Steps | None:
    if a is None or b is None:
        return None
    total = dict(a)
    for axis, step in b.items():
        total[axis] = total.get(axis, 0) + factor * step
    return {axis: step for axis, step in total.items() if step}


@dataclass(frozen=True, slots=True)
class Bound:
    """A test `gap + step * i < 0` (`<= 0` where not `strict`) on the i-th place of a run; `gap` is
    `left - right` at its first place, and `step` is 1 or -1."""

    left: Operand
    right: Operand
    step: int
    strict: bool


@dataclass(frozen=True, slots=True)
class Range:
    """What a mask says along one axis: `tests` that hold for a whole run or not at all, and `bounds`.
    `exists` is whether the coordinates of the axis must exist."""

    tests: tuple[Operand, ...]
    bounds: tuple[Bound, ...]
    exists: bool


def range_of(layout: Layout, parts: Sequence[Operand], axis: str) -> Range | None:
    """A conjunction as a range along `axis`; None where it is no such thing."""
    tests: list[Operand] = []
    bounds: list[Bound] = []
    exists = False
    for part in parts:
        if part == f"{axis}.valid":
            exists = True
        elif layout.exists(part) is None:
            continue
        elif not layout.lies_on(part, (axis,)):
            tests.append(part)
        else:
            bound = _bound(layout, part, axis)
            if bound is None:
                return None
            bounds.append(bound)
    return Range(tuple(tests), tuple(bounds), exists)


def _bound(layout: Layout, test: Operand, axis: str) -> Bound | None:
    let = layout.definitions.get(test) if isinstance(test, str) else None
    if not isinstance(let, Let) or let.op not in ("lt", "le", "gt", "ge"):
        return None
    a, b = let.args if let.op in ("lt", "le") else let.args[::-1]
    if any(layout.shape(side).kind != "int" for side in (a, b)):
        return None
    steps = _added(steps_of(layout, a, (axis,)), steps_of(layout, b, (axis,)), -1)
    if steps is None or steps.get(axis) not in (1, -1):
        return None
    return Bound(a, b, steps[axis], let.op in ("lt", "gt"))
