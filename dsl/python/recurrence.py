"""Scans in the Python spelling: a previous value, statements, a result.

    p = previous(t, init=zeros(b, c))
    o = scan(p, a * p + x)              # o[t] = a * o[t-1] + x, and init before the first
    o.last                              # the final carry

Both may be tuples. The other values are read at the current index of the axis, by alignment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from ..constructors import build_special
from ..errors import PlaitError
from ..mistakes import InvalidArgument
from ..program import Axis, Form, Leaf, Scan
from .trace import bound_name, here, report
from .value import POISON, AxisValue, Value, axes_in, form_of


@dataclass(frozen=True, slots=True, eq=False)
class Recurrence:
    """What one call of `previous` bound: its axis, and each carry's variable and first value."""

    axis: Axis
    carries: tuple[tuple[Leaf, Form], ...]
    reverse: bool


class Previous(Value):
    """The carry before each step; only the scan that is given it may read it."""

    __slots__ = ("recurrence",)

    def __init__(self, form: Leaf, recurrence: Recurrence) -> None:
        super().__init__(form)
        self.recurrence = recurrence


class Scanned(Value):
    """The carry at every index of the scanned axis."""

    __slots__ = ("_scan",)

    def __init__(self, scan: Scan | None) -> None:
        super().__init__(scan)
        self._scan = scan

    @property
    def last(self) -> Value:
        """The final carry, without the scanned axis."""
        return POISON if self._scan is None else Value(replace(self._scan, last=True, span=here()))

    @property
    def steps(self) -> Value:
        """How many steps each lane took before `until` held for it."""
        if self._scan is None:
            return POISON
        return Value(build_special.steps(self._scan, bound_name("steps"), here()))


class ScannedTuple(tuple[Scanned, ...]):
    """The carries of a scan at every index of the axis, in the order of `previous`."""

    __slots__ = ()

    @property
    def last(self) -> tuple[Value, ...]:
        """The final carries, without the scanned axis."""
        return tuple(each.last for each in self)

    @property
    def steps(self) -> Value:
        """How many steps each lane took before `until` held for it."""
        return self[0].steps


def previous(axis: AxisValue, init: object, reverse: bool = False) -> Any:
    """The value before each step of a scan along `axis`: `init` at the first index (the last one, for
    `reverse`), else the result at the index before. One for one `init`, a tuple for a tuple.

    Raises ShadowedName where `init` is over `axis` itself.
    """
    inits = cast("tuple[object, ...]", init) if isinstance(init, tuple) else (init,)
    values = _bind(axis, inits, reverse) or (POISON,) * len(inits)
    return tuple(values) if isinstance(init, tuple) else values[0]


def _bind(axis: AxisValue, inits: tuple[object, ...], reverse: bool) -> tuple[Value, ...] | None:
    found = axes_in((axis,))
    if found is None or any(isinstance(init, Value) and init.poisoned for init in inits):
        return None
    where = here()
    try:
        forms = [form_of(init, where) for init in inits]
        leaves = [build_special.previous(found[0], form, bound_name("p"), where) for form in forms]
    except PlaitError as error:
        report(error)
        return None
    recurrence = Recurrence(found[0], tuple(zip(leaves, forms, strict=True)), reverse)
    return tuple(Previous(leaf, recurrence) for leaf in leaves)


def scan(before: object, step: object, until: object = None) -> Any:
    """Run `step` along the axis of `before`, which `previous` gave; both may be tuples.

    `until` is a predicate tested before each step: a lane where it holds keeps its carry for ever.
    A `Scanned` value has every index of the axis; `.last` is the final carry, `.steps` their number.
    Raises UndeclaredAxis or KindMismatch where a step does not fit its carry.
    """
    befores = cast("tuple[object, ...]", before) if isinstance(before, tuple) else (before,)
    steps = cast("tuple[object, ...]", step) if isinstance(step, tuple) else (step,)
    made = _scanned(befores, steps, until)
    return ScannedTuple(made) if isinstance(before, tuple) else made[0]


def _scanned(befores: tuple[object, ...], steps: tuple[object, ...], until: object) -> list[Scanned]:
    operands = (*befores, *steps, until)
    if any(isinstance(each, Value) and each.poisoned for each in operands):
        return [Scanned(None) for _ in befores]
    where = here()
    try:
        recurrence = _recurrence(befores, steps)
        stop = None if until is None else form_of(until, where)
        carries = [
            build_special.carry(leaf, init, form_of(step, where), where)
            for (leaf, init), step in zip(recurrence.carries, steps, strict=True)
        ]
        first = build_special.scan(
            recurrence.axis, carries, reverse=recurrence.reverse, until=stop, span=where
        )
        return [Scanned(replace(first, component=number)) for number in range(len(carries))]
    except PlaitError as error:
        report(error)
        return [Scanned(None) for _ in befores]


def _recurrence(befores: tuple[object, ...], steps: tuple[object, ...]) -> Recurrence:
    """The one `previous` behind all carries, each present and in order."""
    first = befores[0] if befores else None
    whole = first.recurrence if isinstance(first, Previous) else None
    expected = [leaf for leaf, _ in whole.carries] if whole else []
    found = [each.form for each in befores if isinstance(each, Previous)]
    if whole is None or found != expected or len(found) != len(befores):
        raise InvalidArgument(
            "`scan` takes what one `previous` gave, all of it and in its order", at=here(), label="here",
            helps=["write `p = previous(t, init=...)` and then `scan(p, step)`; for several carries, tuples"],
        )  # fmt: skip
    if len(steps) != len(befores):
        raise InvalidArgument(
            f"`scan` has {len(befores)} carries and {len(steps)} steps", at=here(), label="here"
        )
    return whole
