"""Contractions as register blocks: the side with lanes from an array, the other read in place."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

from ...compiler.kernels.kernel import Dot, Load
from ...dsl.errors import CompilerFault
from .emit import mangle, operation, widen
from .exact import Block
from .groups import Groups
from .stores import reals

Rows = tuple[str, ...]


class Dots(Groups):
    """Prints dots as calls of the blocks in tiles.h."""

    __slots__ = ()

    def dot(self, dot: Dot) -> None:
        """A product with rows of its own. Axes that both sides keep are loops around it; several rows,
        or several axes that it sums over, are one where the left side lies so, and else copied so. So are
        those that lie outside of an axis that both sides keep, in the order that another product asked for."""
        left, right = dot.left, dot.right
        if self.layout.shape(left).lanes:
            left, right = right, left
        here = self.layout.position[id(dot)]
        over = self.layout.shape_of(dot.over, "real").rows
        result, given = self.layout.shapes[dot.name].rows, self.layout.shape(right).rows
        repeated = tuple(axis for axis in result if axis in given)
        rows = tuple(axis for axis in result if axis not in given)
        slot, init, scale = self._result(dot, here)
        if {*repeated, *over} != {*given} or right not in self.slots:
            raise CompilerFault("cpp", f"dot `{dot.name}` sums over what one of its sides lacks")
        row_loops, rows = self._flattened(rows, result)
        over_loops, over = self._flattened(over, given)
        if over_loops and init != 1:
            self._begin(slot, result, init, scale)
            init = 1
        with ExitStack() as stack:
            stack.enter_context(self.out.braces(""))
            stack.enter_context(self.loops((*repeated, *row_loops, *over_loops)))
            source, by_row, by_entry = self._left(left, rows, over)
            from_ = self._offset(reals(self.slots[right], given), given, (*repeated, *over_loops))
            to = self._offset(reals(slot, result), result, (*repeated, *row_loops))
            counts = (self._counts(rows), self._counts(over))
            by = f"{source}, {by_row}, {by_entry}"
            head = f"dot<{self.target.block_rows}, {self._vectors_of_block()}, WIDTH>"
            plain = f"{head}({by}, {from_}, {to}, {init}, {scale}, {', '.join(counts)});"
            start = ("vec{}", "load({at})", f"load({{at}}) * {scale}[vi]")[init]
            block = Block(left, right, source, by_row, by_entry, from_, to, start, rows, over, *counts)
            self.block_by_mask(dot, block, plain)

    def _vectors_of_block(self) -> int:
        most = min(self.target.block_vectors, self.vectors)
        return next(n for n in range(most, 0, -1) if self.vectors % n == 0)

    def _flattened(self, axes: Rows, array: Rows) -> tuple[Rows, Rows]:
        """Axes that need loops, and those that may be one, innermost in an array: all but the first must be whole."""
        last = max((i for i, axis in enumerate(axes) if axis not in self.layout.local), default=0)
        while axes[last:] != array[len(array) - len(axes) + last :]:
            last += 1
        return axes[:last], axes[last:]

    def _counts(self, axes: Rows) -> str:
        return " * ".join(self.count(axis) for axis in axes) or "1"

    def _offset(self, array: str, rows: Rows, axes: Rows) -> str:
        """The place in an array at the open coordinates of some of its rows."""
        terms = [f"j_{mangle(axis)} * {self.distance(rows, axis)} * WIDTH" for axis in axes]
        return " + ".join([array, *terms])

    # --- the result

    def _result(self, dot: Dot, here: int) -> tuple[str, int, str]:
        """The array of the result, how it starts (0: at nothing, 1: at init, 2: at init * scale). The
        result takes the place of an `init` that nobody reads again."""
        shape, none = self.layout.shapes[dot.name], "(const vec *)nullptr"
        if dot.init is None:
            return self.slots.get(dot.name) or self.allocate(dot.name, shape, here - 1), 0, none
        mine = isinstance(dot.init, str) and dot.init in self.slots and self.layout.shape(dot.init) == shape
        scaled = isinstance(dot.scale, str) and dot.scale in self.slots
        plain = scaled and not self.layout.shape(dot.scale or 1).rows
        if mine and isinstance(dot.init, str) and not self.layout.read_after(dot.init, here):
            slot = self.slots[dot.name] = self.slots[dot.init]
            if dot.scale is None:
                return slot, 1, none
            if plain:
                return slot, 2, self.slots[str(dot.scale)]
        else:
            slot = self.slots.get(dot.name) or self.allocate(dot.name, shape, here - 1)
        with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
            start = self.operand(dot.init)
            if dot.scale is not None:
                start = operation("mul", [start, self.operand(dot.scale)], "real")
            self.keep(slot, shape, widen(start, "real", True))
        return slot, 1, none

    def _begin(self, slot: str, rows: Rows, init: int, scale: str) -> None:
        """What the result starts at, written before the first of several products."""
        with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(rows):
            at = f"{reals(slot, rows)} + ({self.row_index(rows)}) * WIDTH + vi * LANES"
            start = "vec{}" if init == 0 else f"load({at}) * {scale}[vi]"
            self.out.add(f"store({at}, {start});")

    # --- the left side

    def _left(self, name: str, rows: Rows, over: Rows) -> tuple[str, str, str]:
        """Pointer, stride of a row and stride of an entry. What is computed, converted, or masked by
        more than its existence is copied; several axes that lie otherwise are copied where they do."""
        load = self.layout.definitions.get(name)
        if name not in self.resident and isinstance(load, Load):
            view = self._view(load, rows, over)
            if view is not None:
                return view
        slot = self._copied(name, rows, over)
        return slot, str(self.layout.size(over)), "1"

    def _view(self, load: Load, rows: Rows, over: Rows) -> tuple[str, str, str] | None:
        """A load in place, unless it is converted or has no fixed strides."""
        same = self.kernel.buffer(load.buffer).real == self.kernel.real
        strides = self.strides(load.buffer, load.index, (*rows, *over))
        if strides is None or not same or not self.layout.always_inside(load.mask):
            return None
        places = {axis: self.first(axis) for axis in (*rows, *over)}
        at = self.origin(load.buffer, load.index, places)
        by_row, by_entry = (f"({strides.get(each[-1], '0')})" if each else "0" for each in (rows, over))
        apart = [
            f"{strides.get(outer, '0')} != ({strides.get(inner, '0')}) * {self.layout.tiles[inner]}"
            for axes in (rows, over)
            for outer, inner in pairwise(axes)
        ]
        if not apart:
            return at, by_row, by_entry
        source = f"{mangle(load.name)}_p"
        self.out.add(f"const real *{source} = {at}; long {source}_r = {by_row}, {source}_e = {by_entry};")
        with self.out.braces(f"if ({' || '.join(apart)})"):
            copy = self._copied(load.name, rows, over)
            self.out.add(f"{source} = {copy}; {source}_r = {self.layout.size(over)}; {source}_e = 1;")
        return source, f"{source}_r", f"{source}_e"

    def _copied(self, name: str, rows: Rows, over: Rows) -> str:
        """A copy, what is summed over innermost."""
        slot, axes = f"{mangle(name)}_g", (*rows, *over)
        self.array(slot, "real", self.layout.size(axes))
        load = self.layout.definitions.get(name)
        if isinstance(load, Load) and axes and name not in self.resident:
            self.fill(load, slot, axes, False)
        else:
            with self.loops(axes):
                self.out.add(f"{slot}[{self.row_index(axes)}] = {widen(self.operand(name), 'real', False)};")
        return slot
