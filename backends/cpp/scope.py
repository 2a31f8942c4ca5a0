"""Operands and values as C++ text, and the arrays that values live in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...compiler.kernels.flat import Flat
from ...compiler.kernels.kernel import Carry, Kernel, Let, Load, Operand, Store, Take
from ...compiler.schedules.target import CpuTarget
from ...dsl.errors import CompilerFault
from .emit import TYPES, VECTORS, Lines, Text, literal, mangle, operation, widen
from .layout import Layout, Shape
from .nests import Nest

LANES_HERE, LANES_OF_PART, LANES_OF_EXACT = "// lanes", "// lanes of a part", "// lanes by mask"
"""Marks of the places where the lanes' coordinates are written once it is known who reads them: for a
whole tile of the kernel, for the version of a group that is not made of vectors in memory, and for a
branch that is seldom taken."""


@dataclass(slots=True)
class GroupState:
    """Of the group that is being printed: where values have their home, which ones are kept in arrays
    (`filled` before it), which loads and stores are vectors in memory, whether this is printed for whole
    tiles or only for those that may be `partial`, the vectors of a pass, and whether the open vector is one
    that the tile ends in (`last`)."""

    homes: dict[str, Nest] = field(default_factory=dict[str, Nest])
    kept: set[str] = field(default_factory=set[str])
    filled: set[str] = field(default_factory=set[str])
    direct: tuple[Load | Store, ...] = ()
    whole: bool = False
    partial: bool = False
    block: int = 1
    last: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kernel stands in a launch: its first buffer, number and stride there, and the axes of the image
    by which it is a phase. `flat`: it has one lane axis for two of the kernel that was launched."""

    buffers: int = 0
    sizes: int = 0
    strides: int | None = None
    image: tuple[str, ...] = ()
    flat: Flat | None = None


