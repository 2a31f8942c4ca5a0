"""A planned program and its sizes -> an Executable: kernels written, built, and wired by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..compiler.interpret import evaluate
from ..compiler.kernel import Kernel, RealType
from ..compiler.memory import operands_of
from ..compiler.partial import DTYPES, Partial
from ..compiler.pipeline import Planned, plan_program, shape_forms, write_kernels
from ..compiler.plan import Group, Stored
from ..compiler.schedule import Schedule, StreamSchedule
from ..compiler.target import CpuTarget, this_cpu
from ..compiler.written import Written
from ..dsl.program import Axis, Form, Item, Leaf, Program, walk
from ..dsl.size_forms import evaluate_size
from . import triton_build
from .cpp.produce import build as build_cpp
from .executable import Built, Call, Executable, Result, Slot, ground, packs_of, shape_of

CPU_LOOPS, GPU_LOOPS = 1, 256
GPU_LANES, GPU_KEYS = 64, 64


def schedule_for(backend: str, target: CpuTarget, real: RealType) -> Schedule:
    """The numbers of a machine. Chunks of 64 keys in float64 would spill on a GPU."""
    if backend == "cpp":
        return Schedule(CPU_LOOPS, StreamSchedule(target.tile, target.run, False))
    keys = GPU_KEYS // 2 if real == "float64" else GPU_KEYS
    return Schedule(GPU_LOOPS, StreamSchedule(GPU_LANES, keys, True))


@dataclass(slots=True)
class Reference:
    """A step that the interpreter runs: one form on stored values."""

    name: str
    reason: str
    stored: Stored
    reads: dict[Form, Stored | None]

    def __call__(self, tensors: Mapping[str, Tensor], sizes: Mapping[Axis, int]) -> dict[str, Tensor]:
        given: dict[Form, Partial] = {}
        for form, stored in self.reads.items():
            given[form] = _partial(form, stored, tensors)
        values: dict[Form, Partial] = {}

        def operands(form: Form) -> tuple[Form, ...]:
            return () if form in given else operands_of(form)

        for form in walk((self.stored.form,), operands):
            if form in given:
                values[form] = given[form]
            else:
                values[form] = evaluate(form, tuple(values[each] for each in operands_of(form)), dict(sizes))
        return _tensors(self.stored, values[self.stored.form], tensors)


def _partial(form: Form, stored: Stored | None, tensors: Mapping[str, Tensor]) -> Partial:
    if stored is None:
        assert isinstance(form, Leaf)
        return Partial(form.over, tensors[form.name].to(DTYPES[form.kind]))
    data = tensors[stored.name].to(DTYPES[form.kind])
    return Partial(stored.axes, data, tensors[f"{stored.name}?"] if stored.presence else None)


def _tensors(stored: Stored, value: Partial, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    smooth = (t.dtype for t in tensors.values() if t.is_floating_point() or t.is_complex())
    real = next(smooth, torch.float32).to_real()
    narrowed = {torch.float64: real, torch.complex128: real.to_complex()}
    order = [value.axes.index(axis) for axis in stored.axes]
    data = value.data.permute(order).contiguous()
    made = {stored.name: data.to(narrowed.get(data.dtype, data.dtype))}
    if stored.presence:
        there = value.present if value.present is not None else torch.ones_like(data, dtype=torch.bool)
        made[f"{stored.name}?"] = there.permute(order) if value.present is not None else there
    return made


@dataclass(slots=True)
class Assembler:
    """One program with explicit batch axes, for one backend and real type."""

    program: Program
    backend: str
    real: RealType
    target: CpuTarget = field(default_factory=this_cpu)
    _planned: Planned | None = field(default=None, repr=False)

    @property
    def planned(self) -> Planned:
        if self._planned is None:
            self._planned = plan_program(self.program)
        return self._planned

    def shape_forms(self) -> tuple[Form, ...]:
        return tuple(ground(form) for form in shape_forms(self.planned))

    @staticmethod
    def evaluate(forms: tuple[Form, ...], sizes: Mapping[Axis, int]) -> tuple[int, ...]:
        return tuple(evaluate_size(form, sizes) for form in forms)

    def written(self, sizes: Mapping[Axis, int]) -> dict[str, Written]:
        """The kernels for these sizes."""
        axes = self.planned.shape_axes
        known = dict(zip(axes, self.evaluate(self.shape_forms(), sizes), strict=True))
        return write_kernels(
            self.planned, known, self.real, schedule_for(self.backend, self.target, self.real)
        )

    def executable(self, sizes: Mapping[Axis, int], large: bool) -> Executable:
        """Write and build the kernels. Raises MissingCompiler."""
        written = self.written(sizes)
        stored = {group.result.form: group.result for group in self.planned.plan.groups}
        built = self._built([made.kernel for made in written.values()], large)
        kernels = dict(zip(written, built, strict=True))
        steps: list[Call | Reference] = []
        for group in self.planned.plan.groups:
            name = group.result.name
            if name in written:
                steps.append(self._call(kernels[name], written[name], stored))
            else:
                steps.append(self._reference(group, stored))
        program = self.planned.program
        layouts = {each.leaf: each.items for each in program.buffers}
        outputs = [_result(output.name, stored[output.value], output.items) for output in program.outputs]
        outputs += [
            _result(f"update:{u.buffer.name}", stored[u.value], layouts[u.buffer]) for u in program.updates
        ]
        axes = tuple(sizes)
        return Executable(tuple(self._slots()), tuple(steps), tuple(outputs), axes)

    def _built(self, kernels: Sequence[Kernel], large: bool) -> Sequence[Built]:
        if self.backend == "triton":
            return [triton_build()(kernel) for kernel in kernels]
        return build_cpp(kernels, self.target.widened() if large else self.target)

    def _call(self, built: Built, made: Written, stored: Mapping[Form, Stored]) -> Call:
        names: list[str] = []
        for buffer, (form, presence) in zip(made.kernel.buffers, made.tensors, strict=True):
            name = form.name if isinstance(form, Leaf) and buffer.role == "in" else stored[form].name
            names.append(f"{name}?" if presence else name)
        return Call(built, tuple(names), tuple(ground(form) for form in made.numbers))

    def _reference(self, group: Group, stored: Mapping[Form, Stored]) -> Reference:
        reads: dict[Form, Stored | None] = {}

        def operands(form: Form) -> tuple[Form, ...]:
            return () if form in stored and form != group.result.form else operands_of(form)

        for form in walk((group.result.form,), operands):
            if form != group.result.form and (form in stored or isinstance(form, Leaf)):
                reads[form] = None if isinstance(form, Leaf) else stored[form]
        return Reference(group.result.name, group.reason, group.result, reads)

    def _slots(self) -> list[Slot]:
        program = self.planned.program
        slots = [
            Slot(d.leaf.name, d.leaf.declared, shape_of(d.leaf.over), packs_of(d.items), True)
            for d in program.declarations
        ]
        for group in self.planned.plan.groups:
            result = group.result
            shape, plain = shape_of(result.axes), (1,) * len(result.axes)
            slots.append(Slot(result.name, result.form.kind, shape, plain, False))
            if result.presence:
                slots.append(Slot(f"{result.name}?", "bool", shape, plain, False))
        return slots


def _result(name: str, stored: Stored, items: tuple[Item, ...]) -> Result:
    """An output of a stored value in the layout of its declaration."""
    order = tuple(stored.axes.index(axis) for item in items for axis in item)
    return Result(name, stored.name, order, packs_of(items))
