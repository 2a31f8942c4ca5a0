"""Arrays filled from memory and drained to it: runs of one axis, across another that may lie side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

from ...compiler.kernels.kernel import Load, Operand, Store
from ...dsl.errors import CompilerFault
from .emit import mangle, widen
from .indices import Range, is_straight, range_of, steps_of
from .scope import Scope

Rows = tuple[str, ...]


class Fills(Scope):
    """Prints calls of `fill` and `drain` of tiles.h, and vectors in place."""

    __slots__ = ()

    # --- where a tile lies in memory

    def strides(self, buffer: str, index: Sequence[Operand], axes: Sequence[str]) -> dict[str, str] | None:
        """The stride along each axis that the index depends on; None where it has no fixed one."""
        found: dict[str, list[str]] = {}
        for dim, item in enumerate(index):
            steps = steps_of(self.layout, item, axes)
            if steps is None:
                return None
            for axis, step in steps.items():
                stride = f"{mangle(buffer)}_s{dim}"
                found.setdefault(axis, []).append(stride if step == 1 else f"{step} * {stride}")
        return {axis: " + ".join(terms) for axis, terms in found.items()}

    def origin(self, buffer: str, index: Sequence[Operand], places: Mapping[str, str]) -> str:
        """The address of an entry, the coordinates of some axes being given."""
        name = mangle(buffer)
        terms = [f"({self.at(item, places).code}) * {name}_s{dim}" for dim, item in enumerate(index)]
        return " + ".join([name, *terms])

    def plain(self, load: Load) -> bool:
        """True for real numbers read where coordinates say, not data in the lanes."""
        items = (*load.index, load.mask)
        lanes = (item for item in items if self.layout.shape(item).lanes)
        return load.kind == "real" and all(self.layout.coordinate_only(item) for item in lanes)

    # --- filling

    def fill(
        self,
        load: Load,
        array: str,
        rows: Rows,
        lanes: bool,
        then: str | None = None,
        place: str | None = None,
    ) -> None:
        """Write a load to an array over `rows`, and over the lanes if it has them; one step along the axis
        `then` is filled next. `place` is the name of a pointer to the tile, and with `_w` of the distance of
        its rows: where it lies in memory as it would in the array, the array is left alone."""
        around = self.wide_lanes if lanes else ()
        if not (rows or around):
            self.out.add(f"*({array}) = {self.operand(load.name).code};")
            return
        run = around[-1] if around else rows[-1]
        strides = self.strides(load.buffer, load.index, (run,))
        parts = self.layout.conjuncts(load.mask)
        across = self._across(load.index, parts, run, [axis for axis in rows if axis != run])
        along = [part for part in parts if across is None or not self.layout.lies_on(part, (across,))]
        found = range_of(self.layout, along, run)
        outer, distances = tuple(x for x in rows if x not in (run, across)), self._distances(rows, around)
        if place and (strides is None or found is None or outer or across is None):
            place = self._not_in_place(place, array, rows)
        if strides is None or found is None:
            return self._fill_each(load, array, rows, around)
        places = {run: self.first(run)} | ({across: self.first(across)} if across else {})
        with self._around(outer, around[:-1], places) if not place else nullcontext():
            by_row = self._stride(load.buffer, load.index, across)
            source = self.origin(load.buffer, load.index, places)
            low, high = self._limits(found, run, places, lanes)
            first, end = self._rows_that_exist(parts, across, places)
            count, row = (self.count(across), str(distances[across])) if across else ("1", "0")
            where = f"{source}, {by_row}, {strides.get(run, '0')}"
            ahead = f", {self._stride(load.buffer, load.index, then)}" if then else ""
            ranges = f"{count}, {first}, {end}, {low}, {high}, {self.layout.tiles[run]}{ahead}"
            unless = self._in_place(place, array, f"{where}, {ranges}", by_row, row) if place else ""
            target = self._place(array, distances, outer, around[:-1])
            self.out.add(f"{unless}fill({target}, {row}, {where}, {ranges});")

    def _not_in_place(self, place: str, array: str, rows: Rows) -> None:
        row = self.distance(rows, rows[0])
        self.out.add(f"const real *const {place} = {array}; const long {place}_w = {row};")

    def _in_place(self, place: str, array: str, arguments: str, by_row: str, row: str) -> str:
        """Declare the pointer to a tile and the distance of its rows; the test that it lies in the array."""
        self.out.add(f"const real *const {place}_m = in_place({arguments});")
        self.out.add(f"const real *const {place} = {place}_m ? {place}_m : {array};")
        self.out.add(f"const long {place}_w = {place}_m ? {by_row} : {row};")
        return f"if (!{place}_m) "

    def _rows_that_exist(
        self, parts: Sequence[Operand], across: str | None, places: Mapping[str, str]
    ) -> tuple[str, str]:
        """The rows that a mask leaves, counted from the first."""
        if across is None:
            return "0L", "1L"
        found = range_of(
            self.layout, [part for part in parts if self.layout.lies_on(part, (across,))], across
        )
        assert found is not None
        return self._limits(found, across, places, False)

    def _fill_each(self, load: Load, array: str, rows: Rows, around: Rows) -> None:
        """The general way: entry by entry."""
        places: dict[str, str] = {}
        with self._around(rows, around, places):
            mask = self.at(load.mask, places).code
            value = self.held(load.buffer, f"*({self.origin(load.buffer, load.index, places)})")
            to = self._place(array, self._distances(rows, around), rows, around)
            self.out.add(f"*({to}) = {value if mask == 'true' else f'{mask} ? {value} : real(0)'};")

    def _across(
        self, index: Sequence[Operand], parts: Sequence[Operand], run: str, rows: Sequence[str]
    ) -> str | None:
        """The widest row axis that memory has a stride for and of which a mask leaves a range, the same
        for every place of a run."""
        layout, fit = self.layout, list[str]()
        for axis in rows:
            asked = [part for part in parts if layout.lies_on(part, (axis,))]
            steady = all(steps_of(layout, item, (axis,)) is not None for item in index)
            apart = not any(layout.lies_on(part, (run,)) for part in asked)
            if steady and apart and range_of(layout, asked, axis) is not None:
                fit.append(axis)
        return max(fit, key=lambda axis: layout.tiles[axis], default=None)

    def _stride(self, buffer: str, index: Sequence[Operand], axis: str | None) -> str:
        found = self.strides(buffer, index, (axis,)) if axis is not None else None
        return (found or {}).get(axis or "", "0")

    def _distances(self, rows: Rows, around: Rows) -> dict[str, int]:
        """How far apart neighbours along each axis of an array lie."""
        lanes = self.vectors * (self.target.vector_bytes // self.width) if around else 1
        found = {axis: self.layout.size(rows[i + 1 :]) * lanes for i, axis in enumerate(rows)}
        return found | {axis: self.layout.size(around[i + 1 :]) for i, axis in enumerate(around)}

    def _place(self, array: str, distances: Mapping[str, int], rows: Rows, around: Rows) -> str:
        terms = [f"j_{mangle(axis)} * {distances[axis]}" for axis in rows]
        terms += [f"i_{mangle(axis)} * {distances[axis]}" for axis in around]
        return " + ".join([array, *terms])

    @contextmanager
    def _around(self, rows: Rows, lanes: Rows, places: dict[str, str]) -> Iterator[None]:
        """Loops over rows and over lane axes one coordinate at a time, which `places` gets."""
        with ExitStack() as stack:
            stack.enter_context(self.out.braces(""))
            stack.enter_context(self.loops(rows))
            for axis in lanes:
                name = mangle(axis)
                head = f"for (long i_{name} = 0; i_{name} < {self.layout.tiles[axis]}; i_{name}++)"
                stack.enter_context(self.out.braces(head))
                self.out.add(f"const long {name}_at = {name}_first + i_{name}; (void){name}_at;")
                places[axis] = f"{name}_at"
            yield

    def _limits(self, found: Range, run: str, places: Mapping[str, str], lanes: bool) -> tuple[str, str]:
        """The part of a run that the mask leaves, counted from its first place."""
        low: list[str] = []
        high = [str(self.layout.tiles[run]) if lanes else self.count(run)]
        if lanes and found.exists:
            high = [f"{mangle(run)}_last - {mangle(run)}_first + 1"]
        for bound in found.bounds:
            gap = f"({self.at(bound.left, places).code} - {self.at(bound.right, places).code})"
            if bound.step == 1:
                high.append(f"-{gap}" if bound.strict else f"1 - {gap}")
            else:
                low.append(f"{gap} + 1" if bound.strict else gap)
        least, most = "0L", high[0]
        for each in low:
            least = f"smax<long>({least}, {each})"
        for each in high[1:]:
            most = f"smin<long>({most}, {each})"
        tests = " && ".join(self.at(test, places).code for test in found.tests)
        return least, f"({tests}) ? {most} : 0L" if tests else most

    # --- draining

    def drain(self, store: Store, array: str, rows: Rows) -> None:
        """Write an array over `rows` and lanes to where a store says, in the lanes that exist."""
        around = self.wide_lanes
        run = around[-1]
        if not all(is_straight(self.layout, item, run) for item in store.index):
            raise CompilerFault("cpp", f"{store.buffer} is stored at no one step along {run}")
        across = self._across(store.index, (), run, rows)
        places = {run: self.first(run)} | ({across: self.first(across)} if across else {})
        outer = tuple(axis for axis in rows if axis != across)
        with self._around(outer, around[:-1], places):
            tests = [f"{places[axis]} <= {mangle(axis)}_last" for axis in around[:-1]]
            distances = self._distances(rows, around)
            source = self._place(array, distances, outer, around[:-1])
            to = self.origin(store.buffer, store.index, places)
            row = distances[across] if across else 0
            by = (
                self._stride(store.buffer, store.index, across),
                self._run_stride(store.buffer, store.index, run, places),
            )
            count = f"{mangle(run)}_last - {mangle(run)}_first + 1"
            counts = f"{self.count(across) if across else 1}, {count}"
            guard = f"if ({' && '.join(tests)}) " if tests else ""
            self.out.add(f"{guard}drain({source}, {row}, {to}, {by[0]}, {by[1]}, {counts});")

    def _run_stride(self, buffer: str, index: Sequence[Operand], run: str, places: Mapping[str, str]) -> str:
        """How far apart two neighbours of a run lie, whose index is straight along it."""
        if self.strides(buffer, index, (run,)) is not None:
            return self._stride(buffer, index, run)
        after = self.origin(buffer, index, {**places, run: f"({places[run]} + 1)"})
        return f"{after} - ({self.origin(buffer, index, places)})"

    # --- vectors in place

    def vector(self, buffer: str, index: Sequence[Operand], mask: Operand) -> str | None:
        """The condition under which whole tiles of a load or store are vectors in memory ("": always);
        None where they never are."""
        lanes = self.wide_lanes
        strides = self.strides(buffer, index, lanes)
        if strides is None or self.layout.tiles[lanes[-1]] * self.width % self.target.vector_bytes:
            return None
        for part in self.layout.conjuncts(mask):
            if self.layout.exists(part) == "" and self.layout.lies_on(part, lanes):
                return None
        return f"{strides[lanes[-1]]} == 1" if lanes[-1] in strides else ""

    def vector_at(self, buffer: str, index: Sequence[Operand]) -> tuple[str, bool]:
        """The address of the open vector; whether its lanes share one entry."""
        lanes = self.wide_lanes
        strides = self.strides(buffer, index, lanes) or {}
        shared = lanes[-1] not in strides
        at = self.origin(buffer, index, {axis: self.first(axis) for axis in lanes})
        return at + self.lane_offset(strides if shared else strides | {lanes[-1]: "1"}), shared

    def lane_offset(self, strides: Mapping[str, str | int]) -> str:
        """How far the open vector lies behind the first lane."""
        text, lanes, inner = "", self.wide_lanes, self.lanes
        for i, axis in enumerate(lanes):
            inner //= self.layout.tiles[axis]
            if axis not in strides:
                continue
            place = "vi * LANES" if inner == 1 else f"vi * LANES / {inner}"
            place = place if i == 0 else f"({place}) % {self.layout.tiles[axis]}"
            scale = "" if strides[axis] in ("1", 1) else f" * ({strides[axis]})"
            text += f" + ({place}){scale}"
        return text

    def read_vector(self, load: Load) -> str:
        """A load as one vector, of which every lane exists but in the last one of a tile."""
        at, shared = self.vector_at(load.buffer, load.index)
        code = f"all({self.held(load.buffer, f'*({at})')})" if shared else self.part_of(f"get({at})")
        tests = [
            widen(self.operand(part), "bool", False)
            for part in self.layout.conjuncts(load.mask)
            if self.layout.exists(part) == ""
        ]
        return f"({' && '.join(tests)} ? {code} : vec{{}})" if tests else code

    def part_of(self, call: str) -> str:
        """A call of `get` or `put`; in the last vector of a tile, for the lanes that exist."""
        return call.replace("(", "_part(", 1)[:-1] + ", left)" if self.group_state.last else call
