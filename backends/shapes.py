"""The shapes of what a program makes, before anything runs: for fakes, empty batches and draws.

Sizes may be symbolic (`torch.SymInt`): nothing but arithmetic and comparisons touches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..compiler.meaning.storage import results
from ..dsl.constructors.build import size
from ..dsl.errors import PlaitError
from ..dsl.ops import Kind
from ..dsl.position import place_of_call
from ..dsl.program import BATCH, Axis, Coordinate, Item, Place, Program, Reduce, Size, children
from ..dsl.shapes.size_forms import Sizes, Tape, program_axes, record
from ..dsl.shapes.sizes import Binder
from .precision import Like, dtype_of, promoted, reals, result_reals

Layout = tuple[Item, ...]


def bound(binder: Binder, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    """The sizes of a call's axes; a mistake says where the call is. Frames are looked at for mistakes only."""
    try:
        return binder.bind(shapes)
    except PlaitError:
        return binder.bind(shapes, where=place_of_call())


@dataclass(slots=True)
class Layouts:
    """The shapes of tensors laid out as `layouts`, from those of the program's given tensors."""

    program: Program
    layouts: tuple[Layout, ...]
    _binder: Binder = field(init=False, repr=False)
    _tape: Tape = field(init=False, repr=False)
    _places: dict[str, int] = field(init=False, repr=False)
    _sources: tuple[tuple[str, int], ...] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        axes = [axis for axis in _axes(self.layouts) if axis != BATCH]
        self._binder = Binder(self.program)
        self._tape = record([size(axis) for axis in axes], ())
        self._places = {axis.key: place for axis, place in zip(axes, self._tape.results, strict=True)}
        self._sources = _sources(self.program, self._tape.axes)

    def checked(self, shapes: Mapping[str, tuple[int, ...]]) -> list[list[int]]:
        """The shapes; raises AxisSizeMismatch and its kin where the given ones do not fit."""
        sizes = bound(self._binder, shapes)
        batch = sizes.pop(BATCH, ())
        assert isinstance(batch, tuple)
        measured: dict[Axis, Any] = {**sizes, BATCH: _product(batch)}
        return self._laid_out([measured[axis] for axis in self._tape.axes], batch)

    def read(self, tensors: Mapping[str, Tensor]) -> list[list[int]]:
        """The shapes of layouts without `...`. Where every size stands alone as the dimension of some
        tensor, it is read there, unchecked, by code simple enough for TorchDynamo to follow."""
        if self._sources is None:
            return self.checked({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        values = [tensors[name].shape[dim] if name else dim for name, dim in self._sources]
        return self._laid_out(values, ())

    def _laid_out(self, values: Sequence[Any], batch: Sequence[int]) -> list[list[int]]:
        measured: list[Any] = self._tape.run(values)
        shapes: list[list[int]] = []
        for layout in self.layouts:
            shape: list[int] = []
            for item in layout:
                if item == (BATCH,):
                    shape += batch
                else:
                    shape.append(_product([measured[self._places[axis.key]] for axis in item]))
            shapes.append(shape)
        return shapes


def _axes(layouts: Sequence[Layout]) -> tuple[Axis, ...]:
    return tuple(dict.fromkeys(axis for layout in layouts for item in layout for axis in item))


def _product(extents: Sequence[int]) -> int:
    total = 1
    for extent in extents:
        total = total * extent
    return total


def _sources(program: Program, axes: Sequence[Axis]) -> tuple[tuple[str, int], ...] | None:
    """For each axis a tensor and its dimension of that size; ("", size) for a fixed one. None where
    an axis has no such dimension. Dimensions after `...` count from the end."""
    found: dict[Axis, tuple[str, int]] = {axis: ("", extent) for axis, extent in program.fixed}
    for declaration in program.declarations:
        items = declaration.items
        batch = items.index((BATCH,)) if (BATCH,) in items else len(items)
        if declaration.leaf.role == "draw":
            continue
        for place, item in enumerate(items):
            if len(item) == 1 and item[0].size is None and item != (BATCH,):
                dim = place if place < batch else place - len(items)
                found.setdefault(item[0], (declaration.leaf.name, dim))
    return tuple(found[axis] for axis in axes) if all(axis in found for axis in axes) else None


@dataclass(slots=True)
class Fakes:
    """Tensors with the shapes, dtypes and strides of a program's results, and nothing in them."""

    program: Program
    dtype: torch.dtype | None
    """The real dtype where no tensor of the call is real."""
    like: Like = ()
    layouts: Layouts = field(init=False, repr=False)
    kinds: dict[str, Kind] = field(init=False, repr=False)
    """Of each result, by its key."""

    def __post_init__(self) -> None:
        made = results(self.program)
        self.layouts = Layouts(self.program, tuple(each.items for each in made))
        self.kinds = {each.key: each.kind for each in made}

    def __call__(
        self, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Tensor, ...]:
        """Results for tensors of these `shapes`, which may differ from their own."""
        first = next(iter(tensors.values()))
        found = reals(self.program, tensors)
        common = promoted(self.program, found, self.dtype or torch.float32)
        made = result_reals(self.program, found, common, self.like)
        laid_out = zip(self.layouts.checked(shapes), self.kinds.items(), strict=True)
        return tuple(
            first.new_empty(shape, dtype=dtype_of(kind, made[key])) for shape, (key, kind) in laid_out
        )


def batches(program: Program) -> dict[str, int] | None:
    """The dimension of `...` in each tensor and result that has it; None for a program whose results do
    not simply follow the batch: one that sums over it, counts it, or gives something without it."""
    if any(BATCH not in output.value.axes for output in program.outputs) or program.updates:
        return None
    for form in program.forms:
        match form:
            case Size(axis=axis) | Coordinate(axis=axis) if axis == BATCH:
                return None
            case Reduce(pieces=pieces) if any(BATCH in piece.axes for piece in pieces):
                return None
            case Place() if BATCH not in form.axes and any(BATCH in each.axes for each in children(form)):
                return None
            case _:
                pass
    counted = (end for axis in program_axes(program) for end in (axis.lo, axis.size) if end is not None)
    if any(isinstance(end, Size) and end.axis == BATCH for end in counted):
        return None
    layouts = [(each.leaf.name, each.items) for each in program.declarations]
    layouts += [(each.name, each.items) for each in program.outputs]
    return {name: items.index((BATCH,)) for name, items in layouts if (BATCH,) in items}
