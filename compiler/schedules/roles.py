"""The roles that the axes of a group take in its tile kernel.

    resident   reduced axes whose size is compiled in and not too long: whole in every tile, so that what
               is computed over them (a normalised token, hidden units) is there for all that reads it.
               An axis of the result that is also reduced stays with them
    outputs    axes of the result that only the weights of a contraction have: they run past the tile
    lanes      what lies in the vectors: the last axes of the result that are left
    grid       every other axis of the result, one coordinate a tile

Reduced axes that are not resident are streamed in chunks. Where the result has no axis for the lanes, or
none that lies side by side in memory where a reduced one does (a mean over images, the gradient of a
depthwise weight), the last streamed axes lie in the lanes: `across`, with the reduction that streams them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import gcd, prod

from ...dsl.constructors.build import size
from ...dsl.program import At, Axis, Form, Reduce
from ...dsl.shapes.size_forms import is_batch
from ..fusion.contraction import (
    MOST_TAPS,
    Constant,
    Contraction,
    contraction,
    epilogue,
    far,
    inside,
    is_product,
    neighbours,
    reduced_axes,
)
from ..fusion.plan import Stored
from .lower import constant_value
from .reductions import CHUNKED
from .schedule import TileSchedule

SHORT = 4
"""An axis of fewer entries leaves vectors empty: it lies in the lanes only if nothing else does."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Tiles of the axes of a result; `rows` are outputs that lie in the grid. `resident` are reduced
    axes; those of the result that are resident are in `kept`."""

    lanes: Mapping[Axis, int]
    outputs: Mapping[Axis, int]
    rows: Mapping[Axis, int]
    kept: tuple[Axis, ...]
    resident: frozenset[Axis]
    across: Mapping[Axis, int] = field(default_factory=dict[Axis, int])
    streaming: Reduce | None = None


def extent(axis: Axis, known: Mapping[Axis, int]) -> int | None:
    """The size of an axis where it is compiled in."""
    found = known.get(axis)
    return found if found is not None else constant_value(size(axis), known)


def choose_roles(
    result: Stored,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    schedule: TileSchedule,
    alone: bool = True,
) -> Roles:
    """The roles of the axes of a group; `stored` are the values that other groups make. One that is not `alone`
    has further results, and none of their reductions lies across the lanes."""
    forms = inside(result.form, stored)
    sums = [each for each in forms if isinstance(each, Reduce)]
    resident = frozenset(axis for each in sums for axis in _resident(each, stored, known, schedule))
    kept = tuple(axis for axis in result.axes if axis in resident)
    order = tuple(axis for axis in result.axes if axis not in kept)
    found = (contraction(each, stored) for each in epilogue(result.form) if each not in stored)
    contractions = [each for each in found if each is not None]
    constant = partial(constant_value, known=known) if schedule.streamed_outputs else None
    rows = [each.rows(order, constant) for each in contractions]
    outputs = tuple(axis for axis in order if any(axis in each for each in rows))
    if all(axis in outputs for axis in order):
        outputs = outputs[:-1]
    left = tuple(axis for axis in order if axis not in outputs)
    if schedule.alone and not outputs and not resident and _one_by_one(sums, known, schedule):
        lanes = _spread(left, known, schedule.alone)
    else:
        own = _own(left, contractions) if outputs else _near(left, forms)
        run = _run(forms, schedule)
        lanes = _lanes(own, known, _width(sums, known, resident, schedule), run, run == schedule.run)
        lanes = _even(lanes, known, schedule) if outputs else lanes
    across = None if outputs or not alone else _across(sums, stored, known, resident, tuple(lanes), schedule)
    if across is not None:
        taps = _taps(order, forms, tuple(across.across), known) if schedule.halo else ()
        return replace(across, kept=(*kept, *taps), resident=resident)
    if left and not lanes:
        lanes = _lanes(left, known, schedule.width, schedule.run)
    tiles = _outputs(outputs, known, schedule) | _blocks(outputs[-1:], contractions, constant)
    streamed = schedule.streamed_outputs and all(set(each.over) <= resident for each in contractions)
    return Roles(lanes, tiles if streamed else {}, {} if streamed else tiles, kept, resident)


def token_roles(
    results: Sequence[Stored],
    grid: tuple[Axis, ...],
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    schedule: TileSchedule,
) -> Roles:
    """The roles of the axes of a cluster of tokens: all but those of the grid are resident."""
    forms = tuple(dict.fromkeys(form for each in results for form in inside(each.form, stored)))
    sums = [each for each in forms if isinstance(each, Reduce)]
    resident = frozenset(axis for each in sums for axis in _resident(each, stored, known, schedule))
    kept = tuple(dict.fromkeys(axis for each in results for axis in each.axes if axis not in grid))
    run = _run(forms, schedule)
    lanes = _lanes(grid, known, _width(sums, known, resident, schedule), run, run == schedule.run)
    return Roles(lanes, {}, {}, kept, resident)


def _own(axes: tuple[Axis, ...], contractions: Sequence[Contraction]) -> tuple[Axis, ...]:
    """Those axes that some side of a contraction lacks, if there are any: in a lane of any other one both sides
    would have entries of their own, and nothing would be read once for all lanes."""
    shared = {
        axis
        for each in contractions
        for axis in axes
        if all(axis in factor.form.axes for factor in each.factors)
    }
    return tuple(axis for axis in axes if axis not in shared) or axes


def _near(axes: tuple[Axis, ...], forms: Sequence[Form]) -> tuple[Axis, ...]:
    """Those axes along which nothing is read at steps as long as a size of the call, as the parts of an axis are."""
    indices = (index for form in forms if isinstance(form, At) for _, index in form.indices)
    apart = {axis for index in indices if index.kind == "int" for axis in far(index)}
    return tuple(axis for axis in axes if axis not in apart)


def _across(
    sums: list[Reduce],
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    resident: frozenset[Axis],
    lanes: tuple[Axis, ...],
    schedule: TileSchedule,
) -> Roles | None:
    """Roles with the streamed axes of the one reduction in the lanes, where that reads memory better."""
    sums = [each for each in sums if each.op != "count"]
    if len(sums) != 1 or len(sums[0].pieces) != 1 or sums[0].op not in CHUNKED:
        return None
    (piece,) = sums[0].pieces
    streamed = tuple(axis for axis in piece.axes if axis not in resident)
    beside = neighbours(piece.value, stored)
    fits = bool(lanes) and (extent(lanes[-1], known) or schedule.run) >= schedule.run
    if not streamed or (lanes and (not beside & set(streamed) or (fits and lanes[-1] in beside))):
        return None
    last = tuple(axis for axis in streamed if axis in beside)[-1:]
    order = (*(axis for axis in streamed if axis not in last), *last)
    return Roles(
        {},
        {},
        {},
        (),
        resident,
        _lanes(order, known, schedule.across or schedule.width, schedule.run),
        sums[0],
    )


def _taps(
    order: tuple[Axis, ...], forms: Sequence[Form], lanes: tuple[Axis, ...], known: Mapping[Axis, int]
) -> tuple[Axis, ...]:
    """The axes of the result by which something is read at places that the lanes move: the taps of a stencil whose
    weights' gradient this is. A chunk of the image is read with its halo once for all of them, as many as fit."""
    indices = [set(index.axes) for form in forms if isinstance(form, At) for _, index in form.indices]
    room, found = MOST_TAPS, list[Axis]()
    for axis in reversed(order):
        count = extent(axis, known)
        moved = any(axis in axes and axes & set(lanes) for axes in indices)
        if moved and count is not None and constant_low(axis, known) and 0 < count <= room:
            found.insert(0, axis)
            room //= count
    return tuple(found)


