"""`Compiled`: a program with its kernels, run on tensors. No autograd here.

A program is planned once for each number of batch dimensions and real dtype, and its kernels are
written once for each value of the sizes that shape the code; all other sizes are run-time numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..dsl.canonical import canonical
from ..dsl.check import check_sizes
from ..dsl.errors import CompilerFault
from ..dsl.mistakes import NotFused, UnknownArgument, UnknownBackend, WrongDevice, WrongDtype
from ..dsl.ops import Kind
from ..dsl.program import BATCH, Axis, Declaration, Form, Program
from ..dsl.size_forms import Sizes, axis_range, evaluate_size
from ..dsl.sizes import Binder, expand_batch
from . import assembler, reference
from .cache import COMPILING, digest, machine_digest, read_index, sources_digest, write_index
from .executable import LARGE, Call, Executable, dtype_of, unpack

if TYPE_CHECKING:
    from ..compiler.kernel import RealType
    from .assemble import Assembler

BackendName = Literal["reference", "cpp", "triton"]
OnUnfused = Literal["warn", "error", "quiet"]

MOST_PREPARED = 4096
"""How many shapes of call are remembered."""

REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(slots=True)
class Prepared:
    """One shape of call: what to allocate and what to launch."""

    executable: Executable
    sizes: dict[Axis, int]
    shapes: dict[str, list[int]]
    numbers: list[list[int]]
    real: torch.dtype
    device: torch.device
    request: tuple[int, BackendName, RealType]
    indices: tuple[tuple[Declaration, range], ...]


@dataclass(slots=True)
class Shapes:
    """An entry of the index: the sizes that shape the code of a program."""

    forms: tuple[Form, ...]


@dataclass(slots=True)
class Compiled:
    """`run` takes every tensor of the program by name: inputs, parameters, buffers and draws.

    `derived` programs (gradients) are total by construction; of any other one the sizes of a call
    decide what its check left open. Raises PlaitError for whatever does not fit.
    """

    program: Program
    backend: BackendName | None = None
    dtype: torch.dtype | None = None
    on_unfused: OnUnfused = "warn"
    derived: bool = False
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
        if self.dtype is not None and self.dtype not in REALS:
            raise WrongDtype(
                f"programs compile to float32 and float64, not {self.dtype}",
                helps=["pass dtype=torch.float32"],
            )

    # --- calls

    def named(self, tensors: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Positional tensors under the names of the inputs, beside the named ones."""
        inputs = [declaration.leaf.name for declaration in self.program.inputs]
        if len(tensors) > len(inputs):
            raise UnknownArgument(
                f"`{self.program.name}` takes {len(inputs)} inputs, and {len(tensors)} were given",
                notes=[f"inputs: {', '.join(inputs)}"],
            )
        given = dict(zip(inputs, tensors, strict=False))
        for name, tensor in named.items():
            if name in given:
                raise UnknownArgument(f"input `{name}` is given twice, by position and by name")
            given[name] = tensor
        return given

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All results by name: outputs, and updated buffers under `update:NAME`."""
        key = tuple((name, t.shape, t.stride(), t.dtype, t.device) for name, t in tensors.items())
        prepared = self._prepared.get(key)
        if prepared is None:
            given = self._checked(tensors)
            backend, real = self._choose(given)
            if backend == "reference":
                return self._reference(given)
            with COMPILING:
                prepared = self._prepared.get(key) or self._prepare(given, backend, real)
                if len(self._prepared) >= MOST_PREPARED:
                    self._prepared.clear()
                self._prepared[key] = prepared
        self.last = prepared
        for declaration, legal in prepared.indices:
            self._check_indices(declaration, legal, tensors)
        return self._launch(prepared, tensors)

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
        """The interpreter's values in the dtype of the call."""
        real = self._real(tensors)
        results = reference().interpret(self.program, tensors)
        narrowed = {torch.float64: real, torch.complex128: real.to_complex()}
        return {name: x.to(narrowed.get(x.dtype, x.dtype)) for name, x in results.items()}

    def _launch(self, prepared: Prepared, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        executable, shapes = prepared.executable, prepared.shapes
        real, device = prepared.real, prepared.device
        held: dict[str, Tensor] = {}
        for slot in executable.slots:
            if slot.given:
                held[slot.name] = unpack(tensors[slot.name].detach(), shapes[slot.name], slot.packs)
            else:
                dtype = dtype_of(slot, real)
                held[slot.name] = torch.empty(shapes[slot.name], dtype=dtype, device=device)
        for step, numbers in zip(executable.steps, prepared.numbers, strict=True):
            if isinstance(step, Call):
                step.built([held[name] for name in step.tensors], numbers)
            else:
                held |= step(held, prepared.sizes)
        results: dict[str, Tensor] = {}
        given: set[str] = set()
        for result in executable.outputs:
            tensor = result.of(held[result.slot])
            # One value under two names is two tensors.
            results[result.name] = tensor.clone() if result.slot in given else tensor
            given.add(result.slot)
        return results

    # --- choosing

    def _checked(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        declared = {declaration.leaf.name: declaration for declaration in self.program.declarations}
        for name in declared:
            if name not in tensors:
                role = declared[name].leaf.role
                raise UnknownArgument(f"{role} `{name}` of `{self.program.name}` has no tensor")
        for name, tensor in tensors.items():
            if name not in declared:
                raise UnknownArgument(
                    f"`{self.program.name}` has no tensor `{name}`", notes=[f"tensors: {', '.join(declared)}"]
                )
            if not isinstance(tensor, Tensor):
                raise WrongDtype(f"`{name}` is a {type(tensor).__name__}, not a tensor")
        devices = {str(tensor.device): name for name, tensor in tensors.items()}
        if len(devices) > 1:
            shown = ", ".join(f"`{name}` on {device}" for device, name in devices.items())
            raise WrongDevice(f"the tensors of one call lie on different devices: {shown}")
        return dict(tensors)

    def _choose(self, tensors: Mapping[str, Tensor]) -> tuple[BackendName, RealType]:
        real = self._real(tensors)
        device = _device(tensors).type
        backend = self.backend or ("triton" if device == "cuda" else "cpp")
        if backend == "cpp" and device != "cpu":
            raise WrongDevice(f"the C++ backend runs on the CPU, and the tensors are on {device}")
        if backend != "reference" and real not in REALS:
            raise WrongDtype(
                f"the {backend} backend computes in float32 and float64, and the tensors are {real}",
                helps=['convert them with .float(), or ask for backend="reference"'],
            )
        return backend, REALS.get(real, "float64")

    def _real(self, tensors: Mapping[str, Tensor]) -> torch.dtype:
        """The one dtype of the real tensors of a call; complex ones are of twice its width."""
        found: dict[torch.dtype, str] = {}
        for declaration in self.program.declarations:
            leaf = declaration.leaf
            dtype = tensors[leaf.name].dtype
            if not _fits(dtype, leaf.declared):
                meant = {"bool": "torch.bool", "int": "torch.int64", "complex": "torch.complex64"}
                raise WrongDtype(
                    f"{leaf.role} `{leaf.name}` is {leaf.declared} and its tensor is {dtype}",
                    helps=[f"convert it with .to({meant.get(leaf.declared, 'torch.float32')})"],
                )
            if leaf.declared in ("real", "complex"):
                found.setdefault(dtype.to_real() if dtype.is_complex else dtype, leaf.name)
        if len(found) > 1:
            shown = ", ".join(f"`{name}` is {dtype}" for dtype, name in found.items())
            raise WrongDtype(f"the real tensors of one call have one dtype: {shown}")
        real = next(iter(found), self.dtype or torch.float32)
        if self.dtype is not None and real != self.dtype:
            raise WrongDtype(f"compiled for {self.dtype}, and the tensors are {real}")
        return real

    # --- preparing

    def bind(self, tensors: Mapping[str, Tensor]) -> Sizes:
        """The size of every axis in this call. Raises AxisSizeMismatch and its kin."""
        if self._binder is None:
            self._binder = Binder(self.program)
        return self._binder.bind({name: tuple(tensor.shape) for name, tensor in tensors.items()})

    def _prepare(self, tensors: Mapping[str, Tensor], backend: BackendName, real: RealType) -> Prepared:
        bound = self.bind(tensors)
        if not self.derived:
            check_sizes(self.program, bound)
        batch = bound.pop(BATCH, ())
        assert isinstance(batch, tuple)
        sizes = {axis: extent for axis, extent in bound.items() if isinstance(extent, int)}
        sizes |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
        executable = self._executable(len(batch), backend, real, sizes)
        values = executable.measure(sizes)
        shapes = {slot.name: [values[form] for form in slot.shape] for slot in executable.slots}
        numbers = [
            [values[form] for form in step.numbers] if isinstance(step, Call) else []
            for step in executable.steps
        ]
        typed = [(d, d.leaf.ranges_over) for d in self.program.declarations]
        indices = tuple((d, axis_range(axis, bound)) for d, axis in typed if axis is not None)
        return Prepared(
            executable,
            sizes,
            shapes,
            numbers,
            self._real(tensors),
            _device(tensors),
            (len(batch), backend, real),
            indices,
        )

    def assembler(self, batch: int, backend: BackendName, real: RealType) -> Assembler:
        """The planned program with `batch` batch dimensions."""
        key = (batch, backend, real)
        if key not in self._assemblers:
            self._assemblers[key] = assembler(expand_batch(self.program, batch), backend, real)
        return self._assemblers[key]

    def _executable(
        self, batch: int, backend: BackendName, real: RealType, sizes: Mapping[Axis, int]
    ) -> Executable:
        """From memory, from the index, or by compiling."""
        self._text = self._text or canonical(self.program)
        large = "large" if max(sizes.values(), default=0) > LARGE else "small"
        place = digest(self._text, str(batch), backend, real, large, sources_digest(), machine_digest())
        shapes = self._shapes.get(place) or read_index(place, Shapes)
        if shapes is None:
            shapes = Shapes(self.assembler(batch, backend, real).shape_forms())
            write_index(place, shapes)
        self._shapes[place] = shapes
        known = tuple(evaluate_size(form, sizes) for form in shapes.forms)
        key = digest(place, repr(known))
        executable = self._executables.get(key) or read_index(key, Executable)
        if executable is None:
            executable = self.assembler(batch, backend, real).executable(sizes, large == "large")
            self._report(executable)
            if executable.portable:
                write_index(key, executable)
        self._executables[key] = executable
        return executable

    def _report(self, executable: Executable) -> None:
        """Say, or refuse, what runs without a kernel."""
        unfused = [step for step in executable.steps if not isinstance(step, Call)]
        if not unfused or self.on_unfused == "quiet":
            return
        lines = [f"`{step.name}`: {step.reason}" for step in unfused]
        steps = f"{len(unfused)} of {len(executable.steps)} steps"
        message = f"{steps} of `{self.program.name}` run as reference operations"
        helps = ["explain() shows the whole plan", 'on_unfused="quiet" accepts it']
        problem = NotFused(message, notes=lines, helps=helps)
        if self.on_unfused == "error":
            raise problem
        warnings.warn(str(problem), stacklevel=5)


def _fits(dtype: torch.dtype, kind: Kind) -> bool:
    """Whether a tensor of `dtype` is of a kind, without any conversion."""
    match kind:
        case "bool":
            return dtype == torch.bool
        case "int":
            return dtype == torch.int64
        case "real":
            return dtype.is_floating_point
        case "complex":
            return dtype.is_complex


def _device(tensors: Mapping[str, Tensor]) -> torch.device:
    """Where a call runs; one without tensors runs on the CPU."""
    return next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
