"""Operands, values, loads and stores as C++ text, and the arrays that values live in."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...compiler.kernel import Carry, Kernel, Let, Load, Operand, Store
from ...compiler.target import CpuTarget
from ...dsl.errors import CompilerFault
from .emit import TYPES, VECTORS, Lines, Text, literal, mangle, operation, widen
from .layout import Layout, Shape


@dataclass(slots=True)
class Scope:
    """The source so far. `slots` gives the array of a value in memory; `gate` is the class of the
    stream column that is open, under which the stream's `visible` predicate is evaluated."""

    kernel: Kernel
    target: CpuTarget
    layout: Layout = field(init=False)
    out: Lines = field(default_factory=Lines)
    arrays: list[str] = field(default_factory=list[str])
    slots: dict[str, str] = field(default_factory=dict[str, str])
    free: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    lanes: int = 1
    visible: Operand = True
    gate: str | None = None

    def __post_init__(self) -> None:
        self.layout = Layout(self.kernel)
        for axis in self.kernel.lanes:
            self.lanes *= self.layout.tiles[axis]

    @property
    def width(self) -> int:
        """Bytes of a real number."""
        return 4 if self.kernel.real == "float32" else 8

    # --- operands

    def operand(self, item: Operand) -> Text:
        """The text of an operand in the scope that is open; defers are declared on the way."""
        if not isinstance(item, str):
            return literal(item)
        layout = self.layout
        shape = layout.shape(item)
        if item in layout.tiles:
            lane = item in self.kernel.lanes and layout.tiles[item] > 1
            return Text(f"{mangle(item)}_lane[vi]" if lane else mangle(item), "int", lane)
        if item.endswith(".valid"):
            axis = item.removesuffix(".valid")
            lane = axis in self.kernel.lanes and layout.tiles[axis] > 1
            if not lane:
                return Text("true", "bool", False)
            return Text(f"to_mask({mangle(axis)}_lane[vi] <= alli((inum){mangle(axis)}_last))", "bool", True)
        if self.deferred(item) and not self.out.declared(item):
            definition = layout.definitions[item]
            assert isinstance(definition, Let | Load)
            self._value(definition)
        if item in self.slots and not self.out.declared(item):
            return Text(self.kept(self.slots[item], shape), shape.kind, True)
        return Text(mangle(item), shape.kind, shape.lanes)

    def scalar(self, item: Operand, kind: str) -> str:
        text = self.operand(item)
        if text.lanes:
            raise CompilerFault("cpp", f"`{item}` lies in the lanes where a number is needed")
        return widen(text, "int" if kind == "int" else text.kind, False)

    def deferred(self, name: str) -> bool:
        """Values computed again wherever they are read: coordinates' arithmetic and lone rows."""
        definition = self.layout.definitions.get(name)
        if not isinstance(definition, Let | Load) or not self.kernel.lanes:
            return False
        shape = self.layout.shapes[name]
        if isinstance(definition, Load):
            return bool(shape.rows) and not shape.lanes
        lone_row = bool(shape.rows) and not shape.lanes
        return lone_row or ((shape.lanes or bool(shape.rows)) and self.layout.coordinate_only(name))

    def _row_index(self, rows: tuple[str, ...]) -> str:
        text = "0"
        for row in rows:
            index = f"j_{mangle(row)}"
            text = index if text == "0" else f"({text}) * {self.layout.tiles[row]} + {index}"
        return text

    # --- values

    def _value(self, statement: Let | Load) -> None:
        """Declare one value in the open scope, as scalar or vector."""
        text = self._load(statement) if isinstance(statement, Load) else self._let(statement)
        if text is not None:
            types = VECTORS if text.lanes else TYPES
            self.out.add(f"const {types[text.kind]} {mangle(statement.name)} = {text.code};")
        self.out.declare(statement.name)

    def _let(self, let: Let) -> Text | None:
        if let.op == "select" and let.args[0] == self.visible and self.gate is not None:
            yes = self.operand(let.args[1])
            self.out.add(f"{VECTORS[let.kind]} {mangle(let.name)} = {widen(yes, let.kind, True)};")
            self.out.declare(let.name)
            with self.out.braces(f"if ({self.gate} != ALL)"):
                test = widen(self.operand(let.args[0]), "bool", True)
                no = widen(self.operand(let.args[2]), let.kind, True)
                self.out.add(f"{mangle(let.name)} = {test} ? {mangle(let.name)} : {no};")
            return None
        return operation(let.op, [self.operand(arg) for arg in let.args], let.kind)

    def _load(self, load: Load) -> Text | None:
        index = [self.operand(item) for item in load.index]
        mask = self.operand(load.mask)
        plain, lanes = self._address(load.buffer, index)
        if not lanes and not mask.lanes:
            code = self._entry(load.buffer, f"{plain[0]}[{plain[1]}]")
            guarded = code if mask.code == "true" else f"({mask.code} ? {code} : 0)"
            return Text(guarded, load.kind, False)
        name = mangle(load.name)
        held = {"real": "vec", "int": "ivec", "bool": "mask"}[load.kind]
        test = "" if mask.code == "true" else f"{name}_m[i] ? " if mask.lanes else f"{mask.code} ? "
        rest = " : 0" if test else ""
        self.out.add(f"{held} {name} = {{}};")
        with self.out.braces(""):
            if mask.lanes:
                self.out.add(f"const mask {name}_m = {mask.code};")
            for i, text in enumerate(lanes):
                self.out.add(f"const ivec {name}_{i} = {text[0]};")
            offsets = "".join(f" + (long){name}_{i}[i] * {text[1]}" for i, text in enumerate(lanes))
            value = self._entry(load.buffer, f"{plain[0]}[{plain[1]}{offsets}]")
            value = f"-(decltype({name}[0] + 0))({value} != 0)" if load.kind == "bool" else value
            self.out.add(f"for (int i = 0; i < LANES; i++) {name}[i] = {test}{value}{rest};")
        self.out.declare(load.name)
        return None

    def _entry(self, buffer: str, code: str) -> str:
        """An entry of memory, widened to the reals of the kernel."""
        given = self.kernel.buffer(buffer)
        return f"real({code})" if given.kind == "real" and given.real != self.kernel.real else code

    def _address(self, buffer: str, index: list[Text]) -> tuple[tuple[str, str], list[tuple[str, str]]]:
        """Pointer and scalar offset, and the vectors of indices with their strides."""
        name = mangle(buffer)
        fixed = [f"{text.code} * {name}_s{dim}" for dim, text in enumerate(index) if not text.lanes]
        lanes = [(text.code, f"{name}_s{dim}") for dim, text in enumerate(index) if text.lanes]
        return (name, " + ".join(fixed) or "0"), lanes

    def _store_shape(self, store: Store) -> Shape:
        shapes = [self.layout.shape(item) for item in (*store.index, store.value, store.mask)]
        rows = tuple(dict.fromkeys(row for shape in shapes for row in shape.rows))
        return Shape(self.kernel.buffer(store.buffer).kind, any(shape.lanes for shape in shapes), rows)

    def _store(self, store: Store) -> None:
        index = [self.operand(item) for item in store.index]
        buffer = self.kernel.buffer(store.buffer)
        value, mask = self.operand(store.value), self.operand(store.mask)
        plain, lanes = self._address(store.buffer, index)
        if not lanes:
            guard = "" if mask.code == "true" else f"if ({mask.code}) "
            self.out.add(f"{guard}{plain[0]}[{plain[1]}] = {widen(value, buffer.kind, False)};")
            return
        with self.out.braces(""):
            if mask.lanes:
                self.out.add(f"const mask m_ = {mask.code};")
            self.out.add(f"const {VECTORS[buffer.kind]} x_ = {widen(value, buffer.kind, True)};")
            for i, text in enumerate(lanes):
                self.out.add(f"const ivec i_{i} = {text[0]};")
            offsets = "".join(f" + (long)i_{i}[i] * {text[1]}" for i, text in enumerate(lanes))
            test = "" if mask.code == "true" else "if (m_[i]) " if mask.lanes else f"if ({mask.code}) "
            self.out.add(f"for (int i = 0; i < LANES; i++) {test}{plain[0]}[{plain[1]}{offsets}] = x_[i];")

    # --- memory

    def kept(self, slot: str, shape: Shape) -> str:
        """The value in an array at the open row and vector."""
        if not shape.rows:
            return f"{slot}[vi]"
        row = self._row_index(shape.rows)
        real = shape.kind == "real"
        return f"load({slot} + ({row}) * WIDTH + vi * LANES)" if real else f"{slot}[({row}) * VECTORS + vi]"

    def keep(self, slot: str, shape: Shape, value: str) -> None:
        """Write a value to its array at the open row and vector."""
        if shape.rows and shape.kind == "real":
            self.out.add(f"store({slot} + ({self._row_index(shape.rows)}) * WIDTH + vi * LANES, {value});")
        else:
            self.out.add(f"{self.kept(slot, shape)} = {value};")

    def allocate(self, name: str, shape: Shape, here: int) -> str:
        """An array for a value: a free one of its size, or a new one at the top of the function."""
        if not shape.rows:
            slot = f"{mangle(name)}_v"
            self.arrays.append(f"  {VECTORS[shape.kind]} {slot}[VECTORS];")
            self.slots[name] = slot
            return slot
        size = 1
        for row in shape.rows:
            size *= self.layout.tiles[row]
        if shape.kind != "real":
            self.slots[name] = f"{mangle(name)}_k"
            self.arrays.append(f"  {VECTORS[shape.kind]} {self.slots[name]}[{size} * VECTORS];")
            return self.slots[name]
        self._release(here)
        spare = self.free.setdefault(size, [])
        slot = spare.pop() if spare else f"{mangle(name)}_a"
        if not any(f" {slot}[" in line for line in self.arrays):
            self.arrays.append(f"  alignas(64) real {slot}[{size} * WIDTH];")
        self.slots[name] = slot
        return slot

    def _release(self, here: int) -> None:
        """Arrays whose value nobody reads after `here` are free. Carries keep theirs."""
        for name, slot in list(self.slots.items()):
            shape = self.layout.shapes[name]
            alive = self.layout.last_use.get(name, here) > here or isinstance(
                self.layout.definitions[name], Carry
            )
            shared = sum(other == slot for other in self.slots.values()) > 1
            if shape.rows and shape.kind == "real" and not alive and not shared:
                size = 1
                for row in shape.rows:
                    size *= self.layout.tiles[row]
                del self.slots[name]
                self.free.setdefault(size, []).append(slot)