def _resident(
    form: Reduce, stored: Collection[Form], known: Mapping[Axis, int], schedule: TileSchedule
) -> list[Axis]:
    """The reduced axes of a form that stay: whole windows before channels, as many as there is room."""
    if form.op == "argmax" or (not schedule.streamed_outputs and is_product(form, stored)):
        return []
    sizes = {axis: extent(axis, known) for axis in reduced_axes(form)}
    chosen: list[Axis] = []
    room = schedule.resident
    for axis, count in sorted(sizes.items(), key=lambda item: item[1] or 0):
        if count is not None and constant_low(axis, known) and count <= room:
            chosen.append(axis)
            room //= max(count, 1)
    return chosen


def constant_low(axis: Axis, known: Mapping[Axis, int]) -> bool:
    return axis.lo is None or constant_value(axis.lo, known) is not None


def _width(
    sums: list[Reduce], known: Mapping[Axis, int], resident: frozenset[Axis], schedule: TileSchedule
) -> int:
    """Lanes a tile: fewer where a contraction keeps much a lane, or where a block would be too large."""
    most = 1
    for form in sums:
        if contraction(form, {}) is not None:
            depth = 1
            for axis in reduced_axes(form):
                depth *= (extent(axis, known) or 1) if axis in resident else 1
            most = max(most, depth)
    block = 1
    for form in sums:
        sizes = [extent(axis, known) or 1 for axis in reduced_axes(form) if axis in resident]
        block = max(block, prod(1 << (size - 1).bit_length() for size in sizes))
    width = schedule.width
    while width > schedule.least_width and 0 < schedule.block < block * width:
        width //= 2
    while width > schedule.least_width and 0 < schedule.depth * schedule.width < most * width:
        width //= 2
    return width


