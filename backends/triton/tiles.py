"""Coordinates of grid tiles and of stream chunks, and the loops of streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...compiler.kernels.kernel import Carry, Dot, Grid, Operand, Stream, StreamAxis
from .emit import Value, literal, minus, plus
from .exact import Exact
from .layout import Group, TileAxis


class Tiles(Exact):
    """Prints where a program and a chunk are, and what is carried from chunk to chunk."""

    __slots__ = ()

    # --- the tile of a program

    def tile(self) -> None:
        """From the number of the program to the coordinates of its tile, the last grid axis fastest."""
        out, grid = self.out, self.kernel.grid
        out.note("the tile of this program")
        out.offer("tile", "(first_tile + tl.program_id(0)).to(INT)")
        for axis in reversed(grid):
            low, size = self.number(axis.low), self.number(axis.size)
            if axis is grid[0]:
                self._range(axis.name, self._first(low, "tile", axis.tile), plus(low, size), axis.tile)
                continue
            tiles = self.identifiers.new(f"{axis.name}_tiles")
            out.add(f"{tiles} = {self._count(literal(0), size, axis.tile)}")
            self._range(axis.name, self._first(low, f"tile % {tiles}", axis.tile), plus(low, size), axis.tile)
            out.offer("tile", f"tile // {tiles}")
        for axis in grid:
            self._ragged(axis)
        for axis in self.kernel.locals:
            self.values[f"{axis.name}.first"] = literal(axis.low)
            self.values[f"{axis.name}.last"] = literal(axis.low + axis.size - 1)
            self.values[f"{axis.name}.end"] = literal(axis.low + axis.size)
        for axis in tuple(self.layout.axes.values()):
            if axis.sort != "stream":
                self._coordinate(axis, "rows" if axis.name in self.kernel.lanes else f"{axis.name}_places")

    def _ragged(self, axis: Grid) -> None:
        """Where a class of coordinates ends, of which the residue is known now."""
        if axis.ragged is None:
            return
        residue, step, extent = (
            self.operand(each).code for each in (axis.ragged.residue, axis.ragged.step, axis.ragged.extent)
        )
        end, last = (self.identifiers.new(f"{axis.name}_{part}") for part in ("places", "last"))
        self.out.add(f"{end} = ({extent} - {residue} + ({step} - 1)) // {step}")
        self.out.add(f"{last} = tl.minimum({self.values[f'{axis.name}.last'].code}, {end} - 1)")
        self.values[f"{axis.name}.end"] = Value(end, "int")
        self.values[f"{axis.name}.last"] = Value(last, "int")

    def _first(self, low: Value, chunk: str, step: int) -> str:
        """The first coordinate of a chunk, given its number."""
        return plus(low, Value(chunk if step == 1 else f"{chunk} * {step}", "int")).code

    def _count(self, low: Value, stop: Value, step: int) -> str:
        """How many chunks of `step` reach from low to stop."""
        length = minus(stop, low)
        if length.number is not None:
            return f"tl.full((), {max(0, -(-int(length.number) // step))}, INT)"
        if step == 1:
            return f"tl.maximum({length.code}, 0)"
        return f"tl.maximum({plus(length, literal(step - 1)).code}, 0) // {step}"

    def _range(self, name: str, first: str, end: Value, step: int) -> None:
        """`NAME.first` and `NAME.last` of a chunk that starts at `first`; `end` is beyond the axis."""
        self.values[f"{name}.end"] = end
        if step == 1:
            self.out.offer(self.declare(name, "int", ()), first)
            self.values[f"{name}.first"] = self.values[f"{name}.last"] = self.values[name]
            return
        at = self.declare(f"{name}.first", "int", ())
        self.out.offer(at, first)
        last = minus(end, literal(1))
        code = last.code if not last.literal else f"tl.full((), {last.code}, INT)"
        self.out.offer(self.declare(f"{name}.last", "int", ()), f"tl.minimum({at} + {step - 1}, {code})")

    def _coordinate(self, axis: TileAxis, places: str) -> None:
        """The coordinate of a tile axis, and where it exists."""
        first, group = self.values[f"{axis.name}.first"], axis.group
        if group is None:
            self.values[axis.name] = first
            return
        if len(group.axes) == 1:
            self.places[group] = f"tl.arange(0, {group.size})"
        elif group not in self.places:
            self.places[group] = self.identifiers.new(places)
            self.out.offer(self.places[group], f"tl.arange(0, {group.size})")
        code, inner = self.places[group], group.inner(axis.name)
        if inner > 1:
            code += f" // {inner}"
        if axis.name != group.axes[0]:
            code += f" % {group.padded[axis.name]}"
        whole = f"({code}).to(INT)" if " " in code and len(group.axes) > 1 else f"{code}.to(INT)"
        name = self.declare(axis.name, "int", (group,))
        self.out.offer(name, whole if first.number == 0 else f"{first.code} + {whole}")
        if axis.overhangs:
            valid = self.declare(f"{axis.name}.valid", "bool", (group,))
            self.out.offer(valid, f"{name} {self._bound(axis, group)}")

    def _bound(self, axis: TileAxis, group: Group) -> str:
        """What a coordinate that exists is below. Of whole tiles that is the end of the axis, which may be
        known to be even where the last coordinate of a tile is not."""
        if axis.sort == "local" or group.padded[axis.name] == axis.extent:
            return f"< {self.values[f'{axis.name}.end'].code}"
        return f"<= {self.values[f'{axis.name}.last'].code}"

    # --- streams

    def loops(self, stream: Stream) -> None:
        """Loops over chunks with the carries as their variables; a carry that has a name keeps it."""
        for carry in stream.carries:
            code, known = self._carried(carry.init, carry), self.values.get(carry.name)
            dims = self.layout.values[carry.name]
            name = known.code if known is not None else self.declare(carry.name, carry.kind, dims)
            self.out.add(f"{name} = {code}")
        group = next((g for axis in stream.axes if (g := self.layout.axes[axis.name].group)), None)
        if group is not None and len(group.axes) > 1:
            self.places[group] = self.identifiers.new("columns")
            self.out.offer(self.places[group], f"tl.arange(0, {group.size})")
        outside = dict(self.masked)
        with self._chunks(stream):
            for axis in stream.axes:
                self._coordinate(self.layout.axes[axis.name], "columns")
            self.body(stream.body)
            self._move(stream.carries)
        self.masked = outside

    def _carried(self, item: Operand, carry: Carry) -> str:
        """An operand in the exact type and block of a carry, which must stay the same in a loop."""
        return self.express.fill(self.operand(item), carry.kind, self.layout.values[carry.name])

    def _move(self, carries: tuple[Carry, ...]) -> None:
        """All carries take their next values at once."""
        names = {carry.name for carry in carries}
        moves: list[tuple[str, str]] = []
        for carry in carries:
            target, code = self.values[carry.name].code, self._carried(carry.next, carry)
            if carry.next in names - {carry.name}:
                later = self.identifiers.new(f"{carry.name}_next")
                self.out.add(f"{later} = {code}")
                code = later
            if code != target:
                moves.append((target, code))
        for target, code in moves:
            self.out.add(f"{target} = {code}")

    @contextmanager
    def _chunks(self, stream: Stream) -> Iterator[None]:
        """The loops: one for each axis; or one over all chunks, which is what gets pipelined, where the
        body has products to wait for and the bounds of all axes are known beforehand."""
        axes = stream.axes
        products = any(isinstance(each, Dot) for each in stream.body)
        with ExitStack() as loops:
            if (
                len(axes) > 1
                and products
                and not any(_depends(axis, axes[:i]) for i, axis in enumerate(axes))
            ):
                self._one_loop(axes, loops)
            else:
                for axis in axes:
                    low, stop = self.number(axis.low), self.number(axis.stop)
                    at = self.identifiers.new(f"{axis.name}_at")
                    loops.enter_context(
                        self.out.block(f"for {at} in range({low.code}, {stop.code}, {axis.step}):")
                    )
                    self._range(axis.name, f"tl.cast({at}, INT)", stop, axis.step)
            yield

    def _one_loop(self, axes: tuple[StreamAxis, ...], loops: ExitStack) -> None:
        counts: list[str] = []
        for axis in axes:
            counts.append(self.identifiers.new(f"{axis.name}_chunks"))
            code = self._count(self.number(axis.low), self.number(axis.stop), axis.step)
            self.out.add(f"{counts[-1]} = {code}")
        chunk = self.identifiers.new("chunk")
        loops.enter_context(self.out.block(f"for {chunk} in range(0, {' * '.join(counts)}):"))
        for i, axis in enumerate(axes):
            at = chunk
            if inner := " * ".join(counts[i + 1 :]):
                at = f"{chunk} // ({inner})" if len(counts) - i > 2 else f"{chunk} // {inner}"
            if i > 0:
                at = f"{at} % {counts[i]}"
            first = self._first(self.number(axis.low), at, axis.step)
            self._range(axis.name, f"tl.cast({first}, INT)", self.number(axis.stop), axis.step)


def _depends(axis: StreamAxis, outer: tuple[StreamAxis, ...]) -> bool:
    """Whether the bounds of an axis change with the chunks of outer ones."""
    stems = {
        part
        for bound in (axis.low, axis.stop)
        if isinstance(bound, str)
        for part in (bound, bound.rpartition(".")[0])
    }
    return any(each.name in stems for each in outer)
