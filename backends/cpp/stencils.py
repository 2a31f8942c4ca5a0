"""Sums of taps times weights, row by row of the halo tile: a row that is read once serves every row of lanes
that a tap reaches it from, with a column of weights in registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.kernels.kernel import Dot, Load, Operand, Take
from .accumulators import Accumulators
from .emit import mangle, widen
from .indices import steps_of
from .nests import Member, Nest
from .takes import place_of


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


class Stencils(Accumulators):
    """Prints the innermost loops of a stencil."""

    __slots__ = ()

    def stencil(self, inner: Nest) -> bool:
        """Print the loops of a nest as taps by rows, if they are that and fit the registers: as calls of
        `stencil` of tiles.h where weights and taps lie at fixed distances."""
        taps = self._taps(inner)
        if taps is None or not self._fits(taps):
            return False
        by_column, other = self._weights(taps, taps.column), taps.others[-1:]
        by_other = self._weights(taps, other[0]) if other else "0"
        step = self._step(taps, other[0]) if other else "0"
        if by_column is None or by_other is None or step is None:
            self._by_hand(taps)
            return True
        count, tall, across = self._sizes(taps)
        places = {axis: self.first(axis) for axis in (taps.column, *other)}
        load = self.layout.definitions[str(taps.weight)]
        assert isinstance(load, Load)
        with self.loops(taps.others[:-1]):
            weights = self.origin(load.buffer, load.index, places)
            row = self._row(taps)
            source = f"{self._first_run(taps, places)} + (v0 / {across}) * {row}"
            times = self.count(other[0]) if other else "1"
            sums = f"{mangle(taps.fold.name)}_r"
            self.out.add(
                f"stencil<{count}, {tall}, {across}>({weights}, {by_column}, {by_other}, {source}, {row}, {step},"
                f" {times}, {sums});"
            )
        return True

    def _weights(self, taps: Taps, axis: str) -> str | None:
        """How far apart weights lie along an axis; None where they are not read in place."""
        load = self.layout.definitions.get(taps.weight) if isinstance(taps.weight, str) else None
        if (
            not isinstance(load, Load)
            or load.name in self.resident
            or not self.layout.always_inside(load.mask)
        ):
            return None
        strides = self.strides(load.buffer, load.index, (axis,))
        same = self.kernel.buffer(load.buffer).real == self.kernel.real and load.kind == "real"
        return strides.get(axis, "0") if strides is not None and same else None

    def _step(self, taps: Taps, axis: str) -> str | None:
        """How far a step along an axis moves the taps in their source."""
        rows, terms = self.resident_rows(taps.take.source), list[str]()
        for each, item in self.taken(taps.take).items():
            steps = steps_of(self.layout, item, (axis,))
            if steps is None:
                return None
            if each in rows and steps.get(axis):
                terms.append(f"{steps[axis]} * {self._distance(taps, each)}")
        return " + ".join(terms) or "0"

    def _sizes(self, taps: Taps) -> tuple[int, int, int]:
        """Weights of a column, rows of vectors, vectors of a row."""
        across = self.layout.tiles[self.wide_lanes[-1]] // (self.target.vector_bytes // self.width)
        return self.layout.tiles[taps.column], self.group_state.block // across, across

    def _by_hand(self, taps: Taps) -> None:
        """The same where weights are computed, or taps lie anywhere."""
        (count, tall, across), row = self._sizes(taps), self._row(taps)
        name, column, out = mangle(taps.fold.name), mangle(taps.column), self.out
        with self.loops(taps.others):
            out.add(f"vec {name}_k[{count}];")
            out.add(f"#pragma GCC unroll {count}")
            with self.loops((taps.column,)):
                out.add(f"{name}_k[j_{column}] = {widen(self.operand(taps.weight), 'real', True)};")
            first = {taps.column: self.first(taps.column)}
            source = f"{self._first_run(taps, first)} + (v0 / {across}) * {row}"
            out.add(f"const real *{name}_p = {source};")
            out.add(f"#pragma GCC unroll {tall + count - 1}")
            with out.braces(f"for (int t = 0; t < {tall + count - 1}; t++)"):
                out.add(f"#pragma GCC unroll {across}")
                with out.braces(f"for (int s = 0; s < {across}; s++)"):
                    out.add(f"const vec tap = in_register(load({name}_p + t * {row} + s * LANES));")
                    out.add(f"#pragma GCC unroll {count}")
                    reached = f"if (t >= i && t - i < {tall})"
                    sum_ = f"{name}_r[(t - i) * {across} + s]"
                    out.add(f"for (int i = 0; i < {count}; i++) {reached} {sum_} += {name}_k[i] * tap;")

    def _fits(self, taps: Taps) -> bool:
        """Whether the sums, a column of weights and a tap have registers."""
        (count, _, across), block = self._sizes(taps), self.group_state.block
        registers = self.target.block_rows * self.target.block_vectors + 4
        return block % across == 0 and block + count + 1 <= registers

    def read_by_rows(self, inner: Nest) -> frozenset[str]:
        """The residents that the stencils of a loop read in runs of their rows, and nothing else does."""
        nests = (item for item in inner.items if isinstance(item, Nest))
        found = [taps for taps in map(self._taps, nests) if taps is not None and self._fits(taps)]
        return frozenset(taps.take.source for taps in found if self._alone(taps))

    def _alone(self, taps: Taps) -> bool:
        """Whether one stencil reads a source, and only its first axis moves from row to row."""
        source, rows = taps.take.source, self.resident_rows(taps.take.source)
        moved = (self.wide_lanes[0], taps.column)
        others = [item for axis, item in self.taken(taps.take).items() if axis in rows[1:]]
        still = not any(self.layout.lies_on(item, moved) for item in others)
        return still and self.layout.users[source] == [taps.take]

    def _distance(self, taps: Taps, axis: str) -> str:
        """How far neighbours along an axis of the source lie apart, in its array or where it was left."""
        source, rows = taps.take.source, self.resident_rows(taps.take.source)
        left = axis == rows[0] and self.out.declared(place_of(source))
        return f"{place_of(source)}_w" if left else str(self.distance(rows, axis))

    def _row(self, taps: Taps) -> str:
        """How far apart rows of lanes lie in the source."""
        source, rows = taps.take.source, self.resident_rows(taps.take.source)
        if not self.out.declared(place_of(source)):
            return str(taps.row)
        return f"{taps.row // self.distance(rows, rows[0])} * {place_of(source)}_w"

    def _first_run(self, taps: Taps, places: Mapping[str, str]) -> str:
        """Where the taps of the first lanes begin, at given places of the axes that are summed over."""
        source, rows = taps.take.source, self.resident_rows(taps.take.source)
        place = place_of(source) if self.out.declared(place_of(source)) else self.resident[source]
        distances = {rows[0]: self._distance(taps, rows[0])}
        return f"{place}{self.first_entry(taps.take, places, distances)}"

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
