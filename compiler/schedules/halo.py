"""Windows staged as tiles with their halo: a read at `a*h + b*dh` is a take from a tile over u, where

    u = a*(h - h.first) + b*(dh - its lowest)        index = base + u,  base = a*h.first + b*lowest + rest

for lanes h and resident taps dh (for b < 0, from its highest). The border rule is applied once an entry
of the tile, whatever is computed of the entry too; a tap costs a load from the tile. An index that
depends on h and dh through one such sum only (`clamp(h + dh, 0, n - 1)`, `(h + dh) % n`) is staged alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ...dsl.constructors.build import low, size
from ...dsl.program import At, Axis, Const, Coordinate, Form, Map, fresh_axis
from ..kernels.kernel import Local, Operand
from ..kernels.kernel_builder import Builder
from ..rewrites.affine import affine


@dataclass(frozen=True, slots=True)
class Core:
    """sum of factor * axis over wide axes, plus a rest that is one number a tile."""

    form: Form
    factors: Mapping[Axis, int]
    rest: Form


@dataclass(frozen=True, slots=True)
class Halo:
    """`name` is the local axis u; `index` is base + u, `offset` u at the lanes and taps."""

    name: str
    index: Operand
    offset: Operand


@dataclass(slots=True)
class Halos:
    """The halo axes of a kernel. `tiles` are the extents of lanes and of resident axes, with the lowest
    coordinate of the latter (None for lanes)."""

    builder: Builder
    locals: list[Local]
    made: dict[object, Halo] = field(default_factory=dict[object, Halo])

    def axis(self, core: Core, places: Mapping[Axis, str], lanes: Mapping[str, int], rest: Operand) -> Halo:
        """The halo axis of a core, whose axes are at `places`; the same one for the same core."""
        key = (tuple((places[axis], factor) for axis, factor in core.factors.items()), rest)
        if key not in self.made:
            self.made[key] = self._made(core, places, lanes, rest)
        return self.made[key]

    def _made(self, core: Core, places: Mapping[Axis, str], lanes: Mapping[str, int], rest: Operand) -> Halo:
        resident = {each.name: each for each in self.locals}
        base, offset, reach = rest, 0, 0
        for axis, factor in core.factors.items():
            place = places[axis]
            if place in lanes:
                first, extent = f"{place}.first", lanes[place]
            else:
                local = resident[place]
                first, extent = local.low if factor > 0 else local.low + local.size - 1, local.size
            if place in lanes and factor < 0:
                first = self._int("add", first, extent - 1)
            base = self._int("add", base, self._int("mul", factor, first))
            offset = self._int("add", offset, self._int("mul", factor, self._int("sub", place, first)))
            reach += abs(factor) * (extent - 1)
        name = self.builder.axis("halo")
        self.locals.append(Local(name, 0, reach + 1))
        return Halo(name, self._int("add", base, name), offset)

    def _int(self, op: str, *args: Operand) -> Operand:
        return self.builder.let(op, *args, kind="int")


def cores(form: Form, wide: Collection[Axis]) -> Iterator[Core | None]:
    """The largest affine parts of an index in which wide axes occur; None for one that has none."""
    if not wide_in(form, wide):
        return
    core = _core(form, wide)
    if core is not None:
        yield core
    elif isinstance(form, Map):
        for each in form.args:
            yield from cores(each, wide)
    else:
        yield None


def _core(form: Form, wide: Collection[Axis]) -> Core | None:
    found = affine(form)
    if found is None or wide_in(found.rest, wide):
        return None
    factors: dict[Axis, int] = {}
    rest = found.rest
    for axis, factor in found.coefficients.items():
        if axis not in wide:
            rest = Map("add", (rest, Map("mul", (factor, Coordinate(axis)))))
        elif isinstance(factor, Const) and isinstance(factor.value, int):
            factors[axis] = factor.value
        else:
            return None
    return Core(form, factors, rest)


def wide_in(form: Form, wide: Collection[Axis]) -> bool:
    return any(axis in wide for axis in form.axes)


def indices_of(form: At) -> dict[Axis, Form]:
    """The index of every axis of what is read."""
    found: dict[Axis, Form] = {axis: Coordinate(axis) for axis in form.value.axes}
    return found | dict(form.indices)


def replaced(form: Form, old: Form, axis: Axis) -> Form:
    """The form with one part of it read as the coordinate of `axis`."""
    if form == old:
        return Coordinate(axis)
    if isinstance(form, Map):
        return Map(form.op, tuple(replaced(each, old, axis) for each in form.args))
    return form


def stand_in(axis: Axis) -> Axis:
    """An axis for the coordinate of a halo, over the range of the axis that is read."""
    return fresh_axis(f"{axis.name}_at", low(axis), size(axis), "like")
