"""Resident values without lanes, and the takes from them: taps of a halo tile as unaligned vectors.

A resident value whose takes all use one of its axes at the coordinate that is open (the channel of a
depthwise stencil) is never whole: it is filled inside the loop over that axis, for one coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...compiler.kernels.kernel import Let, Load, Take, every
from .emit import TYPES, mangle, widen
from .fills import Fills
from .indices import steps_of
from .layout import Shape
from .nests import Nest


class Takes(Fills):
    """Prints resident values and takes."""

    __slots__ = ()

    # --- residents

    def find_contracted(self) -> None:
        """Which takes' sources are filled one coordinate of an axis at a time."""
        sources: dict[str, list[Take]] = {}
        for statement in every(self.kernel.body):
            if isinstance(statement, Take):
                sources.setdefault(statement.source, []).append(statement)
        for source, takes in sources.items():
            rows, load = self.layout.shape(source).rows, self.layout.definitions[source]
            alone = all(isinstance(user, Take) for user in self.layout.users[source])
            common = [
                axis
                for axis in rows[:-1]
                if all(
                    self.taken(take).get(axis) == axis and self.layout.shape(take.name).lanes
                    for take in takes
                )
            ]
            if common and alone and isinstance(load, Load) and load.kind == "real":
                self.contracted[source] = common[0]

    def taken_from(self, name: str) -> bool:
        return any(isinstance(user, Take) and user.source == name for user in self.layout.users.get(name, ()))

    def resident_array(self, name: str, shape: Shape) -> str:
        """The array of a resident value."""
        array, size = f"{mangle(name)}_l", self.layout.size(self.resident_rows(name))
        self.array(array, TYPES[shape.kind], size)
        self.resident[name] = array
        return array

    def reside(self, statement: Let | Load) -> None:
        """Compute a resident value into its array."""
        name, shape = statement.name, self.layout.shapes[statement.name]
        if name in self.contracted:
            self.resident_array(name, shape)
        elif isinstance(statement, Load) and statement.kind == "real":
            self.fill(statement, self.resident_array(name, shape), shape.rows, False)
        else:
            with self.loops(shape.rows):
                code = widen(self.operand(name), shape.kind, False)
                self.out.add(f"{mangle(name)}_l[{self.row_index(shape.rows)}] = {code};")
            self.resident_array(name, shape)

    def read_by_rows(self, inner: Nest) -> frozenset[str]:
        """The residents of which a loop reads runs alone, at any distance of their rows."""
        return frozenset()

    def fill_contracted(self, inner: Nest) -> None:
        """At the start of a loop: the residents that are there for its coordinate alone. Those that are read
        by rows may stay where they are."""
        in_place = self.read_by_rows(inner)
        taken = dict.fromkeys(m.statement.source for m in inner.members() if isinstance(m.statement, Take))
        for source in taken:
            if self.contracted.get(source) == inner.axis:
                place = place_of(source) if source in in_place else None
                self._fill_contracted(source, inner.axis, place)
                if place:
                    self.out.declare(place)

    def fill_passed(self) -> None:
        """Fill the residents that were left where they are, for readers of any entry."""
        for source in self.contracted:
            place = place_of(source)
            if self.out.declared(place):
                with self.out.braces(f"if ({place} != {self.resident[source]})"):
                    self._fill_contracted(source, None, None)

    def _fill_contracted(self, source: str, then: str | None, place: str | None) -> None:
        load = self.layout.definitions[source]
        assert isinstance(load, Load)
        self.fill(load, self.resident[source], self.resident_rows(source), False, then, place)

    # --- takes

    def take(self, take: Take) -> None:
        """Declare one vector of a take: side by side in the array, one entry for all, or apart."""
        lanes = self.wide_lanes
        strides = self.take_strides(take)
        whole = self.layout.tiles[lanes[-1]] * self.width % self.target.vector_bytes == 0
        if strides is None or not whole or take.kind != "real" or take.source not in self.resident:
            self.value(take)
            return
        at = f"{self.resident[take.source]}{self.first_entry(take, {})}{self.lane_offset(strides)}"
        step = strides.get(lanes[-1], 0)
        code = f"load({at})" if step == 1 else f"all(*({at}))" if step == 0 else f"apart({at}, {step})"
        self.out.add(f"const vec {mangle(take.name)} = {code};")
        self.out.declare(take.name)

    def take_strides(self, take: Take, axes: tuple[str, ...] = ()) -> dict[str, int] | None:
        """How far apart in the array neighbours along some axes lie, along those of the lanes if no other
        are given; None where that is not the same everywhere."""
        rows, total = self.resident_rows(take.source), dict[str, int]()
        for axis, item in self.taken(take).items():
            steps = steps_of(self.layout, item, axes or self.wide_lanes)
            if steps is None:
                return None
            if axis in rows:
                for lane, step in steps.items():
                    total[lane] = total.get(lane, 0) + step * self.distance(rows, axis)
        return {lane: step for lane, step in total.items() if step}

    def first_entry(
        self, take: Take, places: Mapping[str, str], distances: Mapping[str, str] | None = None
    ) -> str:
        """The place of the entry that the tile's first lane takes, at given places of other axes. `distances`
        of rows are those of the array unless they are given."""
        rows = self.resident_rows(take.source)
        places = {**places, **{axis: self.first(axis) for axis in self.wide_lanes}}
        terms: list[str] = []
        for axis, item in self.taken(take).items():
            if axis in rows:
                code = self.at(item, places).code
                distance = (distances or {}).get(axis, self.distance(rows, axis))
                terms.append(f" + ({code} - ({self.layout.local[axis]}L)) * {distance}")
        return "".join(terms)


def place_of(source: str) -> str:
    """The C++ name of the pointer to a resident that may stay where it is."""
    return f"{mangle(source)}_p"
