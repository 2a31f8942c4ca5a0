"""The tile schedule: one kernel a group, its axes in the roles of `roles.py`.

    grid              tiles of the result
    inputs            loaded where they are read: over lanes, over resident axes, over chunks
    reductions        folds over resident axes; streams of chunks, each folded, over the others
    contractions      the factor without lanes on the left of a Dot, the rest on its right
    outputs           a stream around all that depends on them, the store inside

What does not depend on a stream stands before it (the builder sees to that), so the left out parts of
a group are computed once a tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...dsl.program import Axis, Form, Reduce
from ..fusion.contraction import inside
from ..fusion.plan import Stored
from ..kernels.kernel import Grid, Kernel, Operand, RealType
from ..kernels.kernel_builder import Builder, Tile
from ..kernels.prune import prune
from ..kernels.written import Written
from ..rewrites.total import Totality
from .loops import store_result, stores
from .roles import Roles, choose_roles, token_roles
from .schedule import TileSchedule
from .tile_reduce import TileLowering


def tile_kernel(
    name: str,
    result: Stored,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: TileSchedule,
    total: Totality,
    also: tuple[Stored, ...] = (),
    grid: tuple[Axis, ...] = (),
) -> Written | None:
    """The kernel of a group; None where its result has no axis for the lanes. `also` are further results, over
    the same axes, or over those of the `grid` and resident ones."""
    own = {result.form, *(each.form for each in also)}
    others = {form: each for form, each in stored.items() if form not in own}
    if grid:
        roles = token_roles((result, *also), grid, others, known, schedule)
        lowering = TileLowering(Builder(real), known, others, roles=roles, schedule=schedule, total=total)
        return Tiles(name, result, roles, lowering, also).write()
    apart = {*others, result.form}
    alone = not any(isinstance(form, Reduce) for each in also for form in inside(each.form, apart))
    roles = choose_roles(result, others, known, schedule, alone)
    if roles.rows and len(roles.lanes) == 1 and schedule.product is not None:
        schedule = schedule.of_product()
        roles = choose_roles(result, others, known, schedule, alone)
    if not roles.lanes and roles.streaming is None:
        return None
    lowering = TileLowering(Builder(real), known, others, roles=roles, schedule=schedule, total=total)
    return Tiles(name, result, roles, lowering, also).write()


@dataclass(slots=True)
class Tiles:
    name: str
    result: Stored
    roles: Roles
    lowering: TileLowering
    also: tuple[Stored, ...] = ()
    env: dict[Axis, Operand] = field(default_factory=dict[Axis, Operand])

    @property
    def builder(self) -> Builder:
        return self.lowering.builder

    def write(self) -> Written:
        result, roles, lowering = self.result, self.roles, self.lowering
        axes = dict.fromkeys(axis for each in (result, *self.also) for axis in each.axes)
        for axis in axes:
            taken = tuple(str(place) for place in self.env.values())
            kept = axis in roles.kept
            self.env[axis] = lowering.resident(axis, taken) if kept else lowering.coordinate(axis)
        grid = self._grid()
        lowering.lanes = tuple(str(self.env[axis]) for axis in roles.lanes)
        lowering.tiles = {str(self.env[axis]): tile for axis, tile in roles.lanes.items()}
        lowering.wide = {
            str(self.env[axis]) for axis, tile in {**roles.rows, **roles.outputs}.items() if tile > 1
        }
        lowering.blocks = {
            str(self.env[axis]): tile for axis, tile in roles.outputs.items() if lowering.low(axis) == 0
        }
        streamed = [str(self.env[axis]) for axis in roles.outputs]
        past = tuple(
            lowering.stream_axis(axis, str(self.env[axis]), tile) for axis, tile in roles.outputs.items()
        )
        if streamed:
            lowering.open(tuple(streamed))
        wide = {**roles.lanes, **roles.rows, **roles.outputs}
        guard = self.builder.both(*(f"{self.env[axis]}.valid" for axis, tile in wide.items() if tile > 1))
        tensors: dict[str, tuple[Form, bool]] = {}
        for each in (result, *self.also):
            tensors |= self._store(each, lowering.value(each.form, self.env, guard), guard)
        if streamed:
            lowering.close(past, ())
        return self._written(grid, tensors)

    def _grid(self) -> tuple[Grid, ...]:
        roles, lowering = self.roles, self.lowering
        tiles = {**roles.lanes, **roles.rows}
        return tuple(
            Grid(str(self.env[axis]), lowering.low(axis), lowering.extent(axis), tiles.get(axis, 1))
            for axis in self.result.axes
            if axis not in roles.kept and axis not in roles.outputs
        )

    def _store(self, result: Stored, value: Tile, guard: Operand) -> dict[str, tuple[Form, bool]]:
        """Store a result, and where it is present if that is asked for."""
        lowering = self.lowering
        index = tuple(lowering.offset(axis, self.env[axis]) for axis in result.axes)
        return {
            store_result(self.builder, result, index, value, guard, there): (result.form, there)
            for there in stores(result)
        }

    def _written(self, grid: tuple[Grid, ...], tensors: dict[str, tuple[Form, bool]]) -> Written:
        builder, lowering = self.builder, self.lowering
        kernel = Kernel(
            builder.name(self.name),
            builder.real,
            tuple(builder.sizes),
            tuple(builder.buffers),
            grid,
            tuple(lowering.locals),
            lowering.lanes,
            tuple(builder.blocks[0].statements),
        )
        numbers = {number: form for form, number in lowering.numbers.items()}
        tensors |= {buffer: (form, there) for buffer, form, there in lowering.read}
        return Written.of(prune(kernel), numbers, tensors)
