"""A planned program and its sizes -> an Executable: kernels written, built, and wired by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..compiler.fusion.plan import Group, Stored
from ..compiler.fusion.unfused import pairs_in_memory
from ..compiler.kernels.kernel import Kernel, RealType
from ..compiler.kernels.phases import Phased, check_phases, kernels_of
from ..compiler.kernels.written import Written
from ..compiler.meaning.interpret import evaluate
from ..compiler.meaning.memory import operands_of
from ..compiler.meaning.partial import DTYPES, Partial
from ..compiler.pipeline import Planned, order_costs, plan_program, shape_forms, verifying, write_kernels
from ..compiler.rewrites.cuts import varies
from ..compiler.schedules.phasing import Phasing, Unit, phasing, unit_of
from ..compiler.schedules.schedule import GPU_WINDOWS, Schedule, StreamSchedule, cpu_tiles, gpu_tiles
from ..compiler.schedules.target import CpuTarget, this_cpu
from ..dsl.program import Axis, Form, Item, Leaf, Program, Size, walk
from ..dsl.shapes.size_forms import evaluate_size
from . import triton_build, triton_rounded
from .cpp.produce import build as build_cpp
from .executable import LARGE, Built, Call, Cut, Executable, Result, Slot, ground, packs_of, shape_of
from .one_thread import one_thread
from .precision import DTYPES as TORCH
from .precision import Precision, dtype_of

NOT_BUILT: Any = None
"""What an outline has in place of a built kernel."""

CPU_LOOPS, GPU_LOOPS = 1, 256
GPU_LANES, GPU_KEYS = 64, 64


def schedule_for(backend: str, target: CpuTarget, precision: Precision) -> Schedule:
    """The numbers of a machine. Chunks of 64 keys in float64 would spill on a GPU."""
    real = precision.computed
    if backend == "cpp":
        tiles = cpu_tiles(target.vector_bytes, 8 if real == "float64" else 4)
        return Schedule(CPU_LOOPS, StreamSchedule(target.tile, target.run, False), tiles, phases=True)
    keys = GPU_KEYS // 2 if real == "float64" else GPU_KEYS
    tiles = gpu_tiles(8 if real == "float64" else 4, bool(precision.given))
    return Schedule(GPU_LOOPS, StreamSchedule(GPU_LANES, keys, True), tiles, GPU_WINDOWS)


@dataclass(slots=True)
class Reference:
    """A step that the interpreter runs: one form on stored values. Its reals are made as `real`; `in_order`
    is said to `evaluate`. It runs on one thread of a CPU: torch cuts sums, and the vectors of complex products,
    by the number of threads."""

    name: str
    reason: str
    stored: Stored
    reads: dict[Form, Stored | None]
    real: torch.dtype
    in_order: bool

    def __call__(self, tensors: Mapping[str, Tensor], sizes: Mapping[Axis, int]) -> dict[str, Tensor]:
        with one_thread():
            return self._run(tensors, sizes)

    def _run(self, tensors: Mapping[str, Tensor], sizes: Mapping[Axis, int]) -> dict[str, Tensor]:
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
                below = tuple(values[each] for each in operands_of(form))
                values[form] = evaluate(form, below, dict(sizes), in_order=self.in_order)
        return _tensors(self.stored, values[self.stored.form], self.real)


def _partial(form: Form, stored: Stored | None, tensors: Mapping[str, Tensor]) -> Partial:
    if stored is None:
        assert isinstance(form, Leaf)
        return Partial(form.over, tensors[form.name].to(DTYPES[form.kind]))
    data = tensors[stored.name].to(DTYPES[form.kind])
    return Partial(stored.axes, data, tensors[f"{stored.name}?"] if stored.presence else None)


def _tensors(stored: Stored, value: Partial, real: torch.dtype) -> dict[str, Tensor]:
    order = [value.axes.index(axis) for axis in stored.axes]
    data = value.data.permute(order).contiguous()
    made = {stored.name: data.to(dtype_of(stored.form.kind, real))}
    if stored.presence:
        there = value.present if value.present is not None else torch.ones_like(data, dtype=torch.bool)
        made[f"{stored.name}?"] = there.permute(order) if value.present is not None else there
    return made


@dataclass(slots=True)
class Assembler:
    """One program with explicit batch axes, for one backend and precision. `schedule` and `tune` stand in
    for the numbers of the machine, and for how a backend builds a kernel, where somebody tries others.
    `in_order`: reference operations add in an order that is the same at every call. `orders` are answers to
    `order_costs`: without any, sums of products are as they are written."""

    program: Program
    backend: str
    precision: Precision
    target: CpuTarget = field(default_factory=this_cpu)
    schedule: Schedule | None = None
    tune: Callable[[Kernel], Built] | None = None
    in_order: bool = False
    orders: tuple[int, ...] = ()
    _planned: Planned | None = field(default=None, repr=False)
    _rounded: dict[str, RealType] = field(default_factory=dict[str, "RealType"], repr=False)

    @property
    def planned(self) -> Planned:
        if self._planned is None:
            self._planned = plan_program(self.program, outputs=self.backend == "cpp", orders=self.orders)
        return self._planned

    def shape_forms(self) -> tuple[Form, ...]:
        return tuple(ground(form) for form in shape_forms(self.planned))

    def order_costs(self) -> tuple[tuple[Form, ...], ...]:
        """What each order of each sum of products costs."""
        return tuple(tuple(map(ground, costs)) for costs in order_costs(self.program))

    @staticmethod
    def evaluate(forms: tuple[Form, ...], sizes: Mapping[Axis, int]) -> tuple[int, ...]:
        return tuple(evaluate_size(form, sizes) for form in forms)

    def written(self, sizes: Mapping[Axis, int]) -> dict[str, Written]:
        """The kernels for these sizes, each buffer with the type that it is stored in."""
        axes, real = self.planned.shape_axes, self.precision.computed
        known = dict(zip(axes, self.evaluate(self.shape_forms(), sizes), strict=True))
        schedule = self.schedule or schedule_for(self.backend, self.target, self.precision)
        made = write_kernels(self.planned, known, real, schedule)
        held = self._held()
        made = {name: self._narrowed(each, held) for name, each in made.items()}
        self._rounded = self._rounded_between(made) if self.backend == "triton" else {}
        return {name: self._narrowed(each, self._rounded) for name, each in made.items()}

    def _narrowed(self, made: Written, held: Mapping[str, RealType]) -> Written:
        """The kernel with the storage of what it reads and writes."""
        if not self.precision.given and not held:
            return made
        given = dict(self.precision.given)
        names = {form: each.name for form, each in self.planned.plan.stored.items()}
        buffers = tuple(
            replace(buffer, real=given.get(form.name, buffer.real))
            if isinstance(form, Leaf) and buffer.role == "in"
            else replace(buffer, real=held.get(names[form], buffer.real))
            for buffer, (form, _) in zip(made.kernel.buffers, made.tensors, strict=True)
        )
        return replace(made, kernel=replace(made.kernel, buffers=buffers))

    def _rounded_between(self, written: Mapping[str, Written]) -> dict[str, RealType]:
        """The stored values that every kernel rounds as it reads them, which may as well be stored so."""
        names = {form: each.name for form, each in self.planned.plan.stored.items()}
        always: dict[str, bool] = {names[form]: False for _, form in self._results()}
        for group in self.planned.plan.groups:
            if group.family == "reference":
                always |= {names[form]: False for form in self._reads(group) if form in names}
        for made in written.values():
            rounds = triton_rounded(made.kernel) if self.precision.given else frozenset()
            for buffer, (form, there) in zip(made.kernel.buffers, made.tensors, strict=True):
                if buffer.role == "in" and form in names and not there:
                    always[names[form]] = always.get(names[form], True) and buffer.name in rounds
        return {name: "bfloat16" for name, each in always.items() if each}

    def _held(self) -> dict[str, RealType]:
        """The stored values that kernels round as they store them: what is a result, of one dtype, and
        is read by nothing else. Every other value lies there as it was computed."""
        made = dict(self.precision.made)
        if not made:
            return {}
        groups = self.planned.plan.groups
        read = {form for group in groups for form in self._reads(group)}
        wanted: dict[Form, set[RealType]] = {}
        for name, form in self._results():
            wanted.setdefault(form, set()).add(made.get(name, self.precision.computed))
        return {
            each.name: next(iter(wanted[each.form]))
            for group in groups
            for each in group.results
            if group.family != "reference" and each.form not in read and len(wanted.get(each.form, ())) == 1
        }

    def _results(self) -> list[tuple[str, Form]]:
        """The name and the value of every output and update."""
        program = self.planned.program
        updates = [(f"update:{each.buffer.name}", each.value) for each in program.updates]
        return [*((each.name, each.value) for each in program.outputs), *updates]

    def executable(self, sizes: Mapping[Axis, int], most: int = LARGE) -> Executable:
        """Write and build the kernels, for sizes up to `most`. Raises MissingCompiler."""
        units = self.phasing(self.written(sizes)).units
        kernels = [unit_of(each) for _, each in units if each is not None]
        return self._wired(units, self._built(kernels, most), sizes)

    def outline(self, phasing: Phasing, sizes: Mapping[Axis, int]) -> Executable:
        """The executable of kernels that are written and not built: how much room it takes can be asked of it, and
        it cannot run."""
        launched = [each for _, each in phasing.units if each is not None]
        return self._wired(phasing.units, [NOT_BUILT] * len(launched), sizes)

    def _wired(
        self,
        units: Sequence[tuple[tuple[str, ...], Unit | None]],
        built: Sequence[Built],
        sizes: Mapping[Axis, int],
    ) -> Executable:
        stored = self.planned.plan.stored
        groups = {group.result.name: group for group in self.planned.plan.groups}
        ready = iter(built)
        steps: list[Call | Reference] = []
        for names, unit in units:
            if unit is None:
                steps.append(self._reference(groups[names[0]], stored))
            else:
                steps.append(self._call(next(ready), unit, stored))
        slots = tuple(self._slots())
        ordered = late(steps, frozenset(slot.name for slot in slots if slot.given))
        pairs = tuple(pairs_in_memory(self.planned.plan, self.planned.parts).items())
        return Executable(slots, tuple(ordered), self.results(), tuple(sizes), self._cuts(), pairs)

    def phasing(self, written: Mapping[str, Written]) -> Phasing:
        """What is launched at once: the phases of a kernel where the machine runs them so."""
        schedule = self.schedule or schedule_for(self.backend, self.target, self.precision)
        together = schedule.phases and self.tune is None
        found = phasing(self.planned.plan, written, self.planned.program.name, together)
        for _, unit in found.units if verifying() else ():
            if isinstance(unit, Phased):
                check_phases(unit)
        return found

    def _cuts(self) -> tuple[Cut, ...]:
        """Where the run may be divided. Parts of a sum are not added where they are rounded, and no kernel is
        written for a size that a part has not."""
        shaping = {form.axis for form in walk(self.shape_forms()) if isinstance(form, Size)}
        made = [self._cut(each.axis, each.sums) for each in self.planned.cuts if each.axis not in shaping]
        return tuple(each for each in made if not each.sums & {*self._held(), *self._rounded})

    def _cut(self, axis: Axis, sums: frozenset[str]) -> Cut:
        plan = self.planned.plan
        slots = {name: plan.stored[form].name for name, form in self._results()}
        over = {each.leaf.name: each.leaf.over for each in self.planned.program.declarations}
        over |= {each.name: each.axes for each in plan.stored.values() if each.name in slots.values()}
        dims = {name: axes.index(axis) for name, axes in over.items() if axis in axes}
        alike = [each for form, each in plan.stored.items() if not varies(form, axis)]
        same = (name for each in alike for name in (each.name, f"{each.name}?"))
        return Cut(axis, dims, frozenset(slots[name] for name in sums), frozenset(same))

    def results(self) -> tuple[Result, ...]:
        """Where every output and update lies when the kernels have run, and how it is laid out."""
        program, stored = self.planned.program, self.planned.plan.stored
        layouts = {each.leaf: each.items for each in program.buffers}
        items = [each.items for each in program.outputs] + [layouts[each.buffer] for each in program.updates]
        made, own = dict(self.precision.made), self.precision.computed
        return tuple(
            _result(name, stored[form], laid, TORCH[made.get(name, own)])
            for (name, form), laid in zip(self._results(), items, strict=True)
        )

    def copies(self) -> dict[str, str]:
        """The results that torch copies after the kernels, each with the reason."""
        found: dict[str, str] = {}
        types = {slot.name: slot.dtype for slot in self._slots()}
        taken: set[str] = set()
        for result in self.results():
            if result.order != tuple(range(len(result.order))):
                found[result.name] = "its axes lie in another order"
            elif result.slot in taken:
                found[result.name] = f"`{result.slot}` is another result too"
            elif types[result.slot] != result.dtype:
                found[result.name] = f"it is {types[result.slot]} where it is computed".replace("torch.", "")
            taken.add(result.slot)
        return found

    def _built(self, kernels: Sequence[Kernel | Phased], most: int) -> Sequence[Built]:
        if self.tune is not None or self.backend == "triton":
            build = self.tune or triton_build()
            return [build(kernel) for unit in kernels for kernel in kernels_of(unit)]
        return build_cpp(kernels, self.target, max(most, LARGE))

    def _call(self, built: Built, unit: Unit, stored: Mapping[Form, Stored]) -> Call:
        parts = [part.written for part in unit.parts] if isinstance(unit, Phased) else [unit]
        names: list[str] = []
        for made in parts:
            for buffer, (form, presence) in zip(made.kernel.buffers, made.tensors, strict=True):
                name = form.name if isinstance(form, Leaf) and buffer.role == "in" else stored[form].name
                names.append(f"{name}?" if presence else name)
        numbers = [*unit.numbers] if isinstance(unit, Phased) else []
        numbers += [number for made in parts for number in made.numbers]
        return Call(built, tuple(names), tuple(ground(form) for form in numbers))

    def _reads(self, group: Group) -> list[Form]:
        """The leaves and the stored values that a group reads."""
        stored = set(self.planned.plan.stored)
        own = dict.fromkeys(each.form for each in group.results)

        def operands(form: Form) -> tuple[Form, ...]:
            return () if form in stored and form not in own else operands_of(form)

        found = walk(tuple(own), operands)
        return [form for form in found if form not in own and (form in stored or isinstance(form, Leaf))]

    def _reference(self, group: Group, stored: Mapping[Form, Stored]) -> Reference:
        own = group.result
        bare = [own.form] if isinstance(own.form, Leaf) else []  # an input as it is
        reads = {
            form: None if isinstance(form, Leaf) else stored[form] for form in (*self._reads(group), *bare)
        }
        return Reference(own.name, group.reason, own, reads, self.precision.dtype, self.in_order)

    def _slots(self) -> list[Slot]:
        program, own = self.planned.program, self.precision.dtype
        given = {name: TORCH[real] for name, real in self.precision.given}
        slots = [
            Slot(
                d.leaf.name, d.leaf.declared, shape_of(d.leaf.over), packs_of(d.items), True,
                given.get(d.leaf.name, own),
            )
            for d in program.declarations
        ]  # fmt: skip
        held = self._held() | self._rounded
        for result in self.planned.plan.stored.values():
            shape, plain = shape_of(result.axes), (1,) * len(result.axes)
            real = TORCH[held[result.name]] if result.name in held else own
            slots.append(Slot(result.name, result.form.kind, shape, plain, False, real))
            if result.presence:
                slots.append(Slot(f"{result.name}?", "bool", shape, plain, False, own))
        return slots


def late(steps: Sequence[Call | Reference], given: frozenset[str]) -> Sequence[Call | Reference]:
    """Kernels that read what is given alone, just before the first reader of what they make: until then it needs
    no room."""
    found = [step for step in steps if isinstance(step, Call)]
    if len(found) < len(steps):
        return steps
    for at in reversed(range(len(found))):
        made = set(found[at].tensors) - given
        readers = [i for i in range(at + 1, len(found)) if made & {*found[i].tensors}]
        if readers and not any(made & {*step.tensors} for step in found[:at]):
            found.insert(readers[0] - 1, found.pop(at))
    return found


def _result(name: str, stored: Stored, items: tuple[Item, ...], real: torch.dtype) -> Result:
    """An output of a stored value in the layout of its declaration."""
    order = tuple(stored.axes.index(axis) for item in items for axis in item)
    return Result(name, stored.name, order, packs_of(items), dtype_of(stored.form.kind, real))
