"""The plain schedule: one run of the kernel for every element of the result, reductions as loops.

It is right for every group without scans and library forms, and makes no use of sharing between
neighbours. On a GPU the last axes lie in lanes.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...dsl.program import Axis, Form
from ..fusion.plan import Stored
from ..kernels.kernel import Grid, Kernel, Operand, RealType
from ..kernels.kernel_builder import Builder, Tile
from ..kernels.prune import prune
from ..kernels.written import Written
from .lower import Lowering


def loops_kernel(
    name: str,
    result: Stored,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    tile: int,
) -> Written:
    """The kernel of a group. `tile` lanes lie along the last axes of the result (1: none)."""
    builder = Builder(real)
    lowering = Lowering(builder, known, {form: each for form, each in stored.items() if form != result.form})
    env: dict[Axis, Operand] = {axis: lowering.coordinate(axis) for axis in result.axes}
    grid = _grid(lowering, result, env, tile)
    lanes = tuple(axis.name for axis in grid if axis.tile > 1)
    guard = builder.both(*(f"{name}.valid" for name in lanes))
    value = lowering.value(result.form, env, guard)
    index = tuple(lowering.offset(axis, env[axis]) for axis in result.axes)
    outs = [
        (store_result(builder, result, index, value, guard, there), result.form, there)
        for there in stores(result)
    ]
    body = tuple(builder.blocks[0].statements)
    sizes, buffers = tuple(builder.sizes), tuple(builder.buffers)
    kernel = Kernel(builder.name(name), real, sizes, buffers, grid, (), lanes, body)
    numbers = {number: form for form, number in lowering.numbers.items()}
    tensors = {buffer: (form, there) for buffer, form, there in (*lowering.read, *outs)}
    return Written.of(prune(kernel), numbers, tensors)


def spread(count: int, axes: int) -> tuple[int, ...]:
    """A power of two as a product of nearly equal ones, the later axes the larger."""
    exponent = count.bit_length() - 1
    return tuple(2 ** (exponent // axes + (1 if i >= axes - exponent % axes else 0)) for i in range(axes))


MOST_TILED = 3
"""Axes before the last three are taken one by one."""
LAST = 16
"""Neighbours in memory that a tile has along the last axis, where it has lanes along others too."""


def _grid(lowering: Lowering, result: Stored, env: Mapping[Axis, Operand], tile: int) -> tuple[Grid, ...]:
    """The last axes in tiles, so that short ones do not leave the lanes empty; others one by one."""
    tiled = result.axes[-MOST_TILED:]
    last = min(tile, LAST) if len(tiled) > 1 else tile
    before = spread(tile // last, len(tiled) - 1) if len(tiled) > 1 else ()
    tiles = dict(zip(tiled, (*before, last), strict=True)) if tiled else {}
    return tuple(
        Grid(str(env[axis]), lowering.low(axis), lowering.extent(axis), tiles.get(axis, 1))
        for axis in result.axes
    )


def stores(result: Stored) -> tuple[bool, ...]:
    """What is stored of a result: the value, and its presence where that is asked for."""
    return (False, True) if result.presence else (False,)


def store_result(
    builder: Builder, result: Stored, index: tuple[Operand, ...], value: Tile, guard: Operand, there: bool
) -> str:
    """Store a value, or where it is present, and return the buffer."""
    name, kind = (f"{result.name}_there", "bool") if there else (result.name, result.form.kind)
    buffer = builder.buffer(name, len(result.axes), kind, "out")
    builder.store(buffer, index, value.present if there else value.value, guard)
    return buffer
