"""How often the statements of a Kernel run: exactly at given sizes, or as a formula in the sizes.

A count is of coordinates that exist: tiles overhang nothing. The bounds of a stream may follow the tile
that it belongs to (a window, a causal mask); the exact count goes through these tiles one by one, and the
formula sums over them as if none lay at a border, so it is at least the count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...dsl.arithmetic import SCALAR_OPS
from ...dsl.errors import CompilerFault
from ...dsl.proofs import algebra
from ..kernels.kernel import (
    FAR,
    Dot,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    Operand,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
    defined,
    operands,
)

Number = Any
"""An int, or an expression of `dsl.proofs.algebra`."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One axis of the grid or of a stream: low .. stop in steps. `needs` are the axes whose tiles its
    bounds follow."""

    name: str
    low: Operand
    stop: Operand
    size: Operand
    step: int
    needs: frozenset[str]


Loops = tuple[Loop, ...]

TURNED = {"": "", "minimum": "maximum", "maximum": "minimum"}


@dataclass(slots=True)
class Nest:
    """The loops of a kernel. `axes_of` knows the tile axes of every name."""

    kernel: Kernel
    scalars: dict[str, Let] = field(init=False, default_factory=dict[str, Let])
    axes_of: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict[str, tuple[str, ...]])
    steps: dict[str, Operand] = field(init=False, default_factory=dict[str, Operand])
    """By residue the step of the classes that a ragged axis has."""
    grid: Loops = field(init=False)
    locals: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        kernel = self.kernel
        self.locals = {local.name: local.size for local in kernel.locals}
        self.grid = tuple(self._grid(axis) for axis in kernel.grid)
        names = [*(axis.name for axis in kernel.grid), *self.locals]
        for name in names:
            self._coordinate(name)
        for statement, _ in self._statements(kernel.body, ()):
            match statement:
                case Let(name=name, axes=()):
                    self.scalars[name] = statement
                    self.axes_of[name] = ()
                case Stream(axes=axes, carries=carries):
                    for axis in axes:
                        self._coordinate(axis.name)
                    self.axes_of |= {carry.name: carry.axes for carry in carries}
                case Store():
                    pass
                case Let() | Load() | Take() | Dot() | Fold():
                    self.axes_of[statement.name] = statement.axes

    def _grid(self, axis: Grid) -> Loop:
        """A grid axis; one that is ragged ends where its class does."""
        end = axis.ragged
        if end is None:
            return Loop(axis.name, axis.low, "", axis.size, axis.tile, frozenset())
        self.steps[end.residue] = end.step
        left, less, over, stop = (f"{axis.name}.{part}" for part in ("left", "less", "over", "end"))
        self.scalars |= {
            left: Let(left, "sub", (end.extent, f"{end.residue}.first"), (), "int"),
            less: Let(less, "sub", (end.step, 1), (), "int"),
            over: Let(over, "add", (left, less), (), "int"),
            stop: Let(stop, "floordiv", (over, end.step), (), "int"),
        }
        return Loop(axis.name, axis.low, stop, "", axis.tile, frozenset({end.residue}))

    def _coordinate(self, name: str) -> None:
        self.axes_of |= {name: (name,), f"{name}.valid": (name,), f"{name}.first": (), f"{name}.last": ()}

    def statements(self) -> Iterator[tuple[Statement, Loops]]:
        """Every statement with the loops around it."""
        return self._statements(self.kernel.body, self.grid)

    def masked(self) -> dict[str, Stream]:
        """The streams with a mask, by the name of their first axis."""
        streams = [each for each, _ in self.statements() if isinstance(each, Stream)]
        return {each.axes[0].name: each for each in streams if each.visible is not True}

    def _statements(self, body: tuple[Statement, ...], loops: Loops) -> Iterator[tuple[Statement, Loops]]:
        for statement in body:
            yield statement, loops
            if isinstance(statement, Stream):
                inner = loops
                for axis in statement.axes:
                    needs = self.needs(axis.low) | self.needs(axis.stop)
                    inner = (*inner, Loop(axis.name, axis.low, axis.stop, "", axis.step, frozenset(needs)))
                yield from self._statements(statement.body, inner)

    def needs(self, operand: Operand) -> set[str]:
        if not isinstance(operand, str):
            return set()
        if operand in self.scalars:
            return {name for arg in self.scalars[operand].args for name in self.needs(arg)}
        name = operand.removesuffix(".first").removesuffix(".last")
        return {name} if name in self.axes_of else set()

    def read(self, operand: Operand) -> set[str]:
        """The buffers that a scalar is made of."""
        waiting, found, seen = [operand], set[str](), set[Operand]()
        given = {name: each for each, _ in self.statements() for name in defined(each)}
        while waiting:
            each = waiting.pop()
            statement = given.get(str(each)) if each not in seen else None
            seen.add(each)
            if isinstance(statement, Load):
                found.add(statement.buffer)
            elif statement is not None:
                waiting += operands(statement)
        return found


# --- counts


@dataclass(slots=True)
class Counter:
    """Counts of one nest; `sizes` are its run-time numbers by name."""

    nest: Nest
    sizes: Mapping[str, Number]
    made: dict[object, Number] = field(default_factory=dict[object, Number])

    def entries(self, loops: Loops, axes: frozenset[str]) -> Number:
        """The entries of values over `axes`, added up over every pass through the loops."""
        key = (loops, axes)
        if key not in self.made:
            total: Number = 1
            for name in sorted(axes & set(self.nest.locals)):
                total = total * self.nest.locals[name]
            for part in _apart(loops):
                total = total * self._part(part, axes)
            self.made[key] = total
        return self.made[key]

    def _part(self, loops: Loops, axes: frozenset[str]) -> Number:
        key = (loops, axes & {loop.name for loop in loops})
        if key not in self.made:
            self.made[key] = self._count(loops, axes, {})
        return self.made[key]

    def _count(self, loops: Loops, axes: frozenset[str], place: Mapping[str, Number]) -> Number:
        if not loops:
            return 1
        loop, rest = loops[0], loops[1:]
        low = self.low(loop, place)
        length = self.value(loop.size, place) if loop.size != "" else self.stop(loop, place) - low
        if any(loop.name in each.needs for each in rest):
            return self._each(loop, rest, axes, place, low, length)
        own = self._whole(length) if loop.name in axes else self._tiles(length, loop.step)
        return own * self._count(rest, axes, place)

    def value(self, operand: Operand, place: Mapping[str, Number]) -> Number:
        """A scalar of the kernel. Raises CompilerFault for what only data decides."""
        return self._known(operand, self._value(operand, place, ""))

    def low(self, axis: Loop | StreamAxis, place: Mapping[str, Number]) -> Number:
        """Where an axis begins, at the earliest: data that bounds it may bound nothing."""
        return self._known(axis.low, self._value(axis.low, place, "maximum"))

    def stop(self, axis: Loop | StreamAxis, place: Mapping[str, Number]) -> Number:
        """Where an axis ends, at the latest."""
        return self._known(axis.stop, self._value(axis.stop, place, "minimum"))

    def _known(self, operand: Operand, found: Number | None) -> Number:
        if found is None:
            raise CompilerFault("cost", f"the bound `{operand}` of a stream is data")
        return found

    def _value(self, operand: Operand, place: Mapping[str, Number], meets: str) -> Number | None:
        """A scalar; None for data. `meets` is the operation that only ever cuts what it is asked for: of it,
        an argument that is data counts as absent."""
        if not isinstance(operand, str):
            return operand
        if operand in place:
            return place[operand]
        if operand in self.sizes:
            return self.sizes[operand]
        if operand not in self.nest.scalars:
            return None
        let = self.nest.scalars[operand]
        if let.op in ("minimum", "maximum") and type(let.args[1]) is int and abs(let.args[1]) >= FAR:
            return self._value(let.args[0], place, meets)
        turned = [meets, TURNED[meets]] if let.op == "sub" else [meets] * len(let.args)
        args = [self._value(arg, place, each) for arg, each in zip(let.args, turned, strict=True)]
        known = [arg for arg in args if arg is not None]
        if len(known) == len(args):
            return self._applied(let.op, known)
        return known[0] if known and let.op == meets else None

    # --- what differs between exact counts and formulas

    def _each(
        self, loop: Loop, rest: Loops, axes: frozenset[str], place: Mapping[str, Number],
        low: Number, length: Number,
    ) -> Number:  # fmt: skip
        """The count below a loop whose tiles bound others."""
        total = 0
        for first in range(low, low + length, loop.step):
            last = min(first + loop.step, low + length) - 1
            inner = {**place, loop.name: first, f"{loop.name}.first": first, f"{loop.name}.last": last}
            total += (last - first + 1 if loop.name in axes else 1) * self._count(rest, axes, inner)
        return total

    def _whole(self, length: Number) -> Number:
        return max(length, 0)

    def _tiles(self, length: Number, step: int) -> Number:
        return -(-max(length, 0) // step)

    def _applied(self, op: str, args: list[Number]) -> Number:
        return (args[1] if args[0] else args[2]) if op == "select" else SCALAR_OPS[op](*args)


@dataclass(slots=True)
class Formula(Counter):
    """The same as formulas: borders left out, and the tiles that bound others counted in fractions."""

    moving: list[Number] = field(default_factory=list[Number])

    def _each(
        self, loop: Loop, rest: Loops, axes: frozenset[str], place: Mapping[str, Number],
        low: Number, length: Number,
    ) -> Number:  # fmt: skip
        if loop.name in self.nest.steps:  # every class counts as the longest
            inner = {**place, **dict.fromkeys((loop.name, f"{loop.name}.first", f"{loop.name}.last"), 0)}
            return self.value(self.nest.steps[loop.name], place) * self._count(rest, axes, inner)
        index = algebra.unknown()
        self.moving.append(index)
        first = low + loop.step * index
        last = first + loop.step - 1
        inner = {**place, loop.name: first, f"{loop.name}.first": first, f"{loop.name}.last": last}
        below = self._count(rest, axes, inner) * (loop.step if loop.name in axes else 1)
        return algebra.summed(below, index, algebra.share(length, loop.step))

    def _whole(self, length: Number) -> Number:
        return length

    def _tiles(self, length: Number, step: int) -> Number:
        return algebra.share(length, step) if self._moves(length) else algebra.tiles(length, step)

    def _floored(self, value: Number, by: int) -> Number:
        return algebra.share(value, by) if self._moves(value) else algebra.floored(value, by)

    def _moves(self, value: Number) -> bool:
        return algebra.contains(value, self.moving)

    def _applied(self, op: str, args: list[Number]) -> Number:
        match op, args:
            case (("minimum" | "maximum"), (first, second)):
                return algebra.clamped(op, first, second, self.moving)
            case "floordiv", (first, int(second)):
                return self._floored(first, second)
            case "add", (first, second):
                return first + second
            case "sub", (first, second):
                return first - second
            case "mul", (first, second):
                return first * second
            case "neg", (first,):
                return -first
            case "lt", _:  # whether a tile lies inside a clamp, which is what a formula counts
                return True
            case "select", (True, inside, _):
                return inside
            case _:
                raise CompilerFault("cost", f"no formula for the `{op}` of a stream's bound")


def _apart(loops: Loops) -> Iterator[Loops]:
    """The loops in parts whose bounds do not depend on each other, order kept."""
    part_of: dict[str, set[str]] = {}
    for loop in loops:
        joined = {loop.name}.union(*(part_of[name] for name in loop.needs if name in part_of))
        for name in joined:
            part_of[name] = joined
    seen: list[set[str]] = []
    for loop in loops:
        part = part_of[loop.name]
        if not any(part is each for each in seen):
            seen.append(part)
            yield tuple(each for each in loops if each.name in part)
