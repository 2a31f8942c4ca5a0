"""What the face's verbs do once there are tensors. `api` opens this module at the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx import GraphModule

from . import backends
from .backends.assemble import Assembler
from .backends.autograd import Differentiable
from .backends.compiled import REALS, BackendName, OnUnfused, Prepared
from .backends.compiled import Compiled as Runner
from .backends.executable import Built, Call
from .backends.kernel_graph import kernel_graph
from .backends.module import make_module
from .compiler.derive import gradient
from .compiler.explain import Report, explain
from .compiler.kernel import Kernel
from .dsl.check import check
from .dsl.mistakes import InvalidArgument, InvalidSize, UnknownArgument
from .dsl.mixer import Mixer
from .dsl.program import BATCH, Axis, Program
from .dsl.sizes import Binder, expand_batch

EXAMPLE_SIZE = 64
"""The size that a report takes for an axis whose size shapes the code before anything was called."""


@dataclass(slots=True)
class Compiled:
    """A compiled program: call it on the program's inputs, in order or by name.

    Parameters, buffers and draws are passed by name. Gradients flow. Raises PlaitError.
    """

    runner: Runner
    _differentiable: Differentiable | None = field(default=None, repr=False)

    @property
    def program(self) -> Program:
        return self.runner.program

    def __call__(self, *tensors: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self._differentiable is None:
            self._differentiable = Differentiable(self.runner)
        results = self._differentiable(self.runner.named(tensors, named))
        outputs = tuple(results[output.name] for output in self.program.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    # --- seeing through it

    def _assembled(self) -> tuple[Assembler, Mapping[Axis, int], bool]:
        """The assembler and the sizes of the last call, or of an example."""
        prepared = self.runner.last
        if prepared is not None:
            return self.runner.assembler_of(prepared), prepared.sizes, False
        batch = 1 if any(axis == BATCH for d in self.program.declarations for axis in d.leaf.over) else 0
        backend = self.runner.backend or "cpp"
        real = REALS.get(self.runner.dtype or torch.float32, "float32")
        assembler = self.runner.assembler(batch, "cpp" if backend == "reference" else backend, real)
        fixed = dict(self.program.fixed)
        axes = {axis for d in assembler.program.declarations for axis in d.leaf.over if axis.size is None}
        return assembler, {axis: fixed.get(axis, EXAMPLE_SIZE) for axis in axes}, True

    @property
    def kernels(self) -> tuple[Built, ...]:
        """The built kernels of the last call, each with name, source, backend; before any call those
        for example sizes."""
        assembler, sizes, _ = self._assembled()
        executable = self.runner.last.executable if self.runner.last else assembler.executable(sizes, False)
        return tuple(step.built for step in executable.steps if isinstance(step, Call))

    @property
    def tile_programs(self) -> tuple[Kernel, ...]:
        """The kernels in the Kernel language, which is what every printer starts from."""
        assembler, sizes, _ = self._assembled()
        return tuple(written.kernel for written in assembler.written(sizes).values())

    @property
    def graph(self) -> GraphModule:
        """The last call as a graph with one node a kernel or reference operation."""
        prepared = self.runner.last
        if prepared is None:
            raise InvalidArgument(
                "the graph of kernels is that of a call, and nothing was called yet",
                helps=["call it once, then ask"],
            )
        return kernel_graph(
            prepared.executable,
            prepared.shapes,
            prepared.numbers,
            prepared.sizes,
            prepared.real,
            prepared.device,
        )

    def explain(self) -> Report:
        """Kernels, operations, bytes, schedule, and what is stored and why."""
        assembler, sizes, example = self._assembled()
        kernels = {name: written.kernel for name, written in assembler.written(sizes).items()}
        opened = [str(finding) for finding in check(self.program)]
        return explain(assembler.planned, kernels, None if example else dict(sizes), opened, example)


def compile(
    program_or_mixer: Program | Mixer,
    *,
    backend: BackendName | None = None,
    dtype: torch.dtype | None = None,
    on_unfused: OnUnfused = "warn",
) -> Compiled:
    """See `api.compile`."""
    return Compiled(Runner(program_of(program_or_mixer), backend, dtype, on_unfused))


def program_of(program_or_mixer: Program | Mixer) -> Program:
    """The program itself, or that of a mixer's defaults."""
    return program_or_mixer if isinstance(program_or_mixer, Program) else program_or_mixer.program()


# --- calls of mixers


_compiled: WeakKeyDictionary[Mixer, dict[int, tuple[Program, Compiled]]] = WeakKeyDictionary()


def call(mixer: Mixer, inputs: Mapping[str, object], given: Mapping[str, object]) -> object:
    """A mixer on tensors: compiled once for its static arguments, then run."""
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise InvalidArgument(
                f"input `{name}` of `{mixer.name}` is a {type(value).__name__}, not a tensor or a value"
            )
    without = [name for name in mixer.inputs if name not in inputs]
    program = mixer.program(without=without, **given)
    owned = [each.leaf.name for each in (*program.parameters, *program.buffers)]
    if owned:
        raise UnknownArgument(
            f"`{mixer.name}` has parameters, and a call has none of them: {', '.join(owned)}",
            helps=[f"use `{mixer.name}.module(...)`, which owns them"],
        )
    known = _compiled.setdefault(mixer, {})
    if id(program) not in known:
        known[id(program)] = (program, Compiled(Runner(program)))
    return known[id(program)][1](**cast("Mapping[str, Tensor]", inputs))


def module(mixer: Mixer, **options: Any) -> torch.nn.Module:
    """See `api.Mixer.module`."""
    return make_module(mixer, **options)


# --- ahead of time


def aot(
    program_or_mixer: Program | Mixer,
    target: str,
    shapes: Mapping[str, Sequence[int]],
    dtype: torch.dtype | None,
    backward: bool,
) -> list[Any]:
    """See `api.aot`."""
    program = program_of(program_or_mixer)
    if backward:
        program = gradient(program, None)
        outputs = {f"cot.{name}": shape for name, shape in shapes.items() if f"cot.{name}" not in shapes}
        shapes = {**shapes, **{name: shape for name, shape in outputs.items() if _declares(program, name)}}
    real = REALS.get(dtype or torch.float32)
    if real is None:
        raise InvalidArgument(f"kernels are compiled for float32 and float64, not {dtype}")
    missing = [d.leaf.name for d in program.declarations if d.leaf.name not in shapes]
    if missing:
        raise InvalidSize(
            f"ahead of time, `{program.name}` needs the shape of {', '.join(f'`{name}`' for name in missing)}",
            helps=[f"shapes={{{missing[0]!r}: (...), ...}}"],
        )
    bound = Binder(program).bind({name: tuple(shape) for name, shape in shapes.items()})
    batch = bound.pop(BATCH, ())
    assert isinstance(batch, tuple)
    sizes = {axis: extent for axis, extent in bound.items() if isinstance(extent, int)}
    sizes |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
    written = Assembler(expand_batch(program, len(batch)), "triton", real).written(sizes)
    return backends.triton_reports([each.kernel for each in written.values()], target)


def _declares(program: Program, name: str) -> bool:
    return any(declaration.leaf.name == name for declaration in program.declarations)


__all__ = ["Compiled", "Prepared", "Report", "aot", "call", "compile", "module", "program_of"]
