"""Contractions as register blocks: the side with lanes from an array, the other read in place."""

from __future__ import annotations

from ...compiler.kernel import Dot, Load
from ...dsl.errors import CompilerFault
from .emit import mangle, widen
from .groups import Groups
from .layout import Shape


class Dots(Groups):
    """Prints dots as calls of the blocks in plait.h."""

    __slots__ = ()

    def dot(self, dot: Dot) -> None:
        """A contraction as register blocks: the side with lanes from an array, the other in place."""
        left, right = dot.left, dot.right
        if self.layout.shape(left).lanes:
            left, right = right, left
        shape, over = self.layout.shapes[dot.name], self.layout.shape(right).rows
        if self.layout.shape(left).lanes or len(over) > 1 or len(shape.rows) > 1 or right not in self.slots:
            raise CompilerFault("cpp", f"dot `{dot.name}` does not fit the register blocks")
        slot, init, scale = self._accumulator(dot)
        row, inner = (shape.rows or (None,))[0], (over or (None,))[0]
        start, step, along = self._left(left, row, inner)
        block = self.target.block_rows
        vectors = max(
            1, min(self.target.block_vectors, self.lanes // (self.target.vector_bytes // self.width))
        )
        sides = f"{start}, {step}, {_reals(self.slots[right], over)}, {slot}, {scale}"
        counts = f"{self.count(row)}, {self.count(inner)}"
        self.out.add(f"dot<{block}, {vectors}, WIDTH, {init}, {along}>({sides}, {counts});")

    def _accumulator(self, dot: Dot) -> tuple[str, int, str]:
        """The array of the result, how it starts (0: at nothing, 1: at init, 2: at init * scale)."""
        shape, here = self.layout.shapes[dot.name], self.layout.position[id(dot)]
        if dot.init is None:
            return self.place(dot.name, shape, here), 0, "(const vec *)nullptr"
        if (
            not isinstance(dot.init, str)
            or dot.init not in self.slots
            or self.layout.read_after(dot.init, here)
        ):
            raise CompilerFault("cpp", f"dot `{dot.name}` starts from a value that is read again later")
        slot = self.slots[dot.init]
        self.slots[dot.name] = slot
        start = _reals(slot, shape.rows)
        if dot.scale is None:
            return start, 1, "(const vec *)nullptr"
        if not isinstance(dot.scale, str) or dot.scale not in self.slots:
            raise CompilerFault("cpp", f"the scale of dot `{dot.name}` is not an array over the lanes")
        return start, 2, self.slots[dot.scale]

    def place(self, name: str, shape: Shape, here: int) -> str:
        """The array of a dot's result; one row where it has no row axis."""
        slot = self.slots.get(name) or self.allocate(name, shape, here)
        return _reals(slot, shape.rows)

    def count(self, row: str | None) -> str:
        if row is None:
            return "1"
        local = next((each for each in self.kernel.locals if each.name == row), None)
        return str(local.size) if local else f"{mangle(row)}_count"

    def _left(self, name: str, row: str | None, inner: str | None) -> tuple[str, str, int]:
        """Pointer, the stride that is not 1, and which one that is (see `dot` in plait.h).

        Channels usually lie side by side; where the tensor of this call has them apart, a chunk is
        copied first. What is computed, or masked by more than its existence, is always copied.
        """
        along = (
            1
            if row is not None and (inner is None or self._is_local(row)) and not self._is_local(inner)
            else 0
        )
        unit, other = (row, inner) if along else (inner, row)
        copied, apart = self._copy_of(name, unit, other)
        load = self.layout.definitions.get(name)
        view = None
        if isinstance(load, Load) and load.kind == "real" and self.layout.always_inside(load.mask):
            same = self.kernel.buffer(load.buffer).real == self.kernel.real
            view = self._view(load, unit, other) if same else None
        if view is None:
            self._copy(name, copied, unit, other)
            return copied, apart, along
        start, by_unit, by_other = view
        source = f"{mangle(name)}_p"
        self.out.add(f"const real *{source} = {start}; long {source}_step = {by_other};")
        if unit is not None and by_unit != "1":
            with self.out.braces(f"if ({by_unit} != 1)"):
                self._copy(name, copied, unit, other)
                self.out.add(f"{source} = {copied}; {source}_step = {apart};")
        return source, f"{source}_step", along

    def _is_local(self, row: str | None) -> bool:
        return any(local.name == row for local in self.kernel.locals)

    def _view(self, load: Load, unit: str | None, other: str | None) -> tuple[str, str, str] | None:
        """Where a load lies: its pointer, and its strides along the two axes."""
        steps: dict[str | None, list[str]] = {unit: [], other: []}
        base: list[str] = []
        buffer = mangle(load.buffer)
        for dim, index in enumerate(load.index):
            stride = f"{buffer}_s{dim}"
            if isinstance(index, str) and index in (unit, other):
                steps[index].append(stride)
                base.append(f"{self._first(index)} * {stride}")
            elif self.layout.shape(index).rows:
                return None
            else:
                base.append(f"{self.operand(index).code} * {stride}")
        by_unit, by_other = (" + ".join(steps[axis]) if axis else "" for axis in (unit, other))
        return f"{buffer} + {' + '.join(base) or '0'}", by_unit or "1", by_other or "0"

    def _first(self, row: str) -> str:
        local = next((each for each in self.kernel.locals if each.name == row), None)
        return f"{local.low}L" if local else f"{mangle(row)}_first"

    def _copy_of(self, name: str, unit: str | None, other: str | None) -> tuple[str, str]:
        """The array for a copy, `unit` innermost, and the distance of its rows."""
        slot = f"{mangle(name)}_g"
        inner = self.layout.tiles[unit] if unit is not None else 1
        total = inner * (self.layout.tiles[other] if other is not None else 1)
        if not any(f" {slot}[" in line for line in self.arrays):
            self.arrays.append(f"  alignas(64) real {slot}[{total}];")
        return slot, str(inner)

    def _copy(self, name: str, slot: str, unit: str | None, other: str | None) -> None:
        rows = tuple(axis for axis in (other, unit) if axis is not None)
        with self.loops(rows):
            self.out.add(f"{slot}[{self._row_index(rows)}] = {widen(self.operand(name), 'real', False)};")


def _reals(slot: str, rows: tuple[str, ...]) -> str:
    """An array as a pointer to reals; one without rows is declared as vectors."""
    return slot if rows else f"(real *){slot}"
