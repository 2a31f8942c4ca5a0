"""`Compiled`: a program with its kernels, run on tensors. No autograd here.

A program is planned once for each number of batch dimensions and real dtype, and its kernels are
written once for each value of the sizes that shape the code; all other sizes are run-time numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from ..dsl.canonical import canonical
from ..dsl.errors import CompilerFault, counted
from ..dsl.mistakes import (
    AbsentOutput,
    InvalidArgument,
    NotFused,
    NotYet,
    UnknownArgument,
    UnknownBackend,
    WrongDevice,
    WrongDtype,
)
from ..dsl.ops import Kind
from ..dsl.position import place_of_call, warn_caller
from ..dsl.program import BATCH, Axis, Declaration, Program
from ..dsl.proofs.check import check_sizes
from ..dsl.shapes.size_forms import Sizes, axis_range, evaluate_size
from ..dsl.shapes.sizes import Binder, expand_batch
from . import assembler, reference
from .cache import COMPILING, digest, makers, read_index, write_index
from .executable import Call, Executable, Shapes, magnitude
from .given import called, check_given
from .precision import (
    NARROW,
    STORED,
    Like,
    Precision,
    dtype_of,
    other_type,
    precision,
    promoted,
    reals,
    result_reals,
    unknown_type,
)
from .running import Running, apart
from .shapes import bound
from .workspace import workspace

if TYPE_CHECKING:
    from .assemble import Assembler

BackendName = Literal["reference", "cpp", "triton"]
OnUnfused = Literal["warn", "error", "quiet"]
Recompute = Literal["auto", "all", "none"]
ON_UNFUSED: tuple[str, ...] = get_args(OnUnfused)
RECOMPUTE: tuple[str, ...] = get_args(Recompute)

MOST_PREPARED = 4096
"""How many shapes of call are remembered."""


@dataclass(slots=True)
class Prepared(Running):
    """One shape of call, with what was asked for, and the inputs that are indices, with their ranges."""

    request: tuple[int, BackendName, Precision, tuple[int, ...]]
    indices: tuple[tuple[Declaration, range], ...]


@dataclass(slots=True)
class Compiled:
    """`run` takes every tensor of the program by name: inputs, parameters, buffers and draws.

    `derived` programs (gradients) are total by construction; of any other one the sizes of a call
    decide what its check left open. `dtype` is that of the results, where a call has to have one (see
    `precision`); the results named in `like` have that of a tensor, those in `wide` that of the computation.
    `recompute` says what a call keeps for its gradient; `deterministic` fixes the order of additions at
    positions that depend on data. Raises PlaitError for whatever does not fit.
    """

    program: Program
    backend: BackendName | None = None
    dtype: torch.dtype | None = None
    on_unfused: OnUnfused = "warn"
    derived: bool = False
    like: Like = ()
    recompute: Recompute = "auto"
    wide: tuple[str, ...] = ()
    deterministic: bool = False
    _binder: Binder | None = field(default=None, repr=False)
    _assemblers: dict[object, Assembler] = field(default_factory=dict, repr=False)
    _executables: dict[object, Executable] = field(default_factory=dict[object, Executable], repr=False)
    _prepared: dict[object, Prepared] = field(default_factory=dict[object, Prepared], repr=False)
    _shapes: dict[object, Shapes] = field(default_factory=dict[object, Shapes], repr=False)
    _text: str = field(default="", repr=False)
    last: Prepared | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.backend not in (None, "reference", "cpp", "triton"):
            raise UnknownBackend(
                f"there is no backend `{self.backend}`",
                helps=["one of: reference, cpp, triton, or None to choose"],
            )
        for name, found, legal, help_ in (
            ("recompute", self.recompute, RECOMPUTE, '"all" keeps nothing, "none" computes no reduction again'),
            ("on_unfused", self.on_unfused, ON_UNFUSED, '"error" refuses what has no kernel'),
        ):  # fmt: skip
            if found not in legal:
                raise InvalidArgument(
                    f"`{name}` is {found!r}, and it is one of: {', '.join(legal)}", helps=[help_]
                )
        if self.backend == "reference" and self.on_unfused == "error":
            raise NotFused(
                f'`{self.program.name}` is not fused at all: backend="reference" runs the interpreter',
                helps=["leave the backend to plait, or on_unfused to its default"],
            )
        if self.dtype is not None and self.dtype not in STORED:
            raise WrongDtype(
                f"programs compile to float32, float64, bfloat16 and float16, not {self.dtype}",
                helps=["pass dtype=torch.float32"],
            )

    def beside(
        self, program: Program, derived: bool = False, like: Like = (), wide: tuple[str, ...] = ()
    ) -> Compiled:
        """Another program with the options of this one."""
        return Compiled(
            program, self.backend, self.dtype, self.on_unfused, derived, like, self.recompute, wide,
            self.deterministic,
        )  # fmt: skip

    # --- calls

    def named(self, tensors: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Positional tensors under the names of the inputs, beside the named ones."""
        inputs = [declaration.leaf.name for declaration in self.program.inputs]
        if len(tensors) > len(inputs):
            raise UnknownArgument(
                f"`{self.program.name}` takes {counted(len(inputs), 'input')}, and {len(tensors)} were given",
                notes=[f"inputs: {', '.join(inputs)}", *called()],
            )
        given = dict(zip(inputs, tensors, strict=False))
        for name, tensor in named.items():
            if name in given:
                raise UnknownArgument(
                    f"input `{name}` is given twice, by position and by name", notes=called()
                )
            given[name] = tensor
        if not all(isinstance(tensor, Tensor) and not tensor.is_nested for tensor in given.values()):
            check_given(self.program, given)
        return given

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All results by name: outputs, and updated buffers under `update:NAME`. They are contiguous, and none shares
        memory with another or with a given tensor."""
        key = self._shape_of_call(tensors)
        prepared = self._prepared.get(key)
        if prepared is None:
            check_given(self.program, tensors)
            backend, types = self._choose(tensors)
            if backend == "reference" or types is None:
                return apart(self._reference(tensors), tensors)
            with COMPILING:
                prepared = self._prepared.get(key) or self._prepare(tensors, backend, types)
                if len(self._prepared) >= MOST_PREPARED:
                    self._prepared.clear()
                self._prepared[key] = prepared
        self.last = prepared
        for declaration, legal in prepared.indices:
            self._check_indices(declaration, legal, tensors)
        return prepared(tensors)

    def _shape_of_call(self, tensors: Mapping[str, Tensor]) -> object:
        """What `Prepared` depends on. Raises WrongDtype where a tensor has no strides."""
        try:
            return tuple(
                [(name, t.shape, t.stride(), t.dtype, t.device, t.layout) for name, t in tensors.items()]
            )
        except (RuntimeError, AttributeError):
            check_given(self.program, tensors)
            raise

    def _check_indices(self, declaration: Declaration, legal: range, tensors: Mapping[str, Tensor]) -> None:
        """Kernels trust `ids: index v`, so every call looks whether it holds. Raises InvalidArgument."""
        values = tensors[declaration.leaf.name]
        if values.numel() and (int(values.min()) < legal.start or int(values.max()) >= legal.stop):
            reference().load(declaration, values, self.bind(tensors))
            raise CompilerFault(
                "call", f"the indices of `{declaration.leaf.name}` were refused without a reason"
            )

    def assembler_of(self, prepared: Prepared) -> Assembler:
        """The planned program behind a call."""
        return self.assembler(*prepared.request)

    def _reference(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The interpreter's values in the dtypes of the call."""
        _, made = self._reals(tensors)
        self._sized(tensors)
        results = reference().interpret(self.program, tensors, in_order=self.deterministic)
        kinds: dict[torch.dtype, Kind] = {torch.float64: "real", torch.complex128: "complex"}
        return {
            name: x.to(dtype_of(kinds[x.dtype], made[name])) if x.dtype in kinds else x
            for name, x in results.items()
        }

    # --- choosing

    def _choose(self, tensors: Mapping[str, Tensor]) -> tuple[BackendName, Precision | None]:
        found, made = self._reals(tensors)
        types = precision(found, made)
        device = _device(tensors).type
        backend = self.backend or ("triton" if device == "cuda" else "cpp")
        if backend == "cpp" and device != "cpu":
            raise WrongDevice(
                f"the C++ backend runs on the CPU, and the tensors are on {device}",
                notes=called(tensors), helps=["move them with .cpu(), or leave the backend to plait"],
            )  # fmt: skip
        if backend != "reference" and types is None:
            raise unknown_type(self.program, found, backend)
        return backend, types

    def _reals(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, torch.dtype], dict[str, torch.dtype]]:
        """The dtypes of the real tensors of a call, and of its results. Raises WrongDtype."""
        found = reals(self.program, tensors)
        common = promoted(self.program, found, self.dtype or torch.float32)
        if self.dtype is not None and common != self.dtype:
            raise other_type(self.program, found, common, self.dtype)
        made = result_reals(self.program, found, common, self.like)
        return found, made | {name: torch.float32 for name in self.wide if made.get(name) in NARROW}

    # --- preparing

    def bind(self, tensors: Mapping[str, Tensor]) -> Sizes:
        """The size of every axis in this call. Raises AxisSizeMismatch and its kin."""
        if self._binder is None:
            self._binder = Binder(self.program)
        return bound(self._binder, {name: tuple(tensor.shape) for name, tensor in tensors.items()})

    def _prepare(self, tensors: Mapping[str, Tensor], backend: BackendName, types: Precision) -> Prepared:
        if torch._C._get_tracing_state() is not None:
            raise NotYet(
                f"torch.jit.trace records the operations of torch, and `{self.program.name}` runs none",
                helps=["torch.compile and torch.export.export take modules of plait whole"],
            )
        found = self._sized(tensors)
        batch = found.pop(BATCH, ())
        assert isinstance(batch, tuple)
        sizes = {axis: extent for axis, extent in found.items() if isinstance(extent, int)}
        sizes |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
        executable, orders = self._executable(len(batch), backend, types, sizes)
        values = executable.measure(sizes)
        shapes = {slot.name: [values[form] for form in slot.shape] for slot in executable.slots}
        numbers = [
            [values[form] for form in step.numbers] if isinstance(step, Call) else []
            for step in executable.steps
        ]
        typed = [(d, d.leaf.ranges_over) for d in self.program.declarations]
        indices = tuple((d, axis_range(axis, found)) for d, axis in typed if axis is not None)
        room = workspace(executable, sizes, shapes)
        request = (len(batch), backend, types, orders)
        return Prepared(executable, sizes, shapes, numbers, _device(tensors), room, request, indices)

    def _sized(self, tensors: Mapping[str, Tensor]) -> Sizes:
        """The sizes, for which nothing that has to be there is absent."""
        found = self.bind(tensors)
        if not self.derived:
            try:
                check_sizes(self.program, found)
            except AbsentOutput:
                check_sizes(self.program, found, where=place_of_call())
                raise
        return found

    def assembler(
        self, batch: int, backend: BackendName, types: Precision, orders: tuple[int, ...] = ()
    ) -> Assembler:
        """The planned program with `batch` batch dimensions, its sums of products in these orders."""
        key = (batch, backend, types, orders)
        if key not in self._assemblers:
            program = expand_batch(self.program, batch)
            self._assemblers[key] = assembler(program, backend, types, self.deterministic, orders)
        return self._assemblers[key]

    def assembler_at(
        self, batch: int, backend: BackendName, types: Precision, sizes: Mapping[Axis, int]
    ) -> Assembler:
        """The planned program of a call of these sizes."""
        costs = self.assembler(batch, backend, types).order_costs()
        return self.assembler(batch, backend, types, Shapes((), costs).orders(sizes))

    def _executable(
        self, batch: int, backend: BackendName, types: Precision, sizes: Mapping[Axis, int]
    ) -> tuple[Executable, tuple[int, ...]]:
        """From memory, from the index, or by compiling; with the orders of its sums."""
        self._text = self._text or canonical(self.program)
        most = magnitude(sizes)
        asked = (self._text, str(batch), backend, repr(types), str(most))
        place = digest(*asked, *makers())
        orders: tuple[int, ...] = ()
        shapes = self._shape(place, batch, backend, types, None)
        if shapes.costs:
            orders = shapes.orders(sizes)
            place = digest(place, repr(orders))
            shapes = self._shape(place, batch, backend, types, orders)
        known = tuple(evaluate_size(form, sizes) for form in shapes.forms)
        key = digest(place, repr(known))
        executable = self._executables.get(key)
        known_here = executable is not None
        executable = executable or read_index(key, Executable)
        if executable is None or not executable.loads():
            executable = self.assembler(batch, backend, types, orders).executable(sizes, most)
            if executable.portable:
                write_index(key, executable)
        if not known_here:
            self._report(executable)
        self._executables[key] = executable
        return executable, orders

    def _shape(
        self,
        place: str,
        batch: int,
        backend: BackendName,
        types: Precision,
        orders: tuple[int, ...] | None,
    ) -> Shapes:
        """The entry of the index at a place, made where it lacks; `orders` are None before they are known."""
        shapes = self._shapes.get(place) or read_index(place, Shapes)
        if shapes is None:
            made = self.assembler(batch, backend, types, orders or ())
            costs = made.order_costs() if orders is None else ()
            shapes = Shapes(() if costs else made.shape_forms(), costs)
            write_index(place, shapes)
        self._shapes[place] = shapes
        return shapes

    def _report(self, executable: Executable) -> None:
        """Say, or refuse, what is not fused: what runs without a kernel, and values over pairs in memory."""
        steps = [step for step in executable.steps if not isinstance(step, Call)]
        if not (steps or executable.pairs) or self.on_unfused == "quiet":
            return
        found: list[str] = []
        if steps:
            many = f"{len(steps)} of {len(executable.steps)} steps"
            found.append(f"{many} of `{self.program.name}` run as reference operations")
        if executable.pairs:
            values = counted(len(executable.pairs), "value")
            grow = "grows" if len(executable.pairs) == 1 else "grow"
            found.append(f"{values} of `{self.program.name}` in memory {grow} faster than inputs and results")
        lines = [f"`{step.name}`: {step.reason}" for step in steps]
        lines += [f"`{name}`: {reason}" for name, reason in executable.pairs]
        helps = ["explain() shows the whole plan", 'on_unfused="quiet" accepts it']
        problem = NotFused(", and ".join(found), notes=lines, helps=helps)
        if self.on_unfused == "error":
            raise problem
        warn_caller(str(problem))


def _device(tensors: Mapping[str, Tensor]) -> torch.device:
    """Where a call runs; one without tensors runs on the CPU."""
    return next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
