"""Streams of keys past tiles of queries: what all kernels of this kind share.

Queries lie in the lanes, channels are resident, keys pass by in chunks. A window is solved for its keys, so
that bounds of the stream follow the tile, and what is left of the window is a predicate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Generic, Protocol, TypeVar

from ...dsl.program import Axis, Coordinate, Form, Map
from ..fusion.keys import ONE, Key, Side
from ..fusion.plan import Stored
from ..fusion.work import word_of
from ..kernels.kernel import Grid, Kernel, Local, Operand, Ragged, StreamAxis
from ..kernels.kernel_builder import INF, Builder, Tile
from ..kernels.prune import prune
from ..kernels.written import Written
from ..rewrites.residues import Classes, classes_of
from .loops import spread, store_result, stores
from .lower import Env, Lowering
from .reach import confined
from .schedule import StreamSchedule
from .stream_bounds import Bounds, plain

MOST_TILED = 3
"""Lane axes beyond the last three are taken one by one."""


class Roles(Protocol):
    """What a match says of the axes."""

    @property
    def lanes(self) -> tuple[Axis, ...]: ...
    @property
    def channels(self) -> tuple[Axis, ...]: ...
    @property
    def outputs(self) -> tuple[Axis, ...]: ...
    @property
    def classes(self) -> Mapping[Axis, Classes]: ...


Match = TypeVar("Match", bound=Roles)


def widest(several: Iterable[tuple[Axis, ...]], known: Mapping[Axis, int]) -> int:
    """The most entries that resident axes have together, in blocks whose axes have a power of two."""
    sizes = (prod(1 << (known[axis] - 1).bit_length() for axis in axes) for axes in several)
    return max(sizes, default=1)


@dataclass(slots=True)
class KeyStream(Generic[Match]):
    """The writer of one kernel. `stream` writes the stream and binds what it gives; `also` are results
    beside the first, over some of its axes or all."""

    name: str
    result: Stored
    match: Match
    lowering: Lowering
    schedule: StreamSchedule
    also: tuple[Stored, ...] = ()
    env: dict[Axis, Operand] = field(default_factory=dict[Axis, Operand])
    tiles: dict[Axis, int] = field(default_factory=dict[Axis, int])
    locals: list[Local] = field(default_factory=list[Local])

    @property
    def builder(self) -> Builder:
        return self.lowering.builder

    def stream(self, inside: Operand) -> None:
        """Write the stream, for queries that are `inside`."""
        raise NotImplementedError

    # --- axes

    def _axes(self) -> None:
        match = self.match
        tiled = match.lanes[-MOST_TILED:]
        spreads = zip(tiled, spread(self.schedule.lanes, len(tiled)), strict=True)
        self.tiles = {self._lane(axis): tile for axis, tile in spreads}
        for axis in self.result.axes:
            if axis in match.classes:
                self._class(match.classes[axis])
            elif axis not in match.outputs:
                self.env[axis] = self.lowering.coordinate(axis)
        for axis in dict.fromkeys((*match.channels, *match.outputs)):
            self.env[axis] = self._local(axis)

    def _lane(self, axis: Axis) -> Axis:
        """What of an axis lies in the lanes: of classes the places."""
        classes = self.match.classes.get(axis)
        return axis if classes is None else classes.place

    def _class(self, classes: Classes) -> None:
        """The coordinates of an axis as places of one class: a tile has one residue."""
        lowering, axis = self.lowering, classes.axis
        residue, place = (lowering.coordinate(each) for each in (classes.residue, classes.place))
        at = self._coordinate(axis, classes.step, place, residue)
        self.env |= {classes.residue: residue, classes.place: place, axis: at}
        lowering.ranges[at] = {lowering.range_key(axis)}
        if lowering.low(axis) == 0:
            for op, digit in (("floordiv", place), ("mod", residue)):
                lowering.bind(Map(op, (Coordinate(axis), classes.step)), self.env, Tile(digit))

    def _coordinate(self, axis: Axis, step: Form, place: Operand, residue: Operand) -> str:
        """low + step * place + residue"""
        let, lowering = self.builder.let, self.lowering
        along = let("mul", lowering.whole(step), place, kind="int")
        at = let("add", let("add", along, residue, kind="int"), lowering.low(axis), kind="int")
        return str(at)

    def _local(self, axis: Axis) -> str:
        name = self.lowering.coordinate(axis)
        lowest, extent = self.lowering.low(axis), self.lowering.known[axis]
        assert isinstance(lowest, int)
        self.locals.append(Local(name, lowest, extent))
        return name

    def _grid(self) -> tuple[Grid, ...]:
        classes = self.match.classes
        own = [axis for axis in self.result.axes if axis not in self.match.outputs]
        parts = [
            part
            for axis in own
            for part in ((classes[axis].residue, classes[axis].place) if axis in classes else (axis,))
        ]
        batch = [axis for axis in parts if axis not in self.tiles]
        return tuple(self._grid_axis(axis) for axis in (*batch, *self.tiles))

    def _grid_axis(self, axis: Axis) -> Grid:
        lowering, name, tile = self.lowering, str(self.env[axis]), self.tiles.get(axis, 1)
        for each in self.match.classes.values():
            if axis in (each.place, each.residue) and axis.size is not None:
                residue, step, extent = (
                    self.env[each.residue],
                    lowering.whole(each.step),
                    lowering.extent(each.axis),
                )
                ragged = Ragged(str(residue), step, extent) if axis == each.place else None
                return Grid(name, 0, lowering.whole(axis.size), tile, ragged)
        return Grid(name, lowering.low(axis), lowering.extent(axis), tile)

    # --- the kernel

    def write(self) -> Written:
        self._axes()
        builder, lowering = self.builder, self.lowering
        grid = self._grid()
        inside = builder.both(*(f"{self.env[axis]}.valid" for axis in self.tiles))
        self.stream(inside)
        tensors = self._store(self.result, inside)
        for each in self.also:
            tensors |= self._store(each, inside)
        kernel = Kernel(
            builder.name(self.name),
            builder.real,
            tuple(builder.sizes),
            tuple(builder.buffers),
            grid,
            tuple(self.locals),
            tuple(str(self.env[axis]) for axis in self.tiles),
            tuple(builder.blocks[0].statements),
        )
        numbers = {number: form for form, number in lowering.numbers.items()}
        tensors |= {buffer: (form, there) for buffer, form, there in lowering.read}
        return Written.of(prune(kernel), numbers, tensors)

    def _store(self, result: Stored, inside: Operand) -> dict[str, tuple[Form, bool]]:
        """Store a result, and where it is present if that is asked for."""
        value = self.lowering.value(result.form, self.env, inside)
        index = tuple(self.lowering.offset(axis, self.env[axis]) for axis in result.axes)
        return {
            store_result(self.builder, result, index, value, inside, there): (result.form, there)
            for there in stores(result)
        }

    def _over(self, value: Operand, over: tuple[str, ...], neutral: float = -INF) -> Operand:
        """An entry that happens to lack lanes or keys, given them: what streams has both."""
        have = self.builder.axes((value,))
        lanes = tuple(str(self.env[axis]) for axis in self.tiles)
        lacking = [axis for axis in (*lanes, *over) if axis not in have]
        for axis in lacking:
            value = self.builder.let("select", f"{axis}.valid", value, neutral, kind="real")
        return value

    def _met(self, met: Operand, over: tuple[str, ...]) -> Operand:
        """Whether a query meets any key of a chunk."""
        if not isinstance(met, str):
            return met
        return self.builder.fold_axes("any", self._of_lanes(met), over, "bool", "met")

    def _split(self, present: Operand, axes: tuple[str, ...]) -> tuple[Operand, Operand]:
        """A presence as what differs along some axes, and the rest."""
        parts = self.builder.conjuncts(present)
        differing = [each for each in parts if set(self.builder.axes((each,))) & set(axes)]
        return self.builder.both(*differing), self.builder.both(*(e for e in parts if e not in differing))

    def _together(self, left: Operand, right: Operand, over: tuple[str, ...]) -> Operand:
        """Whether two marks are true at once anywhere: as numbers they have a product."""
        builder = self.builder
        one, other = (builder.let("select", each, 1.0, 0.0, kind="real") for each in (left, right))
        products = builder.dot("products", str(one), str(other), over, None, None)
        return builder.let("gt", products, 0.0, kind="bool")

    def _differs(self, side: Side, outputs: tuple[Axis, ...]) -> bool:
        """Whether a value of a key may be there at some of its outputs only."""
        moved = (
            set(index.axes) & set(outputs) and index != Coordinate(axis)
            for axis, index in side.indices.items()
        )
        return self.lowering.source(side.form).presence is not None or any(moved)

    def _of_lanes(self, met: Operand) -> Operand:
        """What may depend on keys alone, of every lane: what is left of it over keys is one entry a lane."""
        lanes = (str(self.env[axis]) for axis in self.tiles)
        lacking = (f"{lane}.valid" for lane in lanes if lane not in self.builder.axes((met,)))
        return self.builder.both(met, *lacking)

    def _grown(
        self, value: str, weight: str, over: tuple[str, ...], acc: str, shrink: Operand | None, met: Operand
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

    # --- contractions

    def _contracted(self, over: tuple[Axis, ...], query: Tile, key: Tile | None) -> Tile:
        """The contraction over the channels, present where one of its products is."""
        builder = self.builder
        channels = tuple(str(self.env[axis]) for axis in over)
        asked, known = self._split(query.present, channels)
        right = builder.let("select", asked, query.value, 0.0, kind="real")
        if key is None:
            score = builder.fold_axes("sum", right, channels, "real", "score")
            return Tile(score, builder.both(known, self._some(asked, True, channels)))
        held, fixed = self._split(key.present, channels)
        left = builder.let("select", held, key.value, 0.0, kind="real")
        left, right = self._along(left, channels), self._along(right, channels)
        mask = builder.both(asked, held)
        exposed = (*((str(left),) if asked is not True else ()), *((str(right),) if held is not True else ()))
        score = builder.dot("score", str(left), str(right), channels, None, None, mask, exposed)
        return Tile(score, builder.both(known, fixed, self._some(asked, held, channels)))

    def _along(self, side: Operand, channels: tuple[str, ...]) -> Operand:
        """A side of a contraction as a value: where all that it reads is known to be absent it comes to a number,
        which is that number at every channel."""
        if isinstance(side, str):
            return side
        builder = self.builder
        everywhere = builder.both(*(builder.let("eq", each, each, kind="bool") for each in channels))
        return builder.let("select", everywhere, side, 0.0, kind="real")

    def _some(self, asked: Operand, held: Operand, channels: tuple[str, ...]) -> Operand:
        """Whether some channel of both sides exists."""
        if asked is True or held is True:
            one = held if asked is True else asked
            return True if one is True else self.builder.fold_axes("any", one, channels, "bool", "some")
        return self._together(held, asked, channels)

    # --- keys

    def _keys(self, keys: Iterable[Key]) -> dict[Key, str]:
        """A name for the key of each: its coordinate, or its place in the class that the tile meets."""
        found: dict[Key, str] = {}
        for key in keys:
            axis = key.axis if key.step == ONE else classes_of(key.axis, key.step).place
            found[key] = self.lowering.coordinate(axis, f"{word_of(key.axis)}_key")
        return found

    def _read_at(self, key: Key, name: str) -> str:
        """The coordinate of a key. It lies on its axis where the key is valid."""
        if key.step == ONE:
            return name
        residue = self.lowering.value(key.residue, self.env, True).value
        at = self._coordinate(key.axis, key.step, name, residue)
        self.lowering.ranges[at] = {self.lowering.range_key(key.axis)}
        return at

    def _moved(self, key: Key, name: str) -> Operand:
        """The reduced axis in terms of the key: sign * (key - rest)."""
        rest = self.lowering.value(key.rest, self.env, True).value
        at = self._read_at(key, name) if key.exact else name
        args = (at, rest) if key.sign == 1 else (rest, at)
        return self.builder.let("sub", *args, kind="int", wish=key.over.name)

    def _visible(
        self, keys: Mapping[Key, str], env: Env, predicates: tuple[Form, ...], inside: Operand
    ) -> Operand:
        """Which keys a query sees: those that exist, within its window, that the predicates hold for. A range
        that a predicate implies is tested for nobody but what reads at the window's own indices (`_reach`)."""
        there = self.builder.both(*(f"{name}.valid" for name in keys.values()))
        tests = self._tests(keys, env)
        guard = self.builder.both(inside, there, *tests.values())
        shown = self._predicates(predicates, env, guard)
        window = (test for key, test in tests.items() if not self._implied(key.over, predicates))
        return self.builder.both(there, *window, shown)

    def _tests(self, keys: Iterable[Key], env: Env) -> dict[Key, Operand]:
        """Where each reduced axis lies in its range."""
        moved = (key for key in keys if not plain(self.lowering, key))
        return {key: self.lowering.within(key.over, env[key.over]) for key in moved}

    def _reach(self, keys: Iterable[Key], env: Env, inside: Operand, visible: Operand) -> Operand:
        """Where a value of a pair may be read: at what is seen, within the window. A range that is implied by a
        predicate over more axes than the value has is tested."""
        return self.builder.both(inside, visible, *self._tests(keys, env).values())

    def _implied(self, axis: Axis, predicates: tuple[Form, ...]) -> bool:
        """Whether predicates hold within the range of an axis only."""
        least, extent = self.lowering.low(axis), self.lowering.extent(axis)
        if not isinstance(least, int) or not isinstance(extent, int):
            return False
        return confined(predicates, axis, least, least + extent - 1)

    def _predicates(self, predicates: tuple[Form, ...], env: Env, inside: Operand) -> Operand:
        """Where all of some masks are present and true."""
        tiles = [self.lowering.value(each, env, inside) for each in predicates]
        return self.builder.both(*(part for tile in tiles for part in (tile.present, tile.value)))

    def _loops(self, keys: Mapping[Key, str], predicates: tuple[Form, ...]) -> tuple[StreamAxis, ...]:
        """The loops over the keys that some query of the tile may see: in chunks along all axes, or in runs
        along the last."""
        count, step = len(keys), self.schedule.keys
        steps = spread(step, count) if self.schedule.flat else (*(1,) * (count - 1), step)
        lanes = tuple(str(self.env[axis]) for axis in self.tiles)
        resident = {each.name for each in self.locals}
        queries = {axis: at for axis, at in self.env.items() if at not in resident}
        bounds = Bounds(self.lowering, queries, tuple(keys), lanes, self.match.classes)
        return tuple(
            StreamAxis(name, *bounds.of(key, predicates), steps[i])
            for i, (key, name) in enumerate(keys.items())
        )

    def _read(self, side: Side, keys: Mapping[Key, str], env: Env, there: Operand) -> Tile:
        """The load of a side at the keys, and where it is present."""
        solved = {key.index: self._read_at(key, name) for key, name in keys.items()}
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
        value = self.builder.load(source.buffer, tuple(index), mask, side.form.kind)
        present = self.builder.both(*tests)
        if source.presence is not None:
            present = self.builder.both(
                present, self.builder.load(source.presence, tuple(index), mask, "bool")
            )
        return Tile(value, present)
