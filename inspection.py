"""Seeing through a compiled program: its kernels, graph and report, and compilation for other machines.

`runtime` opens this module on demand: it brings the whole compiler with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch.fx import GraphModule

from . import backends
from .backends.assemble import Assembler
from .backends.compiled import Compiled as Runner
from .backends.cpp.rates import this_machine
from .backends.executable import Built, Call, Executable
from .backends.kernel_graph import kernel_graph
from .backends.precision import STORED, Precision, uniform
from .backends.workspace import LEAST, SHARE, Workspace, workspace
from .compiler.algorithms.hoist import hoist
from .compiler.fusion.work import word_of
from .compiler.gradient.derive import gradient
from .compiler.kernels.kernel import Kernel
from .compiler.report.cost import Machine
from .compiler.report.explain import Report, explain
from .compiler.report.room import Divided, Room
from .compiler.schedules.phasing import Phasing
from .compiler.schedules.target import GPUS, GpuTarget
from .dsl.mistakes import InvalidArgument, InvalidSize, MissingCompiler
from .dsl.program import BATCH, Axis, Program
from .dsl.proofs.check import findings
from .dsl.shapes.sizes import Binder, expand_batch

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
    executable = assembler.executable(sizes) if example or runner.last is None else runner.last.executable
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


def report(runner: Runner, shapes: Mapping[str, Sequence[int]] | None = None) -> Report:
    """What `explain()` gives: for these shapes of tensors by name, else those of the last call. Raises
    what binding sizes raises."""
    assembler, sizes, example = _assembled(runner) if shapes is None else _shaped(runner, shapes)
    written = assembler.written(sizes)
    phases = assembler.phasing(written)
    return explain(
        assembler.planned,
        written,
        None if example else dict(sizes),
        phases=phases,
        machine=_machine(assembler.backend),
        room=None if example else room_of(assembler, phases, sizes),
        remarks=_remarks(runner, assembler),
        aside=tuple(_aside(runner, example)),
    )


def _aside(runner: Runner, example: bool) -> Iterator[str]:
    """What a report is of, where it is not what calls run."""
    if runner.backend == "reference":
        yield 'backend="reference": calls run the interpreter; these are the kernels of the C++ backend'
    if example:
        yield "not called yet: sizes that shape the code are examples"


def room_of(assembler: Assembler, phases: Phasing, sizes: Mapping[Axis, int]) -> Room:
    """What a call of these sizes keeps between its kernels."""
    executable = assembler.outline(phases, sizes)
    values = executable.measure(sizes)
    shapes = {slot.name: [values[form] for form in slot.shape] for slot in executable.slots}
    results = {result.slot: result.name for result in executable.outputs}
    bytes_ = {slot.name: prod(shapes[slot.name]) * slot.dtype.itemsize for slot in executable.slots}
    outside = [slot.name for slot in executable.slots if slot.given or slot.name in results]
    inside = tuple(slot.name for slot in executable.slots if slot.name not in outside)
    given, apart = (sum(bytes_[name] for name in names) for names in (outside, inside))
    most = max(LEAST, int(given * SHARE))
    found = workspace(executable, sizes, shapes)
    if found is None:
        kept = "" if executable.portable else "a reference operation takes whole values"
        return Room(given, inside, apart, undivided=kept if apart > most else "")
    whole = Workspace(executable, sizes).bytes
    parts = tuple(
        Divided(word_of(cut.axis), size, step, tuple(results[name] for name in sorted(cut.sums)))
        for cut, size, step in found.cuts
    )
    why = "" if parts or whole <= most else _whole(assembler, executable)
    return Room(given, inside, apart, whole, found.bytes, most, parts, why)


def _whole(assembler: Assembler, executable: Executable) -> str:
    """Why a call does not run in parts whose values between kernels ask for it."""
    if executable.cuts:
        return (
            "parts along "
            + ", ".join(word_of(each.axis) for each in executable.cuts)
            + " would save no memory"
        )
    if assembler.planned.cuts:
        return "what adds up over them is rounded, or their size is compiled in"
    return "every axis of the call is reduced, moved or counted by some value"


def _remarks(runner: Runner, assembler: Assembler) -> list[str]:
    """What is known of calls beside their kernels: what torch does in them, and what is checked. Derived
    programs are total by construction."""
    program = runner.program
    copied = [
        f"laid out: torch copies `{name}`, because {reason}" for name, reason in assembler.copies().items()
    ]
    typed = [(each.leaf.name, each.leaf.ranges_over) for each in program.declarations]
    indices = [
        f"checked at every call: that `{name}` holds indices of {axis.name}"
        for name, axis in typed
        if axis is not None
    ]
    open_ = () if runner.derived else findings(program)
    checked = [f"checked once per sizes: {finding}" for finding in open_]
    return [*_rounded(assembler.precision), *copied, *indices, *_still(program), *checked]


def _rounded(types: Precision) -> Iterator[str]:
    """Which tensors lie in another type than kernels compute in."""
    parts: list[str] = []
    for pairs, words in (
        (types.given, "widened as they are loaded"),
        (types.made, "rounded as they are stored"),
    ):
        narrow: dict[str, list[str]] = {}
        for name, real in pairs:
            narrow.setdefault(real, []).append(f"`{name}`")
        parts += [f"{', '.join(names)} of {real} {words}" for real, names in narrow.items()]
    if parts:
        yield f"precision: computed in {types.computed}; {'; '.join(parts)}"


def _still(program: Program) -> Iterator[str]:
    """What a module computes from its weights alone."""
    found = hoist(program)
    if found is None:
        return
    names = {form: name for name, form in program.names}
    yield from (f"deployed in eval mode: {words}" for words in found.words)
    for output in found.weights.outputs:
        axes = ", ".join(axis.name for axis in output.value.axes)
        value = f"{names.get(output.value, output.name)}[{axes}]"
        yield f"hoisted: `{value}` is made of weights only; without gradients a module computes it once a weight update"


def _shaped(
    runner: Runner, shapes: Mapping[str, Sequence[int]]
) -> tuple[Assembler, Mapping[Axis, int], bool]:
    """The assembler and the sizes of a call with tensors of these shapes."""
    program = runner.program
    batch, sizes = _bound(program, shapes)
    backend = "triton" if runner.backend == "triton" else "cpp"
    types = uniform(program, runner.dtype or torch.float32)
    return runner.assembler_at(batch, backend, types, sizes), sizes, False


def _bound(program: Program, shapes: Mapping[str, Sequence[int]]) -> tuple[int, dict[Axis, int]]:
    """The number of batch dimensions and the size of every axis. Raises InvalidSize where a shape that is
    left out decides one, and whatever binding raises."""
    bound = Binder(program).bind({name: tuple(shape) for name, shape in shapes.items()})
    batch = bound.pop(BATCH, ())
    assert isinstance(batch, tuple)
    sizes = {axis: extent for axis, extent in bound.items() if isinstance(extent, int)}
    return len(batch), sizes | {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}


def _machine(backend: str) -> Machine | None:
    """The figures that bound a backend's time: those of this CPU, or of a GPU's maker. None where there is
    nothing to measure with."""
    if backend == "triton":
        return gpu_machine(GPUS[this_gpu()])
    try:
        return this_machine()
    except MissingCompiler:
        return None


EXAMPLE_GPU = "sm_90"
"""The GPU that a report of Triton kernels is for where there is none, or one that plait has no record of."""


def this_gpu() -> str:
    """The record of the GPU of this machine, or the example."""
    if not torch.cuda.is_available():
        return EXAMPLE_GPU
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}" if f"sm_{major}{minor}" in GPUS else EXAMPLE_GPU


def gpu_machine(target: GpuTarget) -> Machine:
    """The maker's figures. A special function takes four times a multiply-add's lane (CUDA C++ programming
    guide, throughput of native arithmetic: 16 of 64 to 128 results a clock)."""
    products = target.float32_rate / 2
    return Machine(target.device, products, target.bytes_rate, products / 8)


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
    batch, sizes = _bound(program, shapes)
    expanded = expand_batch(program, batch)
    written = Assembler(expanded, "triton", uniform(expanded, dtype or torch.float32)).written(sizes)
    return backends.triton_reports([each.kernel for each in written.values()], target)


def _declares(program: Program, name: str) -> bool:
    return any(declaration.leaf.name == name for declaration in program.declarations)
