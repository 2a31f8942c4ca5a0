"""The window schedule of a GPU: sums over small windows, some rows of the result at a time in registers.

    lanes     a tile of the other axes of the result, one element a thread
    rows      so many neighbours along one axis that the window moves along, each a value of its own
    taps      written out one by one; an entry that several rows read at several taps is loaded once, a
              weight once for all rows

There is no loop and no chunk: what is shared is shared because equal statements are one.

What is absent is no term. A product whose one factor is loaded as 0 where it is absent is added all the same:
it is 0, or NaN where another factor is not finite. Where a sum comes to NaN, the sums of the tile are computed
once more entry by entry, the absent ones left out: a stream of one turn or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from ...dsl.constructors.build import low, size
from ...dsl.program import At, Axis, Form, Leaf, Map, Reduce
from ...dsl.shapes.size_forms import is_batch
from ..fusion.contraction import factors_of, inside
from ..fusion.plan import Stored
from ..kernels.kernel import Carry, Grid, Kernel, Operand, RealType, StreamAxis
from ..kernels.kernel_builder import Builder, Tile
from ..kernels.prune import prune
from ..kernels.written import Written
from ..rewrites.total import Totality
from .loops import store_result
from .lower import Env, Lowering, constant_value
from .reductions import REDUCTIONS
from .schedule import WindowSchedule


def window_kernel(
    name: str,
    result: Stored,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: WindowSchedule,
    total: Totality,
) -> Written | None:
    """The kernel of a group; None where it is no window, or has other reductions too."""
    others = {form: each for form, each in stored.items() if form != result.form}
    row = row_axis(result, others, known, schedule)
    if row is None or result.presence:
        return None
    lowering = WindowLowering(Builder(real), known, others, total=total, row=row)
    return Windows(name, result, row, schedule, lowering).write()


def row_axis(
    result: Stored, stored: Mapping[Form, Stored], known: Mapping[Axis, int], schedule: WindowSchedule
) -> Axis | None:
    """The axis of the result whose neighbours share most of a window: the last one but for the lanes."""
    forms = inside(result.form, stored)
    sums = [each for each in forms if isinstance(each, Reduce)]
    if not sums or not all(0 < taps_of(each, known) <= schedule.taps for each in sums):
        return None
    taps = {axis for each in sums for piece in each.pieces for axis in piece.axes}
    moved = [
        set(index.axes)
        for form in forms
        if isinstance(form, At)
        for _, index in form.indices
        if set(index.axes) & taps
    ]
    for axis in reversed(result.axes[:-1]):
        if (
            not is_batch(axis)
            and constant_value(low(axis), known) == 0
            and any(axis in each for each in moved)
        ):
            return axis
    return None


def taps_of(form: Reduce, known: Mapping[Axis, int]) -> int:
    """The entries that a reduction takes, where it can be written out; else 0."""
    if form.op not in REDUCTIONS or form.op == "argmax":
        return 0
    axes = {axis for piece in form.pieces for axis in piece.axes}
    counts = [constant_value(size(axis), known) for axis in axes]
    lows = [constant_value(low(axis), known) for axis in axes]
    return 0 if None in (*counts, *lows) else prod(count for count in counts if count is not None)


@dataclass(slots=True, kw_only=True)
class WindowLowering(Lowering):
    """`rows` are coordinates along the row axis, each with the test that it exists. `shifts` says of a sum
    which operand and which number it is of, so that equal sums are one."""

    total: Totality
    row: Axis
    rows: dict[Operand, Operand] = field(default_factory=dict[Operand, Operand])
    hasty: list[tuple[Reduce, Env, Operand]] = field(default_factory=list[tuple[Reduce, Env, Operand]])
    """The sums to which products were added that may be absent, where they are."""
    patient: bool = False
    """Whether reductions leave out each absent entry."""
    shifts: dict[Operand, tuple[Operand, int]] = field(default_factory=dict[Operand, tuple[Operand, int]])

    def shifted(self, base: Operand, steps: int) -> Operand:
        """`base + steps`, one operand however it was come by."""
        root, before = self.shifts.get(base, (base, 0))
        if isinstance(root, int):
            return root + before + steps
        found = self.builder.let("add", root, before + steps, kind="int")
        self.shifts[found] = (root, before + steps)
        return found

    def _map(self, form: Map, env: Env, guard: Operand) -> Tile:
        if form.kind == "int" and form.op in ("add", "sub", "mul") and form.axes:
            tiles = [self.value(arg, env, guard) for arg in form.args]
            present = self.builder.both(*(tile.present for tile in tiles))
            left, right = (tile.value for tile in tiles)
            if form.op != "sub" and type(left) is int:
                left, right = right, left
            if type(right) is int:
                return Tile(self._with_number(form.op, left, right), present)
        return Lowering._map(self, form, env, guard)

    def _with_number(self, op: str, left: Operand, number: int) -> Operand:
        if op != "mul":
            return self.shifted(left, number if op == "add" else -number)
        root, steps = self.shifts.get(left, (left, 0))
        return self.shifted(self.builder.let("mul", root, number, kind="int"), steps * number)

    def _read(self, form: Form, env: Env, guard: Operand) -> Tile:
        """A row that does not exist is read by nobody. Along any other axis the same number is no row: a read
        tests itself whether it lies in range, and the row beside it may exist where this one does not."""
        exists = self.rows.get(env[self.row], True) if self.row in self.source(form).axes else True
        return Lowering._read(self, form, env, self.builder.both(guard, exists))

    def reduce(self, form: Reduce, env: Env, guard: Operand) -> Tile:
        """A reduction, its entries one after the other."""
        if self.patient:
            return Lowering.reduce(self, form, env, guard)
        rule = REDUCTIONS[form.op](self.builder, form)
        state = rule.start()
        hasty = False
        for piece in form.pieces:
            for places in self._entries(piece.axes):
                inner = {axis: env[axis] for axis in piece.value.axes if axis in env} | places
                tile = self.value(piece.value, inner, guard)
                if form.op == "sum" and self._is_zero_elsewhere(piece.value, inner, guard, tile.present):
                    hasty = hasty or tile.present is not True
                    seen = self.builder.let("or", state[1], tile.present, kind="bool")
                    state = [self.builder.let("add", state[0], tile.value, kind=form.kind), seen]
                else:
                    state = rule.step(state, tile, inner)
        found = rule.finish(state)
        if hasty:
            self.hasty.append((form, env, found.value))
        return Tile(found.value) if found.present is not True and self.total.of(form) else found

    def _is_zero_elsewhere(self, form: Form, env: Env, guard: Operand, present: Operand) -> bool:
        """Whether a product has a factor that is 0 wherever the product is absent."""
        absent = frozenset(self.builder.conjuncts(present))
        factors = (self.value(factor, env, guard).value for factor in factors_of(form, self.stored))
        return any(absent <= self.builder.zero_where_not(factor) for factor in factors)

    def again(self, guard: Operand) -> None:
        """The hasty sums once more, patiently, if one of them is NaN. Their values are those from now on."""
        builder = self.builder
        sums = self.hasty
        if not sums:
            return
        broken: Operand = False
        for _, _, value in sums:
            broken = builder.let("or", broken, builder.let("ne", value, value, kind="bool"), kind="bool")
        broken = builder.both(guard, broken)
        some = builder.fold_axes("any", broken, builder.axes((broken,)), "bool", "broken")
        turn = builder.axis("again")
        axis = StreamAxis(turn, 0, builder.let("select", some, 1, 0, kind="int"), 1)
        names = [builder.carry(f"{form.op}_", builder.axes((value,)), form.kind) for form, _, value in sums]
        self.open((turn,))
        self.patient, before = True, self.values
        self.values = [{} for _ in before]
        tiles = [self.value(form, self._turned(env, turn), guard) for form, env, _ in sums]
        self.patient, self.values = False, before
        carries = [
            Carry(name, value, tile.value, builder.axes_of[name], form.kind)
            for name, tile, (form, _, value) in zip(names, tiles, sums, strict=True)
        ]
        self.close((axis,), tuple(carries))
        for name, (form, env, _) in zip(names, sums, strict=True):
            self.bind(form, env, Tile(name))

    def exists(self, axis: Axis, at: Operand) -> Operand:
        """Whether a coordinate that is not below an axis lies on it."""
        return self.builder.let("lt", at, self.extent(axis), kind="bool")

    def _turned(self, env: Env, turn: str) -> Env:
        """The rows as values of the turn, which is 0: what depends on them is computed in the turn only."""
        turned = dict(env)
        for axis, at in env.items():
            if at in self.rows:
                turned[axis] = self.builder.let("add", at, turn, kind="int")
                self.rows[turned[axis]] = self.exists(axis, turned[axis])
        return turned

    def _entries(self, axes: Sequence[Axis]) -> Iterator[dict[Axis, Operand]]:
        ranges = [range(first, first + count) for first, count in map(self._range, axes)]
        for places in product(*ranges):
            yield dict(zip(axes, places, strict=True))

    def _range(self, axis: Axis) -> tuple[int, int]:
        first, count = self.low(axis), self.extent(axis)
        assert isinstance(first, int)
        assert isinstance(count, int)
        return first, count


@dataclass(slots=True)
class Windows:
    """Writes the kernel."""

    name: str
    result: Stored
    row: Axis
    schedule: WindowSchedule
    lowering: WindowLowering

    def write(self) -> Written:
        result, lowering, builder = self.result, self.lowering, self.lowering.builder
        env: dict[Axis, Operand] = {axis: lowering.coordinate(axis) for axis in result.axes}
        lanes = self._lanes()
        guard = builder.both(*(f"{env[axis]}.valid" for axis in lanes))
        first = f"{env[self.row]}.first"
        buffer = ""
        for i in range(self.schedule.rows):
            at = lowering.shifted(first, i)
            lowering.rows[at] = lowering.exists(self.row, at)
        rows = dict(lowering.rows)
        for at in rows:
            lowering.value(result.form, {**env, self.row: at}, guard)
        lowering.again(guard)
        for at, exists in rows.items():
            here = {**env, self.row: at}
            value = lowering.value(result.form, here, guard)
            index = tuple(lowering.offset(axis, here[axis]) for axis in result.axes)
            mask = builder.both(guard, exists)
            if buffer:
                builder.store(buffer, index, value.value, mask)
            else:
                buffer = store_result(builder, result, index, value, mask, False)
        kernel = self._kernel(env, lanes)
        numbers = {number: form for form, number in lowering.numbers.items()}
        tensors = {name: (form, there) for name, form, there in lowering.read}
        return Written.of(prune(kernel), numbers, tensors | {buffer: (result.form, False)})

    def _kernel(self, env: Env, lanes: Mapping[Axis, int]) -> Kernel:
        lowering, builder = self.lowering, self.lowering.builder
        tiles = {**lanes, self.row: self.schedule.rows}
        grid = tuple(
            Grid(str(env[axis]), lowering.low(axis), lowering.extent(axis), tiles.get(axis, 1))
            for axis in self.result.axes
        )
        return Kernel(
            builder.name(self.name),
            builder.real,
            tuple(builder.sizes),
            tuple(builder.buffers),
            grid,
            (),
            tuple(str(env[axis]) for axis in lanes),
            tuple(builder.blocks[0].statements),
        )

    def _lanes(self) -> dict[Axis, int]:
        """A run of neighbours along the last axis; the rest along others but for the row's, and but for those
        of parameters: then a weight is one number for all lanes, and takes no register of a thread."""
        weights = {
            axis
            for form in inside(self.result.form, self.lowering.stored)
            if isinstance(form, Leaf) and form.role == "parameter"
            for axis in form.axes
        }
        last, *others = (axis for axis in reversed(self.result.axes) if axis != self.row)
        room, found = self.schedule.lanes, dict[Axis, int]()
        for axis in (last, *(axis for axis in others if axis not in weights)):
            count, most = (
                constant_value(size(axis), self.lowering.known),
                room if found else self.schedule.run,
            )
            tile = most if count is None else min(most, 1 << max(count - 1, 0).bit_length())
            if tile > 1:
                found[axis] = tile
                room //= tile
        return {axis: found[axis] for axis in self.result.axes if axis in found}
