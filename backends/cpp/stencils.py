"""Sums of taps times weights, row by row of the halo tile: a row that is read once serves every row of lanes
that a tap reaches it from, with a column of weights in registers."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.kernel import Dot, Operand, Take
from .emit import mangle, widen
from .folds import Folds
from .nests import Member, Nest


@dataclass(frozen=True, slots=True)
class Taps:
    """A fold of `weight` times `take` in which one step along `column` is one row of lanes further in the
    source (`row` entries); the loops over the other axes stand around."""

    fold: Member
    weight: Operand
    take: Take
    column: str
    others: tuple[str, ...]
    row: int


class Stencils(Folds):
    """Prints the innermost loops of a stencil."""

    __slots__ = ()

    def stencil(self, inner: Nest) -> bool:
        """Print the loops of a nest as taps by rows, if they are that and fit the registers."""
        taps = self._taps(inner)
        if taps is None:
            return False
        lanes = self.target.vector_bytes // self.width
        across, block = self.layout.tiles[self.wide_lanes[-1]] // lanes, self.group_state.block
        count, tall = self.layout.tiles[taps.column], block // across
        registers = self.target.block_rows * self.target.block_vectors + 4
        if block % across or block + count + 1 > registers:
            return False
        name, column, out = mangle(taps.fold.name), mangle(taps.column), self.out
        with self.loops(taps.others):
            out.add(f"vec {name}_k[{count}];")
            out.add(f"#pragma GCC unroll {count}")
            with self.loops((taps.column,)):
                out.add(f"{name}_k[j_{column}] = {widen(self.operand(taps.weight), 'real', True)};")
            start = self.first_entry(taps.take, {taps.column: self.first(taps.column)})
            source = f"{self.resident[taps.take.source]}{start} + (v0 / {across}) * {taps.row}"
            out.add(f"const real *{name}_p = {source};")
            out.add(f"#pragma GCC unroll {tall + count - 1}")
            with out.braces(f"for (int t = 0; t < {tall + count - 1}; t++)"):
                out.add(f"#pragma GCC unroll {across}")
                with out.braces(f"for (int s = 0; s < {across}; s++)"):
                    out.add(f"const vec tap = in_register(load({name}_p + t * {taps.row} + s * LANES));")
                    out.add(f"#pragma GCC unroll {count}")
                    reached = f"if (t >= i && t - i < {tall})"
                    sum_ = f"{name}_r[(t - i) * {across} + s]"
                    out.add(f"for (int i = 0; i < {count}; i++) {reached} {sum_} += {name}_k[i] * tap;")
        return True

    def _taps(self, inner: Nest) -> Taps | None:
        """A nest that holds one product of weights and taps, and nothing else."""
        axes, here = list[str](), inner
        while True:
            assert here.axis is not None
            axes.append(here.axis)
            if len(here.items) != 1 or not isinstance(here.items[0], Nest):
                break
            here = here.items[0]
        members = [item for item in here.items if isinstance(item, Member)]
        if len(here.items) != 2 or len(members) != 2 or len(inner.folds) != 1 or len(self.wide_lanes) != 2:
            return None
        take, dot = members[0].statement, members[1].statement
        if not isinstance(take, Take) or not isinstance(dot, Dot) or members[1] not in inner.folds:
            return None
        weight = dot.left if dot.right == take.name else dot.right
        strides = self.take_strides(take)
        alone = take.name not in self.group_state.kept and take.name in (dot.left, dot.right)
        if not alone or strides is None or self.layout.shape(weight).lanes or take.kind != "real":
            return None
        return self._by_column(members[1], weight, take, axes, strides)

    def _by_column(
        self, fold: Member, weight: str, take: Take, axes: list[str], strides: dict[str, int]
    ) -> Taps | None:
        outer, run = self.wide_lanes
        width = self.target.vector_bytes // self.width
        row = strides.get(outer, 0)
        if strides.get(run) != 1 or self.layout.tiles[run] % width or self.group_state.block == 1:
            return None
        for axis in axes:
            if self.take_strides(take, (axis,)) == {axis: row} and axis in self.layout.local:
                return Taps(fold, weight, take, axis, tuple(each for each in axes if each != axis), row)
        return None
