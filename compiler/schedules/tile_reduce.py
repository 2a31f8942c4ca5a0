"""Reductions over tiles: a fold over what is resident, a stream of folded chunks over the rest.

A sum of products whose one factor has no lanes is a Dot of that factor with the others. Absent entries
are zeros on the side that they belong to; the mask of the Dot keeps them from what the other side has there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ...dsl.ops import Kind
from ...dsl.program import At, Axis, Coordinate, Form, Map, Otherwise, Piece, Reduce, children, walk
from ...dsl.shapes.size_forms import is_batch
from ..fusion.contraction import contraction, factors_of
from ..kernels.kernel import Carry, Local, Operand, StreamAxis
from ..kernels.kernel_builder import Tile
from ..rewrites.total import Totality
from .entries import Entries
from .factors import is_zero_of_nothing, pulled
from .halo import Core, Halos, cores, indices_of, replaced, stand_in
from .lower import Env, Lowering, constant_value
from .reductions import CHUNKED, Chunked
from .roles import Roles, extent
from .schedule import TileSchedule


@dataclass(slots=True, kw_only=True)
class TileLowering(Lowering):
    """`lanes` are tile axes; `pool` the local axes that stand for a range, in the order of their making."""

    roles: Roles
    schedule: TileSchedule
    total: Totality
    lanes: tuple[str, ...] = ()
    wide: set[str] = field(default_factory=set[str])
    """Grid and stream axes of more than one coordinate a tile."""
    chunks: dict[str, int] = field(default_factory=dict[str, int])
    """Coordinates of a chunk along each streamed axis."""
    blocks: dict[str, int] = field(default_factory=dict[str, int])
    """Axes that run from 0 in tiles of so many entries."""
    locals: list[Local] = field(default_factory=list[Local])
    tiles: dict[str, int] = field(default_factory=dict[str, int])
    """Lanes along each lane axis."""
    halos: Halos | None = None
    taps: set[Operand] = field(default_factory=set[Operand])
    """What is taken from a halo."""
    inner: Form | None = None
    """The reduction whose streamed axes lie in the lanes, without the factors that were pulled out."""
    pool: dict[tuple[Form, Form], list[str]] = field(default_factory=dict[tuple[Form, Form], list[str]])

    # --- axes

    def resident(self, axis: Axis, taken: Sequence[str]) -> str:
        """A local axis over the range of `axis`: one that is there, unless it is `taken`. So all that is
        computed over one range at one place of a tile is one value."""
        names = self.pool.setdefault(self.range_key(axis), [])
        for name in names:
            if name not in taken:
                return name
        name = self.coordinate(axis)
        lowest, extent = self.low(axis), self.extent(axis)
        assert isinstance(lowest, int)
        assert isinstance(extent, int)
        self.locals.append(Local(name, lowest, extent))
        names.append(name)
        return name

    def stream_axis(self, axis: Axis, name: str, step: int) -> StreamAxis:
        """The whole range of an axis in chunks."""
        lowest = self.low(axis)
        return StreamAxis(name, lowest, self.builder.let("add", lowest, self.extent(axis), kind="int"), step)

    def is_wide(self, axis: str) -> bool:
        """Whether a tile axis has more than one coordinate a tile."""
        return axis in self.wide or axis in self.lanes or any(each.name == axis for each in self.locals)

    def _map(self, form: Map, env: Env, guard: Operand) -> Tile:
        """The group of a coordinate is one number where tiles do not reach into two."""
        if form.op == "floordiv" and isinstance(form.args[0], Coordinate):
            place, count = str(env[form.args[0].axis]), constant_value(form.args[1], self.known)
            block = self.blocks.get(place, 1)
            if block > 1 and count is not None and count > 0 and count % block == 0:
                return Tile(self.builder.let("floordiv", f"{place}.first", count, kind="int"))
        return Lowering._map(self, form, env, guard)

    def _emit(self, form: Form, env: Env, guard: Operand) -> Tile:
        """A sum over nothing is computed as 0: what says 0 there needs no test."""
        if isinstance(form, Otherwise) and is_zero_of_nothing(form, self.stored):
            return Tile(self.value(form.value, env, guard).value)
        return Lowering._emit(self, form, env, guard)

    # --- windows

    def at(self, form: At, env: Env, guard: Operand) -> Tile:
        """A window over the lanes is staged with its halo, if the machine does that."""
        staged = self._staged(form, env, guard) if self.schedule.halo else None
        return staged if staged is not None else Lowering.at(self, form, env, guard)

    def _staged(self, form: At, env: Env, guard: Operand) -> Tile | None:
        resident = {each.name for each in self.locals}
        wide = {axis for axis, place in env.items() if place in resident or place in self.lanes}
        indices = indices_of(form)
        found: dict[Axis, Core] = {}
        for axis, index in indices.items():
            parts = list(cores(index, wide))
            if None in parts or len(dict.fromkeys(each.form for each in parts if each is not None)) > 1:
                return None
            if parts and parts[0] is not None:
                found[axis] = parts[0]
        if not any(self._is_window(core, env) for core in found.values()):
            return None
        if any(not isinstance(self.value(index, env, guard).present, bool) for index in indices.values()):
            return None
        return self._taken(form, env, guard, found)

    def _is_window(self, core: Core, env: Env) -> bool:
        lanes = [axis for axis in core.factors if env[axis] in self.lanes]
        return bool(lanes) and len(lanes) < len(core.factors)

    def _taken(self, form: At, env: Env, guard: Operand, found: Mapping[Axis, Core]) -> Tile | None:
        """The take from the staged operand, and where the direct indices lie in range."""
        builder = self.builder
        if self.halos is None:
            self.halos = Halos(builder, self.locals)
        inner: dict[Axis, Operand] = {}
        offsets: dict[str, Operand] = {}
        staged: list[Operand] = []
        direct: list[Operand] = []
        for axis, index in indices_of(form).items():
            plain = self.value(index, env, guard).value
            core = found.get(axis)
            if core is None or (isinstance(core.form, Coordinate) and env[core.form.axis] not in self.lanes):
                inner[axis] = self.value(index, env, guard).value
            else:
                inner[axis] = self._at_halo(index, core, axis, env, offsets)
            direct.append(self.within(axis, plain))
            staged.append(self.within(axis, inner[axis]))
        tile = self.value(form.value, inner, builder.both(guard, *staged))
        inside = builder.both(*direct)
        value = self._take(tile.value, offsets, form.kind)
        if value is None:
            return None
        self.taps.add(value)
        if isinstance(value, str) and isinstance(tile.value, str):
            masked = builder.zero_outside.get(tile.value)
            if masked is not None and masked.issuperset(builder.conjuncts(builder.both(*staged))):
                builder.zero_outside[value] = frozenset(builder.conjuncts(inside))
        present = self._take(tile.present, offsets, "bool")
        return None if present is None else Tile(value, builder.both(inside, present))

    def _at_halo(self, index: Form, core: Core, axis: Axis, env: Env, offsets: dict[str, Operand]) -> Operand:
        """The index with the halo's coordinate for its core."""
        assert self.halos is not None
        rest = self.value(core.rest, env, True).value
        places = {each: str(env[each]) for each in core.factors}
        halo = self.halos.axis(core, places, self.tiles, rest)
        offsets[halo.name] = halo.offset
        if index == core.form:
            return halo.index
        other = stand_in(axis)
        return self.value(replaced(index, core.form, other), {**env, other: halo.index}, True).value

    def _take(self, value: Operand, offsets: Mapping[str, Operand], kind: Kind) -> Operand | None:
        """What a staged value is at the offsets; None where it is not resident."""
        axes = self.builder.axes((value,))
        if not set(axes) & set(offsets):
            return value if not set(axes) & set(self.lanes) else None
        resident = [each.name for each in self.locals]
        if not isinstance(value, str) or set(axes) & {*self.lanes, *self.wide}:
            return None
        index = tuple(offsets.get(axis, axis) for axis in axes if axis in resident)
        return self.builder.take(value, index, resident, kind)

    # --- reductions

    def reduce(self, form: Reduce, env: Env, guard: Operand) -> Tile:
        """A reduction of a value over the lanes in chunks; of anything else, one entry at a time."""
        if form.op == "count" and all(self.total.of(piece.value) for piece in form.pieces):
            return Tile(self._count(form))
        tile = self._reduced(form, env, guard)
        return Tile(tile.value) if tile.present is not True and self.total.of(form) else tile

    def _count(self, form: Reduce) -> Operand:
        """The number of entries of pieces that are total."""
        total: Operand = 0
        for piece in form.pieces:
            count: Operand = 1
            for axis in piece.axes:
                count = self.builder.let("mul", count, self.extent(axis), kind="int")
            total = self.builder.let("add", total, count, kind="int")
        return total

    def _reduced(self, form: Reduce, env: Env, guard: Operand) -> Tile:
        scaled = pulled(form, self.stored)
        if scaled is not None:
            if form == self.roles.streaming:
                self.inner = factors_of(scaled, self.stored)[0]
            return self.value(scaled, env, guard)
        outer = self.builder.axes(tuple(env[axis] for axis in form.axes))
        across = self.roles.streaming is not None and form in (self.roles.streaming, self.inner)
        if form.op not in CHUNKED or not (across or set(outer) & set(self.lanes)):
            return Lowering.reduce(self, form, env, guard)
        rule = CHUNKED[form.op](self.builder, form)
        state: list[Operand] | None = None
        surely = False
        for piece in form.pieces:
            state, always = self._piece(rule, form, piece, state, env, guard)
            surely = surely or (always and not any(is_batch(a) for a in piece.axes))
        assert state is not None
        result = rule.finish(state)
        return Tile(result.value) if surely else result

    def _piece(
        self,
        rule: Chunked,
        form: Reduce,
        piece: Piece,
        state: list[Operand] | None,
        env: Env,
        guard: Operand,
    ) -> tuple[list[Operand], bool]:
        """The state after one piece, and whether its entries are present wherever they are asked for."""
        outer = tuple(env[axis] for axis in form.axes)
        names, streams = self._places(piece, self.builder.axes((*outer, guard)))
        over = tuple(names.values())
        fixed = {axis: env[axis] for axis in piece.value.axes if axis in env}
        if not streams:
            made, always = self._entries(rule, piece, fixed | names, guard, over, state)
            return made, always
        entries = self._between(piece, names, streams, fixed)
        streams = entries.bounded(streams)
        carried = [
            self.builder.carry(f"{form.op}_", self.builder.axes((*outer, guard)), kind) for kind in rule.kinds
        ]
        self.open(tuple(each.name for each in streams))
        valid = self.builder.both(guard, *(f"{each.name}.valid" for each in streams if each.step > 1))
        step, always = self._entries(rule, piece, entries.bind(), valid, over, list(carried))
        begin = state if state is not None else rule.begin
        self.close(
            streams,
            tuple(
                Carry(name, init, new, self.builder.axes_of[name], kind)
                for name, init, new, kind in zip(carried, begin, step, rule.kinds, strict=True)
            ),
        )
        return list(carried), always and not entries.moves

    def _between(
        self, piece: Piece, names: Mapping[Axis, str], streams: Sequence[StreamAxis], env: Env
    ) -> Entries:
        """Where the entries of a piece lie in its streams; `env` holds the axes that are not reduced."""
        wide = {*self.lanes, *self.wide, *(each.name for each in self.locals)}
        streamed = {each.name for each in streams}
        own = {axis: name for axis, name in names.items() if name in streamed}
        grid = tuple(name for name in self.lanes if name not in streamed)
        resident = {axis: name for axis, name in names.items() if name not in streamed}
        return Entries(self, piece.value, own, {**env, **resident}, wide, grid)

    def _places(self, piece: Piece, taken: Sequence[str]) -> tuple[dict[Axis, str], tuple[StreamAxis, ...]]:
        """Where the reduced axes run: resident, or in streams, the last of them in chunks."""
        names: dict[Axis, str] = {}
        streams: list[tuple[Axis, str]] = []
        for axis in piece.axes:
            if axis in self.roles.resident:
                names[axis] = self.resident(axis, (*taken, *names.values()))
            else:
                names[axis] = self.coordinate(axis)
                streams.append((axis, names[axis]))
        steps = self._steps(streams, piece.value, (*taken, *names.values()))
        pairs = zip(streams, steps, strict=True)
        return names, tuple(self.stream_axis(axis, name, step) for (axis, name), step in pairs)

    def _steps(self, streams: list[tuple[Axis, str]], entry: Form, held: Sequence[str]) -> list[int]:
        """The chunks of streamed axes, put in order: those in the lanes, or a run of the last."""
        across = self.roles.across
        if any(axis in across for axis, _ in streams):  # not a count over nothing inside it
            streams.sort(key=lambda stream: list(across).index(stream[0]) if stream[0] in across else -1)
            self.tiles = {name: across[axis] for axis, name in streams if axis in across}
            self.lanes = tuple(self.tiles)
            return [across.get(axis, 1) for axis, _ in streams]
        streams.sort(key=lambda stream: not self._short(stream[0]))
        steps = [1] * len(streams)
        if streams and not self._short(streams[-1][0]):
            steps[-1] = min(self.schedule.chunk, self._room(held))
            if self.schedule.halo and self._multiplies(entry, streams[-1][0]):
                steps[-1] = max(self.schedule.chunk // 8, 1)
            self.wide.add(streams[-1][1])
            self.chunks[streams[-1][1]] = steps[-1]
        return steps

    def _room(self, held: Sequence[str]) -> int:
        """How long a chunk may be of entries over `held`: a chunk inside another one is shorter."""
        if not self.schedule.block:
            return self.schedule.chunk
        sizes = {each.name: each.size for each in self.locals} | self.tiles | self.chunks
        entries = prod(1 << (sizes.get(axis, 1) - 1).bit_length() for axis in dict.fromkeys(held))
        return max(1, self.schedule.block * self.schedule.chunk // entries)

    def _multiplies(self, entry: Form, axis: Axis) -> bool:
        """Whether every entry along an axis has a product of its own, whose sides are read for it alone: short
        chunks of them stay in the nearest cache."""
        inside = walk((entry,), lambda each: () if each in self.stored else children(each))
        products = (contraction(each, self.stored) for each in inside if axis in each.axes)
        return any(each is not None and not any(f.weight for f in each.factors) for each in products)

    def _short(self, axis: Axis) -> bool:
        """Whether the entries of an axis are streamed one by one."""
        count = extent(axis, self.known)
        return count is not None and count <= self.schedule.taps

    def _entries(
        self,
        rule: Chunked,
        piece: Piece,
        env: Env,
        guard: Operand,
        over: tuple[str, ...],
        state: list[Operand] | None,
    ) -> tuple[list[Operand], bool]:
        """The state with the entries of a chunk."""
        dot = None
        if rule.form.op == "sum":
            dot = self._dot(piece, env, guard, over, None if state is None else state[0])
        if dot is not None:
            present = dot.present
            there = (
                present if present is True else self.builder.fold_axes("any", present, over, "bool", "any")
            )
            before = False if state is None else state[1]
            return [dot.value, self.builder.let("or", before, there, kind="bool")], present is True
        tile = self.value(piece.value, env, guard)
        wide = tuple(axis for axis in over if self.is_wide(axis))
        part = rule.chunk(tile, wide, env)
        return part if state is None else rule.joined(state, part), tile.present is True

    # --- contractions

    def _dot(
        self, piece: Piece, env: Env, guard: Operand, over: tuple[str, ...], init: Operand | None
    ) -> Tile | None:
        """A sum of products as a Dot, where one side has no lanes, and rows beside what is summed or taps."""
        factors = factors_of(piece.value, self.stored)
        if len(factors) < 2 or any(factor.kind != "real" for factor in factors):
            return None
        wide = tuple(axis for axis in over if self.is_wide(axis))
        tiles = [self.value(factor, env, guard) for factor in factors]
        beside = self._beside(tiles, wide)
        left, right = (self._side(each, wide) for each in beside)
        if left is None or right is None:
            return None
        rows = (axis for axis in self.builder.axes((left.value,)) if axis not in wide)
        if right.value not in self.taps and not any(self.is_wide(axis) for axis in rows):
            return None
        start = None if init is None or init == 0.0 and isinstance(init, float) else init
        present = self.builder.both(left.present, right.present)
        mask, exposed = (True, ()) if self.total.of(piece.value) else self._left_out(left, right)
        sum_ = self.builder.dot("dot", str(left.value), str(right.value), wide, start, None, mask, exposed)
        return Tile(sum_, present)

    def _left_out(self, left: Tile, right: Tile) -> tuple[Operand, tuple[str, ...]]:
        """The mask of a Dot, of what is absent on one side only, and the sides that it may meet there."""
        mask: Operand = True
        exposed: list[str] = []
        for side, other in ((left, right), (right, left)):
            zero = {*self.builder.conjuncts(side.present), *self.builder.zero_where_not(side.value)}
            absent = [each for each in self.builder.conjuncts(other.present) if each not in zero]
            if absent:
                mask = self.builder.both(mask, *absent)
                exposed.append(str(side.value))
        return mask, tuple(dict.fromkeys(exposed))

    def _beside(self, tiles: list[Tile], over: tuple[str, ...]) -> tuple[list[Tile], list[Tile]]:
        """The factors without lanes, and those with. One without rows of its own, as a scale of what is summed, goes
        to the lanes where others have rows: it is multiplied in once a lane, not once a row."""
        axes = [set(self.builder.axes((tile.value,))) for tile in tiles]
        laned = [bool(each & set(self.lanes)) for each in axes]
        rows = [any(self.is_wide(axis) for axis in each - {*over, *self.lanes}) for each in axes]
        tapped = any(tile.value in self.taps for tile in tiles)
        rowed = any(row and not lane for row, lane in zip(rows, laned, strict=True))
        if rowed and any(laned) and not tapped:
            laned = [lane or not row for row, lane in zip(rows, laned, strict=True)]
        left = [tile for tile, lane in zip(tiles, laned, strict=True) if not lane]
        return left, [tile for tile, lane in zip(tiles, laned, strict=True) if lane]

    def _side(self, tiles: list[Tile], over: tuple[str, ...]) -> Tile | None:
        """The product of the factors of a side, 0 where they are absent; None where it lacks an axis that is summed."""
        builder = self.builder
        value: Operand = 1.0
        present: Operand = True
        for tile in tiles:
            value = tile.value if value == 1.0 else builder.let("mul", value, tile.value, kind="real")
            present = builder.both(present, tile.present)
        value = builder.let("select", present, value, 0.0, kind="real")
        if not isinstance(value, str) or not set(over) <= set(builder.axes((value,))):
            return None
        return Tile(value, present)
