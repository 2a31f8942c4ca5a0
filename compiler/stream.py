"""The streaming schedule: tiles of queries stay, keys stream past, softmax runs online.

    top, norm, acc      the running maximum, the sum of weights and the weighted sum of values over
                        the keys seen so far, the latter two relative to exp(top)

A key that a query does not see weighs exp(-inf - base) = 0; whether a query saw any key at all is
a carried bool of its own, kept only where something reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..dsl.build import low, size
from ..dsl.program import Axis, Const, Coordinate, Form, Map
from .attention_family import Attention, Key, Side
from .kernel import Carry, Grid, Kernel, Local, Operand, RealType, StreamAxis
from .kernel_builder import INF, Builder, Tile
from .loops import spread, store_result, stores
from .lower import Env, Lowering
from .plan import Stored
from .prune import prune
from .schedule import StreamSchedule
from .work import word_of
from .written import Written

MOST_TILED = 3
"""Lane axes beyond the last three are taken one by one."""


def stream_kernel(
    name: str,
    result: Stored,
    match: Attention,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: StreamSchedule,
) -> Written:
    """The kernel of a group whose result is the reduction of `match` or pointwise in it."""
    others = {form: each for form, each in stored.items() if form != result.form}
    return Streaming(name, result, match, Lowering(Builder(real), known, others), schedule).write()


@dataclass(slots=True)
class Streaming:
    name: str
    result: Stored
    match: Attention
    lowering: Lowering
    schedule: StreamSchedule
    env: dict[Axis, Operand] = field(default_factory=dict[Axis, Operand])
    tiles: dict[Axis, int] = field(default_factory=dict[Axis, int])
    locals: list[Local] = field(default_factory=list[Local])

    @property
    def builder(self) -> Builder:
        return self.lowering.builder

    # --- axes

    def _axes(self) -> None:
        match = self.match
        tiled = match.lanes[-MOST_TILED:]
        self.tiles = dict(zip(tiled, spread(self.schedule.lanes, len(tiled)), strict=True))
        for axis in self.result.axes:
            if axis not in match.outputs:
                self.env[axis] = self.lowering.coordinate(axis)
        for axis in dict.fromkeys((*match.channels, *match.outputs)):
            self.env[axis] = self._local(axis)

    def _local(self, axis: Axis) -> str:
        name = self.lowering.coordinate(axis)
        lowest, extent = self.lowering.low(axis), self.lowering.known[axis]
        assert isinstance(lowest, int)
        self.locals.append(Local(name, lowest, extent))
        return name

    def _grid(self) -> tuple[Grid, ...]:
        lowering = self.lowering
        batch = [
            axis for axis in self.result.axes if axis not in self.tiles and axis not in self.match.outputs
        ]
        return tuple(
            Grid(str(self.env[axis]), lowering.low(axis), lowering.extent(axis), self.tiles.get(axis, 1))
            for axis in (*batch, *self.tiles)
        )

    # --- the kernel

    def write(self) -> Written:
        self._axes()
        builder, result = self.builder, self.result
        grid = self._grid()
        inside = builder.both(*(f"{self.env[axis]}.valid" for axis in self.tiles))
        self._stream(inside)
        value = self.lowering.value(result.form, self.env, inside)
        index = tuple(self.lowering.offset(axis, self.env[axis]) for axis in result.axes)
        tensors = {
            store_result(builder, result, index, value, inside, there): (result.form, there)
            for there in stores(result)
        }
        lanes = tuple(str(self.env[axis]) for axis in self.tiles)
        name = builder.name(self.name)
        body = tuple(builder.blocks[0].statements)
        kernel = Kernel(
            name,
            builder.real,
            tuple(builder.sizes),
            tuple(builder.buffers),
            grid,
            tuple(self.locals),
            lanes,
            body,
        )
        numbers = {number: form for form, number in self.lowering.numbers.items()}
        tensors |= {buffer: (form, there) for buffer, form, there in self.lowering.read}
        return Written.of(prune(kernel), numbers, tensors)

    def _stream(self, inside: Operand) -> None:
        match, builder, lowering = self.match, self.builder, self.lowering
        query = lowering.value(match.query, self.env, inside).value if match.query is not None else None
        keys = {key: lowering.coordinate(key.axis, f"{word_of(key.axis)}_key") for key in match.keys}
        stream = tuple(self._bounds(key, name, i) for i, (key, name) in enumerate(keys.items()))
        rows = tuple(str(self.env[axis]) for axis in self.tiles)
        outputs = tuple(str(self.env[axis]) for axis in match.outputs)
        top, norm = builder.carry("top", rows, "real"), builder.carry("norm", rows, "real")
        acc, seen = builder.carry("acc", (*rows, *outputs), "real"), builder.carry("seen", rows, "bool")
        lowering.open(tuple(keys.values()))
        env = dict(self.env) | {key.over: self._moved(key, name) for key, name in keys.items()}
        there = builder.both(*(f"{name}.valid" for name in keys.values()))
        visible = builder.both(
            self._windows(keys, env), self._predicates(env, builder.both(inside, there)), there
        )
        key_tile = self._read(match.key_side, keys, env, there) if match.key_side is not None else None
        value_tile = self._read(match.value_side, keys, env, there)
        if match.dot is not None and key_tile is not None:
            channels = tuple(str(self.env[axis]) for axis in match.channels)
            s = builder.dot("score", str(key_tile.value), str(query), channels, None, None)
            lowering.bind(match.dot, env, Tile(s))
        guard = builder.both(inside, there)
        score = lowering.value(match.score, env, guard)
        data = builder.both(score.present, key_tile.present if key_tile is not None else True)
        fold = tuple(keys.values())
        step = self._online(score.value, visible, data, value_tile, fold, (top, norm, acc, seen))
        inits: tuple[Operand, ...] = (-INF, 0.0, 0.0, False)
        shapes = (rows, rows, (*rows, *outputs), rows)
        carries = tuple(
            Carry(name, init, new, axes, builder.kind_of[name])
            for name, init, new, axes in zip((top, norm, acc, seen), inits, step, shapes, strict=True)
        )
        lowering.close(stream, carries, visible)
        mixed = builder.let("div", acc, norm, kind="real", wish="mixed")
        for factor in match.factors:
            scale = lowering.value(factor, self.env, inside)
            mixed = builder.let("mul", mixed, scale.value, kind="real")
            seen = str(builder.both(seen, scale.present))
        lowering.bind(match.root, self.env, Tile(mixed, seen))

    def _online(
        self,
        score: Operand,
        visible: Operand,
        data: Operand,
        value: Tile,
        over: tuple[str, ...],
        carried: tuple[str, str, str, str],
    ) -> tuple[Operand, ...]:
        """One chunk of online softmax: the next top, norm, acc and seen."""
        builder = self.builder
        top, norm, acc, seen = carried

        def let(op: str, *args: Operand, wish: str = "") -> Operand:
            return builder.let(op, *args, kind="real", wish=wish)

        shown = let("select", visible, score, -INF, wish="shown")
        shown = shown if data is True else let("select", data, shown, -INF, wish="shown")
        shown = self._over(shown, over)
        high = let("maximum", top, builder.fold_axes("max", shown, over, "real", "chunk_top"), wish="high")
        endless = builder.let("eq", let("abs", high), INF, kind="bool", wish="endless")
        base = let("select", endless, 0.0, high, wish="base")
        shrink = let("exp", let("sub", top, base), wish="shrink")
        weight = let("exp", let("sub", shown, base), wish="weight")
        chunk_norm = builder.fold_axes("sum", weight, over, "real", "chunk_norm")
        more = let("add", let("mul", norm, shrink), chunk_norm)
        if value.present is not True:
            weight = let("select", value.present, weight, 0.0, wish="weight")
        met = builder.both(visible, data, value.present)
        grown = self._grown(str(value.value), str(weight), over, acc, shrink, met)
        if isinstance(met, str):
            # What depends on keys alone gets the lanes too: a fold leaves one entry a lane.
            lanes = (str(self.env[axis]) for axis in self.tiles)
            met = builder.both(met, *(f"{lane}.valid" for lane in lanes if lane not in builder.axes((met,))))
        any_met = builder.fold_axes("any", met, over, "bool", "met") if isinstance(met, str) else met
        return high, more, grown, builder.let("or", seen, any_met, kind="bool")

    def _grown(
        self, value: str, weight: str, over: tuple[str, ...], acc: str, shrink: Operand, met: Operand
    ) -> str:
        """The weighted values. A weight is 0 where nothing is `met`, and the value of a key is not, but where
        it is not loaded."""
        zero = self.builder.zero_where_not(value)
        seen = (
            each
            for each in self.builder.conjuncts(met)
            if each not in zero and not str(each).endswith(".valid")
        )
        return self.builder.dot("grown", value, weight, over, acc, shrink, self.builder.both(*seen), (value,))

    def _over(self, value: Operand, over: tuple[str, ...]) -> Operand:
        """A score that happens to lack lanes or keys, given them: what streams has both."""
        have = self.builder.axes((value,))
        lanes = tuple(str(self.env[axis]) for axis in self.tiles)
        lacking = [axis for axis in (*lanes, *over) if axis not in have]
        for axis in lacking:
            value = self.builder.let("select", f"{axis}.valid", value, -INF, kind="real")
        return value

    # --- keys

    def _moved(self, key: Key, name: str) -> Operand:
        """The reduced axis in terms of the key: sign * (key - rest)."""
        rest = self.lowering.value(key.rest, self.env, True).value
        args = (name, rest) if key.sign == 1 else (rest, name)
        return self.builder.let("sub", *args, kind="int", wish=key.over.name)

    def _plain(self, key: Key) -> bool:
        """True where the key is the reduced axis itself, over its whole range."""
        same = self.lowering.range_key(key.over) == self.lowering.range_key(key.axis)
        return same and key.sign == 1 and key.rest == Const(0)

    def _windows(self, keys: Mapping[Key, str], env: Env) -> Operand:
        """The reduced axes lie in their ranges."""
        tests = [self.lowering.within(key.over, env[key.over]) for key in keys if not self._plain(key)]
        return self.builder.both(*tests)

    def _predicates(self, env: Env, inside: Operand) -> Operand:
        """The masks that are arithmetic on coordinates and sizes; data in a mask is data."""
        tiles = [self.lowering.value(each, env, inside) for each in self.match.predicates]
        return self.builder.both(*(part for tile in tiles for part in (tile.present, tile.value)))

    def _bounds(self, key: Key, name: str, place: int) -> StreamAxis:
        lowering, builder = self.lowering, self.builder
        lowest: Operand = lowering.low(key.axis)
        stop = builder.let("add", lowest, lowering.extent(key.axis), kind="int")
        if not self._plain(key):
            first, last = self._extreme(key.rest, False), self._extreme(key.rest, True)
            near, far = (
                lowering.low(key.over),
                builder.let(
                    "add",
                    lowering.low(key.over),
                    builder.let("sub", lowering.extent(key.over), 1, kind="int"),
                    kind="int",
                ),
            )
            if first is not None and last is not None:
                low_key = (
                    builder.let("add", first, near, kind="int")
                    if key.sign == 1
                    else builder.let("sub", first, far, kind="int")
                )
                high_key = (
                    builder.let("add", last, far, kind="int")
                    if key.sign == 1
                    else builder.let("sub", last, near, kind="int")
                )
                lowest = builder.let("maximum", lowest, low_key, kind="int")
                stop = builder.let("minimum", stop, builder.let("add", high_key, 1, kind="int"), kind="int")
        count = len(self.match.keys)
        steps = (
            spread(self.schedule.keys, count)
            if self.schedule.flat
            else (*(1,) * (count - 1), self.schedule.keys)
        )
        return StreamAxis(name, lowest, stop, steps[place])

    def _extreme(self, form: Form, high: bool) -> Operand | None:
        """The lowest or highest value of an index over the tile; None where it is not plain."""
        match form:
            case Coordinate(axis=axis):
                return f"{self.env[axis]}.{'last' if high else 'first'}"
            case Map(op="add", args=(a, b)):
                return self._combined("add", self._extreme(a, high), self._extreme(b, high))
            case Map(op="sub", args=(a, b)):
                return self._combined("sub", self._extreme(a, high), self._extreme(b, not high))
            case Map(op="mul", args=(Const(value=int() as factor), a)):
                inner = self._extreme(a, high == (factor >= 0))
                return self._combined("mul", factor, inner)
            case _ if not form.axes:
                return self.lowering.value(form, {}, True).value
            case _:
                return None

    def _combined(self, op: str, a: Operand | None, b: Operand | None) -> Operand | None:
        return None if a is None or b is None else self.builder.let(op, a, b, kind="int")

    def _read(self, side: Side, keys: Mapping[Key, str], env: Env, there: Operand) -> Tile:
        """The load of a side at the keys, and where it is present."""
        solved = {key.index: name for key, name in keys.items()}
        source = self.lowering.source(side.form)
        index: list[Operand] = []
        tests: list[Operand] = []
        for axis in source.axes:
            form = side.indices[axis]
            at = solved.get(form)
            if at is None:
                tile = self.lowering.value(form, env, True)
                tests += [tile.present, self.lowering.within(axis, tile.value)]
                at = tile.value
            index.append(self.lowering.offset(axis, at))
        mask = self.builder.both(there, *tests)
        value = self.builder.load(source.buffer, tuple(index), mask, "real")
        present = self.builder.both(*tests)
        if source.presence is not None:
            present = self.builder.both(
                present, self.builder.load(source.presence, tuple(index), mask, "bool")
            )
        return Tile(value, present)


def sizes_of(match: Attention) -> tuple[Form, ...]:
    """The size forms that must be known before the kernel can be written."""
    return tuple(each for axis in (*match.channels, *match.outputs) for each in (low(axis), size(axis)))
