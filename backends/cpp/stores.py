"""Values written to outputs: as vectors in place, through arrays that are drained after the group, lane
by lane, or as numbers."""

from __future__ import annotations

from ...compiler.kernels.kernel import Store
from ...dsl.ops import Kind
from .emit import VECTORS, Text, mangle, widen
from .layout import Shape
from .takes import Takes


class Stores(Takes):
    """Prints stores."""

    __slots__ = ()

    def real_store(self, store: Store) -> bool:
        return self.kernel.buffer(store.buffer).kind == "real"

    def staged(self, store: Store) -> tuple[str, tuple[str, ...]]:
        """The array that a store goes through: that of its value where there is one."""
        rows = self.store_shape(store).rows
        array = self._array_of(store.value, rows) if isinstance(store.value, str) else None
        return array or self.tile(f"{mangle(store.buffer)}_o", self.layout.size(rows)), rows

    def _array_of(self, value: str, rows: tuple[str, ...]) -> str | None:
        """The array that holds a real value over some rows and the lanes."""
        shape = self.layout.shape(value)
        fits = shape.kind == "real" and shape.lanes and shape.rows == rows
        return reals(self.slots[value], rows) if fits and value in self.slots else None

    def store_shape(self, store: Store) -> Shape:
        shapes = [self.layout.shape(item) for item in (*store.index, store.value, store.mask)]
        axes = tuple(dict.fromkeys(row for shape in shapes for row in shape.rows))
        rows = self.layout.shape_of(axes, "real").rows
        return Shape(self.kernel.buffer(store.buffer).kind, any(shape.lanes for shape in shapes), rows)

    def store(self, store: Store) -> None:
        """Write the open value: in place, to the array that is drained later, or lane by lane."""
        kind = self.kernel.buffer(store.buffer).kind
        value = self.operand(store.value)
        if not self.store_shape(store).lanes:
            self._store_number(store, value)
        elif store in self.group_state.direct:
            at, _ = self.vector_at(store.buffer, store.index)
            self.out.add(self.part_of(f"put({at}, {widen(value, kind, True)})") + ";")
        elif kind == "real":
            array, rows = self.staged(store)
            if not isinstance(store.value, str) or array != self._array_of(store.value, rows):
                slot = array if rows else f"((vec *){array})"
                self.keep(slot, Shape("real", True, rows), widen(value, kind, True))
        else:
            self._store_lanes(store, value, kind)

    def _store_number(self, store: Store, value: Text) -> None:
        plain, _ = self.address(store.buffer, [self.operand(item) for item in store.index])
        mask = self.operand(store.mask)
        kind = self.kernel.buffer(store.buffer).kind
        guard = "" if mask.code == "true" else f"if ({mask.code}) "
        self.out.add(f"{guard}{plain[0]}[{plain[1]}] = {widen(value, kind, False)};")

    def _store_lanes(self, store: Store, value: Text, kind: Kind) -> None:
        plain, lanes = self.address(store.buffer, [self.operand(item) for item in store.index])
        mask = self.operand(store.mask)
        with self.out.braces(""):
            if mask.lanes:
                self.out.add(f"const mask m_ = {mask.code};")
            self.out.add(f"const {VECTORS[kind]} x_ = {widen(value, kind, True)};")
            for i, text in enumerate(lanes):
                self.out.add(f"const ivec i_{i} = {text[0]};")
            offsets = "".join(f" + (long)i_{i}[i] * {text[1]}" for i, text in enumerate(lanes))
            test = "" if mask.code == "true" else "if (m_[i]) " if mask.lanes else f"if ({mask.code}) "
            self.out.add(f"for (int i = 0; i < LANES; i++) {test}{plain[0]}[{plain[1]}{offsets}] = x_[i];")


def reals(slot: str, rows: tuple[str, ...]) -> str:
    """An array as a pointer to reals; one without rows is declared as vectors."""
    return slot if rows else f"(real *){slot}"
