"""From where to where a stream of keys goes: the range of the key, cut to what the tile's queries can see.

A predicate of integers is solved for one key axis over the intervals of everything else: the tile's queries
lie in first .. last, the other keys anywhere in their ranges. So prefixes (`s <= t`), bands (`abs(s - t) < 9`),
stairs (`s // 16 <= t // 16`), blocks, and the box around a disc are bounds of loops; what is left of them is
the mask. Data that no key moves has a part in bounds too (`s < length`, `s >= start[t]`): it is read once a
tile, its least or greatest value over the tile. A predicate in which data moves with the key, or that is not
monotonous in it, bounds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

from ...dsl.constructors.build import apply, low
from ...dsl.program import At, Axis, Const, Coordinate, Form, Leaf, Map, Reduce, Size
from ..fusion.keys import ONE, Key
from ..kernels.kernel import FAR, Operand
from ..rewrites.residues import Classes, count_from
from .lower import Lowering

Range = tuple[Operand | None, Operand | None]
"""The least and the greatest value; None where there is none."""

ANYWHERE: Range = (None, None)
NOWHERE: Mapping[Axis, Operand] = {}
NEGATED = {"lt": "ge", "ge": "lt", "le": "gt", "gt": "le", "ne": "eq"}
SWAPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the keys of one stream, for the queries at `env`, of which `lanes` are all axes of which a tile has
    more than one coordinate, and `classes` those that have one residue a tile."""

    lowering: Lowering
    env: Mapping[Axis, Operand]
    keys: tuple[Key, ...]
    lanes: tuple[str, ...]
    classes: Mapping[Axis, Classes]

    def of(self, key: Key, predicates: tuple[Form, ...]) -> tuple[Operand, Operand]:
        """The lowest key, and the one past the highest, that a query of the tile may see."""
        lowering = self.lowering
        lowest, stop = self._range(key)
        found = [Solving(self, key).holds(each) for each in predicates]
        if not plain(lowering, key):
            near = lowering.low(key.over)
            far = self._let("add", near, self._let("sub", lowering.extent(key.over), 1))
            found.append(Solving(self, key).within(Coordinate(key.over), (near, far)))
        for least, most in found:
            if least is not None:
                lowest = self._let("maximum", lowest, least)
            if most is not None:
                stop = self._let("minimum", stop, self._let("add", most, 1))
        return lowest, stop

    def _range(self, key: Key) -> tuple[Operand, Operand]:
        """The range of a key: that of its axis, or the places of a class."""
        if key.step != ONE:
            first = {axis: f"{self.env[axis]}.first" for axis in key.residue.axes}
            return 0, self._number(count_from(key.axis, key.step, key.residue), first)
        lowest = self.lowering.low(key.axis)
        return lowest, self._let("add", lowest, self.lowering.extent(key.axis))

    # --- values that the key does not change

    def extreme(self, form: Form, high: bool) -> Operand | None:
        """The lowest or highest value of an integer over the tile and all keys; None where it is not plain."""
        match form:
            case Coordinate(axis=axis):
                return self._end(axis, high)
            case Map(op=("add" | "minimum" | "maximum") as op, args=(a, b)):
                return self.joined(op, self.extreme(a, high), self.extreme(b, high))
            case Map(op="sub", args=(a, b)):
                return self.joined("sub", self.extreme(a, high), self.extreme(b, not high))
            case Map(op="neg", args=(a,)):
                return self.joined("sub", 0, self.extreme(a, not high))
            case Map(op="mul") if (apart := scaled(form)) is not None:
                return self.joined("mul", self._number(apart[0]), self.extreme(apart[1], high))
            case Map(op="floordiv", args=(a, by)) if positive(by):
                return self.joined("floordiv", self.extreme(a, high), self._number(by))
            case Map(op="mod", args=(_, by)) if positive(by):
                return self.joined("sub", self._number(by), 1) if high else 0
            case Map() if not high and _not_negative(form):
                return 0
            case Leaf() | At() | Reduce() if form.kind == "int":
                return self._data(form, high)
            case _ if not form.axes and form.kind == "int":
                return self._number(form)
            case _:
                return None

    def _data(self, form: Form, high: bool) -> Operand | None:
        """The greatest or least value of a tensor over the tile's queries, at all of which it must be present."""
        lowering, builder = self.lowering, self.lowering.builder
        source = form.value if isinstance(form, At) else form
        if not (isinstance(source, Leaf) or source in lowering.stored) or not all(
            a in self.env for a in form.axes
        ):
            return None
        own = (self.env[axis] for axis in form.axes)
        env = {
            axis: at if at in self.lanes else f"{at}.first" for axis, at in zip(form.axes, own, strict=True)
        }
        there = (f"{at}.valid" for at in env.values() if at in self.lanes)
        tile = lowering.value(form, env, builder.both(*there))
        if tile.present is not True or set(builder.axes((tile.value,))) - set(self.lanes):
            return None
        value = self._let("minimum", self._let("maximum", tile.value, -FAR), FAR)
        if not builder.axes((value,)):
            return value
        for lane in self.lanes:
            if lane not in builder.axes((value,)):
                value = builder.let("select", f"{lane}.valid", value, -FAR if high else FAR, kind="int")
        return builder.fold_axes(
            "max" if high else "min", value, self.lanes, "int", "most" if high else "least"
        )

    def _end(self, axis: Axis, high: bool) -> Operand | None:
        """The first or last coordinate of the tile; of another key, of its range."""
        if any(axis == key.over for key in self.keys):
            lowest = self.lowering.low(axis)
            return (
                self._let("add", lowest, self._let("sub", self.lowering.extent(axis), 1)) if high else lowest
            )
        if axis in self.classes:
            return self.extreme(self.classes[axis].coordinate, high)
        return f"{self.env[axis]}.{'last' if high else 'first'}" if axis in self.env else None

    def _number(self, form: Form, env: Mapping[Axis, Operand] = NOWHERE) -> Operand:
        return self.lowering.value(form, env, True).value

    def joined(self, op: str, a: Operand | None, b: Operand | None) -> Operand | None:
        """An integer operation, None where an operand is."""
        return None if a is None or b is None else self._let(op, a, b)

    def _let(self, op: str, a: Operand, b: Operand) -> Operand:
        return self.lowering.builder.let(op, a, b, kind="int")


