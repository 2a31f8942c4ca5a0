"""From where to where a stream of keys goes: the range of the key, cut to what the tile's queries can see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dsl.program import Axis, Const, Coordinate, Form, Map
from .kernel import Operand
from .keys import Key
from .lower import Lowering


@dataclass(frozen=True, slots=True)
class Bounds:
    """`env` gives the coordinates of the queries."""

    lowering: Lowering
    env: Mapping[Axis, Operand]

    def of(self, key: Key) -> tuple[Operand, Operand]:
        """The lowest key, and the one past the highest, that a window of the tile holds."""
        lowering = self.lowering
        lowest: Operand = lowering.low(key.axis)
        stop = self._combined("add", lowest, lowering.extent(key.axis))
        if plain(lowering, key):
            return lowest, stop
        first, last = self._extreme(key.rest, False), self._extreme(key.rest, True)
        if first is None or last is None:
            return lowest, stop
        near = lowering.low(key.over)
        far = self._combined("add", near, self._combined("sub", lowering.extent(key.over), 1))
        if key.sign == 1:
            low_key, high_key = self._combined("add", first, near), self._combined("add", last, far)
        else:
            low_key, high_key = self._combined("sub", first, far), self._combined("sub", last, near)
        beyond = self._combined("add", high_key, 1)
        return self._combined("maximum", lowest, low_key), self._combined("minimum", stop, beyond)

    def _extreme(self, form: Form, high: bool) -> Operand | None:
        """The lowest or highest value of an index over the tile; None where it is not plain."""
        match form:
            case Coordinate(axis=axis):
                return f"{self.env[axis]}.{'last' if high else 'first'}"
            case Map(op="add", args=(a, b)):
                return self._joined("add", self._extreme(a, high), self._extreme(b, high))
            case Map(op="sub", args=(a, b)):
                return self._joined("sub", self._extreme(a, high), self._extreme(b, not high))
            case Map(op="mul", args=(Const(value=int() as factor), a)):
                return self._joined("mul", factor, self._extreme(a, high == (factor >= 0)))
            case _ if not form.axes:
                return self.lowering.value(form, {}, True).value
            case _:
                return None

    def _joined(self, op: str, a: Operand | None, b: Operand | None) -> Operand | None:
        return None if a is None or b is None else self._combined(op, a, b)

    def _combined(self, op: str, a: Operand, b: Operand) -> Operand:
        return self.lowering.builder.let(op, a, b, kind="int")


def plain(lowering: Lowering, key: Key) -> bool:
    """True where the key is the reduced axis itself, over its whole range."""
    same = lowering.range_key(key.over) == lowering.range_key(key.axis)
    return same and key.sign == 1 and key.rest == Const(0)
