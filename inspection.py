"""Seeing through a compiled program: its kernels, graph and report, and compilation for other machines.

`runtime` opens this module on demand: it brings the whole compiler with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from . import backends
from .backends.assemble import Assembler
from .backends.compiled import Compiled as Runner
from .backends.executable import Built, Call
from .backends.kernel_graph import kernel_graph
from .backends.precision import STORED, uniform
from .compiler.derive import gradient
from .compiler.explain import Report, explain
from .compiler.kernel import Kernel
from .dsl.check import check
from .dsl.mistakes import InvalidArgument, InvalidSize
from .dsl.program import BATCH, Axis, Program
from .dsl.sizes import Binder, expand_batch

EXAMPLE_SIZE = 64
"""The size that a report takes for an axis whose size shapes the code before anything was called."""


def _assembled(runner: Runner) -> tuple[Assembler, Mapping[Axis, int], bool]:
    """The assembler and the sizes of the last call, or of an example."""
    prepared = runner.last
    if prepared is not None:
        return runner.assembler_of(prepared), prepared.sizes, False
    program = runner.program
    batch = 1 if any(axis == BATCH for d in program.declarations for axis in d.leaf.over) else 0
    backend = (
        "cpp" if runner.backend in (None, "reference") else "triton" if runner.backend == "triton" else "cpp"
    )
    types = uniform(program, runner.dtype or torch.float32)
    assembler = runner.assembler(batch, backend, types)
    fixed = dict(program.fixed)
    axes = {axis for d in assembler.program.declarations for axis in d.leaf.over if axis.size is None}
    return assembler, {axis: fixed.get(axis, EXAMPLE_SIZE) for axis in axes}, True


def kernels(runner: Runner) -> tuple[Built, ...]:
    """The built kernels of the last call, or those for example sizes."""
    assembler, sizes, example = _assembled(runner)
    executable = (
        assembler.executable(sizes, False) if example or runner.last is None else runner.last.executable
    )
    return tuple(step.built for step in executable.steps if isinstance(step, Call))


def tile_programs(runner: Runner) -> tuple[Kernel, ...]:
    """The same in the Kernel language."""
    assembler, sizes, _ = _assembled(runner)
    return tuple(written.kernel for written in assembler.written(sizes).values())


def graph(runner: Runner) -> GraphModule:
    """The graph of the last call. Raises InvalidArgument where there was none."""
    prepared = runner.last
    if prepared is None:
        raise InvalidArgument(
            "the graph of kernels is that of a call, and nothing was called yet",
            helps=["call it once, then ask"],
        )
    return kernel_graph(
        prepared.executable, prepared.shapes, prepared.numbers, prepared.sizes, prepared.device
    )


def report(runner: Runner) -> Report:
    """What `explain()` gives."""
    assembler, sizes, example = _assembled(runner)
    made = {name: written.kernel for name, written in assembler.written(sizes).items()}
    opened = [str(finding) for finding in check(runner.program)]
    return explain(assembler.planned, made, None if example else dict(sizes), opened, example)


def aot(
    program: Program,
    target: str,
    shapes: Mapping[str, Sequence[int]],
    dtype: torch.dtype | None,
    backward: bool,
) -> list[Any]:
    """One KernelReport a kernel. Raises InvalidSize where a shape is missing."""
    if backward:
        program = gradient(program, None)
        outputs = {f"cot.{name}": shape for name, shape in shapes.items() if f"cot.{name}" not in shapes}
        shapes = {**shapes, **{name: shape for name, shape in outputs.items() if _declares(program, name)}}
    if (dtype or torch.float32) not in STORED:
        raise InvalidArgument(f"kernels are compiled for float32, float64, bfloat16 and float16, not {dtype}")
    missing = [d.leaf.name for d in program.declarations if d.leaf.name not in shapes]
    if missing:
        raise InvalidSize(
            f"ahead of time, `{program.name}` needs the shape of {', '.join(f'`{name}`' for name in missing)}",
            helps=[
                f"in Python `shapes={{{missing[0]!r}: (...), ...}}`, on the command line `--shape {missing[0]}=...`"
            ],
        )
    bound = Binder(program).bind({name: tuple(shape) for name, shape in shapes.items()})
    batch = bound.pop(BATCH, ())
    assert isinstance(batch, tuple)
    sizes = {axis: extent for axis, extent in bound.items() if isinstance(extent, int)}
    sizes |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
    expanded = expand_batch(program, len(batch))
    written = Assembler(expanded, "triton", uniform(expanded, dtype or torch.float32)).written(sizes)
    return backends.triton_reports([each.kernel for each in written.values()], target)


def _declares(program: Program, name: str) -> bool:
    return any(declaration.leaf.name == name for declaration in program.declarations)