@dataclass(frozen=True, slots=True)
class Solving:
    """Where one key may lie."""

    bounds: Bounds
    key: Key

    def holds(self, form: Form) -> Range:
        """Where a predicate may hold for some query of the tile."""
        match form:
            case Map(op="and", args=args):
                return self._joined("maximum", "minimum", [self.holds(each) for each in args], False)
            case Map(op="or", args=args):
                return self._joined("minimum", "maximum", [self.holds(each) for each in args], True)
            case Map(op="not", args=(Map(op=op, args=args),)) if op in NEGATED:
                return self.holds(Map(NEGATED[op], args))
            case Map(op=op, args=(a, b)) if op in SWAPPED and a.kind == b.kind == "int":
                return self._compared(op, a, b) if self._has(a) else self._compared(SWAPPED[op], b, a)
            case _:
                return ANYWHERE

    def _joined(self, low: str, high: str, found: list[Range], every: bool) -> Range:
        """The meeting of some ranges, or, where `every` one must have an end, what holds them all."""
        ends: list[Operand | None] = []
        for op, side in ((low, [least for least, _ in found]), (high, [most for _, most in found])):
            known = [each for each in side if each is not None]
            end = known[0] if known and not (every and len(known) < len(side)) else None
            for each in known[1:]:
                end = self.bounds.joined(op, end, each)
            ends.append(end)
        return ends[0], ends[1]

    def _compared(self, op: str, value: Form, other: Form) -> Range:
        """Where `value op other` may hold, `value` having the key."""
        if not self._has(value) or self._has(other):
            return ANYWHERE
        least, most = self.bounds.extreme(other, False), self.bounds.extreme(other, True)
        match op:
            case "lt":
                return self.within(value, (None, self.bounds.joined("sub", most, 1)))
            case "le":
                return self.within(value, (None, most))
            case "gt":
                return self.within(value, (self.bounds.joined("add", least, 1), None))
            case "ge":
                return self.within(value, (least, None))
            case _:
                return self.within(value, (least, most))

    def within(self, form: Form, ends: Range) -> Range:
        """Where the key may lie for the form to lie between two ends."""
        joined, extreme = self.bounds.joined, self.bounds.extreme
        least, most = ends
        match form:
            case Coordinate(axis=axis) if axis == self.key.over:
                return self._key(ends)
            case Map(op=("add" | "sub") as op, args=(a, b)) if self._has(a) and not self._has(b):
                undo, over = ("sub", True) if op == "add" else ("add", False)
                return self.within(
                    a, (joined(undo, least, extreme(b, over)), joined(undo, most, extreme(b, not over)))
                )
            case Map(op="add", args=(a, b)) if self._has(b) and not self._has(a):
                return self.within(Map("add", (b, a)), ends)
            case Map(op="sub", args=(a, b)) if self._has(b) and not self._has(a):
                return self.within(
                    b, (joined("sub", extreme(a, False), most), joined("sub", extreme(a, True), least))
                )
            case Map(op="neg", args=(a,)):
                return self.within(a, (joined("sub", 0, most), joined("sub", 0, least)))
            case Map(op="mul") if (apart := scaled(form)) is not None:
                by = extreme(apart[0], True)
                up = joined("floordiv", joined("add", least, joined("sub", by, 1)), by)
                return self.within(apart[1], (up, joined("floordiv", most, by)))
            case Map(op="floordiv", args=(a, by)) if positive(by) and self._has(a):
                size = extreme(by, True)
                beyond = joined("sub", joined("mul", joined("add", most, 1), size), 1)
                return self.within(a, (joined("mul", least, size), beyond))
            case _:
                return self._folded(form, ends)

    def _folded(self, form: Form, ends: Range) -> Range:
        """The same for what turns around somewhere."""
        _, most = ends
        match form:
            case Map(op="abs", args=(a,)):
                return self.within(a, (self.bounds.joined("sub", 0, most), most))
            case Map(op="mul", args=(a, b)) if a == b and isinstance(most, int):
                return self.within(a, (-isqrt(max(most, 0)), isqrt(max(most, 0))))
            case Map(op="pow", args=(a, Const(value=2))) if isinstance(most, int):
                return self.within(a, (-isqrt(max(most, 0)), isqrt(max(most, 0))))
            case Map(op=("maximum" | "minimum") as op, args=(a, b)) if self._has(a) is not self._has(b):
                inner, other = (a, b) if self._has(a) else (b, a)
                return self.within(inner, self._clamped(op, inner, other, ends))
            case _:
                return ANYWHERE

    def _clamped(self, op: str, inner: Form, other: Form, ends: Range) -> Range:
        """Where `inner` may lie for its maximum (minimum) with `other` to lie between two ends: that `other`
        lies there by itself for a query of the tile leaves one side open."""
        high = op == "maximum"
        least, most = ends
        end, beside, outermost = (
            least if high else most, self.bounds.extreme(other, high), self.bounds.extreme(inner, not high),
        )  # fmt: skip
        cut: Operand | None = None
        if end is not None and beside is not None and outermost is not None:
            let = self.bounds.lowering.builder.let
            alone = let("lt", *((beside, end) if high else (end, beside)), kind="bool")
            cut = let("select", alone, end, outermost, kind="int")
        return (cut, most) if high else (least, cut)

    def _key(self, ends: Range) -> Range:
        """The key of a reduced axis: sign * (key - rest) lies between the ends; of one that is `exact`,
        sign * (coordinate - rest)."""
        joined, rest = self.bounds.joined, self.key.rest
        first, last = self.bounds.extreme(rest, False), self.bounds.extreme(rest, True)
        least, most = ends
        if self.key.sign == 1:
            found = joined("add", first, least), joined("add", last, most)
        else:
            found = joined("sub", first, most), joined("sub", last, least)
        return self._place(*found) if self.key.exact else found

    def _place(self, least: Operand | None, most: Operand | None) -> Range:
        """The places in its class of the coordinates from `least` to `most`."""
        joined, key = self.bounds.joined, self.key
        start = apply("add", low(key.axis), key.residue)
        first, step = self.bounds.extreme(start, False), self.bounds.extreme(key.step, True)
        up = joined("add", joined("sub", least, first), joined("sub", step, 1))
        return joined("floordiv", up, step), joined("floordiv", joined("sub", most, first), step)

    def _has(self, form: Form) -> bool:
        return self.key.over in form.axes


def positive(form: Form) -> bool:
    """Whether a number without axes is certainly greater than 0."""
    match form:
        case Const(value=int() as number):
            return number > 0
        case Size():
            return True
        case _:
            return False


def scaled(form: Map) -> tuple[Form, Form] | None:
    """A product as its factor that is a number greater than 0, and the other one."""
    a, b = form.args
    return (a, b) if positive(a) else (b, a) if positive(b) else None


def _not_negative(form: Map) -> bool:
    """Whether an integer is certainly not less than 0, whatever it is made of."""
    match form:
        case Map(op="mul", args=(a, b)):
            return form.kind == "int" and a == b
        case Map(op="pow", args=(_, Const(value=2))) | Map(op="abs"):
            return form.kind == "int"
        case _:
            return False


def plain(lowering: Lowering, key: Key) -> bool:
    """True where the key is the reduced axis itself, over its whole range or one class of it."""
    if key.step != ONE and not key.exact:
        return False
    same = lowering.range_key(key.over) == lowering.range_key(key.axis)
    return same and key.sign == 1 and key.rest == Const(0)
