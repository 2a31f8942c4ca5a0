"""A compiled program as data: tensors to make, kernels to run, sizes to pass. No form of the program
is left in it but arithmetic on the sizes of signature axes, so that it can be kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..dsl.constructors.build import size
from ..dsl.ops import Kind
from ..dsl.program import Axis, Const, Form, Item, Map, Size, walk
from ..dsl.shapes.size_forms import Tape, evaluate_size, record, size_operands
from .precision import dtype_of

LARGE, HUGE, ENDLESS = 8192, 2**28, 2**62
"""Sizes up to one of these are served by the same kernels. Where integers in the lanes could leave 32 bits at
such sizes, kernels of float32 have 64-bit ones; most have no such integers and are the same for all sizes."""


def magnitude(sizes: Mapping[Axis, int]) -> int:
    """What the sizes are at most, as kernels are built for."""
    most = max(sizes.values(), default=0)
    return next(limit for limit in (LARGE, HUGE, ENDLESS) if most <= limit)


class Built(Protocol):
    """What a backend makes of a kernel."""

    @property
    def name(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def source(self) -> str: ...
    def load(self) -> bool:
        """Whether what it was built into is still there."""
        ...

    def by_address(
        self, strides: Sequence[Sequence[int]], sizes: Sequence[int]
    ) -> Callable[[Sequence[int]], None] | None:
        """A launch for tensors of these strides that takes their addresses; None where one takes tensors."""
        ...

    def __call__(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the run: how big it is along each axis, and how its dimensions are packed outside
    (the number of axes in each; 0 is a literal 1). `real` is the dtype of its reals."""

    name: str
    kind: Kind
    shape: tuple[Form, ...]
    packs: tuple[int, ...]
    given: bool
    real: torch.dtype

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.kind, self.real)


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel, the slots that it takes, and its numbers."""

    built: Built
    tensors: tuple[str, ...]
    numbers: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """An output: the slot that holds its value, where each of its axes stands there, how its dimensions
    are packed, and its dtype. Outputs of one value share a slot, each with a layout of its own."""

    name: str
    slot: str
    order: tuple[int, ...]
    packs: tuple[int, ...]
    dtype: torch.dtype

    @property
    def plain(self) -> bool:
        """Whether its layout is that of its slot."""
        return self.order == tuple(range(len(self.order))) and all(pack == 1 for pack in self.packs)

    def of(self, tensor: Tensor) -> Tensor:
        """The output of the tensor in its slot."""
        if self.order != tuple(range(len(self.order))):
            tensor = tensor.permute(self.order).contiguous()
        if any(pack != 1 for pack in self.packs):
            tensor = tensor.reshape(packed_shape(tensor.shape, self.packs))
        return tensor.to(self.dtype)


@dataclass(frozen=True, slots=True)
class Cut:
    """An axis along which the kernels may run part by part: its dimension in the given slots and those of results
    that have it, the slots of results that add up over the parts, and the slots that are the same for every part."""

    axis: Axis
    dims: Mapping[str, int]
    sums: frozenset[str]
    same: frozenset[str]


class Operation(Protocol):
    """A step that is no kernel: a reference operation on slots."""

    name: str
    reason: str

    def __call__(self, tensors: Mapping[str, Tensor], sizes: Mapping[Axis, int]) -> dict[str, Tensor]: ...


@dataclass(slots=True)
class Executable:
    """`steps` in order. `axes` are the signature axes that sizes are of; `cuts`, outermost first, lie apart; `pairs`
    are the values over pairs that lie in memory, each with the reason."""

    slots: tuple[Slot, ...]
    steps: tuple[Call | Operation, ...]
    outputs: tuple[Result, ...]
    axes: tuple[Axis, ...]
    cuts: tuple[Cut, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    tape: Tape | None = field(default=None, repr=False)
    places: dict[Form, int] = field(default_factory=dict[Form, int], repr=False)

    def __getstate__(self) -> tuple[object, ...]:
        return self.slots, self.steps, self.outputs, self.axes, self.cuts, self.pairs

    def __setstate__(
        self,
        state: tuple[
            tuple[Slot, ...],
            tuple[Call, ...],
            tuple[Result, ...],
            tuple[Axis, ...],
            tuple[Cut, ...],
            tuple[tuple[str, str], ...],
        ],
    ) -> None:
        self.slots, self.steps, self.outputs, self.axes, self.cuts, self.pairs = state
        self.tape, self.places = None, {}

    @property
    def portable(self) -> bool:
        """True if every step is a kernel, so that a file can hold the whole."""
        return all(isinstance(step, Call) for step in self.steps)

    def loads(self) -> bool:
        """Whether every kernel can be run: a folder of caches may be emptied in part, or cut by a crash."""
        return all(step.built.load() for step in self.steps if isinstance(step, Call))

    def measure(self, sizes: Mapping[Axis, int]) -> dict[Form, int]:
        """Every size form of the run at these sizes."""
        if self.tape is None:
            forms = list(dict.fromkeys(form for each in (*self.slots, *self.steps) for form in _forms(each)))
            self.tape = record(forms, self.axes)
            self.places = dict(zip(forms, self.tape.results, strict=True))
        values = self.tape.run([sizes[axis] for axis in self.tape.axes])
        return {form: int(values[place]) for form, place in self.places.items()}  # pyright: ignore[reportArgumentType]


@dataclass(slots=True)
class Shapes:
    """An entry of the index: the sizes that shape the code of a program, or, where its sums of products have
    several orders, what these cost: the cheapest at the sizes of a call have an entry of their own."""

    forms: tuple[Form, ...]
    costs: tuple[tuple[Form, ...], ...] = ()

    def orders(self, sizes: Mapping[Axis, int]) -> tuple[int, ...]:
        """The place of the cheapest order of each sum, the first of equals."""
        return tuple(_cheapest([evaluate_size(each, sizes) for each in costs]) for costs in self.costs)


def _cheapest(costs: Sequence[int]) -> int:
    return min(range(len(costs)), key=costs.__getitem__)


def _forms(each: Slot | Call | Operation) -> tuple[Form, ...]:
    if isinstance(each, Slot):
        return each.shape
    return each.numbers if isinstance(each, Call) else ()


def ground(form: Form) -> Form:
    """A size form over signature axes only, without places in anyone's source."""
    made: dict[Form, Form] = {}
    for each in walk((form,), size_operands):
        match each:
            case Const(value=value):
                made[each] = Const(value)
            case Size(axis=axis) if axis.size is not None:
                made[each] = made[axis.size]
            case Size(axis=axis):
                made[each] = Size(Axis(axis.name))
            case Map(op=op, args=args):
                made[each] = Map(op, tuple(made[arg] for arg in args))
            case _:
                made[each] = each
    return made[form]


def shape_of(axes: Sequence[Axis]) -> tuple[Form, ...]:
    return tuple(ground(size(axis)) for axis in axes)


def packs_of(items: Sequence[Item]) -> tuple[int, ...]:
    return tuple(len(item) for item in items)


def unpack(tensor: Tensor, shape: Sequence[int], packs: Sequence[int]) -> Tensor:
    """The view of a tensor with one dimension an axis. Splitting a dimension is always a view."""
    if all(pack == 1 for pack in packs):
        return tensor
    at, dim = 0, 0
    for pack in packs:
        if pack == 0:
            tensor = tensor.squeeze(dim)
            continue
        if pack > 1:
            tensor = tensor.unflatten(dim, tuple(shape[at : at + pack]))
        at, dim = at + pack, dim + pack
    return tensor


def packed_shape(shape: Sequence[int], packs: Sequence[int]) -> list[int]:
    """The outside shape of a tensor with these axes."""
    out: list[int] = []
    at = 0
    for pack in packs:
        extent = 1
        for each in shape[at : at + pack]:
            extent *= each
        out.append(extent)
        at += pack
    return out
