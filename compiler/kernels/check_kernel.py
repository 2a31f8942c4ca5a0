"""The checker of the Kernel language: its second definition.

names        every name is given once and before it is read; a stream's inner names stay inside
axes, kinds  those of a statement follow from its operands
dots         a mask comes with the sides that are exposed to what it leaves out, and only then
indices      a load or store has one index a dimension
barrier      nothing is loaded that the kernel itself stores: a tile never waits for another one
stores       every element of an output is stored exactly once: the indices of a store are distinct
             coordinates of the grid, of local axes and of the streams around it (shifted by numbers),
             every axis of the grid and of those streams is among them, those streams are visible
             throughout, and the mask is exactly that the coordinates of wider tiles exist; or the rows
             of a tile of the grid are stored one by one, each where it exists
lanes        are axes of the grid, or axes of one stream
takes        read a value that is resident (its axes are local, or of one coordinate)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind
from ...dsl.program import Const, Leaf, map_kind
from .kernel import (
    Dot,
    Fold,
    Kernel,
    Let,
    Load,
    Operand,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
    operands,
)


def check_kernel(kernel: Kernel) -> None:
    """Raise CompilerFault with the kernel's text where it is not well-formed."""
    _Checker(kernel).run()


@dataclass(slots=True)
class _Checker:
    kernel: Kernel
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    kinds: dict[str, Kind] = field(default_factory=dict[str, Kind])
    lets: dict[str, Statement] = field(default_factory=dict[str, Statement])
    stored: list[str] = field(default_factory=list[str])
    rows: dict[tuple[str, str], list[int]] = field(default_factory=dict[tuple[str, str], list[int]])
    """The rows that are stored one by one, by buffer and axis of the grid."""
    around: list[Stream] = field(default_factory=list[Stream])
    """The streams that we are in, outermost first."""
    streamed: list[set[str]] = field(default_factory=list[set[str]])
    """The axes of every stream met."""

    def fail(self, problem: str) -> CompilerFault:
        return CompilerFault("check_kernel", problem, str(self.kernel))

    def run(self) -> None:
        kernel = self.kernel
        for number in kernel.sizes:
            self.give(number, (), "int")
        for axis in (*kernel.grid, *kernel.locals):
            self.give_axis(axis.name)
        self.ends()
        self.body(kernel.body)
        lanes = set(kernel.lanes)
        if not any(lanes <= axes for axes in ({axis.name for axis in kernel.grid}, *self.streamed)):
            raise self.fail("lanes that are no axes of the grid or of one stream")
        outs = [buffer.name for buffer in kernel.buffers if buffer.role == "out"]
        tiles = {axis.name: axis.tile for axis in kernel.grid}
        if any(sorted(steps) != list(range(tiles[axis])) for (_, axis), steps in self.rows.items()):
            raise self.fail("some rows of a tile are not stored, or more than once")
        if sorted(outs) != sorted(self.stored):
            raise self.fail(f"outputs {outs} are stored as {self.stored}")

    def ends(self) -> None:
        """What is ragged ends by an axis of one coordinate a tile that stands before it."""
        before: set[str] = set()
        for axis in self.kernel.grid:
            end = axis.ragged
            if end is not None and (end.residue not in before or axis.low != 0):
                raise self.fail(
                    f"grid `{axis.name}` ends by `{end.residue}`, which is no single coordinate before it"
                )
            if end is not None and {self.kind(end.step), self.kind(end.extent)} != {"int"}:
                raise self.fail(f"grid `{axis.name}` ends by what is no number")
            before |= {axis.name} if axis.tile == 1 else set()

    def give(self, name: str, axes: tuple[str, ...], kind: Kind) -> None:
        if name in self.kinds:
            raise self.fail(f"`{name}` is given twice")
        self.axes[name], self.kinds[name] = axes, kind

    def give_axis(self, name: str) -> None:
        self.give(name, (name,), "int")
        self.give(f"{name}.first", (), "int")
        self.give(f"{name}.last", (), "int")
        self.give(f"{name}.valid", (name,), "bool")

    def kind(self, operand: Operand) -> Kind:
        match operand:
            case bool():
                return "bool"
            case int():
                return "int"
            case float():
                return "real"
            case str():
                if operand not in self.kinds:
                    raise self.fail(f"`{operand}` is read before it is given")
                return self.kinds[operand]

    def union(self, items: tuple[Operand, ...]) -> set[str]:
        return {axis for item in items if isinstance(item, str) for axis in self.axes[item]}

    def body(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            for operand in operands(statement):
                self.kind(operand)
            match statement:
                case Stream():
                    self.stream(statement)
                case Store():
                    self.store(statement)
                case _:
                    self.value(statement)
                    self.lets[statement.name] = statement
                    self.give(statement.name, statement.axes, self.given_kind(statement))

    def given_kind(self, statement: Let | Load | Take | Dot | Fold) -> Kind:
        return "real" if isinstance(statement, Dot) else statement.kind

    def value(self, statement: Let | Load | Take | Dot | Fold) -> None:
        found = self.union(operands(statement))
        match statement:
            case Take():
                found = self.taken(statement)
            case Let(op=op, args=args, kind=kind):
                if op != "select" and self.map_kind(op, args) != kind:
                    raise self.fail(f"`{statement.name}` is {kind}, and {op} gives {self.map_kind(op, args)}")
            case Load(buffer=buffer, index=index, kind=kind):
                self.indexed(buffer, index, kind)
                if self.kernel.buffer(buffer).role == "out":
                    raise self.fail(f"`{buffer}` is read in the kernel that stores it: a barrier is missing")
            case Dot(over=over):
                self.dot(statement)
                found -= set(over)
            case Fold(over=over, kind=kind):
                if not set(over) <= found:
                    raise self.fail(f"fold `{statement.name}` reduces axes that it lacks")
                found -= set(over)
        if found != set(statement.axes):
            raise self.fail(
                f"`{statement.name}` has axes {sorted(statement.axes)}, and its operands {sorted(found)}"
            )

    def dot(self, dot: Dot) -> None:
        sides = (dot.left, dot.right)
        if not set(dot.over) <= self.union(sides) or (dot.scale is not None and dot.init is None):
            raise self.fail(f"dot `{dot.name}` contracts axes that it lacks")
        if self.kind(dot.mask) != "bool" or not self.union((dot.mask,)) <= self.union(sides):
            raise self.fail(f"dot `{dot.name}` has a mask that is no truth value of its products")
        if not set(dot.exposed) <= set(sides) or (dot.mask is True) is not (dot.exposed == ()):
            raise self.fail(
                f"dot `{dot.name}` has a mask without a side that is exposed, or the other way round"
            )

    def taken(self, take: Take) -> set[str]:
        """The axes of a take, whose source is resident."""
        local = {axis.name for axis in self.kernel.locals}
        wanted = [axis for axis in self.axes[take.source] if axis in local]
        kept = set(self.axes[take.source]) - local
        if not kept <= self.single() or len(wanted) != len(take.index):
            raise self.fail(f"`{take.name}` takes from `{take.source}`, which is not resident in its indices")
        if any(self.kind(item) != "int" for item in take.index) or self.kinds[take.source] != take.kind:
            raise self.fail(f"`{take.name}` takes at no integers, or changes the kind")
        return kept | self.union(take.index)

    def single(self) -> set[str]:
        """The axes of one coordinate: of the grid, and of the streams around."""
        found = {axis.name for axis in self.kernel.grid if axis.tile == 1}
        return found | {axis.name for stream in self.around for axis in stream.axes if axis.step == 1}

    def map_kind(self, op: str, args: tuple[Operand, ...]) -> Kind | str:
        forms = [
            Const(arg) if not isinstance(arg, str) else Leaf("bound", arg, (), self.kind(arg)) for arg in args
        ]
        return map_kind(op, tuple(forms))

    def indexed(self, name: str, index: tuple[Operand, ...], kind: Kind) -> None:
        buffer = next((each for each in self.kernel.buffers if each.name == name), None)
        if buffer is None or buffer.rank != len(index) or buffer.kind != kind:
            raise self.fail(f"buffer `{name}` is used with {len(index)} indices as {kind}")
        if any(self.kind(item) != "int" for item in index):
            raise self.fail(f"buffer `{name}` has an index that is no integer")

    def stream(self, stream: Stream) -> None:
        before = (dict(self.axes), dict(self.kinds))
        for axis in stream.axes:
            self.bounds(axis)
            self.give_axis(axis.name)
        for carry in stream.carries:
            self.give(carry.name, carry.axes, carry.kind)
        self.streamed.append({axis.name for axis in stream.axes})
        self.around.append(stream)
        self.body(stream.body)
        if self.kind(stream.visible) != "bool":
            raise self.fail("a stream is visible where no bool says so")
        for carry in stream.carries:
            flows = self.union((carry.init, carry.next)) - self.single()
            if self.kind(carry.next) != carry.kind or not flows <= set(carry.axes):
                raise self.fail(f"carry `{carry.name}` changes its kind or axes")
        self.around.pop()
        self.axes, self.kinds = before
        for carry in stream.carries:
            self.give(carry.name, carry.axes, carry.kind)

    def bounds(self, axis: StreamAxis) -> None:
        for bound in (axis.low, axis.stop):
            if self.kind(bound) != "int" or self.union((bound,)):
                raise self.fail(f"the bounds of stream `{axis.name}` are no scalars")

    def store(self, store: Store) -> None:
        self.indexed(store.buffer, store.index, self.kind(store.value))
        row = self.row(store)
        if row is None and store.buffer in self.stored:
            raise self.fail(f"`{store.buffer}` is stored more than once")
        if store.buffer not in self.stored:
            self.stored.append(store.buffer)
        if any(stream.visible is not True for stream in self.around):
            raise self.fail(f"`{store.buffer}` is stored in a stream that skips chunks")
        streams = [axis for stream in self.around for axis in stream.axes]
        coordinates = [each for item in store.index for each in self.coordinates(item)]
        if row is not None:
            coordinates = [row[0] if each == f"{row[0]}.first" else each for each in coordinates]
            self.rows.setdefault((store.buffer, row[0]), []).append(row[1])
        every = {axis.name for axis in (*self.kernel.grid, *streams)}
        known = every | {axis.name for axis in self.kernel.locals}
        if len(set(coordinates)) != len(coordinates) or not set(coordinates) <= known:
            raise self.fail(f"`{store.buffer}` is stored at indices that are no distinct coordinates")
        missing = every - set(coordinates)
        if missing:
            raise self.fail(f"`{store.buffer}` is stored once for every {sorted(missing)}")
        wide = {axis.name for axis in self.kernel.grid if axis.tile > 1}
        wide |= {axis.name for axis in streams if axis.step > 1}
        exist = {f"{name}.valid" for name in wide if row is None or name != row[0]}
        if self.masks(store.mask) != exist | ({row[2]} if row is not None else set()):
            raise self.fail(f"the mask of `{store.buffer}` is not that the tile's coordinates exist")
        if not self.union((store.value,)) <= set(coordinates):
            raise self.fail(f"`{store.buffer}` is given a value with more axes than its index")

    def row(self, store: Store) -> tuple[str, int, str] | None:
        """The axis of the grid of which a store gives one row, the number of the row, and the test that it
        exists."""
        for axis in self.kernel.grid:
            for item in store.index:
                let = self.lets.get(str(item))
                if item == f"{axis.name}.first":
                    steps = 0
                elif isinstance(let, Let) and let.op == "add" and let.args[0] == f"{axis.name}.first":
                    steps = let.args[1]
                else:
                    continue
                tests = (self.lets.get(each) for each in self.masks(store.mask))
                found = [
                    each.name
                    for each in tests
                    if isinstance(each, Let) and each.op == "lt" and each.args == (item, axis.size)
                ]
                if type(steps) is not int or axis.low != 0 or len(found) != 1:
                    raise self.fail(f"`{store.buffer}` is stored at `{item}`, which is no row that exists")
                return axis.name, steps, found[0]
        return None

    def coordinates(self, item: Operand) -> tuple[str, ...]:
        """The coordinate of an index, or the two that are one: place and residue of a ragged axis."""
        found = self.coordinate(item)
        whole = self.lets.get(found)
        if not isinstance(whole, Let) or whole.op != "add":
            return (found,)
        along = self.lets.get(str(whole.args[0]))
        for axis in self.kernel.grid:
            end = axis.ragged
            if end is not None and whole.args[1] == end.residue:
                plain = end.step == 1 and whole.args[0] == axis.name
                if (
                    plain
                    or isinstance(along, Let)
                    and along.op == "mul"
                    and along.args == (end.step, axis.name)
                ):
                    return axis.name, end.residue
        return (found,)

    def coordinate(self, item: Operand) -> str:
        """The coordinate that an index shifts; an index that is no shift has none."""
        if not isinstance(item, str):
            raise self.fail(f"index {item} of a store is a number")
        let = self.lets.get(item)
        if isinstance(let, Let) and let.op in ("add", "sub") and not self.union(let.args[1:]):
            return self.coordinate(let.args[0])
        return item

    def masks(self, mask: Operand) -> set[str]:
        """The conjuncts of a mask."""
        if mask is True:
            return set()
        let = self.lets.get(mask) if isinstance(mask, str) else None
        if isinstance(let, Let) and let.op == "and":
            return self.masks(let.args[0]) | self.masks(let.args[1])
        return {str(mask)}