def _run(forms: Sequence[Form], schedule: TileSchedule) -> int:
    """Neighbours along the last of two lane axes: fewer where there are windows, for a small halo."""
    indices = (index for form in forms if isinstance(form, At) for _, index in form.indices)
    return schedule.window_run if any(len(index.axes) > 1 for index in indices) else schedule.run


def _one_by_one(sums: Sequence[Reduce], known: Mapping[Axis, int], schedule: TileSchedule) -> bool:
    """Whether all entries that reductions take are streamed one by one."""
    sizes = [extent(axis, known) for form in sums for axis in reduced_axes(form)]
    return all(count is not None and count <= schedule.taps for count in sizes)


def _lanes(
    order: tuple[Axis, ...], known: Mapping[Axis, int], width: int, run: int, filling: bool = False
) -> dict[Axis, int]:
    """The last axes, without batch axes and short ones where there are others; a run of neighbours
    along the last, the rest of the tile along the one before it. `filling`: a last axis that is known to
    have enough entries fills the tile, since the one before it may have only one."""
    long = [axis for axis in order if (extent(axis, known) or SHORT) >= SHORT]
    own = [axis for axis in long if not is_batch(axis)]
    found = own or long or list(order)
    if not found:
        return {}
    if len(found) == 1 or width <= run or (filling and (extent(found[-1], known) or 0) >= width):
        return {found[-1]: width}
    return {found[-2]: width // run, found[-1]: run}


def _even(lanes: dict[Axis, int], known: Mapping[Axis, int], schedule: TileSchedule) -> dict[Axis, int]:
    """Lanes along one axis of known size in tiles that are all as full, in whole vectors, where a tile need be no
    power of two."""
    if len(lanes) != 1 or not schedule.streamed_outputs:
        return lanes
    ((axis, width),) = lanes.items()
    count, vector = extent(axis, known), schedule.window_run
    if not count:
        return lanes
    return {axis: vector * -(-count // (vector * -(-count // width)))}


LAST, BEFORE = 32, 8
"""Neighbours of one lane that computes by itself: along the last axis, and along the one before it."""


def _spread(order: tuple[Axis, ...], known: Mapping[Axis, int], width: int) -> dict[Axis, int]:
    """Lanes along the last axes, no more along one than it has entries, so that short axes fill them."""
    tiles: dict[Axis, int] = {}
    for most, axis in zip((LAST, BEFORE, *(width for _ in order)), reversed(order), strict=False):
        count = extent(axis, known)
        tile = min(width, most, width if count is None else 1 << max(count - 1, 0).bit_length())
        if tile > 1 or not tiles:
            tiles[axis] = tile
            width //= tile
    return dict(reversed(tiles.items()))


def _blocks(
    axes: tuple[Axis, ...], contractions: Sequence[Contraction], constant: Constant | None
) -> dict[Axis, int]:
    """The tiles of outputs that something reads by groups: no tile reaches into two."""
    found = [each.blocks(constant) for each in contractions] if constant is not None else []
    sizes = {axis: [each[axis] for each in found if axis in each] for axis in axes}
    return {axis: gcd(*each) for axis, each in sizes.items() if each}


def _outputs(axes: tuple[Axis, ...], known: Mapping[Axis, int], schedule: TileSchedule) -> dict[Axis, int]:
    """The last of the outputs in equal runs of at most the schedule's, others one by one."""
    tiles = dict.fromkeys(axes, 1)
    if axes:
        count = extent(axes[-1], known)
        runs = -(-count // schedule.outputs) if count else 1
        tiles[axes[-1]] = -(-count // runs) if count else schedule.outputs
    return tiles