@dataclass(slots=True)
class Scope:
    """The source so far. `slots` gives the array of a value in memory, one row of lanes after the
    other; `resident` that of a value without lanes; `gate` is the class of the stream column that is
    open, under which the stream's `visible` predicate is evaluated."""

    kernel: Kernel
    target: CpuTarget
    place: Place = Place()
    layout: Layout = field(init=False)
    out: Lines = field(default_factory=Lines)
    arrays: dict[str, str] = field(default_factory=dict[str, str])
    taken_bytes: int = 0
    slots: dict[str, str] = field(default_factory=dict[str, str])
    resident: dict[str, str] = field(default_factory=dict[str, str])
    free: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    spread: dict[str, bool] = field(default_factory=dict[str, bool])
    """The lane axes whose coordinates are read as vectors: for whole tiles, too, or for others only."""
    lanes: int = 1
    visible: Operand = True
    gate: str | None = None
    contracted: dict[str, str] = field(default_factory=dict[str, str])
    """Residents that are filled for one coordinate of an axis at a time."""
    group_state: GroupState = field(default_factory=GroupState)
    again: bool = False
    """Whether values that have no array are computed again where they are read."""
    apart: bool = False
    """Whether the open branch has the lanes' coordinates for itself."""
    before_tiles: dict[str, str] = field(default_factory=dict[str, str])
    """What is computed before all tiles, by name."""
    retried: frozenset[str] = frozenset()
    """Products whose masks count in a second run of the stream that is open."""
    accumulated: frozenset[str] = frozenset()
    """Folds whose lanes stay apart until the stream that is open ends."""
    joined: frozenset[str] = frozenset()
    """What such folds and their carries make together, which nothing reads before."""

    def __post_init__(self) -> None:
        self.layout = Layout(self.kernel)
        for axis in self.kernel.lanes:
            self.lanes *= self.layout.tiles[axis]

    @property
    def width(self) -> int:
        """Bytes of a real number."""
        return 4 if self.kernel.real == "float32" else 8

    @property
    def vectors(self) -> int:
        """The vectors of a tile's lanes; the last one may reach beyond them."""
        lanes = self.target.vector_bytes // self.width
        return (self.lanes + lanes - 1) // lanes

    @property
    def wide_lanes(self) -> tuple[str, ...]:
        """The lane axes that are wider than one coordinate, outermost first."""
        return tuple(axis for axis in self.kernel.lanes if self.layout.tiles[axis] > 1)

    # --- operands

    def operand(self, item: Operand) -> Text:
        """The text of an operand in the scope that is open; defers are declared on the way."""
        if not isinstance(item, str):
            return literal(item)
        layout = self.layout
        if item in layout.tiles:
            lane = item in self.wide_lanes
            if lane:
                self._spread(item)
            return Text(f"{mangle(item)}_lane[vi]" if lane else mangle(item), "int", lane)
        if item.endswith(".valid"):
            axis = layout.exists(item)
            if not axis:
                return Text("true", "bool", False)
            self._spread(axis)
            return Text(f"to_mask({mangle(axis)}_lane[vi] <= alli((inum){mangle(axis)}_last))", "bool", True)
        shape = layout.shape(item)
        if self.out.declared(item):
            return Text(self.out.text(item) or mangle(item), shape.kind, shape.lanes)
        if item in self.resident:
            code = f"{self.resident[item]}[{self.row_index(self.resident_rows(item))}]"
            return Text(code, shape.kind, False)
        if item in self.slots:
            return Text(self.kept(self.slots[item], shape), shape.kind, True)
        if self.deferred(item):
            definition = layout.definitions[item]
            assert isinstance(definition, Let | Load | Take)
            self.value(definition)
        return Text(mangle(item), shape.kind, shape.lanes)

    def _spread(self, axis: str) -> None:
        if not self.apart:
            self.spread[axis] = self.spread.get(axis, False) or not self.group_state.partial

    def scalar(self, item: Operand, kind: str) -> str:
        text = self.operand(item)
        if text.lanes:
            raise CompilerFault("cpp", f"`{item}` lies in the lanes where a number is needed")
        return widen(text, "int" if kind == "int" else text.kind, False)

    def at(self, item: Operand, places: Mapping[str, str]) -> Text:
        """An integer or truth value as a number at given places of some axes, all lanes among them;
        what it is made of is coordinates there, and anything elsewhere."""
        if not self.layout.lies_on(item, tuple(places)):
            return self.operand(item)
        assert isinstance(item, str)
        if item in places:
            return Text(places[item], "int", False)
        if item.endswith(".valid"):
            axis = item.removesuffix(".valid")
            if self.layout.exists(item) is None:
                return Text("true", "bool", False)
            return Text(f"({places[axis]} <= {mangle(axis)}_last)", "bool", False)
        definition = self.layout.definitions.get(item)
        if not isinstance(definition, Let):
            raise CompilerFault("cpp", f"`{item}` is data where a coordinate is needed")
        return operation(definition.op, [self.at(arg, places) for arg in definition.args], definition.kind)

    def deferred(self, name: str) -> bool:
        """Values computed again wherever they are read: coordinates' arithmetic and lone rows."""
        definition = self.layout.definitions.get(name)
        if name in self.resident or not isinstance(definition, Let | Load | Take):
            return False
        shape = self.layout.shapes[name]
        if shape.lanes:
            return self.again or (isinstance(definition, Let) and self.layout.coordinate_only(name))
        return self.again or bool(shape.rows)

    # --- rows

    def resident_rows(self, name: str) -> tuple[str, ...]:
        """The row axes that the array of a resident value has."""
        rows = self.layout.shape(name).rows
        return tuple(axis for axis in rows if axis != self.contracted.get(name))

    def row_index(self, rows: tuple[str, ...]) -> str:
        text = "0"
        for row in rows:
            index = f"j_{mangle(row)}"
            text = index if text == "0" else f"({text}) * {self.layout.tiles[row]} + {index}"
        return text

    def first(self, axis: str) -> str:
        """The first coordinate of a tile axis."""
        return f"{self.layout.local[axis]}L" if axis in self.layout.local else f"{mangle(axis)}_first"

    def count(self, axis: str) -> str:
        """How many coordinates of a tile axis exist."""
        local = axis in self.layout.local
        return str(self.layout.tiles[axis]) if local else f"{mangle(axis)}_count"

    @contextmanager
    def loops(self, rows: tuple[str, ...]) -> Iterator[None]:
        """One loop for each row axis around what is printed inside."""
        if not rows:
            yield
            return
        name = mangle(rows[0])
        with self.out.braces(f"for (long j_{name} = 0; j_{name} < {self.count(rows[0])}; j_{name}++)"):
            self.out.add(f"const long {name} = {self.first(rows[0])} + j_{name}; (void){name};")
            self.out.declare(loop_of(rows[0]))
            with self.loops(rows[1:]):
                yield

    # --- values

    def value(self, statement: Let | Load | Take) -> None:
        """Declare one value in the open scope, as scalar or vector."""
        match statement:
            case Load():
                text = self._load(statement)
            case Take():
                text = self._take(statement)
            case Let():
                text = self._let(statement)
        if text is not None:
            types = VECTORS if text.lanes else TYPES
            self.out.add(f"const {types[text.kind]} {mangle(statement.name)} = {text.code};")
        self.out.declare(statement.name)

    def _let(self, let: Let) -> Text | None:
        lanes = self.layout.shape(let.name).lanes
        if let.op == "select" and let.args[0] == self.visible and self.gate is not None and lanes:
            yes = self.operand(let.args[1])
            self.out.add(f"{VECTORS[let.kind]} {mangle(let.name)} = {widen(yes, let.kind, True)};")
            self.out.declare(let.name)
            with self.out.braces(f"if ({self.gate} != ALL)"):
                test = widen(self.operand(let.args[0]), "bool", True)
                no = widen(self.operand(let.args[2]), let.kind, True)
                self.out.add(f"{mangle(let.name)} = {test} ? {mangle(let.name)} : {no};")
            return None
        return operation(let.op, [self.operand(arg) for arg in let.args], let.kind)

    def held(self, buffer: str, code: str) -> str:
        """An entry of a buffer as the kernel computes with it."""
        given = self.kernel.buffer(buffer)
        return f"real({code})" if given.kind == "real" and given.real != self.kernel.real else code

    def _load(self, load: Load) -> Text | None:
        index = [self.operand(item) for item in load.index]
        mask = self.operand(load.mask)
        plain, lanes = self.address(load.buffer, index)
        if not lanes and not mask.lanes:
            code = self.held(load.buffer, f"{plain[0]}[{plain[1]}]")
            guarded = code if mask.code == "true" else f"({mask.code} ? {code} : 0)"
            return Text(guarded, load.kind, False)
        name = mangle(load.name)
        test = "" if mask.code == "true" else f"{name}_m[i] ? " if mask.lanes else f"{mask.code} ? "
        self.out.add(f"{VECTORS[load.kind]} {name} = {{}};")
        with self.out.braces(self._if_known((*load.index, load.mask))):
            if mask.lanes:
                self.out.add(f"const mask {name}_m = {mask.code};")
            for i, text in enumerate(lanes):
                self.out.add(f"const ivec {name}_{i} = {text[0]};")
            offsets = "".join(f" + (long){name}_{i}[i] * {text[1]}" for i, text in enumerate(lanes))
            code = self.held(load.buffer, f"{plain[0]}[{plain[1]}{offsets}]")
            self._each_lane(name, load.kind, code, test)
        self.out.declare(load.name)
        return None

    def _if_known(self, items: Sequence[Operand]) -> str:
        """The condition under which a vector of indices and masks has been computed. What depends on data is
        computed for the vectors that have lanes, and anything beyond them: nothing may be read there."""
        data = any(not self.layout.coordinate_only(item) for item in items if self.layout.shape(item).lanes)
        return "if (vi < vectors)" if data and not self.group_state.whole else ""

    def _each_lane(self, name: str, kind: str, code: str, test: str) -> None:
        """Give every lane i its entry, or 0 where `test` fails."""
        code = f"-(decltype({name}[0] + 0))({code} != 0)" if kind == "bool" else code
        self.out.add(f"for (int i = 0; i < LANES; i++) {name}[i] = {test}{code}{' : 0' if test else ''};")

    def _take(self, take: Take) -> Text | None:
        """An entry of a resident value; runs of lanes are read as vectors by `Takes`."""
        if not self.layout.shape(take.source).rows:
            return Text(self.operand(take.source).code, take.kind, False)
        rows = self.resident_rows(take.source)
        index = {axis: self.operand(item) for axis, item in self.taken(take).items() if axis in rows}
        name, array = mangle(take.name), self.resident[take.source]
        terms: list[str] = []
        gathered = any(text.lanes for text in index.values())
        for axis, text in index.items():
            place = f"(long)({text.code})[i]" if text.lanes else text.code
            terms.append(f"({place} - ({self.layout.local[axis]}L)) * {self.distance(rows, axis)}")
        code = f"{array}[{' + '.join(terms)}]"
        if not gathered:
            return Text(code, take.kind, False)
        self.out.add(f"{VECTORS[take.kind]} {name} = {{}};")
        self._each_lane(name, take.kind, code, "")
        self.out.declare(take.name)
        return None

    def taken(self, take: Take) -> dict[str, Operand]:
        """The index of a take by the axis of its source."""
        local = [axis for axis in self.layout.axes[take.source] if axis in self.layout.local]
        return dict(zip(local, take.index, strict=True))

    def distance(self, rows: tuple[str, ...], axis: str) -> int:
        """How far apart neighbours along a row axis lie, counted in rows."""
        return self.layout.size(rows[rows.index(axis) + 1 :])

    def address(self, buffer: str, index: list[Text]) -> tuple[tuple[str, str], list[tuple[str, str]]]:
        """Pointer and scalar offset, and the vectors of indices with their strides."""
        name = mangle(buffer)
        fixed = [f"{text.code} * {name}_s{dim}" for dim, text in enumerate(index) if not text.lanes]
        lanes = [(text.code, f"{name}_s{dim}") for dim, text in enumerate(index) if text.lanes]
        return (name, " + ".join(fixed) or "0"), lanes

    # --- memory

    def kept(self, slot: str, shape: Shape) -> str:
        """The value in an array at the open row and vector."""
        if not shape.rows:
            return f"{slot}[vi]"
        row = self.row_index(shape.rows)
        real = shape.kind == "real"
        return f"load({slot} + ({row}) * WIDTH + vi * LANES)" if real else f"{slot}[({row}) * VECTORS + vi]"

    def keep(self, slot: str, shape: Shape, value: str) -> None:
        """Write a value to its array at the open row and vector."""
        if shape.rows and shape.kind == "real":
            self.out.add(f"store({slot} + ({self.row_index(shape.rows)}) * WIDTH + vi * LANES, {value});")
        else:
            self.out.add(f"{self.kept(slot, shape)} = {value};")

    def array(self, name: str, held: str, count: int, each: str = "") -> str:
        """An array at the top of the function: of `count` entries, or of as many times WIDTH or VECTORS."""
        if name not in self.arrays:
            lanes = self.vectors * self.target.vector_bytes
            self.taken_bytes += count * {"": 8, "WIDTH": lanes, "VECTORS": 2 * lanes}[each]
            size = f"{count} * {each}" if each else str(count)
            self.arrays[name] = f"{held} {name}[{size}] __attribute__((aligned(64)));"
        return name

    def allocate(self, name: str, shape: Shape, here: int) -> str:
        """An array for a value: a free one of its size, or a new one at the top of the function."""
        held, size = VECTORS[shape.kind], self.layout.size(shape.rows)
        if not shape.rows:
            slot = self.array(f"{mangle(name)}_v", held, 1, "VECTORS")
        elif shape.kind != "real":
            slot = self.array(f"{mangle(name)}_k", held, size, "VECTORS")
        else:
            self.release(here)
            spare = self.free.setdefault(size, [])
            slot = spare.pop() if spare else self.tile(f"{mangle(name)}_a", size)
        self.slots[name] = slot
        return slot

    def tile(self, slot: str, size: int) -> str:
        """An array of rows of lanes."""
        return self.array(slot, "real", size, "WIDTH")

    def release(self, here: int) -> None:
        """Arrays whose value nobody reads after `here` are free. Carries keep theirs."""
        for name, slot in list(self.slots.items()):
            shape = self.layout.shapes[name]
            alive = self.layout.last_use.get(name, here) > here or isinstance(
                self.layout.definitions[name], Carry
            )
            shared = sum(other == slot for other in self.slots.values()) > 1
            if shape.rows and shape.kind == "real" and not alive and not shared:
                del self.slots[name]
                self.free.setdefault(self.layout.size(shape.rows), []).append(slot)


def loop_of(row: str) -> str:
    """What is declared where the loop over a row axis is open; no name of a kernel has a blank."""
    return f"loop {row}"
