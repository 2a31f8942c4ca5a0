"""Program forms -> statements of a Kernel, by asking for the value of a form at given indices.

`Lowering.value(form, env, guard)` emits what computes `form` where each of its axes has the operand
that `env` gives, and returns the value with its presence. `guard` is true where those operands lie in
the ranges of the axes: nothing is loaded where it is false. Reads move inwards this way with exactly
the guards that language.md section 4 asks for, because presence is computed, never assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ...dsl.arithmetic import SCALAR_OPS, UNDEFINED
from ...dsl.constructors.build import low, size
from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Reduce,
    Size,
    When,
    walk,
)
from ...dsl.shapes.size_forms import is_batch
from ..fusion.plan import Stored
from ..fusion.work import word_of
from ..kernels.kernel import Carry, Operand, StreamAxis
from ..kernels.kernel_builder import Builder, Tile
from .reductions import REDUCTIONS

Env = Mapping[Axis, Operand]


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor that a kernel reads: the buffer, its dimensions, and the buffer of its presence."""

    buffer: str
    axes: tuple[Axis, ...]
    presence: str | None


@dataclass(slots=True)
class Lowering:
    """`known` are sizes compiled in; `sources` the stored values and leaves by form; `numbers` the
    size forms that the caller passes, in order. `values` remembers what was emitted in open blocks."""

    builder: Builder
    known: Mapping[Axis, int]
    stored: Mapping[Form, Stored]
    sources: dict[Form, Source] = field(default_factory=dict[Form, Source])
    read: list[tuple[str, Form, bool]] = field(default_factory=list[tuple[str, Form, bool]])
    numbers: dict[Form, str] = field(default_factory=dict[Form, str])
    ranges: dict[str, set[tuple[Form, Form]]] = field(default_factory=dict[str, set[tuple[Form, Form]]])
    values: list[dict[object, Tile]] = field(default_factory=lambda: [dict[object, Tile]()])

    # --- sizes and ranges

    def whole(self, form: Form) -> Operand:
        """An integer without axes: a literal if all its sizes are compiled in, else a run-time number."""
        value = constant_value(form, self.known)
        if value is not None:
            return value
        if form not in self.numbers:
            wish = word_of(form.axis) if isinstance(form, Size) else "n"
            self.numbers[form] = self.builder.number(f"{wish}_size")
        return self.numbers[form]

    def low(self, axis: Axis) -> Operand:
        return self.whole(low(axis))

    def extent(self, axis: Axis) -> Operand:
        return self.known.get(axis) or self.whole(size(axis))

    def range_key(self, axis: Axis) -> tuple[Form, Form]:
        return (low(axis), size(axis))

    def coordinate(self, axis: Axis, wish: str = "") -> str:
        """A new tile axis that runs over the range of `axis`."""
        name = self.builder.axis(wish or word_of(axis))
        self.ranges[name] = {self.range_key(axis)}
        return name

    # --- blocks

    def open(self, axes: Collection[str]) -> None:
        """Begin the body of a stream over tile axes."""
        self.builder.open(axes)
        self.values.append({})

    def close(
        self, axes: tuple[StreamAxis, ...], carries: tuple[Carry, ...], visible: Operand = True
    ) -> None:
        self.values.pop()
        self.builder.close(axes, carries, visible)

    def bind(self, form: Form, env: Env, tile: Tile) -> None:
        """Let `form` at these indices be a value that is there already."""
        self.values[-1][self._key(form, env, None)] = tile

    def _key(self, form: Form, env: Env, guard: Operand | None) -> object:
        return (form, tuple((axis, env[axis]) for axis in form.axes), guard)

    # --- values

    def value(self, form: Form, env: Env, guard: Operand) -> Tile:
        """The value of a form at the indices of `env`."""
        guard = self._relevant(form, env, guard)
        for key in (self._key(form, env, None), self._key(form, env, guard)):
            for block in reversed(self.values):
                if key in block:
                    return block[key]
        tile = self._emit(form, env, guard)
        self.values[-1][self._key(form, env, guard)] = tile
        return tile

    def _relevant(self, form: Form, env: Env, guard: Operand) -> Operand:
        """The conjuncts of a guard that say where the indices of this form lie: those over other tile
        axes say nothing of them, and would tie its loads to these axes."""
        parts = self.builder.conjuncts(guard)
        if not parts:
            return guard
        axes = set(self.builder.axes(tuple(env[axis] for axis in form.axes)))
        kept = tuple(part for part in parts if axes.issuperset(self.builder.axes((part,))))
        return guard if len(kept) == len(parts) else self.builder.both(*kept)

    def _emit(self, form: Form, env: Env, guard: Operand) -> Tile:
        if form in self.stored or isinstance(form, Leaf):
            return self._read(form, env, guard)
        match form:
            case Const(value=value):
                if isinstance(value, complex):
                    raise CompilerFault("lower", "a complex constant reached a kernel")
                return Tile(value)
            case Size():
                return Tile(self.extent(form.axis))
            case Coordinate(axis=axis):
                return Tile(env[axis])
            case Map():
                return self._map(form, env, guard)
            case When(predicate=p, value=x):
                test = self.value(p, env, guard)
                tile = self.value(x, env, guard)
                return Tile(tile.value, self.builder.both(test.present, test.value, tile.present))
            case Otherwise(value=x, fallback=y):
                return self._otherwise(form.kind, self.value(x, env, guard), y, env, guard)
            case At():
                return self.at(form, env, guard)
            case Reduce():
                return self.reduce(form, env, guard)
            case AsIf(value=x) | OnGradient(value=x):
                return self.value(x, env, guard)
            case _:
                raise CompilerFault("lower", f"{type(form).__name__} has no place inside a kernel")

    def _map(self, form: Map, env: Env, guard: Operand) -> Tile:
        if (
            not form.axes
            and form.kind == "int"
            and all(isinstance(f, Const | Size | Map) for f in walk((form,)))
        ):
            return Tile(self.whole(form))
        tiles = [self.value(arg, env, guard) for arg in form.args]
        present = self.builder.both(*(tile.present for tile in tiles))
        args = tuple(tile.value for tile in tiles)
        if form.op == "imag":  # of a real number: a kernel meets no others
            return Tile(0.0, present)
        if form.op == "pow" and type(args[1]) is int and 0 <= args[1] <= 4 and form.kind in ("int", "real"):
            return Tile(self._power(args[0], args[1], form.kind), present)
        return Tile(self.builder.let(form.op, *args, kind=form.kind), present)

    def _power(self, base: Operand, power: int, kind: Kind) -> Operand:
        """x ** n as products: exact for integers, and the same in every backend."""
        if power == 0:
            return 1 if kind == "int" else 1.0
        half = self._power(base, power // 2, kind) if power > 1 else base
        square = self.builder.let("mul", half, half, kind=kind) if power > 1 else base
        return self.builder.let("mul", square, base, kind=kind) if power > 1 and power % 2 else square

    def _otherwise(self, kind: Kind, tile: Tile, fallback: Form, env: Env, guard: Operand) -> Tile:
        if tile.present is True:
            return Tile(self.of_kind(kind, tile.value))
        rest = self.value(fallback, env, guard)
        value = self.of_kind(
            kind, self.builder.let("select", tile.present, tile.value, rest.value, kind=kind)
        )
        if rest.present is True:
            return Tile(value)
        return Tile(value, self.builder.let("or", tile.present, rest.present, kind="bool"))

    def of_kind(self, kind: Kind, value: Operand) -> Operand:
        """A whole number that stands for a real one as a real one: a choice that is made at once gives one side."""
        if kind != "real" or self.builder.kind(value) != "int":
            return value
        return self.builder.let("to_real", value, kind="real") if isinstance(value, str) else float(value)

    def at(self, form: At, env: Env, guard: Operand) -> Tile:
        """A read: its operand at other indices, present where they lie in range."""
        inner = {axis: env[axis] for axis in form.value.axes if axis in env}
        tests: list[Operand] = []
        for axis, index in form.indices:
            tile = self.value(index, env, guard)
            tests += [tile.present, self.within(axis, tile.value)]
            inner[axis] = tile.value
        inside = self.builder.both(*tests)
        tile = self.value(form.value, inner, self.builder.both(guard, inside))
        return Tile(tile.value, self.builder.both(inside, tile.present))

    def within(self, axis: Axis, index: Operand) -> Operand:
        """True where `index` lies in the range of `axis`; nothing is tested where that is known."""
        if isinstance(index, str) and self.range_key(axis) in self.ranges.get(index, set()):
            return True
        lowest, extent = self.low(axis), self.extent(axis)
        if type(index) is int and type(lowest) is int and type(extent) is int:
            return lowest <= index < lowest + extent
        above = self.builder.let("ge", index, lowest, kind="bool")
        stop = self.builder.let("add", lowest, extent, kind="int")
        return self.builder.both(above, self.builder.let("lt", index, stop, kind="bool"))

    def _read(self, form: Form, env: Env, guard: Operand) -> Tile:
        source = self.source(form)
        index = tuple(self.offset(axis, env[axis]) for axis in source.axes)
        value = self.builder.load(source.buffer, index, guard, form.kind)
        if source.presence is None:
            return Tile(value)
        return Tile(value, self.builder.load(source.presence, index, guard, "bool"))

    def offset(self, axis: Axis, index: Operand) -> Operand:
        """Where an index lies in storage: tensors begin at the lowest index of an axis."""
        return self.builder.let("sub", index, self.low(axis), kind="int")

    def source(self, form: Form) -> Source:
        """The buffer of a leaf or stored value, declared at its first use."""
        if form not in self.sources:
            stored = self.stored.get(form)
            if isinstance(form, Leaf):
                wish, axes, presence = form.name, form.over, False
            elif stored is None:
                raise CompilerFault("lower", "a value that is neither stored nor a leaf was read")
            else:
                wish, axes, presence = stored.name, stored.axes, stored.presence
            name = self.builder.buffer(wish, len(axes), form.kind, "in")
            self.read.append((name, form, False))
            there = self.builder.buffer(f"{wish}_there", len(axes), "bool", "in") if presence else None
            if there is not None:
                self.read.append((there, form, True))
            self.sources[form] = Source(name, axes, there)
        return self.sources[form]

    # --- reductions

    def reduce(self, form: Reduce, env: Env, guard: Operand) -> Tile:
        """A reduction as streams of one entry at a time, one a piece."""
        rule = REDUCTIONS[form.op](self.builder, form)
        state = rule.start()
        outer = self.builder.axes((*(env[axis] for axis in form.axes), guard))
        surely = False
        for number, piece in enumerate(form.pieces):
            names = {axis: self.coordinate(axis) for axis in piece.axes}
            carried: list[Operand] = [self.builder.carry(f"{form.op}_", outer, kind) for kind in rule.kinds]
            axes = tuple(self._stream_axis(axis, names[axis]) for axis in piece.axes)
            self.open(tuple(names.values()))
            inner = {axis: env[axis] for axis in piece.value.axes if axis in env} | names
            tile = self.value(piece.value, inner, guard)
            step = rule.of_piece(number).step(carried, tile, inner)
            carries = zip(carried, state, step, rule.kinds, strict=True)
            self.close(
                axes, tuple(Carry(str(name), init, new, outer, kind) for name, init, new, kind in carries)
            )
            there = tile.present is True and not any(is_batch(axis) for axis in piece.axes)
            surely = surely or (there and (form.op != "argmax" or len(form.pieces) == 1))
            state = carried
        result = rule.finish(state)
        return Tile(result.value) if surely else result

    def _stream_axis(self, axis: Axis, name: str) -> StreamAxis:
        lowest = self.low(axis)
        stop = self.builder.let("add", lowest, self.extent(axis), kind="int")
        return StreamAxis(name, lowest, stop, 1)


def constant_value(form: Form, known: Mapping[Axis, int]) -> int | None:
    """The integer that a size form comes to under the sizes that are compiled in."""
    made: dict[Form, int | None] = {}
    for each in walk((form,)):
        match each:
            case Const(value=int() as value):
                made[each] = int(value)
            case Size(axis=axis):
                made[each] = known.get(axis)
            case Map(op=op, args=args):
                values = [made[arg] for arg in args]
                made[each] = (
                    _integer(op, [v for v in values if v is not None]) if None not in values else None
                )
            case _:
                made[each] = None
    return made[form]


def _integer(op: str, values: list[int]) -> int | None:
    """The operation on known sizes; None where it gives no integer or nothing at all."""
    try:
        value = SCALAR_OPS[op](*values)
    except UNDEFINED:
        return None
    return value if type(value) is int else None
