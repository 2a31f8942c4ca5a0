"""The plain schedule: one run of the kernel for every element of the result, reductions as loops.

It is right for every group without scans and library forms, and makes no use of sharing between
neighbours. On a GPU the last axis lies in lanes.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dsl.program import Axis, Form
from .kernel import Grid, Kernel, Operand, RealType
from .kernel_builder import Builder
from .lower import Lowering
from .plan import Stored
from .prune import prune
from .written import Written


def loops_kernel(
    name: str,
    result: Stored,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    tile: int,
) -> Written:
    """The kernel of a group. `tile` lanes lie along the last axis of the result (1: none)."""
    builder = Builder(real)
    others = {form: each for form, each in stored.items() if form != result.form}
    lowering = Lowering(builder, known, others)
    env: dict[Axis, Operand] = {axis: lowering.coordinate(axis) for axis in result.axes}
    tiles = [1] * len(result.axes)
    if tiles:
        tiles[-1] = tile
    grid = tuple(
        Grid(str(env[axis]), lowering.low(axis), lowering.extent(axis), width)
        for axis, width in zip(result.axes, tiles, strict=True)
    )
    lanes = tuple(axis.name for axis in grid if axis.tile > 1)
    guard = builder.both(*(f"{name}.valid" for name in lanes))
    value = lowering.value(result.form, env, guard)
    index = tuple(lowering.offset(axis, env[axis]) for axis in result.axes)
    out = builder.buffer(result.name, len(result.axes), result.form.kind, "out")
    builder.store(out, index, value.value, guard)
    outs = [(out, result.form, False)]
    if result.presence:
        there = builder.buffer(f"{result.name}_there", len(result.axes), "bool", "out")
        builder.store(there, index, value.present, guard)
        outs.append((there, result.form, True))
    kernel = Kernel(
        builder.name(name),
        real,
        tuple(builder.sizes),
        tuple(builder.buffers),
        grid,
        (),
        lanes,
        tuple(builder.blocks[0].statements),
    )
    numbers = {number: form for form, number in lowering.numbers.items()}
    tensors = {buffer: (form, there) for buffer, form, there in (*lowering.read, *outs)}
    return Written.of(prune(kernel), numbers, tensors)
